package world

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
)

// subscriber is a client that subscribes to a room and checks all that the protocol promises it ("The order of a
// stream"). It comes back after a broken connection and names what it has; it may stop reading for a while, and then
// has no claim to keep up.
type subscriber struct {
	client
	asking  bool
	in      bool          // subscribed on this connection
	inAt    time.Duration // since when
	first   time.Duration // when it first asked, as who joins late
	joins   time.Duration // when that was answered: what is pushed from then on it has not joined too late for
	resumed bool          // it named what it had
	away    time.Duration // the last time it was away: how long
	outAt   time.Duration // since when it is, or was then
	slowAt  time.Duration // when it last was slow: it stopped reading, or its connection was full
	stalled bool
	cutAt   time.Duration // the room may have given it up from then on, since it stopped reading; 0: no
	over    bool          // the room is, for it
	tries   int
	window  int

	streams map[codec.StreamKey]*inStream
	order   []codec.StreamKey
	past    map[codec.StreamKey]uint64 // where streams ended whose publishers have left
	// of a lossless room, those publishers: what is told of them is no news
	departed map[uint16]bool
	returned map[uint16]bool // something has come since of these: what had come before that is no news still
	joined   map[uint16]*presence
	buried   map[uint16]*life // of those that it has heard are gone, the lives that may go on
	highest  map[wrote]*message
	acking   bool
	owed     int // bytes consumed and not acknowledged
}

// presence is a publisher that is there, under a number.
type presence struct {
	account string
	here    bool
	nth     int // how often the number was given, as far as this subscriber has seen
}

// inStream is one stream.
type inStream struct {
	expected uint64
	prev     codec.Flags
	msg      uint64
	part     uint8
	resumed  bool   // nothing has come since a resume
	gapped   bool   // the last was a gap
	late     bool   // nothing but init messages has come since it joined late
	init     uint64 // the newest init message that came
	acked    uint64 // told by this subscriber, in a lossless room
	back     uint64 // what it expected when it last came back
}

// wrote names a stream of a publisher, whatever number it has.
type wrote struct {
	author uint16
	dtype  uint8
}

// message is the newest message that came of such a stream, and in which life.
type message struct {
	msg  uint64
	life *life
	nth  int
}

// come brings a subscriber into the world, or back to it on another connection.
func (s *subscriber) come(node string) {
	if s.gone != 0 || s.over {
		s.forgetAll()
	}
	s.gone = 0
	if s.streams == nil {
		s.forgetAll()
	}
	s.dial(node)
}

// forgetAll makes it another, which joins late.
func (s *subscriber) forgetAll() {
	s.instance = mix(s.instance + 1)
	s.streams, s.order = make(map[codec.StreamKey]*inStream), nil
	s.past, s.departed, s.returned = make(map[codec.StreamKey]uint64), make(map[uint16]bool), make(map[uint16]bool)
	s.joined, s.highest = make(map[uint16]*presence), make(map[wrote]*message)
	s.buried = make(map[uint16]*life)
	s.first, s.joins, s.over, s.tries, s.resumed, s.outAt, s.away = 0, 0, false, 0, false, 0, 0
}

func (s *subscriber) ready() {}

func (s *subscriber) opened() {
	s.in, s.asking = false, false
	s.subscribe()
}

func (s *subscriber) lost() {
	if s.stalled {
		s.slowAt = s.w.now
	}
	if s.in {
		s.outAt = s.w.now
	}
	s.in, s.asking, s.owed, s.stalled, s.cutAt = false, false, 0, false, 0
}

