package codec

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// EncodeError says that a frame was not written, since a field holds what its layout does not allow or the whole would
// be longer than a frame may be. Whatever is written can be parsed.
type EncodeError struct {
	Type byte   // of the frame
	Text string // what does not fit
}

func (e *EncodeError) Error() string {
	return fmt.Sprintf("codec: frame %#02x not written: %s", e.Type, e.Text)
}

// writer appends a control frame: the counterpart of reader. The first field that does not fit sticks, and end takes
// the frame back.
type writer struct {
	b   []byte
	at  int    // where the frame begins
	why string // what does not fit; "" as long as all does
}

// begin starts a frame at the end of dst; end fills in the length that begin leaves open.
func begin(dst []byte, typ byte) writer {
	return writer{b: append(dst, 0, 0, typ), at: len(dst)}
}

func beginReq(dst []byte, typ byte, req uint32) writer {
	w := begin(dst, typ)
	w.varint(uint64(req))
	return w
}

// end returns dst with the frame, or as it was and an error.
func (w *writer) end() ([]byte, error) { return w.endWithin(MaxFrame) }

// endWithin is end for a frame of at most limit bytes.
func (w *writer) endWithin(limit int) ([]byte, error) {
	n := len(w.b) - w.at
	if n > limit {
		w.fail("longer than the limit")
	}
	if w.why != "" {
		return w.b[:w.at], &EncodeError{w.b[w.at+LengthSize], w.why}
	}
	binary.BigEndian.PutUint16(w.b[w.at:], uint16(n-LengthSize))
	return w.b, nil
}

func (w *writer) fail(why string) {
	if w.why == "" {
		w.why = why
	}
}

func (w *writer) u8(v uint8)      { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)    { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u64(v uint64)    { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) varint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

func (w *writer) u48(v uint64) {
	if v > MaxSeq {
		w.fail("a sequence number of more than 48 bits")
	}
	w.b = appendU48(w.b, v)
}

// bits writes flags of which only those in mask may be set.
func (w *writer) bits(v, mask uint8) {
	if v&^mask != 0 {
		w.fail("a flag that the layout does not have")
	}
	w.u8(v)
}

// room writes a room number; zero is none. Requests may name it all the same: see anyRoom.
func (w *writer) room(id RoomID) {
	if id == 0 {
		w.fail("the room number 0")
	}
	w.u64(uint64(id))
}

func (w *writer) anyRoom(id RoomID) { w.u64(uint64(id)) }

// pub writes a publisher number; zero is none.
func (w *writer) pub(n uint16) {
	if n == 0 {
		w.fail("the publisher number 0")
	}
	w.u16(n)
}

// seq writes a sequence number; zero is none.
func (w *writer) seq(v uint64) {
	if v == 0 {
		w.fail("the sequence number 0")
	}
	w.u48(v)
}

func (w *writer) bytes(limit int, p []byte) {
	if len(p) > limit {
		w.fail("bytes beyond the limit")
		return
	}
	w.varint(uint64(len(p)))
	w.b = append(w.b, p...)
}

func (w *writer) string(limit int, s string) {
	if len(s) > limit || !utf8.ValidString(s) {
		w.fail("a string beyond the limit, or not UTF-8")
		return
	}
	w.varint(uint64(len(s)))
	w.b = append(w.b, s...)
}

// text writes an explanation, cut to MaxText bytes of whole characters: it may quote what a peer sent, and a text that
// the other side refuses would hide the code beside it.
func (w *writer) text(s string) {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > MaxText {
		n := MaxText
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	w.string(MaxText, s)
}

// list writes the length of a list and reports whether its entries are to follow.
func (w *writer) list(n, limit int) bool {
	if n > limit {
		w.fail("a list beyond the limit")
		return false
	}
	w.varint(uint64(n))
	return true
}
