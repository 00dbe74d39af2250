package target

import (
	"encoding/binary"
	"errors"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// frames walks timedge's frames for a subscriber: stream frames go to the tracker, control frames to a function.
type frames struct {
	t *verify.Tracker
}

var errNotAFrame = errors.New("received what is not a frame")

// scan returns how many bytes of b it took. A stream frame is taken as it comes; a control frame only when it is whole.
func (f *frames) scan(b []byte, control func(frame []byte, typ byte) error) (n int, err error) {
	for {
		n += f.t.Walk(b[n:])
		if f.t.Left() > 0 {
			n += f.t.Body(b[n:])
			if f.t.Left() > 0 {
				return n, nil
			}
		}
		rest := b[n:]
		if len(rest) <= codec.LengthSize {
			return n, nil
		}
		size := int(binary.BigEndian.Uint16(rest)) + codec.LengthSize
		if rest[codec.LengthSize]&codec.TypeStream == 0 {
			if size == codec.LengthSize {
				return n, errNotAFrame
			}
			if len(rest) < size {
				return n, nil
			}
			if err := control(rest[:size], rest[codec.LengthSize]); err != nil {
				return n, err
			}
			n += size
			continue
		}
		if size < codec.StreamHeaderSize {
			return n, errNotAFrame
		}
		// The stamp is the least that is wanted at once; the rest of a large payload is taken as it comes.
		head := min(size, codec.StreamHeaderSize+verify.StampSize)
		if len(rest) < head {
			return n, nil
		}
		var s codec.Stream
		if err := codec.ParseStream(rest[:head], &s); err != nil {
			return n, err
		}
		k := verify.Key{Room: uint64(s.Room), Pub: s.Pub, Dtype: s.Dtype}
		f.t.Frame(k, s.Flags, s.Seq, s.Payload, size-codec.StreamHeaderSize)
		n += codec.StreamHeaderSize
		n += f.t.Body(b[n:])
	}
}

// appendPiece appends one frame of m: the next piece of its payload, n bytes.
func appendPiece(dst []byte, m *Message, room codec.RoomID, pub uint16, n int) []byte {
	m.Stream.Seq++
	s := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: pub, Dtype: m.Stream.Dtype}, Flags: m.Flags, Seq: m.Stream.Seq}
	if m.Sent > 0 {
		s.Flags |= codec.FlagCont
	}
	if m.Sent+n < m.Size {
		s.Flags |= codec.FlagMore
	}
	dst = enc(codec.AppendStreamHeader(dst, &s, n))
	off := m.Sent
	m.Sent += n
	if off == 0 {
		dst = stamp(dst, m, s.Seq)
		off, n = verify.StampSize, n-verify.StampSize
	}
	return verify.AppendPattern(dst, off, n)
}

// enc returns what an Append has written. The frames of a load are within the limits by themselves.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
