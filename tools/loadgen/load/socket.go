package load

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance with an eventfd that wakes it. Its owner waits; anyone may wake.
type poller struct {
	ep, ev int
	events []unix.EpollEvent
}

// wakeSlot stands in the events of a poller's own eventfd, timerSlot in those of a timer.
const (
	wakeSlot  = -1
	timerSlot = -2
)

func newPoller() (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &poller{ep: ep, ev: ev, events: make([]unix.EpollEvent, 1024)}
	return p, p.add(ev, wakeSlot, 0, unix.EPOLLIN)
}

func (p *poller) close() {
	_ = unix.Close(p.ep)
	_ = unix.Close(p.ev)
}

// add watches fd. slot and generation come back with its events.
func (p *poller) add(fd int, slot, generation int32, events uint32) error {
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: slot, Pad: generation})
}

func (p *poller) modify(fd int, slot, generation int32, events uint32) error {
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: slot, Pad: generation})
}

func (p *poller) remove(fd int) { _ = unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, fd, nil) }

// The loops make their system calls past the Go scheduler. Telling it of each costs a tenth of the generator's time,
// and on the way back a thread with real-time priority may wait there for one that has none. So a loop that waits holds
// its processor (main gives the runtime some to spare), and the garbage collector, which would have to wait for it,
// rests during a run.

// wait returns the events of at most millis milliseconds.
func (p *poller) wait(millis int) ([]unix.EpollEvent, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.ep), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)),
		uintptr(millis), 0, 0)
	if err == unix.EINTR {
		return nil, nil
	}
	if err != 0 {
		return nil, fmt.Errorf("epoll_pwait: %w", err)
	}
	return p.events[:n], nil
}

// read and write are for sockets that do not block. b is not empty.
func read(fd int, b []byte) (int, error) {
	n, _, err := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

func write(fd int, b []byte) (int, error) {
	n, _, err := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

// wake ends a wait from another goroutine.
func (p *poller) wake() {
	_, _ = unix.Write(p.ev, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only when a wake-up is pending already
}

// woken takes the wake-ups off the eventfd.
func (p *poller) woken() {
	var b [8]byte
	_, _ = unix.Read(p.ev, b[:])
}

// resolve turns host:port into an address.
func resolve(addr string) (netip.AddrPort, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p := a.AddrPort()
	if !p.Addr().IsValid() || p.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Port()), nil
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), nil
}

// dial begins a connection without waiting for it. receive is the size of its receive buffer, 0 for the kernel's
// choice.
func dial(to netip.AddrPort, receive int) (int, error) {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	family := unix.AF_INET6
	if to.Addr().Is4() {
		sa, family = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if receive > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receive)
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// acknowledgeReads has the kernel acknowledge what a read took as soon as it took it, and at no other time. Otherwise it
// depends on how a connection began, and on the sizes of its windows, whether the kernel acknowledges after each read or
// as every second message comes. The latter happens within the server's write, and is charged to the server: about 1 µs
// of a paced delivery's 5, to some connections and not to others. And a receiving thread that is rid of it is a little
// faster than the server, sleeps after each message, and has each write wake it.
func acknowledgeReads(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }

// connected returns the outcome of a connection begun with dial, once its socket is writable.
func connected(fd int) error {
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && e != 0 {
		err = unix.Errno(e)
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// send writes what the socket takes of b and returns what is left.
func send(fd int, b []byte) ([]byte, error) {
	for len(b) > 0 {
		n, err := write(fd, b)
		switch {
		case err == unix.EAGAIN:
			return b, nil
		case err == unix.EINTR:
		case err != nil:
			return b, fmt.Errorf("write: %w", err)
		default:
			b = b[n:]
		}
	}
	return nil, nil
}
