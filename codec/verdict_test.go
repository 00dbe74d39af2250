package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"unicode/utf8"
)

// This file judges bytes by the layouts of PROTOCOL.md. Like layout_test.go it shares no code with the package: the
// code must accept exactly what the document accepts, and refuse the rest with the same code.

// verdict is a walk over the body of a frame. code is 0 until the first fault.
type verdict struct {
	b    []byte
	code Code
}

func (v *verdict) fault(c Code) {
	if v.code == 0 {
		v.code = c
	}
	v.b = nil
}

func (v *verdict) take(n uint64) []byte {
	if n > uint64(len(v.b)) {
		v.fault(CodeMalformed)
		return nil
	}
	p := v.b[:n]
	v.b = v.b[n:]
	return p
}

// varint reads a number below 2^bits in its shortest form.
func (v *verdict) varint(bits int) uint64 {
	var n uint64
	for shift := 0; ; shift += 7 {
		p := v.take(1)
		if p == nil {
			return 0
		}
		low := uint64(p[0] & 0x7f)
		if shift >= 63 && (p[0]&0x80 != 0 || low > 1) || shift > 0 && p[0] == 0 {
			v.fault(CodeBadVarint)
			return 0
		}
		n |= low << shift
		if p[0]&0x80 == 0 {
			break
		}
	}
	if bits == 32 && n > math.MaxUint32 {
		v.fault(CodeBadVarint)
		return 0
	}
	return n
}

// smallest returns the fewest bytes that a field can take.
func (f layoutField) smallest() (n int) {
	switch f.typ {
	case "u8", "u16", "u48", "u64":
		return layoutBits[f.typ] / 8
	case "rest":
		return 0
	}
	return 1
}

func (v *verdict) field(f layoutField, numbers map[string]uint64) {
	var n uint64
	switch f.typ {
	case "u8", "u16", "u48", "u64", "bits":
		for _, c := range v.take(uint64(layoutBits[f.typ] / 8)) {
			n = n<<8 | uint64(c)
		}
		if f.typ == "bits" && n&^uint64(f.arg) != 0 || !f.zero && f.typ != "bits" && n == 0 {
			v.fault(CodeMalformed)
		}
	case "varint", "varint32":
		n = v.varint(layoutBits[f.typ])
	case "bytes", "string":
		size := v.varint(64)
		if size > uint64(f.arg) {
			v.fault(CodeMalformed)
		}
		if p := v.take(size); f.typ == "string" && !utf8.Valid(p) {
			v.fault(CodeMalformed)
		}
	case "list":
		count, least := v.varint(64), 0
		for _, e := range f.entry {
			least += e.smallest()
		}
		if v.code == 0 && count > uint64(f.arg) {
			v.fault(CodeListTooLong)
		}
		if count > uint64(len(v.b)/least) {
			v.fault(CodeMalformed)
		}
		for ; count > 0 && v.code == 0; count-- {
			for _, e := range f.entry {
				v.field(e, map[string]uint64{})
			}
		}
	case "rest":
		v.b = nil
	default:
		panic("no rule for " + f.typ)
	}
	if f.least != "" && n < numbers[f.least] {
		v.fault(CodeMalformed)
	}
	numbers[f.name] = n
}

// judge returns the code with which the document refuses a whole frame, or 0.
func judge(frames map[string]documentFrame, frame []byte) Code {
	for _, d := range frames {
		typ := frame[LengthSize]
		if d.name == "stream" && typ >= 0x80 {
			if typ >= 0x90 {
				return CodeMalformed
			}
			typ = d.typ
		}
		if typ != d.typ {
			continue
		}
		if d.name == "inbox" && len(frame) > MaxRequest {
			return CodeFrameTooLong
		}
		v := verdict{b: frame[LengthSize+1:]}
		numbers := map[string]uint64{}
		for _, f := range d.layout {
			v.field(f, numbers)
		}
		for last := uint64(0); len(v.b) > 0; {
			tag := v.varint(64)
			v.take(v.varint(64))
			switch {
			case v.code != 0:
			case tag <= last:
				v.fault(CodeMalformed)
			case tag%2 == 1:
				v.fault(CodeUnknownCritical)
			}
			last = tag
		}
		return v.code
	}
	return CodeUnknownType
}

// compareVerdicts fails if the code and the document do not agree on a whole frame.
func compareVerdicts(t testing.TB, frames map[string]documentFrame, frame []byte) {
	t.Helper()
	_, _, err := parseAny(frame, MaxFrame)
	got := Code(0)
	if err != nil {
		pe, ok := err.(*ProtocolError)
		if !ok {
			t.Fatalf("%x: %v", frame, err)
		}
		got = pe.Code
	}
	if want := judge(frames, frame); got != want {
		t.Errorf("%x: the code says %d %s, PROTOCOL.md %d %s", frame, got, got, want, want)
	}
}

// TestProtocolVerdicts changes every byte of every short vector, and cuts it at every byte.
func TestProtocolVerdicts(t *testing.T) {
	frames := documentFrames(t)
	for _, v := range loadVectors(t).Frame {
		whole := unhex(t, v.Hex)
		if len(whole) > 128 {
			continue
		}
		compareVerdicts(t, frames, whole)
		for i := LengthSize; i < len(whole); i++ {
			for _, c := range []byte{0, 1, 2, 0x7f, 0x80, 0xff, whole[i] + 1, whole[i] - 1} {
				b := bytes.Clone(whole)
				b[i] = c
				compareVerdicts(t, frames, b)
			}
			if i > LengthSize {
				b := bytes.Clone(whole[:i])
				binary.BigEndian.PutUint16(b, uint16(i-LengthSize))
				compareVerdicts(t, frames, b)
			}
		}
	}
}

// TestProtocolHighest gives each field the highest and the lowest value that its layout allows: the code must take
// them.
func TestProtocolHighest(t *testing.T) {
	typical := typicalFields(t)
	for name, f := range documentFrames(t) {
		for _, l := range f.layout {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				for _, value := range l.extremes() {
					fields := map[string]any{}
					for k, v := range typical[name] {
						fields[k] = v
					}
					fields[l.name] = value
					b, err := f.encode(fields, nil)
					if err != nil {
						continue // against the rule of another field, such as to >= from
					}
					if _, _, err := parseAny(b, MaxFrame); err != nil {
						t.Errorf("%s: %v", fmt.Sprint(value)[:min(20, len(fmt.Sprint(value)))], err)
					}
				}
			})
		}
	}
}
