package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// What a socket has taken and not sent no policy reaches any more: on a slow path that is what makes a subscriber's
// states old. So the kernel may hold no more unsent than the path takes in paceFor. Nothing is known of a path until it
// has been full once; from then on each time that it is full shows its pace. A session in a latest room begins as if
// its path were slow. All others, and those whose path takes more than SendBuffer in that time, are not paced, and
// their writes cost nothing more.
const (
	paceFor   = 50 * time.Millisecond
	paceOver  = 50 * time.Millisecond // a pace is taken over no less
	paceMin   = 2 << 10
	paceStart = 4 << 10
)

// pace is how fast a session's path takes what is written.
type pace struct {
	bound int32 // bytes that the kernel may hold unsent; 0: SendBuffer, which the kernel sees to by itself
	took  int   // bytes written since
	since int64 // when the path was full first of late; 0: all could be written since then
}

// pacedFrom begins with a low bound. Loop only.
func (s *session) pacedFrom(bound int) {
	if !s.paced() && bound < s.loop.eng.cfg.SendBuffer {
		s.setPace(bound)
	}
}

// measure takes the path's pace: it is full now. Loop only.
func (s *session) measure() {
	if !s.role.client() {
		return
	}
	p, now := &s.rarely().pace, s.loop.now
	switch over := now - p.since; {
	case p.since == 0:
		p.since, p.took = now, 0
	case over >= int64(paceOver):
		n := max(int(int64(p.took)*int64(paceFor)/over), paceMin)
		p.since, p.took = now, 0
		most := s.loop.eng.cfg.SendBuffer
		switch was := int(p.bound); {
		case n >= most && was != 0:
			s.setPace(0)
		case n < most && (was == 0 || n > was+was/4 || n < was-was/4):
			s.setPace(n)
		}
	}
}

func (s *session) setPace(bound int) {
	s.rarely().pace.bound = int32(bound)
	if bound == 0 {
		bound = s.loop.eng.cfg.SendBuffer
	}
	// It is what the kernel goes by when it says that the socket takes bytes again.
	_ = unix.SetsockoptInt(int(s.fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bound)
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
