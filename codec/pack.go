package codec

import "encoding/binary"

// MaxPack is how many bytes of frames a pack has at most: so few that what comes behind it does not wait for long.
const MaxPack = 16 << 10

// Pack holds frames about many rooms that one event brings: a node that dies concerns all that it relayed. They are
// handled one after the other, as if they had come so.
type Pack struct {
	Frames []byte // whole frames of the types that PackHolds, their lengths included; aliases the input when parsed
}

// Type returns TypePack.
func (*Pack) Type() byte { return TypePack }

// PackHolds reports whether frames of a type may travel in a pack.
func PackHolds(typ byte) bool {
	switch typ {
	case TypeState, TypeChange, TypeMoved, TypeOK, TypeRefused:
		return true
	}
	return false
}

// Packed returns frames in as few as hold them, in their order: packs, and what is alone or longer than a pack as it
// is. A frame that cannot be encoded is left as it is, for its sender to meet the error.
func Packed(ms []Control) (out []Control) {
	var b []byte
	from := 0 // ms[from:i] are in b
	put := func(to int) {
		switch to - from {
		case 0:
		case 1:
			out = append(out, ms[from])
		default:
			out = append(out, &Pack{Frames: b})
		}
		b, from = nil, to
	}
	for i, m := range ms {
		was := len(b)
		next, err := m.Append(b)
		if err == nil && len(next) <= MaxPack {
			b = next
			continue
		}
		b = b[:was:was]
		if put(i); err == nil && len(next)-was <= MaxPack {
			b = append(b, next[was:]...)
		} else {
			out, from = append(out, m), i+1
		}
	}
	put(len(ms))
	return out
}

// Append implements Control.
func (m *Pack) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypePack)
	w.bytes(MaxPack, m.Frames)
	return w.end()
}

// Parse implements Control. It does not look into Frames.
func (m *Pack) Parse(b []byte) error {
	r := body(b)
	m.Frames = r.bytes(MaxPack)
	return r.done()
}

// Each parses the frames one after the other and calls f for each, until there is an error. What it does not hold is
// unexpected.
func (m *Pack) Each(f func(Control) error) error {
	for b := m.Frames; len(b) > 0; {
		if len(b) <= LengthSize {
			return errMalformed
		}
		n := LengthSize + int(binary.BigEndian.Uint16(b))
		if n <= LengthSize || n > len(b) {
			return errMalformed
		}
		typ := b[LengthSize]
		if !PackHolds(typ) {
			return &ProtocolError{Code: CodeUnexpected, Text: "a pack holds no such frame"}
		}
		c := NewLink(typ)
		if c == nil {
			c = NewControl(typ)
		}
		if err := c.Parse(b[:n]); err != nil {
			return err
		}
		if err := f(c); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
