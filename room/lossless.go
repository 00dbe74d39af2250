package room

import "github.com/timedge/timedge/codec"

// lossless keeps, for a room that drops nothing, how far each subscriber has acknowledged each stream. The publisher may
// have a window of frames beyond the slowest of them. Guarded by the room's mutex.
type lossless struct {
	seats    []*seat
	byMember map[any]*seat // those whose subscriber is connected
}

// seat is a subscriber's place. It outlives the subscriber's connection for the stall time.
type seat struct {
	who    who
	member any // nil while its connection is away
	outlet Outlet
	noEcho bool
	moved  int64                      // when it last acknowledged something, or had nothing to acknowledge
	places map[codec.StreamKey]*place // of every stream that it gets
}

// place is how far a seat has acknowledged a stream.
type place struct {
	st    *stream
	acked uint64
}

// kept returns the seat of a client whose connection broke or, when the client resumes, that still sits on an old one.
// It returns nil if there is none.
func (l *lossless) kept(w who, resumes bool) *seat {
	for _, s := range l.seats {
		if s.who == w && (resumes || s.member == nil) {
			return s
		}
	}
	return nil
}

// take gives a seat to a member: a new one if s is nil. A member that still sits there, on a connection that is not known
// to be dead, is cut off.
func (l *lossless) take(s *seat, o Outlet, j *Join, now int64) *seat {
	if s == nil {
		s = &seat{who: who{j.Account, j.Instance}, places: make(map[codec.StreamKey]*place)}
		l.seats = append(l.seats, s)
	}
	if s.member != nil {
		s.outlet.Cut(s.member, codec.CodeReplaced)
		delete(l.byMember, s.member)
	}
	s.member, s.outlet, s.moved, s.noEcho = j.Member, o, now, j.NoEcho
	l.byMember[j.Member] = s
	return s
}

// start notes where a seat takes a stream up. No-op on a nil seat.
func (s *seat) start(st *stream, acked uint64) {
	if s == nil {
		return
	}
	if p := s.places[st.key]; p != nil {
		acked = max(acked, p.acked)
	}
	s.places[st.key] = &place{st, acked}
}

// knows reports whether the seat gets streams of p. A nil seat knows nothing.
func (s *seat) knows(p *Publisher) bool {
	if s != nil {
		for _, st := range p.streams {
			if s.places[st.key] != nil {
				return true
			}
		}
	}
	return false
}

// begin gives every seat a place in a new stream, from its first frame.
func (l *lossless) begin(st *stream) {
	for _, s := range l.seats {
		if !(s.noEcho && s.who == st.pub.who) {
			s.start(st, st.next-1)
		}
	}
	l.update(st)
}

// forget takes the streams of a publisher out of a seat. No-op on a nil seat.
func (s *seat) forget(p *Publisher) {
	if s != nil {
		for _, st := range p.streams {
			delete(s.places, st.key)
		}
	}
}

// posted is called after a batch was posted: with nobody there it has arrived.
func (l *lossless) posted(st *stream) {
	if st.atLow == 0 {
		l.update(st)
	}
}

// update computes how far the slowest seats are, lets go of what all have, and tells the publisher.
func (l *lossless) update(st *stream) {
	low, n := st.next-1, 0
	for _, s := range l.seats {
		switch p := s.places[st.key]; {
		case p == nil || n > 0 && p.acked > low:
		case n > 0 && p.acked == low:
			n++
		default:
			low, n = p.acked, 1
		}
	}
	st.low, st.atLow = low, n
	if low > st.acked.Load() {
		st.acked.Store(low)
	}
	arrived, log := 0, st.spans()
	for ; st.counts < len(log) && log[st.counts].last <= low; st.counts++ {
		arrived += log[st.counts].end - log[st.counts].off - st.part
		st.part = 0
	}
	// The publisher may send as much again for each frame acknowledged, so those of a span in progress count, too.
	if st.counts < len(log) && log[st.counts].b.Kind == KindStream && log[st.counts].first <= low {
		sp := &log[st.counts]
		from := sp.first
		if st.part > 0 {
			from = st.partNext
		}
		if low >= from {
			n := offsetOf(sp.bytes()[st.part:], from, low+1)
			arrived += n
			st.part, st.partNext = st.part+n, low+1
		}
	}
	st.trim()
	if arrived > 0 {
		st.pub.arrived(arrived)
	}
}

// Ack records that a member of a lossless room has consumed a stream up to seq; in other rooms it does nothing. Streams that
// the room does not know are ignored. A number that was never sent is ErrFlow: the connection is to be closed.
func (r *Room) Ack(member any, key codec.StreamKey, seq uint64, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loss == nil {
		return nil
	}
	s := r.loss.byMember[member]
	if s == nil {
		return nil
	}
	p := s.places[key]
	if p == nil || seq <= p.acked {
		return nil
	}
	if seq >= p.st.next {
		return ErrFlow.With("acknowledgement of a frame that was never sent")
	}
	was := p.acked
	p.acked, s.moved = seq, now
	// Only the last of the slowest seats to move moves the publisher.
	if was == p.st.low {
		if p.st.atLow--; p.st.atLow == 0 {
			r.loss.update(p.st)
		}
	}
	return nil
}

// leave takes a member off its seat. The seat stays, empty, if the connection broke.
func (l *lossless) leave(member any, gone bool, now int64) {
	s := l.byMember[member]
	if s == nil {
		return
	}
	delete(l.byMember, member)
	s.member, s.outlet, s.moved = nil, nil, now
	if !gone {
		l.remove(s)
	}
}

func (l *lossless) remove(gone *seat) {
	for i, s := range l.seats {
		if s == gone {
			n := len(l.seats) - 1
			l.seats[i], l.seats[n] = l.seats[n], nil
			l.seats = l.seats[:n]
			break
		}
	}
	for _, p := range gone.places {
		l.update(p.st)
	}
}

// released takes the streams of a publisher that is gone for good out of every seat.
func (l *lossless) released(p *Publisher) {
	for _, s := range l.seats {
		s.forget(p)
	}
}

// sweep cuts off the seats that have not moved for the stall time although frames wait for them.
func (l *lossless) sweep(t *Table, now int64) {
	for i := len(l.seats) - 1; i >= 0; i-- {
		s := l.seats[i]
		behind := s.member == nil
		for _, p := range s.places {
			behind = behind || p.acked+1 < p.st.next
		}
		if !behind {
			s.moved = now
			continue
		}
		if now-s.moved <= int64(t.cfg.Stall) {
			continue
		}
		if s.member != nil {
			s.outlet.Cut(s.member, codec.CodeTooSlow)
			delete(l.byMember, s.member)
			t.stats.CutOff.Add(1)
		}
		l.remove(s)
	}
}
