package target

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// tim speaks the protocol of the older system's clients, compact encoding in WebSocket messages, to a timedge gateway
// (serve --tim) or to that system's own server: docs/tim.md. All connections log in to the account that owns the rooms.
type tim struct {
	addr    string
	account string
	rooms   []string
}

func (*tim) Name() string { return "tim" }
func (*tim) Caps() Caps   { return Caps{Rooms: true} }

func (s *tim) IDs() []uint64 {
	ids := make([]uint64, len(s.rooms))
	for i, name := range s.rooms {
		id, _ := codec.ParseRoomID(name) // checked when it was registered
		ids[i] = uint64(id)
	}
	return ids
}

func (s *tim) Prepare(ctx context.Context, p Plan) error {
	s.addr, s.account = p.Addr, p.Account
	for _, id := range p.IDs {
		s.rooms = append(s.rooms, codec.RoomID(id).String())
	}
	if len(s.rooms) > 0 {
		return nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	_ = conn.SetDeadline(deadline)
	r := bufio.NewReader(conn)
	if _, err := conn.Write(timUpgrade(s.addr)); err != nil {
		return err
	}
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			return err
		}
	}
	out := timFrame(nil, timAuth, s.account)
	for range p.Rooms {
		out = append(timHeader(out, 4), timVroom, 0x15, 2*1, 0)
	}
	if _, err := conn.Write(out); err != nil {
		return err
	}
	for i := -1; i < p.Rooms; i++ { // the answer to the login comes first
		frame, err := readTimFrame(r)
		if err != nil {
			return fmt.Errorf("registering %d rooms: %w", p.Rooms, err)
		}
		name, err := timAnswer(frame)
		if err != nil {
			return err
		}
		if i >= 0 {
			if _, err := codec.ParseRoomID(name); err != nil {
				return fmt.Errorf("tim: registered %q: %w", name, err)
			}
			s.rooms = append(s.rooms, name)
		}
	}
	return nil
}

func (s *tim) Publisher([]*Stream) Publisher { return &timWire{s: s, room: -1} }

func (s *tim) Subscriber(room int, t *verify.Tracker) Subscriber {
	return &timWire{s: s, room: room, t: t}
}

// The frame types used.
const (
	timAck    = 12
	timPing   = 13
	timAuth   = 16
	timVroom  = 22
	timStream = 94
)

const (
	wsBinary = 0x82 // a whole binary message
	wsClose  = 0x88
	wsMasked = 0x80
)

// timUpgrade is the request that makes a connection a WebSocket.
func timUpgrade(addr string) []byte {
	return fmt.Appendf(nil, "GET /tim HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://%s\r\n\r\n", addr, addr)
}

// timHeader appends the WebSocket header of a message of size bytes. The mask is all zero, so what follows is as it is.
func timHeader(dst []byte, size int) []byte {
	dst = append(dst, wsBinary)
	switch {
	case size < 126:
		dst = append(dst, wsMasked|byte(size))
	case size < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, wsMasked|126), uint16(size))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, wsMasked|127), uint64(size))
	}
	return append(dst, 0, 0, 0, 0)
}

// timFrame appends a login as name (field 1), or a subscription to the room name (fields 1 and 2).
func timFrame(dst []byte, typ byte, name string) []byte {
	var body [64]byte
	b := body[:0]
	if typ == timVroom {
		b = append(b, 0x15, 2*5)
	}
	b = append(append(append(b, 0x18, byte(len(name))), name...), 0)
	return append(append(timHeader(dst, 1+len(b)), typ), b...)
}

// timAnswer returns the name in an answer (field 5), or that it is a refusal.
func timAnswer(frame []byte) (string, error) {
	const ok = 0x11
	if len(frame) < 2 || frame[0] != timAck || frame[1] != ok {
		return "", fmt.Errorf("tim: refused: %q", frame)
	}
	for _, head := range []byte{0x18, 0x38} { // behind field 4, or behind field 2
		if at := bytes.IndexByte(frame[2:], head); at >= 0 && at+4 <= len(frame) {
			if n := int(frame[at+3]); at+4+n <= len(frame) {
				return string(frame[at+4 : at+4+n]), nil
			}
		}
	}
	return "", nil
}

// readTimFrame reads one short message.
func readTimFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != wsBinary || head[1] >= 126 {
		return nil, fmt.Errorf("tim: unexpected message % x", head)
	}
	frame := make([]byte, head[1])
	_, err := io.ReadFull(r, frame)
	return frame, err
}

// timWire is one connection. A subscriber's room is not negative.
type timWire struct {
	s        *tim
	room     int
	t        *verify.Tracker
	upgraded bool
	answers  int // to the login, and to the subscription
	tail     int // bytes of a message behind the payload
	last     time.Time
}

