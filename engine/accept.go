package engine

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
)

// Connections are accepted here and then adopted by the reactor with the fewest (gnet's Enroll). gnet could listen itself,
// but its acceptor ends the whole engine when descriptors run out, and cannot stop accepting. A transport that is not plain
// TCP (a PROXY preamble, TLS, WebSocket) wraps the listener: it hands on connections whose bytes are timedge's own.

// turned counts connections that were turned away, by reason.
type turned uint8

const (
	turnedFull turned = iota
	turnedHandshakes
	turnedDescriptors
	turnedAddress
	turnedKinds
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// listener is where one kind of transport comes in.
type listener struct {
	net.Listener
	adopt func(net.Conn) error // takes the connection over; an error means that the system has no means for it
}

// accept adopts connections until its listener is closed.
func (e *Engine) accept(ln listener) {
	defer e.accepts.Done()
	backoff := acceptBackoffMin
	starved := false
	for {
		c, err := ln.Accept()
		if err == nil {
			err = ln.adopt(c)
		}
		switch {
		case err == nil:
			if starved {
				e.log.Info().Msg("descriptors are free again; accepting")
			}
			backoff, starved = acceptBackoffMin, false
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
			e.turned[turnedDescriptors].Add(1)
			if !starved {
				e.log.Warn().Err(err).Int64("connections", e.conns.Load()).Msg("out of descriptors; not accepting until some are free")
			}
			starved = true
		} else {
			e.log.Warn().Err(err).Msg("accept failed")
		}
		select {
		case <-time.After(backoff):
		case <-e.noAccept:
			return
		}
		backoff = min(2*backoff, acceptBackoffMax)
	}
}

// adopt gives a plain connection to a reactor, or turns it away.
func (e *Engine) adopt(c net.Conn) error {
	if why, text := e.admit(c); text != "" {
		e.turnAway(c, why, text)
		return nil
	}
	return e.enroll(c, &session{id: e.nextID.Add(1)})
}

// admit counts a new connection, unless there are as many as there may be; then it says so.
func (e *Engine) admit(c net.Conn) (why turned, text string) {
	switch {
	case !e.limits.addrs.take(c.RemoteAddr(), time.Now().UnixNano()):
		return turnedAddress, "this address connects too often"
	case e.conns.Load() >= int64(e.cfg.MaxConns):
		return turnedFull, "this node has as many connections as it may have"
	case e.greeting.Load() >= int64(e.cfg.MaxHandshakes):
		return turnedHandshakes, "too many connections are waiting to say hello"
	}
	e.accepted.Add(1)
	e.conns.Add(1)
	e.greeting.Add(1)
	return 0, ""
}

// dismiss takes back what admit counted.
func (e *Engine) dismiss() {
	e.conns.Add(-1)
	e.greeting.Add(-1)
}

// enroll gives an admitted connection to a reactor.
func (e *Engine) enroll(c net.Conn, s *session) error {
	boundUnsent(c, e.cfg.SendBuffer)
	_, err := e.reactors.EnrollContext(c, s) // closes c
	if err == nil && s.loop == nil {         // the reactor could not watch it, and has closed it
		err = unix.ENOMEM
	}
	if err != nil {
		e.dismiss()
	}
	return err
}

// boundUnsent bounds what the kernel takes of a connection beyond what is on its way. Nothing else bounds its send buffer, so that one write can
// fill a fast path; a slow reader's frames wait with us, where they can be dropped, and not in the kernel.
func boundUnsent(c net.Conn, n int) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return // it is closed, which enrolling it tells
	}
	_ = raw.Control(func(fd uintptr) {
		if _, ok := c.(*net.TCPConn); ok {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
		} else { // the near end of a pump
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, n)
		}
	})
}

// turnAway tells a connection to try again elsewhere or later. The few bytes fit any empty send buffer.
func (e *Engine) turnAway(c net.Conn, why turned, text string) {
	e.turned[why].Add(1)
	b := codec.AppendServerPreface(nil, codec.VersionMax)
	b, _ = (&codec.Error{Code: codec.CodeTooManyConns, Text: text}).Append(b) // its text is cut, not refused
	_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = c.Write(b)
	_ = c.Close()
}