func (s *subscriber) subscribe() {
	if s.asking || s.in || s.over || !s.open || s.gone != 0 {
		return
	}
	if s.room.id == 0 { // not registered yet
		s.again()
		return
	}
	s.asking = true
	m := &codec.Subscribe{Room: s.room.id, Resumes: s.joins != 0}
	for i, k := range s.order {
		st := s.streams[k]
		m.Have = append(m.Have, codec.Position{StreamKey: k, Last: st.expected - 1})
		if st.gapped {
			m.Gapped = append(m.Gapped, uint32(i))
		}
		st.resumed, st.back = true, st.expected
	}
	for _, num := range sortedKeys(s.joined) { // of whom nothing has come
		if s.joined[num].here && !slices.ContainsFunc(s.order, func(k codec.StreamKey) bool { return k.Pub == num }) {
			m.Have = append(m.Have, codec.Position{StreamKey: codec.StreamKey{Pub: num}})
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.past), compareKeys) {
		if s.departed[k.Pub] {
			m.Have = append(m.Have, codec.Position{StreamKey: k, Last: s.past[k] - 1})
		}
	}
	s.resumed = len(m.Have) > 0
	asked := s.w.now
	s.ask(m, func(answer codec.Control) {
		s.asking = false
		switch m := answer.(type) {
		case *codec.Subscribed:
			s.w.tell("%s subscribes to %s at %s", s.name, s.room.label, s.node)
			s.in, s.inAt, s.tries, s.window = true, s.w.now, 0, int(m.Window)
			if s.first == 0 {
				s.first, s.joins = asked, s.w.now
			} else {
				s.away = s.w.now - s.outAt
			}
			if m.Policy != s.room.policy {
				s.w.fail("I10", "%s hears that %s is %v", s.name, s.room.label, m.Policy)
			}
		case *codec.Refused:
			switch {
			case m.Code == codec.CodeRoomUnknown || m.Code == codec.CodeNodeLost:
				if s.over = s.w.lost(s.room, s.name, m.Code); !s.over {
					s.again()
				}
			case m.Code.Retry():
				s.again()
			default:
				s.w.fail("I9", "%s may not subscribe to %s: %v", s.name, s.room.label, m.Code)
			}
		}
	})
}

func (s *subscriber) again() {
	s.tries++
	this := s.dials
	low := min(5*time.Millisecond<<min(s.tries, 6), 200*time.Millisecond)
	s.w.after(s.w.between(low/2, low), func() {
		if s.dials == this {
			s.subscribe()
		}
	})
}

// stall stops reading for a while.
func (s *subscriber) stall(d time.Duration) {
	if s.end == nil || s.stalled {
		return
	}
	end := s.end
	s.stalled, s.slowAt = true, s.w.now
	if d > Config.Stall-stallMargin {
		s.cutAt = s.w.now + Config.Stall - stallMargin
	}
	end.pause(true)
	s.w.after(d, func() {
		end.pause(false)
		s.stalled = false
		s.slowAt = s.w.now
	})
}

// keepsUp reports whether it has kept up since a moment, as far as it and the network can tell.
func (s *subscriber) keepsUp(since time.Duration) bool {
	return s.in && s.inAt < since && !s.stalled && (s.slowAt == 0 || s.slowAt+3*time.Second < since) &&
		!s.w.books.troubled(s.node, since, s.w.now)
}

// control takes what is no answer.
func (s *subscriber) control(m codec.Control) {
	switch m := m.(type) {
	case *codec.Joined:
		s.join(m)
	case *codec.Left:
		s.leave(m)
	case *codec.Gap:
		s.gap(m)
	case *codec.Closed:
		s.closed(m.Code)
	case *codec.Count:
	default:
		s.w.fail("I10", "%s gets %T", s.name, m)
	}
}

func (s *subscriber) join(m *codec.Joined) {
	s.w.risen(s, m.Pub)
	if s.departed[m.Pub] {
		return
	}
	p := s.joined[m.Pub]
	switch {
	case p == nil:
		s.joined[m.Pub] = &presence{account: m.Account, here: true, nth: 1}
	case !p.here:
		p.account, p.here, p.nth = m.Account, true, p.nth+1
	case p.account != m.Account:
		s.w.fail("I1", "%s hears that publisher %d is %s, which was %s and has not left", s.name, m.Pub, m.Account, p.account)
	}
}

func (s *subscriber) leave(m *codec.Left) {
	if s.departed[m.Pub] {
		return
	}
	p := s.joined[m.Pub]
	if p == nil {
		if !s.resumed {
			s.w.fail("I1", "%s hears that publisher %d has left, which never joined", s.name, m.Pub)
		}
		p = &presence{nth: 1}
		s.joined[m.Pub] = p
	}
	p.here = false
	for _, k := range slices.Clone(s.order) {
		if k.Pub == m.Pub { // a number that comes again begins anew
			s.past[k] = s.streams[k].expected
			s.departed[k.Pub] = s.room.policy == codec.PolicyLossless
			delete(s.streams, k)
			s.order = slices.DeleteFunc(s.order, func(o codec.StreamKey) bool { return o == k })
		}
	}
	switch m.Code {
	case codec.CodeGone:
		s.w.leftGone(s, m.Pub)
	case codec.CodeRevoked:
		if p.account != "" && !s.room.mayBeRevoked(p.account, 0) {
			s.w.fail("I5", "%s hears that %s was revoked in %s, which it was not", s.name, p.account, s.room.label)
		}
	}
}

