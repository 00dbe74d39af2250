package codec

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// TestTruncated cuts every valid frame at every byte: as bytes on a connection it is incomplete; with its length made
// to fit it breaks the layout, unless the cut takes off optional fields or payload only.
func TestTruncated(t *testing.T) {
	for _, v := range loadVectors(t).Frame {
		whole := unhex(t, v.Hex)
		for n := range len(whole) {
			if _, _, err := parseAny(whole[:n], MaxFrame); err != ErrIncomplete {
				t.Errorf("%s: first %d bytes: %v, want ErrIncomplete", v.Name, n, err)
			}
		}
		least := len(enc(newFrame(t, v).Append(nil))) // without optional fields
		if v.Type == "stream" {
			least = StreamHeaderSize
		}
		for n := LengthSize + 1; n < least; n++ {
			cut := bytes.Clone(whole[:n])
			binary.BigEndian.PutUint16(cut, uint16(n-LengthSize))
			_, _, err := parseAny(cut, MaxFrame)
			pe, ok := err.(*ProtocolError)
			if !ok || pe.Code != CodeMalformed && pe.Code != CodeBadVarint {
				t.Errorf("%s: cut to %d bytes: %v, want malformed", v.Name, n, err)
			}
		}
	}
}

// TestTrailing puts bytes after the last field of every control frame: they are optional fields or malformed.
func TestTrailing(t *testing.T) {
	cases := []struct {
		name string
		tail []byte
		code Code // 0: skipped
	}{
		{"even tag", []byte{2, 1, 'x'}, 0},
		{"two even tags", []byte{2, 0, 4, 2, 'x', 'y'}, 0},
		{"highest even tag", []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, 0},
		{"odd tag", []byte{1, 0}, CodeUnknownCritical},
		{"odd tag behind an even one", []byte{2, 0, 5, 1, 'x'}, CodeUnknownCritical},
		{"odd tag whose value is cut", []byte{1, 9, 'x'}, CodeMalformed},
		{"tag 0", []byte{0, 0}, CodeMalformed},
		{"tag twice", []byte{2, 0, 2, 0}, CodeMalformed},
		{"falling tags", []byte{4, 0, 2, 0}, CodeMalformed},
		{"tag alone", []byte{2}, CodeMalformed},
		{"length beyond the frame", []byte{2, 2, 'x'}, CodeMalformed},
		{"huge length", append([]byte{2}, binary.AppendUvarint(nil, math.MaxUint64)...), CodeMalformed},
		{"overlong tag", []byte{0x82, 0, 0}, CodeBadVarint},
		{"overlong length", []byte{2, 0x80, 0}, CodeBadVarint},
		{"tag of 65 bits", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0}, CodeBadVarint},
	}
	seen := map[string]bool{}
	for _, v := range loadVectors(t).Frame {
		if v.Type == "stream" || seen[v.Type] {
			continue
		}
		seen[v.Type] = true
		for _, c := range cases {
			t.Run(v.Type+"/"+c.name, func(t *testing.T) {
				b := append(unhex(t, v.Hex), c.tail...)
				binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
				_, _, err := parseAny(b, MaxFrame)
				if c.code != 0 {
					checkCode(t, err, c.code)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestUnknownTypes(t *testing.T) {
	known := map[byte]bool{}
	for _, typ := range typesByName() {
		known[typ] = true
	}
	for typ := range 256 {
		if known[byte(typ)] {
			continue
		}
		body := bytes.Repeat([]byte{1}, StreamHeaderSize-LengthSize-1)
		frame := append([]byte{0, byte(len(body) + 1), byte(typ)}, body...)
		_, _, err := parseAny(frame, MaxFrame)
		switch {
		case typ < TypeStream:
			checkCode(t, err, CodeUnknownType)
		case typ >= TypeStream|0x10:
			checkCode(t, err, CodeMalformed)
		case err != nil:
			t.Errorf("stream frame of type %#x: %v", typ, err)
		}
	}
	for _, b := range [][]byte{nil, {0}, {0, 1}} {
		if _, err := ParseControl(b); err != errMalformed {
			t.Errorf("ParseControl(%x): %v", b, err)
		}
	}
	if err := ParseStream(make([]byte, StreamHeaderSize), new(Stream)); err != errMalformed {
		t.Errorf("ParseStream took a control frame: %v", err)
	}
}

func TestVarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, math.MaxUint64} {
		b := appendLEB128(nil, v)
		r := reader{b: b}
		if got := r.varint(); got != v || r.err != nil || len(r.b) != 0 {
			t.Errorf("varint(%x) = %d, %v, want %d", b, got, r.err, v)
		}
		for n := range len(b) {
			r := reader{b: b[:n]}
			if r.varint(); r.err != errMalformed {
				t.Errorf("varint(%x): %v, want malformed", b[:n], r.err)
			}
		}
		long := append(bytes.Clone(b), 0)
		long[len(b)-1] |= 0x80
		r = reader{b: long}
		if r.varint(); r.err != errVarint {
			t.Errorf("varint(%x): %v, want bad_varint", long, r.err)
		}
		r = reader{b: b}
		if got := r.varint32(); (v > math.MaxUint32) != (r.err == errVarint) || r.err == nil && uint64(got) != v {
			t.Errorf("varint32(%x) = %d, %v", b, got, r.err)
		}
	}
}

// TestHugeCounts gives lists and lengths that no frame can hold, and bounds what parsing them allocates.
func TestHugeCounts(t *testing.T) {
	room := binary.BigEndian.AppendUint64(nil, 1)
	frame := func(typ byte, parts ...[]byte) []byte {
		b := append([]byte{0, 0, typ}, bytes.Join(parts, nil)...)
		binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
		return b
	}
	for _, n := range []uint64{2, 1 << 16, 1 << 31, 1 << 32, 1 << 62, 1 << 63, math.MaxUint64} {
		count := binary.AppendUvarint(nil, n)
		for name, b := range map[string][]byte{
			"go_away":   frame(TypeGoAway, []byte{1, 45, 0}, count, []byte{0}),
			"published": frame(TypePublished, []byte{1}, room, []byte{0, 1, 0, 0}, count, make([]byte, 7)),
			"subscribe": frame(TypeSubscribe, []byte{1}, room, []byte{0}, count, make([]byte, 9)),
			"hello":     frame(TypeHello, count, []byte("a")),
			"error":     frame(TypeError, []byte{0, 100}, count, []byte("a")),
		} {
			_, err := ParseControl(b)
			want := CodeMalformed
			if limit := map[string]uint64{"go_away": MaxAddrs, "published": MaxStreams, "subscribe": MaxPositions}[name]; limit != 0 && n > limit {
				want = CodeListTooLong
			}
			checkCode(t, err, want)
			if allocs := testing.AllocsPerRun(10, func() { _, _ = ParseControl(b) }); allocs > 1 && !raceEnabled {
				t.Errorf("%s with a count of %d: %v allocations, want the frame's alone", name, n, allocs)
			}
		}
	}
}

// TestTextIsCut: a text that is too long or no UTF-8 must not make the receiver refuse the code that comes with it.
func TestTextIsCut(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"at the limit", strings.Repeat("a", MaxText), strings.Repeat("a", MaxText)},
		{"above the limit", strings.Repeat("a", MaxText+1), strings.Repeat("a", MaxText)},
		{"limit within a character", "a" + strings.Repeat("é", MaxText/2), "a" + strings.Repeat("é", MaxText/2-1)},
		{"not UTF-8", "room \xff\xfe gone", "room ? gone"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, f := range []Control{&Error{CodeMalformed, c.text}, &Refused{1, CodeRoomUnknown, c.text}} {
				got, err := ParseControl(enc(f.Append(nil)))
				if err != nil {
					t.Fatal(err)
				}
				text := ""
				switch m := got.(type) {
				case *Error:
					text = m.Text
				case *Refused:
					text = m.Text
				}
				if text != c.want {
					t.Errorf("%T: got %q, want %q", f, text, c.want)
				}
			}
		})
	}
}

// TestAliasing: what is parsed stays within the frame's bytes and cannot be appended to into the next frame's.
func TestAliasing(t *testing.T) {
	s := Stream{Room: 1, StreamKey: StreamKey{1, 1}, Seq: 1, Payload: []byte("abc")}
	h := Hello{Account: "a", Token: []byte("secret")}
	b := enc(h.Append(enc(s.Append(nil))))
	next := bytes.Clone(b[StreamHeaderSize+3:])
	frame, _, err := Next(b, MaxFrame)
	if err != nil {
		t.Fatal(err)
	}
	if err := ParseStream(frame, &s); err != nil {
		t.Fatal(err)
	}
	_ = append(s.Payload, "overwrites"...)
	_ = append(frame, "overwrites"...)
	if !bytes.Equal(b[len(frame):], next) {
		t.Error("appending to a parsed payload changed the next frame")
	}
	if &s.Payload[0] != &b[StreamHeaderSize] {
		t.Error("the payload was copied")
	}
	if err := h.Parse(b[len(frame):]); err != nil {
		t.Fatal(err)
	}
	if cap(h.Token) != len(h.Token) {
		t.Errorf("token of %d bytes has a capacity of %d", len(h.Token), cap(h.Token))
	}
}