func (w *timWire) Open(dst []byte) []byte {
	w.last = time.Now()
	return append(dst, timUpgrade(w.s.addr)...)
}

func (w *timWire) Ready() bool {
	if w.room >= 0 {
		return w.answers >= 2
	}
	return w.answers >= 1
}

// timPingEvery is how often a client says that it is there.
const timPingEvery = 10 * time.Second

func (w *timWire) Tick(out []byte) []byte {
	if now := time.Now(); w.Ready() && now.Sub(w.last) > timPingEvery {
		w.last = now
		out = append(timHeader(out, 1), timPing)
	}
	return out
}

func (w *timWire) Append(dst []byte, m *Message) ([]byte, bool) {
	name := w.s.rooms[m.Stream.Room]
	var head [64]byte
	h := append(append(head[:0], timStream, 0x16, 0, 0x18, byte(len(name))), name...)
	if m.Stream.Dtype != 0 {
		h = append(h, 0x13, m.Stream.Dtype, 0x18)
	} else {
		h = append(h, 0x28)
	}
	h = binary.AppendUvarint(h, uint64(m.Size))
	tail := []byte{0x18, 0, 0} // fromNode, empty
	dst = append(timHeader(dst, len(h)+m.Size+len(tail)), h...)
	return append(plain(dst, m), tail...), true
}

var errTim = errors.New("tim: received what is no message of its server")

// Scan implements Wire.
func (w *timWire) Scan(b, reply []byte) (n int, out []byte, err error) {
	if !w.upgraded {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return 0, reply, nil
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
			return 0, reply, fmt.Errorf("tim: no WebSocket: %q", b[:end])
		}
		w.upgraded, n = true, end+4
		reply = timFrame(reply, timAuth, w.s.account)
		if w.room >= 0 {
			reply = timFrame(reply, timVroom, w.s.rooms[w.room])
		}
	}
	for {
		if w.t != nil && w.t.Left() > 0 {
			n += w.t.Body(b[n:])
			if w.t.Left() > 0 {
				return n, reply, nil
			}
		}
		if w.tail > 0 {
			k := min(w.tail, len(b)-n)
			if n, w.tail = n+k, w.tail-k; w.tail > 0 {
				return n, reply, nil
			}
		}
		k, err := w.message(b[n:])
		if k == 0 || err != nil {
			return n, reply, err
		}
		n += k
	}
}

// message takes a message, or the beginning of one with a payload, and returns how many bytes that was; 0: it wants
// more.
func (w *timWire) message(b []byte) (n int, err error) {
	if len(b) < 2 {
		return 0, nil
	}
	head, size := 2, int(b[1])
	switch {
	case b[0] == wsClose:
		return 0, &ClosedError{Code: codec.CodeLeft}
	case b[0] != wsBinary || b[1] > 127:
		return 0, errTim
	case b[1] == 126:
		if head = 4; len(b) < head {
			return 0, nil
		}
		size = int(binary.BigEndian.Uint16(b[2:]))
	case b[1] == 127:
		if head = 10; len(b) < head {
			return 0, nil
		}
		size = int(binary.BigEndian.Uint64(b[2:]))
	}
	if len(b) == head {
		return 0, nil
	}
	if b[head] == timStream && w.t != nil {
		return w.stream(b, head, size)
	}
	if len(b) < head+size {
		return 0, nil
	}
	switch frame := b[head : head+size]; frame[0] {
	case timAck:
		if _, err := timAnswer(frame); err != nil {
			return 0, err
		}
		w.answers++
	case timPing:
	default:
		return 0, errTim
	}
	return head + size, nil
}

// stream takes a delivery up to its payload, which goes to the tracker.
func (w *timWire) stream(b []byte, head, size int) (n int, err error) {
	at := head + 1
	if len(b) < min(at+1+binary.MaxVarintLen64+2, head+size) { // id, and the length of the room
		return 0, nil
	}
	_, k := binary.Uvarint(b[at+1:])
	if b[at] != 0x16 || k <= 0 || at+1+k+2 > head+size || b[at+1+k] != 0x18 {
		return 0, errTim
	}
	if at += 1 + k + 2 + int(b[at+2+k]); at+3+verify.StampSize > head+size {
		return 0, errTim
	}
	if len(b) < min(at+3+binary.MaxVarintLen32+verify.StampSize, head+size) {
		return 0, nil
	}
	if b[at] == 0x13 { // dtype
		at += 2
	}
	length, k := binary.Uvarint(b[at+1:])
	if b[at]&0x0f != 8 || k <= 0 {
		return 0, errTim
	}
	at += 1 + k
	if w.tail = size - (at - head) - int(length); w.tail < 0 || length < verify.StampSize {
		return 0, errTim
	}
	plainFrame(w.t, b[at:at+verify.StampSize], int(length))
	return at, nil
}
