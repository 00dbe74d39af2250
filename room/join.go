package room

import (
	"cmp"
	"slices"

	"github.com/timedge/timedge/codec"
)

// Join describes a subscriber.
type Join struct {
	Member   Member
	Account  string
	Instance uint64
	Counts   bool
	NoEcho   bool // leave out what the same client publishes
	// with NoEcho: the number under which it does, as far as its session knows; 0: none. See Room.Mute
	Mute uint16
	// the member is the link of this node, which has subscribers of its own: see Tally; "": it is not
	Link    string
	New     bool             // with Link: it has nothing of the room; others of its own may have less than Have
	Have    []codec.Position // the last frame of each stream it has seen, when it resumes
	Gapped  []uint32         // indexes of those in Have that ended a gap: there it may not be able to go on
	Resumes bool             // it was there before: it has joined none of the streams late that Have does not name

	// Lives are those of the publishers in Have, with Link: positions in streams of another publisher, who had the number
	// before or will have it, count for nothing. One that is not there, or of Epoch 0, fits any.
	Lives map[uint16]codec.Life
}

// ofOthers takes the positions out in whose places other publishers have streams now.
func (r *Room) ofOthers(j *Join) {
	if len(j.Lives) == 0 {
		return
	}
	others := make(map[uint16]bool)
	for _, p := range r.pubs {
		if life, ok := j.Lives[p.Num]; ok && !p.life.Is(life) {
			others[p.Num] = true
		}
	}
	if len(others) > 0 { // no node tells of gaps
		j.Have = slices.DeleteFunc(slices.Clone(j.Have), func(h codec.Position) bool { return others[h.Pub] })
	}
}

// positions is what a resuming client has seen, in order of its streams. Looking one up costs the same however many
// streams its publisher has, since a client may name 4,096, in a room of as many publishers as there may be.
type positions []position

type position struct {
	codec.StreamKey
	at     uint16 // place in what the client has named
	gapped bool   // that was a gap: there the client may not be able to go on
	known  bool   // the room still knows the publisher
	last   uint64
}

// rank orders positions by their streams, and those in the same stream as they were named.
func (p *position) rank() uint64 {
	return uint64(p.Pub)<<24 | uint64(p.Dtype)<<16 | uint64(p.at)
}

func (j *Join) positions() positions {
	if len(j.Have) == 0 {
		return nil
	}
	h := make(positions, len(j.Have))
	for i, p := range j.Have {
		h[i] = position{StreamKey: p.StreamKey, at: uint16(i), last: p.Last}
	}
	for _, i := range j.Gapped {
		h[i].gapped = true
	}
	slices.SortFunc(h, func(a, b position) int { return cmp.Compare(a.rank(), b.rank()) })
	kept := h[:0]
	for i := range h { // of a stream that is named twice the last counts
		if i+1 < len(h) && h[i+1].StreamKey == h[i].StreamKey {
			h[i+1].gapped = h[i+1].gapped || h[i].gapped
			continue
		}
		kept = append(kept, h[i])
	}
	return kept
}

func compareKeys(a, b codec.StreamKey) int {
	return cmp.Or(cmp.Compare(a.Pub, b.Pub), cmp.Compare(a.Dtype, b.Dtype))
}

// of returns the position in a stream, nil if there is none.
func (h positions) of(key codec.StreamKey) *position {
	i, is := slices.BinarySearchFunc(h, key,
		func(p position, k codec.StreamKey) int { return compareKeys(p.StreamKey, k) })
	if !is {
		return nil
	}
	return &h[i]
}

// in returns the positions in streams of a publisher.
func (h positions) in(pub uint16) positions {
	from, _ := slices.BinarySearchFunc(h, pub, func(p position, pub uint16) int { return cmp.Compare(p.Pub, pub) })
	to := from
	for to < len(h) && h[to].Pub == pub {
		to++
	}
	return h[from:to]
}

// sat reports whether the subscriber is one that may sit on an older connection still: it was there before, or is known
// by its instance, which no two clients share at once.
func (j *Join) sat() bool { return j.before() || j.Instance != 0 || j.Link != "" }

