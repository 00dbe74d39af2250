package codec

import "encoding/binary"

// Flags of a stream frame: the low bits of its type byte.
//
//	 7   6   5   4   3    2    1    0
//	+---+---+---+---+----+----+----+---+
//	| 1 | 0 | 0 | 0 |cont|more|init|key|
//	+---+---+---+---+----+----+----+---+
type Flags uint8

// The flags. Key and init are set alike on every piece of a message.
const (
	FlagKey  Flags = 1 << 0 // a decoder can start here
	FlagInit Flags = 1 << 1 // the header a decoder needs first; retained for those who join later
	FlagMore Flags = 1 << 2 // the message goes on in the next frame of this stream
	FlagCont Flags = 1 << 3 // the message began in an earlier frame of this stream

	flagMask = FlagKey | FlagInit | FlagMore | FlagCont
)

// TypeStream is the bit that tells a stream frame from a control frame.
const TypeStream = 0x80

// StreamKey names a stream within a room.
type StreamKey struct {
	Pub   uint16 // publisher number, announced by a joined frame
	Dtype uint8  // the caller's own byte
}

// Stream is a frame of a stream:
//
//	0       2      3        11      13     14      20
//	+-------+------+--------+-------+------+-------+---------
//	|length | type | room   | pub   | dtype| seq   | payload
//	+-------+------+--------+-------+------+-------+---------
//	 u16     u8     u64      u16     u8     u48
//
// Its bytes are the same for every receiver and on every hop.
type Stream struct {
	Room RoomID
	StreamKey
	Flags   Flags
	Seq     uint64 // 1, 2, 3 ... per stream, given by the publisher's client
	Payload []byte // aliases what was parsed
}

// Start reports whether the frame is the first piece of a message.
func (f Flags) Start() bool { return f&FlagCont == 0 }

// End reports whether the frame is the last piece of a message.
func (f Flags) End() bool { return f&FlagMore == 0 }

// KeyStart reports whether a decoder can start with this very frame.
func (f Flags) KeyStart() bool { return f&(FlagKey|FlagCont) == FlagKey }

// Append writes the frame to the end of dst. A payload above MaxPiece is an error, for it is the caller's to cut; so is
// what ParseStream would not read.
func (s *Stream) Append(dst []byte) ([]byte, error) {
	dst, err := AppendStreamHeader(dst, s, len(s.Payload))
	if err != nil {
		return dst, err
	}
	return append(dst, s.Payload...), nil
}

// AppendStreamHeader writes the 20 bytes before a payload of n bytes, for callers that send the payload from where it
// is. On an error dst comes back as it was.
func AppendStreamHeader(dst []byte, s *Stream, n int) ([]byte, error) {
	if n > MaxPiece || s.Room == 0 || s.Pub == 0 || s.Seq-1 >= MaxSeq || s.Flags&^flagMask != 0 {
		return dst, errStream
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(n+StreamHeaderSize-LengthSize))
	dst = append(dst, TypeStream|byte(s.Flags))
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.Room))
	dst = binary.BigEndian.AppendUint16(dst, s.Pub)
	dst = append(dst, s.Dtype)
	return appendU48(dst, s.Seq), nil
}

var errStream = &EncodeError{TypeStream, "a payload above max_piece, or a room, publisher, sequence number or flag out of range"}

// ParseStream reads the whole stream frame that b holds, as cut by Next. The payload aliases b. It fails on a frame
// that is shorter than its header, is no stream frame, has unknown flags, or has a zero room, publisher or sequence
// number.
func ParseStream(b []byte, s *Stream) error {
	if len(b) < StreamHeaderSize {
		return errMalformed
	}
	_ = b[StreamHeaderSize-1]
	s.Flags = Flags(b[2]) &^ TypeStream
	s.Room = RoomID(binary.BigEndian.Uint64(b[3:]))
	s.Pub = binary.BigEndian.Uint16(b[11:])
	s.Dtype = b[13]
	s.Seq = getU48(b[14:])
	s.Payload = b[StreamHeaderSize:]
	if b[2]&^byte(flagMask) != TypeStream || s.Room == 0 || s.Pub == 0 || s.Seq == 0 {
		return errMalformed
	}
	return nil
}

// Next cuts the first frame off b: its whole bytes, length included, and its type. Both alias b. limit is the largest
// frame accepted, at most MaxFrame. It returns ErrIncomplete when more bytes are needed, and a *ProtocolError when no
// bytes to come could make this a frame.
func Next(b []byte, limit int) (frame []byte, typ byte, err error) {
	if len(b) < LengthSize {
		return nil, 0, ErrIncomplete
	}
	n := int(binary.BigEndian.Uint16(b)) + LengthSize
	if n > limit {
		return nil, 0, errTooLong
	}
	if n == LengthSize {
		return nil, 0, errMalformed
	}
	if len(b) < n {
		return nil, 0, ErrIncomplete
	}
	return b[:n:n], b[LengthSize], nil
}
