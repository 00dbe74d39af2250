package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// What a socket has taken and not sent no policy reaches any more: on a slow path that is what makes old what a
// subscriber reads. So the kernel may hold no more unsent than the path takes in paceFor. Nothing is known of a path
// until it has been full. Until then the kernel holds unsentStart, and twice as much each time that the path shows that
// it takes that in time, up to SendBuffer, which no fast path ever fills. A path that stays full is measured; if it is
// slower it is paced: what is written to it is kept to the bound, which the kernel by itself keeps only roughly, until
// it has not been full for paceRest.
//
// A session in a latest room is always paced, from the beginning as if its path were slow. The writes of those that are
// not paced cost nothing more.
const (
	paceFor     = 50 * time.Millisecond
	paceOver    = 50 * time.Millisecond // a pace is taken over no less
	paceRest    = time.Second
	paceMin     = 2 << 10
	paceStart   = 4 << 10
	unsentStart = 8 << 10
)

// pace is how fast a session's path takes what is written.
type pace struct {
	bound  int32 // bytes that the kernel may hold unsent, and writes are kept to; 0: not paced
	unsent int32 // bytes that it may hold where that is not so; 0: unsentStart
	took   int   // bytes written since
	since  int64 // when the path was full first of late; 0: all could be written since then
	fullAt int64 // when it was full last
	always bool  // it is in a latest room, or was
}

// unsent returns how many bytes the kernel may hold for the session unsent.
func (s *session) unsent() int {
	most := s.loop.eng.cfg.SendBuffer
	switch {
	case !s.role.client():
		return most
	case s.paced():
		return int(s.rare.pace.bound)
	case s.rare != nil && s.rare.pace.unsent != 0:
		return int(s.rare.pace.unsent)
	}
	return min(unsentStart, most)
}

// pacedFrom begins with a low bound. Loop only.
func (s *session) pacedFrom(bound int) {
	if !s.paced() && bound < s.loop.eng.cfg.SendBuffer {
		s.setPace(bound)
	}
	s.rarely().pace.always = true
}

// emptied notes that all that waited could be written. Loop only.
func (s *session) emptied() {
	if s.rare == nil {
		return
	}
	p := &s.rare.pace
	p.since = 0
	if p.bound != 0 && !p.always && s.loop.now-p.fullAt >= int64(paceRest) {
		n := int(p.bound)
		p.bound = 0
		s.setUnsent(n)
	}
}

// measure takes the path's pace: it is full now. Loop only.
func (s *session) measure() {
	if !s.role.client() {
		return
	}
	p, now := &s.rarely().pace, s.loop.now
	p.fullAt = now
	switch over := now - p.since; {
	case p.since == 0:
		p.since, p.took = now, 0
	case over >= int64(paceOver):
		n := max(int(int64(p.took)*int64(paceFor)/over), paceMin)
		p.since, p.took = now, 0
		switch was := int(p.bound); {
		case n >= s.loop.eng.cfg.SendBuffer:
			if was != 0 || int(p.unsent) != s.loop.eng.cfg.SendBuffer {
				s.setPace(0)
			}
		case was == 0 || n > was+was/4 || n < was-was/4:
			s.setPace(n)
		}
	}
}

// regained notes that a full path takes bytes again, which it does when half of what the kernel held is sent. Loop
// only.
func (s *session) regained() {
	if s.rare == nil || s.paced() || !s.role.client() {
		return
	}
	most := s.loop.eng.cfg.SendBuffer
	if n := s.unsent(); n < most && s.loop.now-s.rare.pace.fullAt <= int64(paceFor)/2 {
		s.setUnsent(min(2*n, most))
	}
}

// setPace keeps what is written to a bound, 0: to none any more. Loop only.
func (s *session) setPace(bound int) {
	s.rarely().pace.bound = int32(bound)
	if bound == 0 {
		bound = s.loop.eng.cfg.SendBuffer
	}
	s.setUnsent(bound)
}

// setUnsent tells the kernel how much it may hold unsent, by which it also says that the socket takes bytes again. Loop
// only.
func (s *session) setUnsent(n int) {
	if s.rare.pace.bound == 0 {
		s.rare.pace.unsent = int32(n)
	}
	_ = unix.SetsockoptInt(int(s.fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
	if s.q != nil {
		s.q.SetChunk(n)
	}
}

// allowance returns how many bytes may be written now. Loop only.
func (s *session) allowance() int {
	if !s.paced() {
		return flushBytes
	}
	unsent, err := unix.IoctlGetInt(int(s.fd), unix.SIOCOUTQNSD)
	if err != nil {
		return int(s.rare.pace.bound)
	}
	return int(s.rare.pace.bound) - unsent
}
