package codec

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
	"unicode/utf8"
)

// Sizes and limits of the protocol, in bytes. PROTOCOL.md, section "Limits".
const (
	// LengthSize is the size of the length that starts every frame: big-endian, counting the bytes that follow it.
	LengthSize = 2
	// MaxFrame is the largest frame, its length included.
	MaxFrame = 64 << 10
	// StreamHeaderSize is the number of bytes around the payload of a stream frame, its length included.
	StreamHeaderSize = 20
	// MaxPiece is the largest payload of one stream frame. A larger payload travels in several frames (FlagMore,
	// FlagCont).
	MaxPiece = MaxFrame - StreamHeaderSize
	// MaxHandshakeFrame is the largest frame a server reads before it has accepted a hello.
	MaxHandshakeFrame = 4 << 10
	// DefaultMaxPayload bounds a whole payload over all its pieces, unless a server is set otherwise.
	DefaultMaxPayload = 16 << 20
	// MaxSeq is the highest sequence number: 48 bits.
	MaxSeq = 1<<48 - 1
	// MaxAccount is the longest account name.
	MaxAccount = 128
	// MaxText is the longest explanatory text in an error or a refusal.
	MaxText = 512
	// MaxRequest is the longest request frame with a list, so that a node can carry it to another.
	MaxRequest = 60000
)

// AnswerWithin is how long a client waits for the answer to its hello, from the connection on. A server that many
// clients come to at once has them wait for no longer than that, and closes those that would have to.
const AnswerWithin = 15 * time.Second

// The most entries of each list.
const (
	// MaxPositions is how many streams a subscribe names.
	MaxPositions = 4096
	// MaxStreams is how many streams one publisher has in a room: one for each dtype.
	MaxStreams = 256
	// MaxEntries is how many accounts each list of an inbox request names, and each list of one state frame.
	MaxEntries = 1024
	// MaxAddrs is how many addresses a go_away names.
	MaxAddrs = 64
	// MaxMirrorPositions is how many streams a mirror names, and MaxDigest how many rooms one digest frame does.
	MaxMirrorPositions = 7000
	MaxDigest          = 8000
)

var (
	// ErrIncomplete says that the bytes end within a frame: read more and parse again. It is not a fault of the peer.
	ErrIncomplete = errors.New("codec: frame not yet whole")

	errMalformed = &ProtocolError{CodeMalformed, "frame does not match its layout"}
	errVarint    = &ProtocolError{CodeBadVarint, "varint overlong or above its range"}
	errTooLong   = &ProtocolError{CodeFrameTooLong, "frame longer than the limit"}
	errType      = &ProtocolError{CodeUnknownType, "unknown frame type"}
	errCritical  = &ProtocolError{CodeUnknownCritical, "unknown critical field"}
	errList      = &ProtocolError{CodeListTooLong, "list longer than its limit"}
)

// ProtocolError is a fault of the peer. It carries the code to send in an error frame before closing.
type ProtocolError struct {
	Code Code
	Text string
}

func (e *ProtocolError) Error() string { return "codec: " + e.Text }

// reader walks the body of a control frame. The first fault sticks; later reads return zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail(errMalformed)
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u48() uint64 {
	if p := r.take(6); p != nil {
		return getU48(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// varint reads an unsigned LEB128 number of at most 64 bits in its shortest form.
func (r *reader) varint() uint64 {
	var v uint64
	for i := 0; i < len(r.b); i++ {
		c := r.b[i]
		if i == 9 && c > 1 { // above 64 bits, or an eleventh byte to come
			r.fail(errVarint)
			return 0
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				r.fail(errVarint)
				return 0
			}
			r.b = r.b[i+1:]
			return v
		}
	}
	r.fail(errMalformed)
	return 0
}

func (r *reader) varint32() uint32 {
	v := r.varint()
	if v > math.MaxUint32 {
		r.fail(errVarint)
		return 0
	}
	return uint32(v)
}

// bytes reads a length and as many bytes; what it returns aliases the input.
func (r *reader) bytes(limit int) []byte {
	n := r.varint()
	if n > uint64(limit) || n > uint64(len(r.b)) {
		r.fail(errMalformed)
		return nil
	}
	return r.take(int(n))
}

// string reads UTF-8 of at most limit bytes. Anything else is refused here, once, so that a name means the same to
// every implementation, log and metric label.
func (r *reader) string(limit int) string {
	p := r.bytes(limit)
	if !utf8.Valid(p) {
		r.fail(errMalformed)
		return ""
	}
	return string(p)
}

// count reads the length of a list of at most limit entries that take at least size bytes each, so that a sender cannot
// make the receiver allocate more than the frame holds.
func (r *reader) count(size, limit int) int {
	n := r.varint()
	if n > uint64(limit) {
		r.fail(errList)
		return 0
	}
	if n > uint64(len(r.b)/size) {
		r.fail(errMalformed)
		return 0
	}
	return int(n)
}

// fields walks the optional fields that may end a control frame: tag, length, value, in rising order of tags. An odd
// tag is critical: a receiver that does not know it closes. known returns whether it took the field.
func (r *reader) fields(known func(tag uint64, value []byte) bool) {
	last := uint64(0)
	for len(r.b) > 0 && r.err == nil {
		tag := r.varint()
		value := r.bytes(MaxFrame)
		if r.err != nil {
			return
		}
		if tag <= last {
			r.fail(errMalformed)
			return
		}
		last = tag
		if known != nil && known(tag, value) {
			continue
		}
		if tag&1 == 1 {
			r.fail(errCritical)
		}
	}
}

func getU48(p []byte) uint64 {
	_ = p[5]
	return uint64(p[0])<<40 | uint64(p[1])<<32 | uint64(p[2])<<24 | uint64(p[3])<<16 | uint64(p[4])<<8 | uint64(p[5])
}

func appendU48(dst []byte, v uint64) []byte {
	return append(dst, byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}