// returns takes a publisher that had left for one that is there: something comes of it that had not come before.
func (s *subscriber) returns(num uint16) {
	delete(s.departed, num)
	s.returned[num] = true
	s.joined[num].here = true
	for _, k := range slices.SortedFunc(maps.Keys(s.past), compareKeys) {
		if k.Pub == num {
			st := s.of(k)
			st.expected, st.resumed, st.late = s.past[k], true, false
		}
	}
}

func (s *subscriber) of(k codec.StreamKey) *inStream {
	st := s.streams[k]
	if st == nil {
		st = &inStream{expected: 1, late: true}
		s.streams[k] = st
		s.order = append(s.order, k)
	}
	return st
}

// stream takes a frame.
func (s *subscriber) stream(f *codec.Stream, raw []byte) {
	if past, is := s.past[f.StreamKey]; s.departed[f.Pub] || is && s.returned[f.Pub] {
		if f.Seq < past {
			s.send(&codec.Ack{Room: s.room.id, StreamKey: f.StreamKey, Seq: f.Seq})
			return
		}
		if s.departed[f.Pub] {
			s.returns(f.Pub)
		}
	}
	st := s.of(f.StreamKey)
	p := s.joined[f.Pub]
	text, ok := readStamp(f.Payload)
	switch {
	case !s.in || f.Room != s.room.id:
		s.w.fail("I1", "%s gets a frame of a room that it is not in", s.name)
	case p == nil || !p.here:
		s.w.fail("I1", "%s gets a frame of publisher %d, who is not there", s.name, f.Pub)
	case f.Seq != st.expected:
		s.w.fail("I1", "%s expects frame %d of %v and gets %d", s.name, st.expected, f.StreamKey, f.Seq)
	case !st.resumed && f.Flags.Start() != st.prev.End():
		s.w.fail("I1", "%s gets frame %d of %v with flags %#x after %#x", s.name, f.Seq, f.StreamKey, f.Flags, st.prev)
	case !ok || text.dtype != f.Dtype || int(text.author) > len(s.w.books.authors) || text.author == 0:
		s.w.fail("I1", "%s gets frame %d of %v, which nobody wrote", s.name, f.Seq, f.StreamKey)
	}
	if s.w.fault != nil {
		return
	}
	s.check(f, st, p, text)
	if st.resumed && !st.prev.End() && f.Flags.Start() {
		st.part = 0
	}
	st.expected, st.prev, st.resumed, st.gapped = f.Seq+1, f.Flags, false, false
	st.msg, st.part = text.msg, text.part
	if f.Flags&codec.FlagInit != 0 {
		st.init = text.msg
	} else if f.Flags.Start() {
		st.late = false
	}
	s.consumed(len(raw))
}

// check holds a frame against what its publisher wrote.
func (s *subscriber) check(f *codec.Stream, st *inStream, p *presence, text stamp) {
	w, author := s.w, s.w.books.authors[text.author-1]
	l := author.lifeOf(s.room, f, text)
	if l == nil {
		w.fail("I1", "%s gets frame %d of %v, which %s did not write under that number",
			s.name, f.Seq, f.StreamKey, author.name)
		return
	}
	ls := l.streams[f.Dtype]
	r := ls.at(f.Seq)
	switch {
	case r.msg != text.msg || r.part != text.part || r.flags != f.Flags:
		w.fail("I1", "%s gets frame %d of %v with the words of another", s.name, f.Seq, f.StreamKey)
	case author.account != p.account:
		w.fail("I1", "%s gets a frame of %s from publisher %d, who is %s", s.name, author.account, f.Pub, p.account)
	case text.part > 0 && (st.msg != text.msg || st.part+1 != text.part):
		w.fail("I1", "%s gets piece %d of message %d after piece %d of %d", s.name, text.part, text.msg, st.part, st.msg)
	case s.room.revoked(author.account, r.pushed) && !w.books.doubted(s.room.settled(author.account), w.now):
		w.fail("I5", "%s gets what %s pushed at %v, after its right to push into %s had been taken back",
			s.name, author.name, r.pushed, s.room.label)
	}
	if !f.Flags.Start() {
		return
	}
	which := wrote{text.author, f.Dtype}
	if h := s.highest[which]; h != nil && text.msg <= h.msg && f.Flags&codec.FlagInit == 0 {
		if same := h.life == l && h.nth == p.nth; same || text.msg < ls.unsure {
			w.fail("I2", "%s gets message %d of %s, dtype %d, again: as frame %d of publisher %d; "+
				"it was at message %d of publisher %d",
				s.name, text.msg, author.name, f.Dtype, f.Seq, f.Pub, h.msg, h.life.num)
		}
	}
	s.highest[which] = &message{text.msg, l, p.nth}
	if st.late && f.Flags&codec.FlagInit == 0 {
		s.headed(f, st, ls, author)
	}
}

