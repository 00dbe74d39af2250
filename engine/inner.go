package engine

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A gateway serves clients of another protocol, and is a client itself for each of them, within this process. What
// holds for clients that come by a listener holds for its connections, too, but for the limits of an address: the
// gateway asks for them when its client connects.

// innerBuffer bounds what the kernel holds of an inner connection in each direction, bytes: a slow reader's frames wait
// with its session.
const innerBuffer = 256 << 10

// Connect opens a connection to the engine from within the process, for a client at from, which counts as its address.
// The caller speaks the protocol on it, and closes it.
func (e *Engine) Connect(from netip.AddrPort) (net.Conn, error) { return e.connect(from, false) }

func (e *Engine) connect(from netip.AddrPort, trusted bool) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("inner connection: %w", err)
	}
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, innerBuffer)
	}
	near, err := fileConn(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, fmt.Errorf("inner connection: %w", err)
	}
	far, err := fileConn(fds[1])
	if err != nil {
		_ = near.Close()
		return nil, fmt.Errorf("inner connection: %w", err)
	}
	if why, text := e.crowded(); text != "" {
		e.turned[why].Add(1)
		e.turnAway(far, text)
		_ = far.Close()
		return near, nil // whose reader is told
	}
	e.counted()
	if err := e.enroll(far, &session{id: e.nextID.Add(1), role: client{}, rare: &rare{peer: &from}, trusted: trusted, inner: true}); err != nil {
		_ = near.Close()
		return nil, fmt.Errorf("inner connection: %w", err)
	}
	return near, nil
}

// Admit counts a connection of the address with a gateway, or reports that it may have none more now. The caller calls
// release, once, when the connection is over.
func (e *Engine) Admit(from net.Addr) (release func(), ok bool) {
	place, why, text := e.limits.addrs.take(from, e.now())
	if text != "" {
		e.turned[why].Add(1)
		return nil, false
	}
	return func() { e.limits.addrs.leave(place) }, true
}
