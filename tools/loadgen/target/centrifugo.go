package target

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/timedge/timedge/tools/loadgen/verify"
)

// centrifugo speaks Centrifugo's client protocol in protobuf, in WebSocket messages: a channel per room.
// https://centrifugal.dev/docs/transports/client_protocol
type centrifugo struct{ subjects }

func (*centrifugo) Name() string { return "centrifugo" }
func (*centrifugo) Caps() Caps   { return Caps{Rooms: true} }

func (s *centrifugo) Publisher([]*Stream) Publisher { return &centrifugoWire{subjects: s.subjects} }

func (s *centrifugo) Subscriber(room int, t *verify.Tracker) Subscriber {
	return &centrifugoWire{subjects: s.subjects, sub: string(s.append(nil, room)), t: t}
}

// centrifugoWire is one connection. A WebSocket message holds one or more replies, each behind its length.
type centrifugoWire struct {
	subjects
	sub      string // empty for a publisher
	t        *verify.Tracker
	upgraded bool
	answers  int // to connect, and to subscribe
	frame    int // bytes of the WebSocket message still to come
	tail     int // bytes of a reply behind the payload still to come
}

// Tags of protobuf fields, each with a length behind it but for the first.
const (
	cfID        = 1 << 3   // of a command and its reply
	cfError     = 2<<3 | 2 // of a reply
	cfConnect   = 4<<3 | 2 // of a command
	cfSubscribe = 5<<3 | 2
	cfPublish   = 7<<3 | 2
	cfPush      = 4<<3 | 2 // of a reply
	cfChannel   = 1<<3 | 2 // of a request
	cfData      = 2<<3 | 2
	cfPushedTo  = 2<<3 | 2 // of a push: its channel
	cfPub       = 4<<3 | 2 // of a push: a publication
	cfPubData   = 4<<3 | 2 // of a publication
)

var errCentrifugo = errors.New("centrifugo: received what is no message of its server")

func (w *centrifugoWire) Open(dst []byte) []byte {
	return append(dst, "GET /connection/websocket?format=protobuf HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"...)
}

func (w *centrifugoWire) Ready() bool {
	return w.answers >= 2 || w.answers == 1 && w.sub == ""
}

func (w *centrifugoWire) Tick(out []byte) []byte { return out }

// centrifugoCommand appends a message with one command, whose request's last size bytes the caller appends.
func centrifugoCommand(dst []byte, request byte, fields []byte, size int) []byte {
	var head [24]byte
	h := binary.AppendUvarint(append(head[:0], cfID, 1, request), uint64(len(fields)+size))
	length := len(h) + len(fields) + size
	dst = timHeader(dst, len(binary.AppendUvarint(nil, uint64(length)))+length)
	dst = append(binary.AppendUvarint(dst, uint64(length)), h...)
	return append(dst, fields...)
}

func (w *centrifugoWire) Append(dst []byte, m *Message) ([]byte, bool) {
	var room, fields [32]byte
	name := w.append(room[:0], m.Stream.Room)
	f := append(append(fields[:0], cfChannel, byte(len(name))), name...)
	f = binary.AppendUvarint(append(f, cfData), uint64(m.Size))
	return plain(centrifugoCommand(dst, cfPublish, f, m.Size), m), true
}

// Scan implements Wire.
func (w *centrifugoWire) Scan(b, reply []byte) (n int, out []byte, err error) {
	if !w.upgraded {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return 0, reply, nil
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
			return 0, reply, fmt.Errorf("centrifugo: no WebSocket: %q", b[:end])
		}
		w.upgraded, n = true, end+4
		reply = centrifugoCommand(reply, cfConnect, nil, 0)
	}
	for {
		at := n
		if w.t != nil && w.t.Left() > 0 {
			n += w.t.Body(b[n:])
		}
		if w.t == nil || w.t.Left() == 0 {
			k := min(w.tail, len(b)-n)
			n, w.tail = n+k, w.tail-k
		}
		w.frame -= n - at
		if w.t != nil && w.t.Left() > 0 || w.tail > 0 {
			return n, reply, nil
		}
		var k int
		if w.frame == 0 {
			k, err = w.message(b[n:])
		} else if k, reply, err = w.reply(b[n:], reply); err == nil {
			w.frame -= k
		}
		if n += k; k == 0 || err != nil {
			return n, reply, err
		}
	}
}

// message takes the header of a WebSocket message; 0: it wants more.
func (w *centrifugoWire) message(b []byte) (n int, err error) {
	if len(b) < 2 {
		return 0, nil
	}
	n, w.frame = 2, int(b[1])
	switch {
	case b[0] == wsClose:
		return 0, fmt.Errorf("centrifugo: closed: %q", b[2:min(len(b), 2+int(b[1]))])
	case b[0] != wsBinary || b[1] > 127:
		return 0, errCentrifugo
	case b[1] == 126:
		n = 4
	case b[1] == 127:
		n = 10
	}
	if len(b) < n {
		w.frame = 0
		return 0, nil
	}
	switch n {
	case 4:
		w.frame = int(binary.BigEndian.Uint16(b[2:]))
	case 10:
		w.frame = int(binary.BigEndian.Uint64(b[2:]))
	}
	return n, nil
}

// centrifugoHead is the most that a delivery has before its payload.
const centrifugoHead = 64

// reply takes a reply, or the beginning of one with a payload; 0: it wants more.
func (w *centrifugoWire) reply(b, out []byte) (n int, _ []byte, err error) {
	size, n := binary.Uvarint(b)
	switch whole := n + int(size); {
	case n < 0:
		return 0, out, errCentrifugo
	case n == 0:
		return 0, out, nil
	case size == 0: // a ping, which is answered by the like
		return n, append(timHeader(out, 1), 0), nil
	case len(b) < min(whole, centrifugoHead+verify.StampSize):
		return 0, out, nil
	case b[n] == cfPush && w.t != nil:
		at, length := centrifugoPayload(b[n:])
		if at == 0 || length < verify.StampSize {
			return 0, out, errCentrifugo
		}
		at += n
		if w.tail = whole - at - length; w.tail < 0 {
			return 0, out, errCentrifugo
		}
		plainFrame(w.t, b[at:at+verify.StampSize], length)
		return at, out, nil
	case len(b) < whole:
		return 0, out, nil
	case b[n] != cfID || size < 2:
		return 0, out, errCentrifugo
	case size > 2 && b[n+2] == cfError:
		return 0, out, fmt.Errorf("centrifugo: refused: %q", b[n:whole])
	default:
		if w.answers++; w.answers == 1 && w.sub != "" {
			f := append([]byte{cfChannel, byte(len(w.sub))}, w.sub...)
			out = centrifugoCommand(out, cfSubscribe, f, 0)
		}
		return whole, out, nil
	}
}

// centrifugoPayload returns where in a reply with a publication the payload begins, and its size; 0: it is something
// else. Of b at least centrifugoHead bytes are there, or all.
func centrifugoPayload(b []byte) (at, size int) {
	field := func(tag byte) bool {
		if at >= len(b) || b[at] != tag {
			return false
		}
		v, k := binary.Uvarint(b[at+1:])
		at, size = at+1+k, int(v)
		return k > 0
	}
	if !field(cfPush) || !field(cfPushedTo) {
		return 0, 0
	}
	at += size // past the channel's name
	if !field(cfPub) || !field(cfPubData) || at+verify.StampSize > len(b) {
		return 0, 0
	}
	return at, size
}
