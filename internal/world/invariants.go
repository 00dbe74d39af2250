package world

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Invariants says what must hold, by name.
var Invariants = map[string]string{
	"I1": "order: the next is the frame expected or a gap from it; joined before, left after; pieces whole",
	"I2": "once: a message never comes twice under one life, " +
		"and under another only if it was not acknowledged when that began",
	"I3": "told: lost, expired and slow only for what was not acknowledged while the subscriber counted; " +
		"in a lossless room for nothing",
	"I4": "acked: what is acknowledged is where every subscriber is that counts; " +
		"in a lossless room every one has consumed it",
	"I5":  "rights: after the answer to revoke nothing pushed later arrives; a grant that is answered holds",
	"I6":  "init: who joins late gets the newest acknowledged header before anything else",
	"I7":  "ghosts: each publisher at a relay has a living client, or a deadline",
	"I8":  "life: gone only after the linger time without a connection",
	"I9":  "answers: one for each request, in time; a room that has a relay is there",
	"I10": "frames: all fit, parse and are legal; no connection ends by a protocol error",
	"I11": "bounds: links, bytes kept, requests, entries encoded and control frames",
	"I12": "seam: what the machines say of themselves after each event",
	"I13": "quiet: after the last fault everything is fed, told and let go of",
	"I14": "core: nobody is promoted twice, or demoted without having relayed",
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// lifeOf returns the life in which a publisher wrote a frame under a number in a room: the newest in which that has the
// words it has, or the newest in which it has others.
func (p *publisher) lifeOf(r *roomRecord, f *codec.Stream, text stamp) (other *life) {
	lives := r.lives[f.Pub]
	for i := len(lives) - 1; i >= 0; i-- {
		l := lives[i]
		if l.by != p {
			continue
		}
		rec := l.streams[f.Dtype].at(f.Seq)
		if rec != nil && rec.msg == text.msg && rec.part == text.part && rec.flags == f.Flags {
			return l
		}
		if rec != nil && other == nil {
			other = l
		}
	}
	return other
}

// excuse is I3: a gap at a subscriber needs a reason that is true.
func (s *subscriber) excuse(m *codec.Gap, st *inStream) {
	w, lossless := s.w, s.room.policy == codec.PolicyLossless
	switch m.Reason {
	case codec.GapJoined:
		if !st.late && !st.gapped {
			w.fail("I3", "%s, which did not join late, is told that frames %d to %d of %v were pushed before that",
				s.name, m.From, m.To, m.StreamKey)
		}
		if lives := s.room.lives[m.Pub]; len(lives) == 1 && s.joins != 0 {
			ls := lives[0].streams[m.Dtype]
			if r := ls.at(ls.first); r != nil && r.pushed > s.joins {
				w.fail("I3", "%s, which is there since %v, is told that it joined after frames %d to %d of %v; "+
					"frame 1 was pushed at %v",
					s.name, s.joins, m.From, m.To, m.StreamKey, r.pushed)
			}
		}
	case codec.GapNewer:
		if s.room.policy != codec.PolicyLatest {
			w.fail("I3", "%s is told of newer messages in %s, which is %v", s.name, s.room.label, s.room.policy)
		}
	case codec.GapSlow:
		if lossless {
			w.fail("I3", "%s is told that frames %d to %d of %v were dropped, in a lossless room",
				s.name, m.From, m.To, m.StreamKey)
		} else if s.keepsUp(w.now-time.Second) && w.now-s.inAt > 4*time.Second {
			w.fail("I3", "%s keeps up and is told that it is too slow for frames %d to %d of %v",
				s.name, m.From, m.To, m.StreamKey)
		}
	case codec.GapLost, codec.GapExpired:
		s.misses(m, st)
		// Of a number that was given twice the gap is true if it is of one of the two lives.
		lie := ""
		for _, l := range s.room.lives[m.Pub] {
			if p := s.joined[m.Pub]; p != nil && p.account != "" && l.by.account != p.account {
				continue
			}
			if lie = s.due(m, l, st.back); lie == "" {
				return
			}
		}
		if lie != "" {
			w.fail("I3", "%s is told that frames %d to %d of %v are %v; %s",
				s.name, m.From, m.To, m.StreamKey, m.Reason, lie)
		}
	}
}

// missedOnTheWay reports whether a frame was pushed while a subscriber of a live room was there, or on its way from a
// node that went to another, for a moment: it has been acknowledged without it, and must be had of somebody all the
// same.
func (s *subscriber) missedOnTheWay(r *frameRecord) bool {
	w := s.w
	return (s.room.policy == codec.PolicyLive || s.room.policy == codec.PolicyDisconnect) &&
		s.joins != 0 && s.joins < r.pushed && s.inAt > r.pushed &&
		s.away < time.Second && w.now-s.inAt < 100*time.Millisecond &&
		(s.slowAt == 0 || s.slowAt+3*time.Second < r.pushed) &&
		!w.books.disaster(w.now) && !w.books.doubted(r.pushed, w.now) && !w.books.troubled(s.node, r.pushed, w.now)
}

// countsFor reports whether a subscriber of a lossless room has a claim to a frame: it has been there since before that
// was pushed, but for a while that is not too long.
func (s *subscriber) countsFor(r *frameRecord) bool {
	w := s.w
	return s.first != 0 && s.first < r.pushed && s.away < Config.Stall/2 &&
		(s.slowAt == 0 || w.now-s.slowAt > Config.Stall) &&
		!w.books.divided(r.pushed, w.now) && !w.books.kept(s.node, r.pushed, w.now, Config.Stall/2)
}

// missed is a frame of a lossless room that a subscriber is told will not come, before it was acknowledged.
type missed struct {
	s   *subscriber
	m   codec.Gap
	seq uint64
	l   *life
	at  time.Duration
}

// misses notes the first such frame of a gap. Its publisher may be about to send it again under another number: if it
// goes on in the same life to the end that was a loss (settled). Behind a gap the rest of a message is of no use.
func (s *subscriber) misses(m *codec.Gap, st *inStream) {
	lives := s.room.lives[m.Pub]
	if s.room.policy != codec.PolicyLossless || st.gapped || len(lives) != 1 {
		return
	}
	for seq := m.From; seq <= m.To; seq++ {
		r := lives[0].streams[m.Dtype].at(seq)
		if r == nil {
			break
		}
		if r.acked == 0 && !r.gap && r.pushed != 0 && s.countsFor(r) {
			s.w.missed = append(s.w.missed, missed{s, *m, seq, lives[0], s.w.now})
			break
		}
	}
}

// due returns what a subscriber should have got of what a gap says will not come, if the gap is of a publisher's life;
// "" if nothing. since is the frame that it wanted next when it came back.
func (s *subscriber) due(m *codec.Gap, l *life, since uint64) string {
	ls := l.streams[m.Dtype]
	for seq := m.From; seq <= m.To; seq++ {
		r := ls.at(seq)
		if r == nil {
			break
		}
		if r.acked == 0 || r.gap {
			continue
		}
		counted := s.inAt < r.pushed && s.keepsUp(r.pushed) || s.missedOnTheWay(r) && ls.kept(since)
		if s.room.policy == codec.PolicyLossless {
			counted = s.countsFor(r)
		}
		if counted {
			return fmt.Sprintf("frame %d of %s was acknowledged at %v, and %s was there all the time",
				seq, l.by.name, r.acked, s.name)
		}
	}
	return ""
}

// acknowledged is I4: when a frame is acknowledged, who was there when it was pushed has consumed it, in a lossless
// room; in any other the node of everybody who keeps up has it, so that whatever dies now it comes. Who came while the
// room was on its way from one relay to the next, which the first does not know, is sent what publishers keep.
func (w *World) acknowledged(p *publisher, dtype uint8, seq uint64, r *frameRecord) {
	if r.pushed == 0 && !r.gap {
		w.fail("I4", "frame %d of %s, dtype %d, is acknowledged, and was never pushed", seq, p.name, dtype)
	}
	if r.gap || p.room.removed != 0 {
		return
	}
	key := codec.StreamKey{Pub: p.num, Dtype: dtype}
	for _, name := range w.cast {
		s, is := w.clients[name].(*subscriber)
		if !is || s.room != p.room || !s.in || s.over || s.inAt > r.pushed || s.cutAt != 0 && s.cutAt <= w.now ||
			w.books.troubled(s.node, r.pushed, w.now) {
			continue
		}
		if st := s.streams[key]; st != nil && st.expected > seq || s.past[key] > seq {
			continue
		}
		if p.room.policy == codec.PolicyLossless {
			w.fail("I4", "frame %d of %s, dtype %d, is acknowledged, and %s, which is there, does not have it",
				seq, p.name, dtype, s.name)
		} else if s.keepsUp(r.pushed) && !w.books.moved(s.inAt-Config.Settle, s.inAt) && !s.nodeHas(key, seq) {
			w.fail("I4", "frame %d of %s, dtype %d, is acknowledged, and %s, where %s is, does not have it",
				seq, p.name, dtype, s.node, s.name)
		}
	}
}

// nodeHas reports whether the process that the subscriber is connected to has been sent a frame.
func (s *subscriber) nodeHas(key codec.StreamKey, seq uint64) bool {
	host := s.end.peer.host
	if host.dead {
		return true
	}
	r, err := host.rooms.Get(s.room.id)
	if err != nil { // the subscriber is about to hear of that
		return true
	}
	for _, st := range r.Streams() {
		if st.StreamKey == key {
			return st.Next > seq
		}
	}
	return false
}

// leftGone is I8: a subscriber hears that a publisher is gone. It may be that no node who matters has heard of it for
// the linger time: its client was away, or the network kept its node, or the subscriber's, from the others. Of one that
// has just come a new relay may not know: it goes on under another number then, which is looked at when it comes back.
func (w *World) leftGone(s *subscriber, num uint16) {
	lives := s.room.lives[num]
	if len(lives) == 0 {
		return
	}
	l := lives[len(lives)-1]
	p := l.by
	if p.life != l || p.gone != 0 || p.done || s.room.mayBeRevoked(p.account, l.began) {
		return // it has left
	}
	if n := len(lives); n > 1 && (lives[n-2].by != p || w.now-l.began < w.slack()) { // the word may be of the one before
		return
	}
	absent, since := p.absent, p.liveAt
	if !p.live {
		absent, since = w.now-p.lostAt, p.lostAt
	}
	if absent > Config.Linger-noticing || w.books.kept(p.node, since, w.now, Config.Linger/3) ||
		w.books.kept(s.node, since, w.now, Config.Linger/3) {
		return
	}
	if p.live && w.now-p.liveAt > w.slack() {
		w.fail("I8", "%s hears that %s is gone, which has been connected for %v", s.name, p.name, w.now-p.liveAt)
	}
	s.buried[num] = l
}

// risen is I8, too: a subscriber hears of a publisher that it was told is gone.
func (w *World) risen(s *subscriber, num uint16) {
	l := s.buried[num]
	delete(s.buried, num)
	if l != nil && l.by.life == l && l.by.live {
		w.fail("I8", "%s has heard that %s is gone, which goes on as publisher %d", s.name, l.by.name, num)
	}
}

// noticing is how much earlier than the client a node may notice that their connection has broken.
const noticing = 400 * time.Millisecond

// slack is what news may take to get around while nodes come and go.
func (w *World) slack() time.Duration { return Config.Settle + Config.Linger }

// lost takes the word that a room is no more, and reports whether that is so: if its owner has ended it, or if those
// are gone that could have carried on. From a node that is cut off from all who know the room it means nothing.
func (w *World) lost(r *roomRecord, who string, code codec.Code) bool {
	switch {
	case r.removed != 0:
	case code == codec.CodeRemoved:
		w.fail("I9", "%s hears that %s was removed, which it was not", who, r.label)
	case w.books.divided(w.now, w.now):
		return false
	case w.books.disaster(w.now):
	default:
		w.fail("I9", "%s is told %v about %s, which is there", who, code, r.label)
	}
	return true
}

// disaster reports whether so many nodes were killed of late that a room may be lost.
func (l *ledger) disaster(now time.Duration) bool {
	if l.extinct {
		return true
	}
	n := 0
	for _, at := range l.killed {
		if now-at < 20*time.Second {
			n++
		}
	}
	return n > 1
}

// census is I7, now and then: who publishes at a relay is somebody.
func (w *World) census() {
	before := w.suspects
	w.suspects = nil
	for _, name := range w.names {
		p := w.nodes[name]
		if p.dead || p.frozen {
			continue
		}
		for _, label := range sortedKeys(w.rooms) {
			r, err := p.rooms.Get(w.rooms[label].id)
			if err != nil || r.IsMirror() {
				continue
			}
			r.Publishers(func(num uint16, account string, _ room.Holder) bool {
				w.ghost(p, w.rooms[label], num, account, before)
				return true
			})
		}
	}
	w.after(250*time.Millisecond, w.census)
}

// suspect is a publisher at a relay that no living client is.
type suspect struct {
	at    *Process
	room  *roomRecord
	num   uint16
	since time.Duration
}

// ghost notes a publisher at a relay that is nobody's, and fails when it has been so for longer than any linger.
func (w *World) ghost(at *Process, r *roomRecord, num uint16, account string, before []suspect) {
	p, is := w.clients[account].(*publisher)
	if !is || p.room != r {
		w.fail("I7", "publisher %d of %s at %s is %s, whom nobody knows", num, r.label, at.name, account)
		return
	}
	if p.gone == 0 && p.num == num {
		return
	}
	since := w.now
	if i := slices.IndexFunc(before, func(s suspect) bool { return s.at == at && s.room == r && s.num == num }); i >= 0 {
		since = before[i].since
	}
	w.suspects = append(w.suspects, suspect{at, r, num, since})
	if w.now-since > 2*Config.Linger+1500*time.Millisecond && !w.books.kept(at.name, since, w.now, Config.Linger/3) {
		w.fail("I7", "publisher %d of %s at %s is nobody: %s is %d, and has been for %v",
			num, r.label, at.name, account, p.num, w.now-since)
	}
}

// settled is I13, when the night is over: everybody who is there has everything.
func (w *World) settled() {
	if w.books.extinct {
		return
	}
	for _, x := range w.missed {
		if p := x.l.by; p.life == x.l && p.gone == 0 && p.live && !x.l.streams[x.m.Dtype].at(x.seq).gap {
			w.fail("I3", "%s is told at %v, in a lossless room, that frames %d to %d of %v are %v; "+
				"frame %d was not acknowledged", x.s.name, x.at, x.m.From, x.m.To, x.m.StreamKey, x.m.Reason, x.seq)
		}
	}
	for _, name := range w.cast {
		c := w.clients[name].base()
		if c.gone == 0 && c.end != nil && len(c.asked) > 0 {
			for _, req := range sortedKeys(c.asked) {
				if w.now-c.asked[req].at < 3*time.Second {
					continue
				}
				w.fail("I9", "%s still waits for the answer to %T, asked at %v", name, c.asked[req].m, c.asked[req].at)
			}
		}
		switch c := w.clients[name].(type) {
		case *publisher:
			w.flushed(c)
		case *subscriber:
			w.fed(c)
		}
	}
}

// emptied is the rest of I13: when all clients have left, and then all rooms have ended, every buffer is back in its
// pool, and no Node keeps anything of them.
func (w *World) emptied(now time.Duration) {
	for _, name := range w.cast {
		w.clients[name].base().quit()
	}
	now += 2*Config.Linger + Config.Stall
	w.run(now)
	for _, name := range w.names {
		if p := w.nodes[name]; !p.dead {
			p.run(func() { p.rooms.EndAll(codec.CodeIdle) })
		}
	}
	w.run(now + 2*time.Second)
	for _, name := range w.names {
		p := w.nodes[name]
		if p.dead || w.fault != nil {
			continue
		}
		if n := p.pool.Outstanding(); n != 0 {
			w.fail("I13", "%s holds %d buffers, and nobody is there any more", name, n)
		}
		if h := p.node.Holds(); h != (carry.Holdings{}) {
			w.fail("I13", "%s keeps %+v, and nobody is there any more", name, h)
		}
	}
}

// flushed holds that everything which a publisher has pushed is acknowledged.
func (w *World) flushed(p *publisher) {
	if p.gone != 0 || p.done || p.room.id == 0 || p.room.removed != 0 || !p.room.granted(p.account, w.now) ||
		!p.live && (w.books.disaster(w.now) || w.books.doubted(p.room.settled(p.account), w.now)) {
		return
	}
	if !p.live {
		w.fail("I13", "%s is not a publisher of %s, and nothing is wrong", p.name, p.room.label)
		return
	}
	for _, s := range p.streams {
		if s.acked < len(s.frames) {
			w.fail("I13", "frame %d of %s, dtype %d, is not acknowledged: %d frames are not, %d are not sent",
				s.frames[s.acked].seq, p.name, s.dtype, len(s.frames)-s.acked, len(s.frames)-s.sent)
		}
	}
}

// fed holds that a subscriber has everything up to the newest frame, or the word that it will not come.
func (w *World) fed(s *subscriber) {
	if s.gone != 0 || s.over || s.room.id == 0 || s.room.removed != 0 {
		return
	}
	if !s.in && w.books.disaster(w.now) {
		return
	}
	if !s.in {
		w.fail("I13", "%s does not subscribe to %s, and nothing is wrong", s.name, s.room.label)
		return
	}
	for _, num := range sortedKeys(s.joined) {
		lives := s.room.lives[num]
		if n := len(lives); s.joined[num].here && n > 0 && lives[n-1].by.gone != 0 && w.now-lives[n-1].by.gone > 2*w.slack() {
			w.fail("I13", "%s has not heard that %s, publisher %d, has left", s.name, lives[n-1].by.name, num)
		}
	}
	for _, name := range w.cast {
		p, is := w.clients[name].(*publisher)
		if !is || p.room != s.room || p.gone != 0 || !p.live || p.done {
			continue
		}
		if here := s.joined[p.num]; here == nil || !here.here {
			w.fail("I13", "%s has not heard of %s, publisher %d", s.name, p.name, p.num)
		}
		for _, st := range p.streams {
			got := s.streams[codec.StreamKey{Pub: p.num, Dtype: st.dtype}]
			if st.next > 1 && (got == nil || got.expected != st.next) {
				has := uint64(0)
				if got != nil {
					has = got.expected - 1
				}
				w.fail("I13", "%s has %s, dtype %d, up to frame %d, and %d were pushed", s.name, p.name, st.dtype, has, st.next-1)
			}
		}
	}
}
