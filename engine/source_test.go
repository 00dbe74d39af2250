package engine_test

import (
	"github.com/timedge/timedge/codec"
)

// source is a publisher on a wire that numbers its frames and keeps within its window.
type source struct {
	*wire
	room    codec.RoomID
	pub     uint16
	window  int
	seq     map[uint8]uint64
	waiting []sent // not acknowledged
	bytes   int    // of these
	buf     []byte
}

type sent struct {
	dtype uint8
	seq   uint64
	size  int
}

func newSource(w *wire, room codec.RoomID) *source {
	w.t.Helper()
	p := w.publish(room)
	return &source{wire: w, room: room, pub: p.Pub, window: int(p.Window), seq: make(map[uint8]uint64)}
}

func (s *source) key(dtype uint8) codec.StreamKey { return codec.StreamKey{Pub: s.pub, Dtype: dtype} }

// frame appends the next frame of a stream to the source's buffer.
func (s *source) frame(dtype uint8, flags codec.Flags, payload []byte) {
	s.seq[dtype]++
	f := codec.Stream{Room: s.room, StreamKey: s.key(dtype), Flags: flags, Seq: s.seq[dtype], Payload: payload}
	n := len(s.buf)
	s.buf = enc(f.Append(s.buf))
	s.waiting = append(s.waiting, sent{dtype, f.Seq, len(s.buf) - n})
	s.bytes += len(s.buf) - n
}

// flush sends what was appended.
func (s *source) flush() {
	s.t.Helper()
	s.wire.write(s.buf)
	s.buf = s.buf[:0]
}

// push sends one frame, after waiting for acknowledgements if the window asks for it.
func (s *source) push(dtype uint8, flags codec.Flags, payload []byte) {
	s.t.Helper()
	for s.bytes+len(payload)+codec.StreamHeaderSize > s.window {
		s.acked(next[*codec.Ack](s.wire))
	}
	s.frame(dtype, flags, payload)
	s.flush()
}

// message pushes a message as pieces of the given size.
func (s *source) message(dtype uint8, flags codec.Flags, payload []byte, piece int) {
	s.t.Helper()
	for first := true; first || len(payload) > 0; first = false {
		f, n := flags, min(piece, len(payload))
		if !first {
			f |= codec.FlagCont
		}
		if n < len(payload) {
			f |= codec.FlagMore
		}
		s.push(dtype, f, payload[:n])
		payload = payload[n:]
	}
}

func (s *source) acked(a *codec.Ack) {
	if a.Pub != s.pub {
		return
	}
	kept := s.waiting[:0]
	for _, x := range s.waiting {
		if x.dtype == a.Dtype && x.seq <= a.Seq {
			s.bytes -= x.size
			continue
		}
		kept = append(kept, x)
	}
	s.waiting = kept
}

// settle waits until everything is acknowledged.
func (s *source) settle() {
	s.t.Helper()
	for len(s.waiting) > 0 {
		s.acked(next[*codec.Ack](s.wire))
	}
}
