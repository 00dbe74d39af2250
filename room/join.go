package room

import (
	"slices"

	"github.com/timedge/timedge/codec"
)

// Replay is what a new member gets before live frames: announcements of the publishers, retained init messages, the newest
// group of each stream or what it missed, and a gap frame for whatever lies between. The outlet owns it and its references.
type Replay struct {
	Items []ReplayItem
	// Midway lists streams that stand in the middle of a message or group whose beginning is gone; the member takes them
	// up at the next message, or key message where there are such.
	Midway []Midway
}

// ReplayItem is a part of a batch.
type ReplayItem struct {
	B        *Batch
	Off, End int
}

// Midway is a stream to be taken up at the start of its next message. From is the next frame's number.
type Midway struct {
	Key  codec.StreamKey
	From uint64
}

// Release drops the references of a replay that is not used.
func (rp *Replay) Release() {
	for _, it := range rp.Items {
		it.B.Release()
	}
	rp.Items = nil
}

func (rp *Replay) control(r *Room, c codec.Control) {
	b := r.table.pool.Encode(c)
	rp.Items = append(rp.Items, ReplayItem{b, 0, len(b.B)})
}

func (rp *Replay) gap(s *stream, from, to uint64, reason codec.GapReason) {
	if from <= to {
		rp.control(s.pub.room, &codec.Gap{Room: s.pub.room.ID, StreamKey: s.key, From: from, To: to, Reason: reason})
	}
}

// span adds the frames of sp from number from on.
func (rp *Replay) span(sp *span, from uint64) {
	off := sp.off
	if from > sp.first && sp.b.Kind == KindStream {
		off += offsetOf(sp.bytes(), sp.first, from)
	}
	rp.Items = append(rp.Items, ReplayItem{sp.b.Retain(), off, sp.end})
}

// Join describes a subscriber.
type Join struct {
	Member   any // the outlet's own; identifies the subscription
	Account  string
	Instance uint64
	Counts   bool
	NoEcho   bool             // leave out what the same client publishes
	Have     []codec.Position // the last frame of each stream it has seen, when it resumes
}

// Subscribe makes a member of o admitted with the replay that fits it, and adds o to the room's outlets if it is not there.
// Lossless rooms: the subscriber owes acknowledgements from where it starts.
func (r *Room) Subscribe(o Outlet, j Join, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return ErrUnknown
	}
	var seat *seat
	if r.loss != nil {
		seat = r.loss.seat(who{j.Account, j.Instance}, len(j.Have) > 0)
	}
	if r.subs >= r.set.MaxSubs && (seat == nil || seat.member == nil) {
		return ErrFull
	}
	if seat != nil {
		seat.noEcho = j.NoEcho
		r.loss.take(r, seat, o, j.Member, now)
	}
	r.subs++
	r.recount = true
	if j.Counts {
		r.watchers++
	}
	r.changed()

	rp := &Replay{}
	for _, p := range r.pubs {
		if p.ended == 0 {
			rp.control(r, &codec.Joined{Room: r.ID, Pub: p.Num, Account: p.who.account})
		}
		if j.NoEcho && p.who == (who{j.Account, j.Instance}) {
			continue
		}
		for _, s := range p.streams {
			r.replay(rp, s, &j, seat)
		}
		if p.ended != 0 && slices.ContainsFunc(j.Have, func(h codec.Position) bool { return h.Pub == p.Num }) {
			rp.control(r, &codec.Left{Room: r.ID, Pub: p.Num, Code: p.ended})
		}
	}
	r.forgotten(rp, j.Have)
	if !slices.Contains(r.outlets, o) {
		r.outlets = append(r.outlets, o)
	}
	o.Admit(j.Member, rp)
	return nil
}

// forgotten tells a resuming subscriber that publishers it knew are gone, and that their streams may have gone on.
func (r *Room) forgotten(rp *Replay, have []codec.Position) {
	var told []uint16
	for _, h := range have {
		if slices.ContainsFunc(r.pubs, func(p *Publisher) bool { return p.Num == h.Pub }) {
			continue
		}
		if h.Last < codec.MaxSeq {
			rp.control(r, &codec.Gap{Room: r.ID, StreamKey: h.StreamKey, From: h.Last + 1, To: codec.MaxSeq, Reason: codec.GapExpired})
		}
		if !slices.Contains(told, h.Pub) {
			told = append(told, h.Pub)
		}
	}
	for _, pub := range told {
		rp.control(r, &codec.Left{Room: r.ID, Pub: pub, Code: codec.CodeGone})
	}
}

// replay adds what a joining or resuming member needs of one stream.
func (r *Room) replay(rp *Replay, s *stream, j *Join, seat *seat) {
	pos, reason := uint64(1), codec.GapJoined
	resuming := false
	for _, h := range j.Have {
		if h.StreamKey == s.key {
			pos, reason, resuming = h.Last+1, codec.GapExpired, true
		}
	}
	if s.pub.ended != 0 && !resuming {
		return
	}
	if resuming || len(j.Have) > 0 {
		if pos >= s.next {
			seat.start(s, s.next-1)
			return
		}
		if len(s.log) > 0 && s.log[0].first <= pos {
			r.replayFrom(rp, s, pos)
			seat.start(s, pos-1)
			return
		}
	}
	start := s.next
	if s.groupSeq != 0 {
		start = s.groupSeq
	} else if s.open && len(s.log) > 0 && s.log[0].first <= s.openSeq {
		start = s.openSeq
	}
	start = max(start, pos)
	for i := range s.inits {
		if sp := &s.inits[i]; sp.first >= pos && sp.last < start {
			rp.gap(s, pos, sp.first-1, reason)
			rp.span(sp, sp.first)
			pos = sp.last + 1
		}
	}
	rp.gap(s, pos, start-1, reason)
	r.replayFrom(rp, s, start)
	if start == s.next && (s.open || s.keyed && s.groupSeq == 0 && r.loss == nil && r.set.Policy != codec.PolicyLatest) {
		rp.Midway = append(rp.Midway, Midway{s.key, s.next})
	}
	seat.start(s, start-1)
}

// replayFrom adds the log from frame number from on, which the log holds or which is the next.
func (r *Room) replayFrom(rp *Replay, s *stream, from uint64) {
	for i := range s.log {
		if sp := &s.log[i]; sp.last >= from {
			rp.span(sp, from)
		}
	}
}

// Unsubscribe says that a member of o has left; the outlet has forgotten it already. last says that it was o's last one.
// gone says that its connection broke, so that in a lossless room it keeps its place for the stall time.
func (r *Room) Unsubscribe(o Outlet, member any, counts, last, gone bool, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return
	}
	r.subs--
	r.recount = true
	if counts {
		r.watchers--
	}
	r.changed()
	if last {
		if i := slices.Index(r.outlets, o); i >= 0 {
			r.outlets = slices.Delete(r.outlets, i, i+1)
		}
	}
	if r.loss != nil {
		r.loss.leave(r, member, gone, now)
	}
}
