package engine

import (
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/record"
)

// carrier is what lies between a session's socket and the protocol: TLS, WebSocket, or WebSocket within TLS. Its
// handshakes are over (shake.go). A session over plain TCP has none.
//
// Inbound, open turns what was read into bytes of the protocol. Outbound, send takes the vectors that a plain write
// takes, and says how many bytes of the protocol it took; of these the socket may not have taken all, and the carrier
// keeps the rest, sealed or the end of a begun message. A session whose carrier has such a rest is blocked and has a
// queue, if an empty one: so "has a queue" goes on meaning that something waits, and queues, policies and turns know
// nothing of carriers. Loop only.
type carrier struct {
	tls *record.Conn // nil: none
	ws  *webSocket   // nil: none

	raw     []byte // of the socket's bytes, what the handshakes have read too far
	early   []byte // of the protocol's or the WebSocket's bytes, what the handshakes have read too far
	pending []byte // for the socket, which has not taken it; from the loop's spare buffers
	holds   int    // what the account's share counts for it
	close   uint16 // the code to close the WebSocket with; 0: closeNormal, or closeGoingAway
	reason  string
	ended   bool  // end was called: nothing more is sent
	deaf    bool  // the peer has said that it takes nothing more
	over    error // it has ended so; the session ends once all is handled that came before
}

const (
	// sealAhead is how much is sealed before the socket is asked whether it takes it: what a stalled reader's socket
	// has not taken of it waits sealed, where no policy can drop it. Less costs more system calls.
	sealAhead = 128 << 10
	sealCells = sealAhead / record.MaxData
	// flushCells is as much of a WebSocket as goes out at once.
	flushCells = flushBytes / record.MaxData
	// maxPending bounds what waits sealed of a session: what one write may leave, and answers to what the peer asks
	// of its carrier meanwhile.
	maxPending = 256 << 10
	// tinyRecord is a record with which a peer costs more than with what it says. It counts as a control frame.
	tinyRecord = 64
)

// errPeerEnds says that the peer has announced its end, as a carrier does that: it sends nothing more.
var errPeerEnds = errors.New("the peer ends")

// open takes what was read of the socket and returns the bytes of the protocol in it, in b's own memory or the
// loop's, valid until the next read. What it returns with an error came before that. errPeerEnds: the peer ends in
// good order.
func (c *carrier) open(s *session, b []byte) (protocol []byte, err error) {
	if c.raw != nil {
		b = append(c.raw, b...)
		c.raw = nil
	}
	if c.tls != nil {
		b, err = c.decrypt(s, b)
	}
	if c.early != nil {
		b = append(c.early, b...)
		c.early = nil
	}
	if c.ws == nil {
		return b, err
	}
	data, wrong := c.ws.read(b, func(op opcode, payload []byte) error { return c.heard(s, op, payload) })
	if wrong != nil {
		return data, wrong
	}
	return data, err
}

// decrypt gathers the plain text of all records that are whole.
func (c *carrier) decrypt(s *session, b []byte) (plain []byte, err error) {
	l := s.loop
	plain = l.opened[:0]
	for len(b) > 0 && err == nil {
		at := len(plain)
		plain, b, err = c.tls.Open(plain, b)
		if len(plain)-at < tinyRecord && !c.tls.Cut() && s.role.client() {
			if over := s.spend(costOther); over != nil {
				err = over
			}
		}
	}
	if l.opened = plain[:0]; cap(plain) > maxGathered {
		l.opened = nil
	}
	l.sealed = c.tls.Answer(l.sealed[:0])
	if len(l.sealed) > 0 {
		if failed := c.deliver(s, l.sealed); failed != nil {
			return plain, failed
		}
	}
	if err == io.EOF {
		err = errPeerEnds
	}
	return plain, err
}

// heard handles a WebSocket control frame.
func (c *carrier) heard(s *session, op opcode, payload []byte) error {
	switch op {
	case opClose:
		c.deaf = true
		if len(payload) >= 2 {
			c.close = binary.BigEndian.Uint16(payload)
		}
		return errPeerEnds
	case opPing:
		if s.role.client() {
			if err := s.spend(costOther); err != nil {
				return err
			}
		}
		if len(c.pending) > 0 { // a later one will be answered
			return nil
		}
		return c.say(s, append(appendFrameHeader(s.loop.words[:0], opPong, len(payload)), payload...))
	}
	return nil
}

// say sends bytes of the WebSocket's own.
func (c *carrier) say(s *session, b []byte) error {
	s.loop.words = b[:0]
	if c.tls == nil {
		return c.deliver(s, b)
	}
	s.loop.sealed = c.tls.Append(s.loop.sealed[:0], b)
	return c.deliver(s, s.loop.sealed)
}

// deliver has bytes follow what was sent before.
func (c *carrier) deliver(s *session, b []byte) error {
	l := s.loop
	if len(c.pending) == 0 {
		n, err := l.write(int(s.fd), b)
		if err != nil && !again(err) {
			return err
		}
		b = b[n:]
	}
	if len(b) == 0 {
		return nil
	}
	if len(c.pending)+len(b) > maxPending {
		return unix.ENOBUFS
	}
	c.keep(s, b)
	s.needQueue()
	s.block()
	return nil
}

