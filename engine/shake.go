package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/record"
)

// What comes before the first byte of the protocol is done here, away from the loops: a PROXY header, a TLS
// handshake, an HTTP upgrade, in this order, each if the listener asks for it. Each connection has a goroutine until
// a loop adopts it. Their number is bounded (MaxHandshakes), and so is their time: one deadline, which is the
// hello's, too. What they compute is bounded by a gate.

// transport is what a listener speaks below the protocol.
type transport struct {
	tls, webSocket, proxy bool
	pages                 bool // a request that is none for WebSocket is answered, too: see pages.go
}

// scheme is how clients name it before an address.
func (t transport) scheme() string {
	switch {
	case t.tls && t.webSocket:
		return "wss://"
	case t.webSocket:
		return "ws://"
	case t.tls:
		return "tls://"
	}
	return ""
}

const maxRequest = 8 << 10 // bytes of an HTTP request for WebSocket

// SubProtocol is the WebSocket subprotocol of clients.
const SubProtocol = "timedge.v1"

// shaking is a connection during its handshakes. It computes at the gate: what it reads and writes, and waits for, it
// does without a place there.
type shaking struct {
	*net.TCPConn
	gate   *gate         // nil: the handshakes are over
	placed bool          // it has a place
	from   time.Duration // what enter has returned of that
	served bool          // it has had one
	heard  bool          // something was read
	early  []byte        // was read before, behind a PROXY header: the socket's next bytes

	until  time.Time     // the deadline, but for waited
	waited time.Duration // for a place: it counts as nobody's time
}

// Read waits for bytes, and then for a place to handle them.
func (c *shaking) Read(b []byte) (int, error) {
	c.rest()
	n, err := c.next(b)
	if err != nil {
		return n, err
	}
	c.heard = true
	if c.gate == nil {
		return n, nil
	}
	came := time.Now()
	if c.from, err = c.gate.enter(c.served, maxGateWait-c.waited); err != nil {
		return 0, err
	}
	c.placed = true
	if waited := time.Since(came); waited > minGrant {
		c.grant(waited)
		if !c.served && waited > longWait && c.gone() {
			return 0, errGone
		}
	}
	c.served = true
	return n, nil
}

// next reads what comes next: what came with a PROXY header first. It needs a place no less than what comes later.
func (c *shaking) next(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.TCPConn.Read(b)
	}
	n := copy(b, c.early)
	c.early = c.early[n:]
	return n, nil
}

const (
	minGrant = time.Millisecond // shorter waits are not worth setting a deadline
	// longWait is after how long a wait it is worth asking whether the client still waits, too.
	longWait = 100 * time.Millisecond
)

// errGone is a client that did not wait for its turn. Nothing was computed for it.
var errGone = errors.New("the client has gone while it waited")

// gone reports whether the client has hung up. One that shakes hands has no reason to end its half of the connection.
func (c *shaking) gone() (is bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		is = n == 0 && err == nil || err != nil && !again(err)
	})
	return is || err != nil
}

// grant puts the deadline off by as long as the client had to wait for a place.
func (c *shaking) grant(d time.Duration) {
	c.waited += d
	_ = c.SetDeadline(c.until.Add(c.waited))
	select {
	case <-c.gate.stop: // meanwhile: who ends it has set another, which this was to come before
		_ = c.SetDeadline(time.Unix(1, 0))
	default:
	}
}

// rest gives the place up.
func (c *shaking) rest() {
	if c.placed {
		c.gate.leave(c.from)
		c.placed = false
	}
}

// errSilence is a connection that ends before it has said anything, as those do with which balancers see whether a
// server is there.
var errSilence = errors.New("the connection ended without a word")

// shake takes a connection to the protocol and has a loop adopt it.
func (e *Engine) shake(c *net.TCPConn, t transport, place *addrPlace, accepted int64) {
	defer e.shakes.Done()
	deadline := time.Now().Add(e.live().HelloTimeout)
	_ = c.SetDeadline(deadline)
	forget := context.AfterFunc(e.ending, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	s := &session{id: e.nextID.Add(1), role: client{}, openedAt: accepted, carrier: &carrier{}, place: place}
	var page *pageConn
	err := errFault
	e.try(inHandshake, func() { page, err = e.handshakes(c, t, s, deadline) })
	if !forget() && err == nil {
		err = net.ErrClosed
	}
	if page != nil && err == nil {
		_ = c.SetDeadline(time.Time{})
		e.greeting.Add(-1) // it says no hello
		done := e.holdShake(t)
		if err = e.pages.give(page, func() { done(); e.limits.addrs.leave(s.place); e.conns.Add(-1) }); err == nil {
			return
		}
		done()
		e.greeting.Add(1) // as dismiss takes it back
	}
	if page == nil && err == nil {
		_ = c.SetDeadline(time.Time{})
		if err = e.enroll(c, s); err != nil { // takes back what admit counted
			e.log.Warn().Err(err).Msg("cannot adopt a client")
		}
		return
	}
	e.dismiss(s)
	_ = c.Close()
	switch {
	case errors.Is(err, errCrowd):
		e.turned[turnedHandshakes].Add(1)
	case errors.Is(err, errSilence), errors.Is(err, errTurnedAway), e.ending.Err() != nil:
	default:
		e.unshaken.Add(1)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e.limits.closed.add(codec.CodeHelloTimeout)
		}
		e.log.Debug().Err(err).Stringer("peer_addr", s.addrOver(c)).Msg("handshake failed")
	}
}

