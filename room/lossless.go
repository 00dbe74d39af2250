package room

import "github.com/timedge/timedge/codec"

// lossless keeps, for a room that drops nothing, how far each subscriber has acknowledged each stream. The publisher may
// have a window of frames beyond the slowest of them. Guarded by the room's mutex.
type lossless struct {
	seats []*seat
}

// seat is a subscriber's place. It outlives the subscriber's connection for the stall time.
type seat struct {
	who    who
	member any // nil while its connection is away
	outlet Outlet
	noEcho bool
	moved  int64 // when it last acknowledged something, or had nothing to acknowledge
	acked  map[*stream]uint64
}

// seat returns the place that a resuming client has kept, or a new one.
func (l *lossless) seat(w who, resumes bool) *seat {
	if resumes {
		for _, s := range l.seats {
			if s.who == w {
				return s
			}
		}
	}
	return &seat{who: w, acked: make(map[*stream]uint64)}
}

// take gives a seat to a member. A member that still sits there, on a connection that is not known to be dead, is cut off.
func (l *lossless) take(r *Room, s *seat, o Outlet, member any, now int64) {
	if s.member != nil {
		s.outlet.Cut(s.member, codec.CodeReplaced)
		l.seats = append(l.seats, &seat{member: s.member, outlet: s.outlet, who: who{}, moved: now}) // until it has left
	}
	known := false
	for _, x := range l.seats {
		known = known || x == s
	}
	if !known {
		l.seats = append(l.seats, s)
	}
	s.member, s.outlet, s.moved = member, o, now
}

// start notes where a seat takes a stream up. No-op on a nil seat.
func (s *seat) start(st *stream, acked uint64) {
	if s != nil {
		s.acked[st] = max(acked, s.acked[st])
	}
}

// begin gives every seat a place in a new stream, from its first frame.
func (l *lossless) begin(st *stream) {
	for _, s := range l.seats {
		if s.acked != nil && !(s.noEcho && s.who == st.pub.who) {
			s.acked[st] = st.next - 1
		}
	}
}

// posted is called after a batch was posted: with nobody there it has arrived.
func (l *lossless) posted(st *stream) { l.update(st) }

// update computes how far the slowest seat is, lets go of what all have, and tells the publisher.
func (l *lossless) update(st *stream) {
	low := st.next - 1
	for _, s := range l.seats {
		if a, ok := s.acked[st]; ok {
			low = min(low, a)
		}
	}
	if low <= st.acked.Load() {
		return
	}
	st.acked.Store(low)
	st.trim()
	p := st.pub
	waiting := int64(0)
	for _, s := range p.streams {
		a := s.acked.Load()
		for i := range s.log {
			if s.log[i].last > a {
				waiting += int64(s.log[i].end - s.log[i].off)
			}
		}
	}
	if n := p.pushed.Load() - waiting - p.done.Load(); n > 0 {
		p.arrived(int(n))
	}
}

// Ack records that a member has consumed a stream up to seq. Numbers that were never sent are a fault of the peer.
func (r *Room) Ack(member any, key codec.StreamKey, seq uint64, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loss == nil {
		return nil
	}
	for _, s := range r.loss.seats {
		if s.member != member || s.acked == nil {
			continue
		}
		for st, a := range s.acked {
			if st.key != key || seq <= a {
				continue
			}
			if seq >= st.next {
				return ErrSequence
			}
			s.acked[st], s.moved = seq, now
			r.loss.update(st)
		}
	}
	return nil
}

// leave takes a member off its seat. The seat stays, empty, if the connection broke.
func (l *lossless) leave(r *Room, member any, gone bool, now int64) {
	for i, s := range l.seats {
		if s.member != member {
			continue
		}
		if gone && len(s.acked) > 0 {
			s.member, s.outlet, s.moved = nil, nil, now
			return
		}
		l.remove(i)
		return
	}
}

func (l *lossless) remove(i int) {
	gone := l.seats[i]
	l.seats = append(l.seats[:i], l.seats[i+1:]...)
	for st := range gone.acked {
		l.update(st)
	}
}

// sweep cuts off the seats that have not moved for the stall time although frames wait for them.
func (l *lossless) sweep(r *Room, now int64) {
	for i := len(l.seats) - 1; i >= 0; i-- {
		s := l.seats[i]
		behind := s.member == nil
		for st, a := range s.acked {
			behind = behind || a+1 < st.next
		}
		if !behind {
			s.moved = now
			continue
		}
		if now-s.moved <= int64(r.table.cfg.Stall) {
			continue
		}
		if s.member != nil {
			s.outlet.Cut(s.member, codec.CodeTooSlow)
			r.table.stats.CutOff.Add(1)
		}
		l.remove(i)
	}
}
