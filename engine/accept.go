package engine

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
)

// Connections are accepted here and then adopted by the reactor with the fewest (gnet's Enroll). gnet could listen
// itself, but its acceptor ends the whole engine when descriptors run out, and cannot stop accepting. What a listener
// speaks below the protocol (a PROXY header, TLS, WebSocket) comes before that: see shake.go.

// turned counts connections that were turned away, by reason.
type turned uint8

const (
	turnedFull turned = iota
	turnedHandshakes
	turnedDescriptors
	turnedAddress
	turnedProxy
	turnedCrowd
	turnedKinds
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// listener is where one kind of transport comes in.
type listener struct {
	net.Listener
	speaks transport
}

// ProxyOption follows an address of Config at which a balancer's connections begin with a PROXY header.
const ProxyOption = "/proxy"

// accept adopts connections until its listener is closed.
func (e *Engine) accept(ln listener) {
	defer e.accepts.Done()
	backoff := acceptBackoffMin
	starved := false
	for {
		c, err := ln.Accept()
		if err == nil {
			if !e.try(inAccept, func() { err = e.adopt(c.(*net.TCPConn), ln.speaks) }) {
				_ = c.Close()
			}
		}
		switch {
		case err == nil:
			if starved {
				e.log.Info().Msg("descriptors are free again; accepting")
			}
			backoff, starved = acceptBackoffMin, false
			runtime.Gosched() // many at once must not keep loops that share this processor from running
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
		case <-e.ending.Done():
			return
		}
		backoff = min(2*backoff, acceptBackoffMax)
	}
}

// listen opens the listeners.
func (e *Engine) listen() error {
	for _, kind := range []struct {
		addrs  []string
		speaks transport
	}{
		{e.cfg.Listen, transport{}},
		{e.cfg.ListenTLS, transport{tls: true}},
		{e.cfg.ListenWS, transport{webSocket: true}},
		{e.cfg.ListenWSS, transport{tls: true, webSocket: true}},
		{e.cfg.ListenWeb, transport{webSocket: true, pages: true}},
		{e.cfg.ListenWebTLS, transport{tls: true, webSocket: true, pages: true}},
	} {
		for _, addr := range kind.addrs {
			speaks := kind.speaks
			addr, speaks.proxy = strings.CutSuffix(addr, ProxyOption)
			ln, err := net.Listen("tcp", addr)
			if e.cfg.WebIfFree && speaks.pages && !speaks.tls && errors.Is(err, unix.EADDRINUSE) {
				e.log.Warn().Err(err).Msg("no pages for browsers: another server has their address (choose one with --web)")
				continue
			}
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			e.listeners = append(e.listeners, listener{ln, speaks})
		}
	}
	return nil
}

// adopt admits a connection, or turns it away. One with a carrier shakes hands on a goroutine of its own.
func (e *Engine) adopt(c *net.TCPConn, t transport) error {
	accepted := e.now()
	place, why, text := e.admit(c, t)
	if text != "" {
		e.turned[why].Add(1)
		if t == (transport{}) {
			e.turnAway(c, text)
		}
		_ = c.Close() // nothing can be said before the handshake
		return nil
	}
	if t != (transport{}) {
		e.shakes.Add(1)
		go func() {
			defer e.holdShake(t)()
			e.shake(c, t, place, accepted)
		}()
		return nil
	}
	s := &session{id: e.nextID.Add(1), role: client{}, openedAt: accepted, place: place}
	err := errFault
	if !e.try(inAccept, func() { err = e.enroll(c, s) }) {
		e.dismiss(s)
		_ = c.Close()
		return nil
	}
	return err
}

// admit counts a new connection, unless there are as many as there may be; then it says so. Of a balancer's connections
// the clients' own addresses are limited, as soon as they are known.
func (e *Engine) admit(c net.Conn, t transport) (place *addrPlace, why turned, text string) {
	if t.proxy && !e.balancer(c.RemoteAddr()) {
		return nil, turnedProxy, "not a balancer"
	}
	if why, text = e.crowded(); text == "" && !t.proxy {
		place, why, text = e.limits.addrs.take(c.RemoteAddr(), e.now())
	}
	if text != "" {
		return nil, why, text
	}
	e.counted()
	return place, 0, ""
}

// crowded says why there may be no connection more, whosever it is.
func (e *Engine) crowded() (why turned, text string) {
	switch {
	case e.conns.Load() >= int64(e.live().MaxConns):
		return turnedFull, "this node has as many connections as it may have"
	case e.greeting.Load() >= int64(e.live().MaxHandshakes):
		return turnedHandshakes, "too many connections are waiting to say hello"
	case e.pool.Share(strangers).Over():
		return turnedHandshakes, "connections that have not said hello hold as much as they may"
	}
	return 0, ""
}

// counted counts one more.
func (e *Engine) counted() {
	e.accepted.Add(1)
	e.conns.Add(1)
	e.greeting.Add(1)
}

// dismiss takes back what admit counted.
func (e *Engine) dismiss(s *session) {
	e.limits.addrs.leave(s.place)
	e.conns.Add(-1)
	e.greeting.Add(-1)
}

// enroll gives an admitted connection to a reactor.
func (e *Engine) enroll(c net.Conn, s *session) error {
	err := e.hand(c, s)
	if err != nil {
		e.dismiss(s)
	}
	return err
}

// enrollAtOnce bounds connections that are being handed to reactors: each has two descriptors meanwhile.
const enrollAtOnce = 16

// hand gives a connection to a reactor, which has a descriptor of its own of it; c is closed.
func (e *Engine) hand(c net.Conn, s *session) error {
	e.enrolling <- struct{}{}
	defer func() { <-e.enrolling }()
	if tcp, is := c.(*net.TCPConn); is {
		n := e.cfg.SendBuffer
		if s.role.client() {
			n = min(n, unsentStart)
		}
		boundUnsent(tcp, n)
	}
	_, err := e.reactors.EnrollContext(c, s) // closes c
	if err == nil && s.loop == nil {         // the reactor could not watch it, and has closed it
		err = unix.ENOMEM
	}
	return err
}

// boundUnsent bounds what the kernel takes of a connection beyond what is on its way. Nothing else bounds its send
// buffer, so that one write can fill a fast path; a slow reader's frames wait with us, where they can be dropped, and
// not in the kernel.
func boundUnsent(c *net.TCPConn, n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // it is closed, which enrolling it tells
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n) })
}

// turnAway tells a plain connection to try again elsewhere or later. The few bytes fit any empty send buffer.
func (e *Engine) turnAway(c net.Conn, text string) {
	b := codec.AppendServerPreface(nil, codec.VersionMax)
	b, _ = (&codec.Error{Code: codec.CodeTooManyConns, Text: text}).Append(b) // its text is cut, not refused
	_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = c.Write(b)
}
