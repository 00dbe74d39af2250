package engine

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVectors is the most slices the kernel takes in one call (IOV_MAX).
const maxVectors = 1024

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

func again(err error) bool { return err == unix.EAGAIN || err == unix.EINTR }

// writev writes the vectors, size bytes in all, to a socket that never blocks, and returns how many bytes it took:
// fewer than size together with a nil error or EAGAIN when the socket is full. The vectors are not changed. The caller
// holds references to what they point to.
//
// The raw system call saves the scheduler's bookkeeping, which a call that cannot block does not need.
func (l *loop) writev(fd int, iov []unix.Iovec, size int) (n int, err error) {
	for n < size {
		part, want := iov, size-n
		if len(part) > maxVectors {
			part, want = part[:maxVectors], 0
			for i := range part {
				want += int(part[i].Len)
			}
		}
		r, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(len(part)))
		l.stats.writes.Add(1)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			err = errno
			break
		}
		n += int(r)
		if int(r) < want {
			break
		}
		iov = iov[len(part):]
	}
	l.stats.bytesOut.Add(uint64(n))
	return n, err
}

// write is writev for one slice.
func (l *loop) write(fd int, b []byte) (n int, err error) {
	iov := [1]unix.Iovec{vector(b)}
	n, err = l.writev(fd, iov[:], len(b))
	runtime.KeepAlive(b)
	return n, err
}

// flushBytes bounds the bytes of one call, more or less, so that a session with much to send does not hold the loop for
// long.
const flushBytes = 1 << 20

// writev writes the vectors, size bytes in all, and returns how many the session has taken: fewer than size together
// with a nil error or EAGAIN when its socket is full. With a carrier the socket may have taken less; then the session
// is blocked.
func (s *session) writev(iov []unix.Iovec, size int) (taken int, err error) {
	if s.carrier == nil {
		return s.loop.writev(int(s.fd), iov, size)
	}
	g := s.gathered()
	g.start(iov, size)
	defer g.end()
	return s.carry(g)
}

// gathered returns the loop's scratch for the session's kind of carrier.
func (s *session) gathered() *gathered {
	messages, records := s.carrier.ws != nil, s.carrier.tls != nil
	i := 0
	if messages {
		i++
	}
	if records {
		i += 2
	}
	g := &s.loop.gathers[i]
	g.messages, g.records = messages, records
	return g
}

// carry sends by the session's carrier.
func (s *session) carry(g *gathered) (taken int, err error) {
	taken, err = s.carrier.send(s, g)
	if len(s.carrier.pending) > 0 {
		s.needQueue()
		s.block()
	}
	return taken, err
}

// write is writev for one slice.
func (s *session) write(b []byte) (taken int, err error) {
	iov := [1]unix.Iovec{vector(b)}
	taken, err = s.writev(iov[:], len(b))
	runtime.KeepAlive(b)
	return taken, err
}

// flush writes what is queued until the queue is empty, the socket full, or flushBytes are out. Loop only.
func (s *session) flush() {
	l := s.loop
	if s.q == nil || s.blocked || s.closed || s.doomed {
		return
	}
	if s.carrier != nil {
		if out, err := s.carrier.push(s); err != nil {
			s.doom()
			return
		} else if !out {
			s.block()
			return
		}
	}
	limit := s.allowance()
	for total := 0; !s.q.Empty(); {
		if total >= limit { // the others' turn, or the path's; the blocker brings us back
			s.block()
			return
		}
		l.heads = s.q.Head(l.heads[:0], maxVectors)
		iov, size := l.iov[:0], 0
		for _, h := range l.heads {
			if over := size + len(h) - (limit - total); over > 0 && s.paced() {
				h = h[:len(h)-over]
			}
			iov = append(iov, vector(h))
			if size += len(h); size >= limit-total {
				break
			}
		}
		l.iov = iov[:0]
		if size == 0 { // all that waited was forgotten
			s.q.Advance(0, l.now)
			break
		}
		n, err := s.writev(iov, size)
		if err != nil && !again(err) {
			s.doom()
			return
		}
		if n > 0 && l.unqueues.due() {
			l.stats.queueing.observe(l.now - s.q.OldestAt())
		}
		s.q.Advance(n, l.now)
		if s.rare != nil {
			s.rare.pace.took += n
		}
		total += n
		if n < size {
			s.block()
			return
		}
		if s.blocked { // the carrier has a rest
			return
		}
	}
	s.emptied()
	if !s.q.Idle() {
		return // somebody waits for a point to resume at
	}
	l.putQueue(s.q)
	s.q = nil
	if s.closing {
		s.halfClose()
	}
}

// recheck lets the policies act on what waited while the socket took nothing, so that nothing outdated is sent now.
func (s *session) recheck() {
	if s.q != nil {
		s.q.Look(s.loop.now)
	}
}

// block has the session's socket watched until it takes bytes again.
func (s *session) block() {
	if s.blocked || s.closed || s.doomed {
		return
	}
	l := s.loop
	s.blocked = true
	s.measure()
	l.blocked[s.id] = s
	l.stats.blocks.Add(1)
	l.eng.hot(l)
	if err := l.blocker.watch(int(s.fd), s.id); err != nil {
		l.eng.log.Error().Err(err).Uint64("conn_id", s.id).Msg("cannot watch a full socket")
		s.doom()
	}
}