// before reports whether the subscriber has been in the room, as far as it says. It may have had nothing when its
// connection broke.
func (j *Join) before() bool { return len(j.Have) > 0 || j.Resumes }

// Subscribe makes a member of o admitted with the replay that fits it, and adds o to the room's outlets if it is not
// there. In lossless rooms, and if it is a link, the member owes acknowledgements from where it starts.
func (r *Room) Subscribe(o Outlet, j Join, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return ErrUnknown
	}
	if j.Link == "" && !r.kind.admits(j.Account, r.Owner) {
		return ErrNotAccepted
	}
	if j.Link == "" && r.part {
		return ErrNotRelay // as yet: it does not hold what the relay has
	}
	r.calm(now)
	r.rouse()
	r.ofOthers(&j)
	var seat *seat
	if r.kind.seats(j.Link != "") {
		seat = r.seated().kept(who{j.Account, j.Instance}, j.Link, j.sat())
	}
	sat := seat != nil
	if j.Link == "" && r.full() && (seat == nil || seat.member == nil) {
		return ErrFull
	}
	if r.kind.seats(j.Link != "") {
		seat = r.seats.take(seat, &j, now)
	}
	if j.Link == "" {
		r.subs++
	} else {
		if r.links == nil {
			r.links = make(map[Member]int)
		}
		r.links[j.Member] = untold
	}
	r.recount = true
	if j.Counts {
		r.watchers++
	}
	r.changed()

	rp, have := &Replay{now: now, share: r.table.pool.Share(j.Account)}, j.positions()
	if seat != nil {
		seat.mute = j.Mute
	}
	var mark uint64 // of the client whose own streams are left out
	if j.NoEcho {
		mark = codec.ClientMark(r.ID, j.Account, j.Instance)
	}
	for _, p := range r.pubs {
		named := have.in(p.Num)
		for i := range named {
			named[i].known = true
		}
		if p.ended != 0 && len(named) == 0 && !seat.owes(p) {
			continue
		}
		rp.control(r, p.joined())
		if j.NoEcho && (p.Num == j.Mute || p.mark == mark) { // the session may learn its number only later
			seat.mutes(p.Num)
			if p.ended == 0 {
				rp.Mute = p.Num
			}
		} else {
			for _, s := range p.streams {
				r.replay(rp, &j, s, have, seat)
			}
			seat.names(named)
			if p.ended == 0 && !j.New {
				p.unknown(rp, named, seat)
			}
			if p.restored && p.ended == 0 && now < r.settles {
				rp.Fresh, rp.FreshUntil = append(rp.Fresh, p.Num), r.settles+int64(r.table.conf().Settle) // loops may be late
				for _, s := range p.streams {
					rp.Midway = append(rp.Midway, Midway{Key: s.key, Known: true})
				}
			}
		}
		if p.ended != 0 { // nothing follows of it: if the number comes again, it begins anew
			rp.Midway = slices.DeleteFunc(rp.Midway, func(m Midway) bool { return m.Key.Pub == p.Num })
			rp.control(r, &codec.Left{Room: r.ID, Pub: p.Num, Code: p.ended})
		}
	}
	r.forgotten(rp, have)
	switch {
	case seat == nil:
	case sat || j.Link != "" || r.seats.hold != 0:
		r.seats.updateAll(r)
	default:
		r.seats.sit(seat)
	}
	r.attend(now) // now that the member is waited for: it may count all seats anew
	if seat != nil && j.Link == "" {
		r.seats.came([]uint64{seat.mark}, seat)
	}
	if !slices.Contains(r.outlets, o) {
		r.outlets = append(r.outlets, o)
	}
	j.Member.Admit(rp)
	return nil
}

// unknown has a resuming member wait for the streams of a publisher that it has a position in and this node knows
// nothing of: the room, or its relay, has come from another.
func (p *Publisher) unknown(rp *Replay, named positions, seat *seat) {
	for i := range named {
		if h := &named[i]; h.last > 0 && !p.knows(h.Dtype) {
			rp.Midway = append(rp.Midway, Midway{
				Key: h.StreamKey, From: h.last + 1, Ahead: true, Torn: h.gapped, Why: codec.GapLost,
			})
			seat.expects(h.StreamKey, h.last)
		}
	}
}

