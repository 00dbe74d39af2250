package client

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	weak "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The client's side of RFC 6455, as far as the protocol needs it: a stream of bytes in binary messages, whose
// boundaries mean nothing.

const (
	subProtocol = "timedge.v1"
	acceptGUID  = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, section 1.3
)

// webSocket is a connection within a WebSocket. One goroutine reads it, one writes it; Close is for any.
type webSocket struct {
	net.Conn // below

	// The reader's.
	in   []byte // read and not yet looked at
	buf  []byte // the memory of in
	left uint64 // of the data frame that is being read
	over error  // the server has closed

	mu  sync.Mutex // of what is written: pongs come from the reader
	out []byte
}

// upgrade asks for WebSocket on a connection.
func upgrade(conn net.Conn, a address) (*webSocket, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	u, err := url.ParseRequestURI(a.path)
	if err != nil {
		return nil, err
	}
	u.Host = a.hostPort
	req := &http.Request{Method: http.MethodGet, URL: u, Host: a.hostPort, Header: http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-WebSocket-Version": {"13"},
		"Sec-WebSocket-Key": {key}, "Sec-WebSocket-Protocol": {subProtocol}, "User-Agent": {"timedge"},
	}}
	resp, rest, err := ask(conn, req)
	if err != nil {
		return nil, fmt.Errorf("WebSocket: %w", err)
	}
	sum := sha1.Sum([]byte(key + acceptGUID))
	proof := base64.StdEncoding.EncodeToString(sum[:])
	switch h := resp.Header; {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("WebSocket: the server says %s", resp.Status)
	case !strings.EqualFold(h.Get("Upgrade"), "websocket"), h.Get("Sec-WebSocket-Accept") != proof:
		return nil, errors.New("WebSocket: the server does not speak it")
	case h.Get("Sec-WebSocket-Protocol") != subProtocol, h.Get("Sec-WebSocket-Extensions") != "":
		return nil, errors.New("WebSocket: the server speaks another protocol within it")
	}
	return &webSocket{Conn: conn, in: rest}, nil
}

// NetConn returns the connection below.
func (w *webSocket) NetConn() net.Conn { return w.Conn }

const (
	opBinary = 0x82 // with the mark that the message ends here
	opClose  = 0x88
	opPing   = 0x89
	opPong   = 0x8a
	maxHead  = 10 // of a server's frame, which has no mask
)

// Read returns bytes of messages, and answers pings on the way.
func (w *webSocket) Read(b []byte) (int, error) {
	for {
		if w.left > 0 {
			if len(w.in) == 0 && uint64(len(b)) <= w.left { // straight into the caller's memory
				n, err := w.Conn.Read(b)
				w.left -= uint64(n)
				return n, err
			}
			if len(w.in) > 0 {
				n := copy(b, w.in[:min(uint64(len(w.in)), w.left)])
				w.in, w.left = w.in[n:], w.left-uint64(n)
				return n, nil
			}
		} else if done, err := w.head(); err != nil || done {
			if err != nil {
				return 0, err
			}
			continue
		}
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
}

// fill reads more.
func (w *webSocket) fill() error {
	if w.buf == nil {
		w.buf = make([]byte, 32<<10)
	}
	k := copy(w.buf, w.in)
	n, err := w.Conn.Read(w.buf[k:])
	w.in = w.buf[:k+n]
	if n > 0 {
		return nil
	}
	return err
}

// head takes the header of a data frame, or a whole control frame. It returns false if more must be read for that.
func (w *webSocket) head() (done bool, err error) {
	if w.over != nil {
		return false, w.over
	}
	b := w.in
	if len(b) < 2 {
		return false, nil
	}
	n, size := 2, uint64(b[1])
	switch {
	case b[1] == 126:
		n = 4
	case b[1] == 127:
		n = 10
	case b[1] > 127:
		return false, errors.New("WebSocket: a server's frame with a mask")
	}
	if len(b) < n {
		return false, nil
	}
	switch n {
	case 4:
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 10:
		size = binary.BigEndian.Uint64(b[2:])
	}
	switch b[0] {
	case 0x00, 0x80, 0x02, opBinary: // a message, or a fragment of one
		w.in, w.left = b[n:], size
		return true, nil
	case opClose, opPing, opPong:
		if size > 125 {
			return false, errors.New("WebSocket: a control frame that is too long")
		}
		if uint64(len(b)-n) < size {
			return false, nil
		}
		payload := b[n : n+int(size)]
		w.in = b[n+int(size):]
		return true, w.control(b[0], payload)
	}
	return false, fmt.Errorf("WebSocket: a frame that begins with %#x", b[0])
}

// control handles a control frame.
func (w *webSocket) control(op byte, payload []byte) error {
	switch op {
	case opPing:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.out = appendMasked(w.out[:0], opPong, len(payload), payload)
		_, err := w.Conn.Write(w.out)
		return err
	case opClose:
		w.over = io.EOF
		if len(payload) >= 2 {
			if code := binary.BigEndian.Uint16(payload); code != 1000 && code != 1001 {
				w.over = fmt.Errorf("WebSocket: closed by the server: %d %q", code, payload[2:])
			}
		}
	}
	return nil
}

// Write sends b as a message.
func (w *webSocket) Write(b []byte) (int, error) {
	if err := w.writeVector(net.Buffers{b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// writeVector sends all slices as one message.
func (w *webSocket) writeVector(v net.Buffers) error {
	size := 0
	for _, b := range v {
		size += len(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = appendMasked(w.out[:0], opBinary, size, v...)
	_, err := w.Conn.Write(w.out)
	if cap(w.out) > 2*maxBatch {
		w.out = nil
	}
	return err
}

// Close says so, if nothing is being written, and closes.
func (w *webSocket) Close() error {
	if w.mu.TryLock() {
		_ = w.Conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = w.Conn.Write(appendMasked(nil, opClose, 2, []byte{1000 >> 8, 1000 & 0xff}))
		w.mu.Unlock()
	}
	return w.Conn.Close()
}

// appendMasked appends a client's frame with a payload of so many bytes in all.
func appendMasked(b []byte, op byte, size int, payload ...[]byte) []byte {
	switch b = append(b, op); {
	case size < 126:
		b = append(b, 0x80|byte(size))
	case size < 1<<16:
		b = append(b, 0x80|126, byte(size>>8), byte(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(size))
	}
	mask := weak.Uint32() // of a generator that cannot be foretold from what it gave (ChaCha8)
	b = binary.LittleEndian.AppendUint32(b, mask)
	at := len(b)
	for _, p := range payload {
		b = append(b, p...)
	}
	wide := uint64(mask)<<32 | uint64(mask)
	p := b[at:]
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
	}
	for i := range p {
		p[i] ^= byte(mask >> (8 * (i & 3)))
	}
	return b
}
