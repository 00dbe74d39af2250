// Package over puts a generator's connections into TLS, WebSocket, or WebSocket within TLS. Handshakes block, on a
// goroutine of the caller's; what comes after is a state machine without I/O, as lean as it can be: bytes of the
// socket in, bytes of the protocol out, and the other way. What WebSocket costs beyond plain TCP is a copy, what TLS
// costs is AES-GCM (go test -bench . ./tools/loadgen/over ./internal/record).
package over

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/record"
)

// Kind is what lies below the protocol.
type Kind string

// The kinds.
const (
	Plain Kind = ""
	TLS   Kind = "tls"
	WS    Kind = "ws"
	WSS   Kind = "wss"
)

// Kinds lists those that are not plain TCP.
var Kinds = []Kind{TLS, WS, WSS}

// Conn is a connection after its handshakes. It belongs to the loop that reads the socket.
type Conn struct {
	tls  *record.Conn // nil: none
	ws   bool
	left uint64 // of the WebSocket frame that is being read
	head []byte // of the next one, as far as it has come
	skip uint64 // of a control frame's payload, which is left out
	raw  []byte // of the socket's bytes, what the handshakes have read too far
	rest []byte // of the WebSocket, read with the answer to the request
}

// beginning has a value for each connection that is about to say its first word. A client has a processor to itself, but
// for a generator's: if all of them connected first, and computed their first words then, the last would be late by as
// long as all of them take together, and a server that waits for each from its connection on would take it for a silent
// one.
var beginning = make(chan struct{}, 64)

// beginner is a socket that tells when the first word is said.
type beginner struct {
	net.Conn
	said func()
}

func (b *beginner) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	b.said()
	return n, err
}

// Dial connects and shakes hands. It returns a descriptor that does not block, and is the caller's. It blocks for as long
// as a client waits for a server (codec.AnswerWithin) at most. Some servers say a line of their protocol before TLS.
func Dial(to netip.AddrPort, kind Kind, receive int, line bool) (fd int, c *Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), codec.AnswerWithin)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		if receive == 0 {
			return nil
		}
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receive)
		})
	}}
	beginning <- struct{}{}
	said := sync.OnceFunc(func() { <-beginning })
	defer said()
	sock, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return -1, nil, err
	}
	defer sock.Close() // the descriptor that is returned is another one
	deadline, _ := ctx.Deadline()
	_ = sock.SetDeadline(deadline)
	for b := []byte{0}; line && b[0] != '\n'; {
		if _, err := sock.Read(b); err != nil {
			return -1, nil, err
		}
	}
	if c, err = Shake(&beginner{sock, said}, kind); err != nil {
		return -1, nil, err
	}
	raw, err := sock.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, nil, err
	}
	failed := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if failed != nil {
		err = failed
	}
	return fd, c, err
}

// Shake shakes hands on a connection. Afterwards what goes over it is for the caller to move.
func Shake(sock net.Conn, kind Kind) (*Conn, error) {
	c := &Conn{}
	below := sock
	var stream *record.Stream
	if kind == TLS || kind == WSS {
		// The server is one's own: its certificate is not looked at.
		records, rest, _, err := record.Client(sock, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		if err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		stream = record.NewStream(sock, records, rest)
		c.tls, below = records, stream
	}
	if kind == WS || kind == WSS {
		rest, err := upgrade(below, sock.RemoteAddr().String())
		if err != nil {
			return nil, fmt.Errorf("WebSocket: %w", err)
		}
		c.ws, c.rest = true, rest
	}
	if stream != nil {
		raw, plain := stream.Rest()
		c.raw, c.rest = raw, append(c.rest, plain...)
	}
	return c, nil
}

// upgrade asks for WebSocket, and returns what came behind the answer.
func upgrade(c net.Conn, host string) (rest []byte, err error) {
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: timedge.v1\r\n\r\n", host)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.New(resp.Status)
	}
	rest, _ = r.Peek(r.Buffered())
	return rest, nil
}

// Slack is how many bytes more than it was given Open may return: what a record before has left.
const Slack = 32 << 10

