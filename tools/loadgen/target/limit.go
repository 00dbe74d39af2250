package target

import (
	"context"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// limit is the program in benchmarks/limit, which hands whatever it reads to every subscriber. A client says in one
// byte what it is and gets one byte back when it is in; what follows are timedge's own stream frames, so that the load
// is the same to the byte.
type limit struct{}

const (
	limitPublisher  = 'P'
	limitSubscriber = 'S'
	limitRoom       = codec.RoomID(1)
	limitPub        = 1
)

func (*limit) Name() string                        { return "limit" }
func (*limit) Caps() Caps                          { return Caps{Piece: codec.MaxPiece} }
func (*limit) Prepare(context.Context, Plan) error { return nil }
func (*limit) IDs() []uint64                       { return nil }

func (*limit) Publisher([]*Stream) Publisher { return &limitWire{role: limitPublisher} }

func (*limit) Subscriber(_ int, t *verify.Tracker) Subscriber {
	return &limitWire{role: limitSubscriber, frames: frames{t}}
}

type limitWire struct {
	role  byte
	ready bool
	frames
}

func (w *limitWire) Open(dst []byte) []byte { return append(dst, w.role) }
func (w *limitWire) Ready() bool            { return w.ready }
func (w *limitWire) Tick(out []byte) []byte { return out }

func (w *limitWire) Scan(b, reply []byte) (int, []byte, error) {
	n := 0
	if !w.ready && len(b) > 0 {
		w.ready, n = true, 1
	}
	if w.t == nil {
		return len(b), reply, nil // a publisher hears nothing more
	}
	k, err := w.scan(b[n:], func([]byte, byte) error { return errNotAFrame })
	return n + k, reply, err
}

func (w *limitWire) Append(dst []byte, m *Message) ([]byte, bool) {
	for m.Sent < m.Size {
		dst = appendPiece(dst, m, limitRoom, limitPub, min(m.Size-m.Sent, codec.MaxPiece))
	}
	return dst, true
}