// keep adds a copy of b to what waits for the socket.
func (c *carrier) keep(s *session, b []byte) {
	l := s.loop
	if c.pending == nil {
		c.pending = l.spareBuffer()
	}
	c.pending = append(c.pending, b...)
	c.hold(s)
	l.stats.sealed.Add(int64(len(b)))
	l.stats.copied.Add(uint64(len(b)))
}

// push writes what waits for the socket, and reports whether all of it is out.
func (c *carrier) push(s *session) (out bool, err error) {
	if len(c.pending) == 0 {
		return true, nil
	}
	l := s.loop
	n, err := l.write(int(s.fd), c.pending)
	l.stats.sealed.Add(-int64(n))
	if n < len(c.pending) {
		if n > 0 {
			c.pending = append(c.pending[:0], c.pending[n:]...)
		}
		if err != nil && !again(err) {
			return false, err
		}
		return false, nil
	}
	l.putBuffer(c.pending)
	c.pending = nil
	c.hold(s)
	return true, nil
}

// hold counts what pending takes.
func (c *carrier) hold(s *session) {
	s.share.Hold(cap(c.pending) - c.holds)
	c.holds = cap(c.pending)
}

// send is the write of a session with a carrier: it returns how many bytes of the protocol it took, fewer than g has
// if the socket is full. What waits is out (push).
func (c *carrier) send(s *session, g *gathered) (taken int, err error) {
	for at := 0; taken < g.size; {
		out, cells := g.upTo(at, flushCells), flushCells
		if c.tls != nil {
			out, cells = c.seal(s.loop, g, at), sealCells
		}
		n, err := s.loop.write(int(s.fd), out)
		if err != nil && !again(err) {
			return taken, err
		}
		if n == len(out) {
			at += cells
			taken = g.protocol(at)
			continue
		}
		if c.tls == nil { // the rest of the message that has begun
			cells = (n + g.cell() - 1) / g.cell()
			out = out[:min(len(out), cells*g.cell())]
		}
		if n < len(out) {
			c.keep(s, out[n:])
		}
		return g.protocol(at + cells), nil
	}
	return taken, nil
}

// seal encrypts sealCells cells, each as a record, into the loop's scratch.
func (c *carrier) seal(l *loop, g *gathered, at int) []byte {
	in := g.upTo(at, sealCells)
	l.sealed = l.sealed[:0]
	for len(in) > 0 {
		n := min(len(in), g.cell())
		l.sealed = c.tls.Seal(l.sealed, in[:n])
		in = in[n:]
	}
	return l.sealed
}

// end says the carrier's last words: a close frame, close_notify.
func (c *carrier) end(s *session) error {
	if c.ended {
		return nil
	}
	c.ended = true
	if c.ws != nil {
		code := c.close
		if code == 0 && s.loop.eng.draining.Load() {
			code = closeGoingAway
		} else if code == 0 {
			code = closeNormal
		}
		if err := c.say(s, appendClose(s.loop.words[:0], code, c.reason)); err != nil {
			return err
		}
	}
	if c.tls == nil {
		return nil
	}
	s.loop.sealed = c.tls.Close(s.loop.sealed[:0]) // nothing, if an alert was the last word
	return c.deliver(s, s.loop.sealed)
}

// fail prepares for a gentle end after an error of open, and reports whether there can be one.
func (c *carrier) fail(s *session, err error) bool {
	l := s.loop
	var we *webSocketError
	switch {
	case err == errPeerEnds:
		return true
	case errors.As(err, &we):
		c.close, c.reason = we.code, we.text
	case errors.As(err, new(*record.Alert)):
		c.ended, c.deaf = true, true
	default:
		return false
	}
	l.stats.failed.Add(1)
	l.eng.limits.closed.add(codec.CodeMalformed)
	l.eng.log.Debug().Uint64("conn_id", s.id).Str("account", s.account()).Err(err).Msg("session failed")
	return true
}

// release gives back what the carrier of a closed session holds.
func (c *carrier) release(s *session) {
	if c.tls != nil {
		c.tls.Release()
	}
	s.loop.stats.sealed.Add(-int64(len(c.pending)))
	if c.pending != nil {
		s.loop.putBuffer(c.pending)
		c.pending = nil
		c.hold(s)
	}
}

// Spare buffers are what sessions keep unsent bytes in. A loop keeps some, so that a slow reader costs no allocation
// whenever it blocks.
const (
	spareBuffers = 16
	spareBytes   = sealCells * (record.MaxData + record.Overhead)
)

func (l *loop) spareBuffer() []byte {
	if n := len(l.buffers); n > 0 {
		b := l.buffers[n-1]
		l.buffers = l.buffers[:n-1]
		return b
	}
	return nil
}

func (l *loop) putBuffer(b []byte) {
	if len(l.buffers) < spareBuffers && cap(b) <= 2*spareBytes {
		l.buffers = append(l.buffers, b[:0])
	}
}

// sealed returns how many bytes the carriers of all sessions keep for sockets that have not taken them. Any goroutine.
func (e *Engine) sealed() (n int64) {
	for _, l := range e.loops {
		n += l.stats.sealed.Load()
	}
	return n
}
