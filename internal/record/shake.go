package record

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"sync"
)

// tap lies between crypto/tls and the socket during a handshake.
type tap struct {
	net.Conn
	read []byte           // of the socket, and not yet taken by the handshake
	buf  *[readBytes]byte // what read is in; from reads; nil: nothing was read yet
	left int              // bytes of the current record that the handshake has not taken
	sent []byte           // records that were written since the keys of the protocol are known
	keys secrets
}

// secrets takes both traffic secrets out of what crypto/tls says to a key log.
type secrets struct {
	client, server []byte
	under          io.Writer // the configuration's own log; nil: none
}

func (s *secrets) Write(line []byte) (int, error) {
	if f := bytes.Fields(line); len(f) == 3 {
		var to *[]byte
		switch string(f[0]) {
		case "CLIENT_TRAFFIC_SECRET_0":
			to = &s.client
		case "SERVER_TRAFFIC_SECRET_0":
			to = &s.server
		}
		if to != nil {
			*to, _ = hex.AppendDecode(nil, f[2])
		}
	}
	if s.under != nil {
		return s.under.Write(line)
	}
	return len(line), nil
}

// readBytes is how much is read at once during handshakes.
const readBytes = 4 << 10

// Read returns bytes of one record only.
func (t *tap) Read(b []byte) (int, error) {
	if t.left == 0 {
		for len(t.read) < HeadBytes {
			if err := t.more(); err != nil {
				return 0, err
			}
		}
		t.left = HeadBytes + int(binary.BigEndian.Uint16(t.read[3:]))
	}
	if len(t.read) == 0 {
		if err := t.more(); err != nil {
			return 0, err
		}
	}
	n := copy(b, t.read[:min(t.left, len(t.read))])
	t.left -= n
	t.read = t.read[n:]
	return n, nil
}

// reads holds memory for what handshakes read.
var reads = sync.Pool{New: func() any { return new([readBytes]byte) }}

func (t *tap) more() error {
	if t.buf == nil {
		t.buf = reads.Get().(*[readBytes]byte)
	}
	b := append(t.buf[:0], t.read...)
	n, err := t.Conn.Read(b[len(b):cap(b)])
	if t.read = b[:len(b)+n]; n > 0 {
		return nil
	}
	if err == io.EOF && len(t.read) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Write writes to the socket.
func (t *tap) Write(b []byte) (int, error) {
	if t.keys.server != nil {
		t.sent = append(t.sent, b...)
	}
	return t.Conn.Write(b)
}

// Config returns what the handshakes of a server need of cfg, to be used by [Server] for many connections. Of cfg's own
// key log it goes on to be what it is.
func Config(cfg *tls.Config) *tls.Config {
	outer := cfg.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		of := cfg
		if cfg.GetConfigForClient != nil {
			chosen, err := cfg.GetConfigForClient(hello)
			if err != nil {
				return nil, err
			}
			if chosen != nil {
				of = chosen
			}
		}
		return hello.Conn.(*tap).own(of), nil
	}
	return outer
}

// own returns the configuration of this handshake alone. Session tickets are sealed by the keys of that of all.
func (t *tap) own(cfg *tls.Config) *tls.Config {
	if cfg.KeyLogWriter == io.Writer(&t.keys) {
		return cfg // it went through Config twice
	}
	own := cfg.Clone()
	t.keys.under = cfg.KeyLogWriter
	own.KeyLogWriter = &t.keys
	return own
}

// errVersion says that a handshake has agreed on an older version of TLS.
var errVersion = errors.New("TLS: a version below 1.3")

// Server makes the handshake of a server over a socket; cfg is from Config. It blocks as sock does. rest was read too
// far.
func Server(sock net.Conn, cfg *tls.Config) (c *Conn, rest []byte, s tls.ConnectionState, err error) {
	t := &tap{Conn: sock}
	return t.shake(tls.Server(t, cfg), true)
}

// Client makes the handshake of a client. It blocks as sock does.
func Client(sock net.Conn, cfg *tls.Config) (c *Conn, rest []byte, s tls.ConnectionState, err error) {
	t := &tap{Conn: sock}
	return t.shake(tls.Client(t, t.own(cfg)), false)
}

func (t *tap) shake(conn *tls.Conn, server bool) (c *Conn, rest []byte, s tls.ConnectionState, err error) {
	defer func() {
		if t.buf != nil {
			reads.Put(t.buf)
		}
	}()
	if err = conn.Handshake(); err != nil {
		return nil, nil, s, err
	}
	s = conn.ConnectionState()
	with := suites[s.CipherSuite]
	if s.Version != tls.VersionTLS13 || with == nil {
		return nil, nil, s, errVersion
	}
	c = &Conn{tickets: !server}
	in, out := t.keys.client, t.keys.server
	if !server {
		in, out = out, in
	}
	if err = c.in.use(with, in); err == nil {
		err = c.out.use(with, out)
	}
	if err != nil {
		return nil, nil, s, err
	}
	c.out.count(t.sent)
	return c, bytes.Clone(t.read), s, nil
}

// count finds out how many of the records that the handshake has sent were sealed with the keys of the protocol, as
// session tickets are: those that open with them.
func (h *half) count(sent []byte) {
	for len(sent) >= HeadBytes {
		n := HeadBytes + int(binary.BigEndian.Uint16(sent[3:]))
		if n > len(sent) {
			return
		}
		if _, err := h.aead.Open(nil, h.nonce(), sent[HeadBytes:n], sent[:HeadBytes]); err == nil {
			h.seq++
		}
		sent = sent[n:]
	}
}