var (
	errTurnedAway = errors.New("turned away")
	errFault      = errors.New("a fault of this server")
)

// handshakes runs them in order. What they leave behind is in the session's carrier, or in page, of a client that asks
// for one.
func (e *Engine) handshakes(c *net.TCPConn, t transport, s *session, until time.Time) (page *pageConn, err error) {
	k := s.carrier
	sock := &shaking{TCPConn: c, gate: e.gate, until: until}
	defer func() {
		sock.rest()
		s.openedAt += int64(sock.waited) // the time for the hello begins as much later
	}()
	var below net.Conn = c
	var over *record.Stream
	if t.proxy {
		early, err := e.readProxy(c, s)
		if err != nil {
			return nil, err
		}
		k.early = early
	}
	if t.tls {
		sock.early, k.early = k.early, nil
		records, rest, _, err := record.Server(sock, e.cfg.TLS)
		if err != nil {
			if !sock.heard {
				err = silence(err)
			}
			return nil, fmt.Errorf("TLS: %w", err)
		}
		over = record.NewStream(sock, records, rest)
		k.tls, below = records, over
	}
	if t.webSocket {
		head, rest, err := readRequest(below, k.early)
		if err != nil {
			return nil, err
		}
		if t.pages && !asksForWebSocket(head) {
			sock.rest()
			sock.gate = nil
			return &pageConn{Conn: below, early: append(head, rest...)}, nil
		}
		if err := e.upgrade(below, head); err != nil {
			return nil, err
		}
		k.early, k.ws = rest, &webSocket{}
	}
	if over != nil {
		raw, plain := over.Rest()
		k.raw, k.early = raw, append(k.early, plain...)
	}
	return nil, nil
}

// silence tells of a connection that ended, or was reset, before its first byte that it ended without a word.
func silence(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return errSilence
	}
	return err
}

// upgrade answers a request for WebSocket.
func (e *Engine) upgrade(c io.Writer, head []byte) error {
	var host, origin string
	spoken := false
	up := ws.Upgrader{
		ReadBufferSize: maxRequest,
		Protocol: func(p []byte) bool {
			is := string(p) == SubProtocol
			spoken = spoken || is
			return is
		},
		OnHost: func(b []byte) error { host = string(b); return nil },
		OnHeader: func(key, value []byte) error {
			if string(key) == "Origin" {
				origin = string(value)
			}
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			switch {
			case !spoken:
				return nil, reject(400, "ask for the WebSocket subprotocol "+SubProtocol)
			case !e.cfg.Origins.allow(origin, host):
				return nil, reject(403, "pages of this origin may not connect")
			}
			return nil, nil
		},
	}
	if _, err := up.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(head), c}); err != nil {
		return fmt.Errorf("WebSocket: %w", err)
	}
	return nil
}

func reject(status int, why string) error {
	return ws.RejectConnectionError(ws.RejectionStatus(status), ws.RejectionReason(why+"\n"))
}

// readRequest reads until the empty line that ends a request's header.
func readRequest(c io.Reader, early []byte) (head, rest []byte, err error) {
	buf := append(make([]byte, 0, 1024), early...)
	for {
		if i := bytes.Index(buf, []byte("\r\n\r\n")); i >= 0 {
			return buf[:i+4], bytes.Clone(buf[i+4:]), nil
		}
		if len(buf) >= maxRequest {
			return nil, nil, errors.New("WebSocket: the request is longer than 8 KiB")
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(2*cap(buf), maxRequest)), buf...)
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && n == 0 {
			if len(buf) == 0 {
				err = silence(err)
			}
			return nil, nil, fmt.Errorf("WebSocket: %w", err)
		}
	}
}