// headed checks that who joins late has the header that it needs. A relay that has just taken over is sent what
// publishers kept, which may begin before the newest header and behind the one before.
func (s *subscriber) headed(f *codec.Stream, st *inStream, ls *lifeStream, author *publisher) {
	if r := ls.at(f.Seq); r != nil && r.headless {
		return
	}
	for seq := f.Seq - 1; seq >= ls.first; seq-- {
		r := ls.at(seq)
		if r.flags&codec.FlagInit == 0 || r.gap || !r.flags.End() {
			continue
		}
		if r.acked == 0 || r.acked > s.first {
			continue
		}
		if st.init < r.msg && !s.w.books.divided(r.acked, s.w.now) && !s.w.books.moved(s.first-time.Second, s.w.now) {
			s.w.fail("I6", "%s joins late and gets frame %d of %s, dtype %d, of a %v room "+
				"without the header: message %d, acknowledged %v before it asked",
				s.name, f.Seq, author.name, f.Dtype, s.room.policy, r.msg, s.first-r.acked)
		}
		return
	}
}

// gap takes the word that frames will not come.
func (s *subscriber) gap(m *codec.Gap) {
	if past, is := s.past[m.StreamKey]; s.departed[m.Pub] || is && s.returned[m.Pub] {
		if m.To < past || s.departed[m.Pub] && m.To == codec.MaxSeq { // that is how who has left is told of
			return
		}
		if s.departed[m.Pub] {
			s.returns(m.Pub)
		}
		if m.From < past {
			rest := *m
			rest.From = min(s.of(m.StreamKey).expected, m.To)
			m = &rest
		}
	}
	if p := s.joined[m.Pub]; (p == nil || !p.here) && !s.resumed {
		s.w.fail("I1", "%s gets a gap of publisher %d, who is not there", s.name, m.Pub)
	}
	st := s.of(m.StreamKey)
	if m.From != st.expected {
		s.w.fail("I1", "%s expects frame %d of %v and gets a gap %d to %d", s.name, st.expected, m.StreamKey, m.From, m.To)
	}
	s.excuse(m, st)
	st.expected, st.prev, st.resumed, st.gapped = m.To+1, 0, false, true
	st.msg, st.part = 0, 0
	s.consumed(codec.GapSize)
}

// consumed has a subscriber of a lossless room say so, a moment later.
func (s *subscriber) consumed(n int) {
	if s.room.policy != codec.PolicyLossless {
		return
	}
	s.owed += n
	if s.acking {
		return
	}
	s.acking = true
	this := s.dials
	s.w.after(s.w.between(100*time.Microsecond, 15*time.Millisecond), func() {
		s.acking = false
		if s.dials != this || !s.in {
			return
		}
		s.owed = 0
		for _, k := range s.order {
			if st := s.streams[k]; st.expected-1 > st.acked {
				st.acked = st.expected - 1
				s.send(&codec.Ack{Room: s.room.id, StreamKey: k, Seq: st.acked})
			}
		}
	})
}

// closed is the end of its subscription.
func (s *subscriber) closed(code codec.Code) {
	was := s.in
	if was {
		s.outAt = s.w.now
	}
	s.in = false
	switch code {
	case codec.CodeTooSlow:
		if was && s.keepsUp(s.w.now-Config.Stall) {
			s.w.fail("I3", "%s is told that it is too slow, and is not", s.name)
		}
		s.over = true
	case codec.CodeReplaced:
		s.over = true
	case codec.CodeMoved, codec.CodeGoingAway:
		s.again()
	default:
		if s.over = s.w.lost(s.room, s.name, code); !s.over {
			s.again()
		}
	}
}

// stallMargin is how long before it stops reading a subscriber may have acknowledged for the last time.
const stallMargin = 400 * time.Millisecond

func compareKeys(a, b codec.StreamKey) int {
	return cmp.Or(cmp.Compare(a.Pub, b.Pub), cmp.Compare(a.Dtype, b.Dtype))
}