// Open appends to dst, which has the room, the bytes of the protocol in what was read.
func (c *Conn) Open(dst, raw []byte) (b []byte, err error) {
	if len(c.rest) > 0 {
		if dst, err = c.unframe(dst, c.rest); err != nil {
			return dst, err
		}
		c.rest = nil
	}
	if c.tls == nil {
		return c.unframe(dst, raw)
	}
	if c.raw != nil {
		raw = append(c.raw, raw...)
		c.raw = nil
	}
	at := len(dst)
	for len(raw) > 0 {
		if dst, raw, err = c.tls.Open(dst, raw); err != nil {
			return dst, err
		}
	}
	if !c.ws {
		return dst, nil
	}
	return c.unframe(dst[:at], dst[at:]) // towards the front of the same memory
}

// unframe takes the payloads of binary messages out of b. dst may be memory before b. Without WebSocket that is all.
func (c *Conn) unframe(dst, b []byte) ([]byte, error) {
	if !c.ws {
		return append(dst, b...), nil
	}
	for len(b) > 0 {
		if c.left > 0 {
			n := min(c.left, uint64(len(b)))
			dst = append(dst, b[:n]...)
			b, c.left = b[n:], c.left-n
			continue
		}
		if c.skip > 0 {
			n := min(c.skip, uint64(len(b)))
			b, c.skip = b[n:], c.skip-n
			continue
		}
		c.head = append(c.head, b[0])
		b = b[1:]
		if len(c.head) < 2 {
			continue
		}
		size := uint64(c.head[1])
		need := 2
		switch size {
		case 126:
			need = 4
		case 127:
			need = 10
		}
		if len(c.head) < need {
			continue
		}
		switch need {
		case 4:
			size = uint64(binary.BigEndian.Uint16(c.head[2:]))
		case 10:
			size = binary.BigEndian.Uint64(c.head[2:])
		}
		switch op := c.head[0] & 15; op {
		case 0, 2:
			c.left = size
		case 8:
			return dst, errors.New("the WebSocket was closed by the server")
		case 9, 10:
			c.skip = size
		default:
			return dst, fmt.Errorf("a WebSocket frame that begins with %#x", c.head[0])
		}
		c.head = c.head[:0]
	}
	return dst, nil
}

// Seal appends to dst what goes over the socket for b. With WebSocket b is a message, with a mask of zeros, which is
// as good as any here.
func (c *Conn) Seal(dst, b []byte) ([]byte, error) {
	if c.ws {
		var f []byte
		switch n := len(b); {
		case n < 126:
			f = []byte{0x82, 0x80 | byte(n)}
		case n < 1<<16:
			f = []byte{0x82, 0x80 | 126, byte(n >> 8), byte(n)}
		default:
			f = binary.BigEndian.AppendUint64([]byte{0x82, 0x80 | 127}, uint64(n))
		}
		b = append(append(f, 0, 0, 0, 0), b...)
	}
	if c.tls == nil {
		return append(dst, b...), nil
	}
	return c.tls.Append(c.tls.Answer(dst), b), nil
}

// Wrap shakes hands on a connection and moves what goes over it: Read and Write are those of the protocol. Each
// blocks; one goroutine may read while another writes.
func Wrap(sock net.Conn, kind Kind) (net.Conn, error) {
	if kind == Plain {
		return sock, nil
	}
	c, err := Shake(sock, kind)
	if err != nil {
		return nil, err
	}
	return &wrapped{Conn: sock, over: c, raw: make([]byte, 16<<10), buf: make([]byte, 0, 16<<10+Slack)}, nil
}

type wrapped struct {
	net.Conn
	over     *Conn
	raw, buf []byte
	rest     []byte // of buf, not yet returned
}

func (w *wrapped) Read(b []byte) (int, error) {
	for len(w.rest) == 0 {
		n, err := w.Conn.Read(w.raw)
		if err != nil {
			return 0, err
		}
		if w.rest, err = w.over.Open(w.buf[:0], w.raw[:n]); err != nil {
			return 0, err
		}
	}
	n := copy(b, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *wrapped) Write(b []byte) (int, error) {
	sealed, err := w.over.Seal(nil, b)
	if err == nil {
		_, err = w.Conn.Write(sealed)
	}
	return len(b), err
}
