package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/gobwas/ws"
	"github.com/pires/go-proxyproto"
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

const (
	maxRequest    = 8 << 10 // bytes of an HTTP request for WebSocket
	maxProxyBytes = 16 + 4096
)

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

	until  time.Time     // the deadline, but for waited
	waited time.Duration // for a place: it counts as nobody's time
}

// Read waits for bytes, and then for a place to handle them.
func (c *shaking) Read(b []byte) (int, error) {
	c.rest()
	n, err := c.TCPConn.Read(b)
	if err != nil {
		return n, err
	}
	c.heard = true
	if c.gate == nil {
		return n, nil
	}
	came := time.Now()
	if c.from, err = c.gate.enter(c.served); err != nil {
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
		e.log.Debug().Err(err).Stringer("peer_addr", s.clientAddr(c)).Msg("handshake failed")
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
		early := k.early
		k.early = nil
		records, rest, _, err := record.ServerAfter(sock, early, e.cfg.TLS)
		if err != nil {
			if !sock.heard && len(early) == 0 {
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

// readProxy reads the PROXY header that a balancer begins with, takes the client's address from it, and returns what
// was read too far. The client is held to the limits of its own address, the balancer is not.
func (e *Engine) readProxy(c *net.TCPConn, s *session) (early []byte, err error) {
	h, early, err := proxyHeader(c)
	if err != nil {
		return nil, err
	}
	if h.Command.IsLocal() { // the balancer speaks for itself
		return early, nil
	}
	from, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return early, nil // a client whose address the balancer does not know, or of no network
	}
	addr := from.AddrPort()
	s.rarely().peer = &addr
	place, why, text := e.limits.addrs.take(from, e.now())
	if text != "" {
		e.turned[why].Add(1)
		return nil, errTurnedAway
	}
	s.place = place
	return early, nil
}

// proxyHeader reads a PROXY header, and returns what was read too far.
func proxyHeader(c io.Reader) (h *proxyproto.Header, early []byte, err error) {
	r := bufio.NewReaderSize(c, maxProxyBytes)
	n, err := proxyLength(r)
	if err != nil {
		return nil, nil, err
	}
	head, err := r.Peek(n)
	if err != nil {
		return nil, nil, fmt.Errorf("PROXY header: %w", err)
	}
	if h, err = proxyproto.Read(bufio.NewReader(bytes.NewReader(head))); err != nil {
		return nil, nil, fmt.Errorf("PROXY header: %w", err)
	}
	_, _ = r.Discard(n)
	rest, _ := r.Peek(r.Buffered())
	return h, bytes.Clone(rest), nil
}

// proxyLength returns how many bytes the header that r begins with takes. It reads as far as it must to know that.
func proxyLength(r *bufio.Reader) (int, error) {
	b, err := r.Peek(1)
	if err != nil {
		return 0, silence(err)
	}
	if b[0] == proxyproto.SIGV2[0] {
		if b, err = r.Peek(16); err != nil {
			return 0, fmt.Errorf("PROXY header: %w", err)
		}
		return 16 + int(binary.BigEndian.Uint16(b[14:])), nil
	}
	const longest = 107 // of version 1
	for n := 1; n <= longest; n++ {
		if b, err = r.Peek(n); err != nil {
			return 0, fmt.Errorf("PROXY header: %w", err)
		}
		if k := min(n, len(proxyproto.SIGV1)); !bytes.Equal(b[:k], proxyproto.SIGV1[:k]) {
			return 0, proxyproto.ErrNoProxyProtocol
		}
		if b[n-1] == '\n' {
			return n, nil
		}
	}
	return 0, proxyproto.ErrVersion1HeaderTooLong
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

// clientAddr is where the client of a connection is.
func (s *session) clientAddr(c net.Conn) netip.AddrPort {
	if s.rare != nil && s.rare.peer != nil {
		return *s.rare.peer
	}
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}