// forgotten tells a resuming subscriber that publishers it knew are gone, and that their streams may have gone on.
func (r *Room) forgotten(rp *Replay, have positions) {
	if len(have) == 0 {
		return
	}
	gap := &codec.Gap{Room: r.ID, To: codec.MaxSeq, Reason: codec.GapExpired} // one for all: there may be thousands
	left := &codec.Left{Room: r.ID, Code: codec.CodeGone}
	for i := range have {
		h := &have[i]
		if h.known {
			continue
		}
		if h.last != codec.MaxSeq && h.last != 0 {
			gap.StreamKey, gap.From = h.StreamKey, h.last+1
			rp.control(r, gap)
		}
		if i+1 == len(have) || have[i+1].Pub != h.Pub { // the last of its publisher
			left.Pub = h.Pub
			rp.control(r, left)
		}
	}
}

// startFrom returns the first frame from seq on at which a decoder can start; the next if the log holds none.
func (s *stream) startFrom(seq uint64) uint64 {
	log := s.spans()
	for i := range log {
		sp := &log[i]
		if sp.last < seq || sp.b.Kind != KindStream {
			continue
		}
		for b := sp.bytes(); len(b) > 0; {
			n, f, at := frameAt(b)
			if at >= seq && (f.KeyStart() || f.Start() && !s.grouped()) {
				return at
			}
			b = b[n:]
		}
	}
	return s.next
}

// unacked returns the start of the oldest message, or gap, in the log of which nothing is acknowledged.
func (s *stream) unacked() uint64 {
	log := s.spans()
	for i := range log {
		sp := &log[i]
		if sp.last <= s.low {
			continue
		}
		if sp.b.Kind != KindStream {
			return max(sp.first, s.low+1)
		}
		for b := sp.bytes(); len(b) > 0; {
			n, f, seq := frameAt(b)
			if seq > s.low && f.Start() {
				return seq
			}
			b = b[n:]
		}
	}
	return s.next
}

// Unsubscribe says that a member of o has left; the outlet has forgotten it already. last says that it was o's last
// one. gone says that its connection broke, so that in a lossless room it keeps its place for the stall time.
func (r *Room) Unsubscribe(o Outlet, member Member, counts, last, gone bool, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return
	}
	if n, link := r.links[member]; link {
		if r.seats != nil && r.seats.byMember[member] != nil {
			r.seats.byMember[member].served = max(n, 0)
		}
		r.tallied -= max(n, 0)
		delete(r.links, member)
		if n > 0 {
			r.parted(member)
		}
	} else {
		r.subs--
		r.parted(member)
	}
	r.attend(now)
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
	if r.seats != nil {
		r.seats.leave(member, gone, now)
	}
}

// full reports whether the room has as many subscribers as it may have, as far as this node knows.
func (r *Room) full() bool {
	return r.kind.elsewhere(r.total, r.toldOf)+r.subs+r.tallied >= r.set.MaxSubs
}

// Tally says how many subscribers the node of a link serves, and what has become of clients of a lossless room there.
func (r *Room) Tally(member Member, subs int, clients []codec.ClientMove, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.links[member]
	if !ok || r.ended != 0 {
		return
	}
	if old != subs {
		r.links[member] = subs
		r.tallied += subs - max(old, 0)
		if subs < old {
			r.parted(member)
		}
		r.attend(now)
		r.recount = true
		r.changed()
	}
	if r.seats != nil && r.seats.byMember[member] != nil {
		r.seats.named(r.seats.byMember[member], clients, old == untold)
	}
}

// Subscribers returns how many subscribers this node has, those that links tally included; Tallied how many of them
// that are.
func (r *Room) Subscribers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subs + r.tallied
}

// Tallied returns how many subscribers the links tally.
func (r *Room) Tallied() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tallied
}
