package codec

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"unsafe"
)

// seed adds every frame of the vectors, valid or not, and some rows of frames.
func seed(f *testing.F, add func(b []byte)) {
	v := loadVectors(f)
	var row []byte
	for _, x := range v.frames() {
		b := unhex(f, x.Hex)
		if len(b) < 1<<12 {
			add(b)
			row = append(row, b...)
		}
	}
	for _, x := range v.Invalid {
		add(unhex(f, x.Hex))
		add(append(bytes.Clone(row[:min(len(row), 512)]), unhex(f, x.Hex)...))
	}
	add(row[:min(len(row), 1<<14)])
	add(AppendClientPreface(nil, VersionMin, VersionMax))
}

// FuzzParse: arbitrary bytes give frames within the input, or one of the errors, and never a panic.
func FuzzParse(f *testing.F) {
	seed(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = ParsePreface(in)
		for _, limit := range []int{MaxFrame, MaxHandshakeFrame} {
			for b := in; ; {
				frame, typ, err := Next(b, limit)
				if err != nil {
					isProtocolError(t, err, true)
					break
				}
				within(t, b, frame)
				if len(frame) > limit {
					t.Fatalf("frame of %d bytes, limit %d", len(frame), limit)
				}
				if typ&TypeStream != 0 {
					var s Stream
					if err := ParseStream(frame, &s); err != nil {
						isProtocolError(t, err, false)
					} else {
						within(t, frame, s.Payload)
					}
				} else if c, err := ParseControl(frame); err != nil {
					isProtocolError(t, err, false)
				} else if h, ok := c.(*Hello); ok {
					within(t, frame, h.Token)
				}
				b = b[len(frame):]
			}
		}
		// Parse methods are given frames as cut by Next, but must hold against anything.
		for typ := range 256 {
			if c := NewControl(byte(typ)); c != nil {
				if err := c.Parse(in); err != nil {
					isProtocolError(t, err, false)
				}
			}
		}
	})
}

func isProtocolError(t *testing.T, err error, incomplete bool) {
	t.Helper()
	if incomplete && err == ErrIncomplete {
		return
	}
	pe, ok := err.(*ProtocolError)
	if !ok {
		t.Fatalf("error is %T %v", err, err)
	}
	if _, ok := codeNames[pe.Code]; !ok {
		t.Fatalf("error has the unknown code %d", pe.Code)
	}
}

// within fails unless part is a piece of whole, capacity included.
func within(t *testing.T, whole, part []byte) {
	t.Helper()
	if len(part) == 0 {
		return
	}
	start, end := uintptr(unsafe.Pointer(unsafe.SliceData(whole))), uintptr(len(whole))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(part))) - start
	if at > end || at+uintptr(cap(part)) > end {
		t.Fatalf("result lies outside the input: %d+%d of %d", at, cap(part), end)
	}
}

// FuzzSplit: bytes that arrive in pieces give the same frames and the same fault as bytes that arrive at once.
func FuzzSplit(f *testing.F) {
	seed(f, func(b []byte) {
		f.Add(b, []byte{1})
		f.Add(b, []byte{3, 1, 19, 200})
	})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		type result struct {
			frame []byte
			err   error
		}
		read := func(b []byte, out []result) (rest []byte, _ []result, fault bool) {
			for {
				frame, typ, err := Next(b, MaxFrame)
				if err == ErrIncomplete {
					return b, out, false
				}
				if err != nil {
					return b, append(out, result{nil, err}), true
				}
				if typ&TypeStream != 0 {
					err = ParseStream(frame, new(Stream))
				} else {
					_, err = ParseControl(frame)
				}
				out = append(out, result{bytes.Clone(frame), err})
				if err != nil {
					return b, out, true
				}
				b = b[len(frame):]
			}
		}
		_, whole, _ := read(in, nil)
		var split []result
		var buf []byte
		for i, rest := 0, in; len(rest) > 0; i++ {
			n := 1
			if len(cuts) > 0 {
				n = int(cuts[i%len(cuts)]) + 1
			}
			n = min(n, len(rest))
			buf = append(buf, rest[:n]...)
			rest = rest[n:]
			left, out, fault := read(buf, split)
			split = out
			if fault {
				break
			}
			buf = append([]byte(nil), left...)
		}
		if len(whole) != len(split) {
			t.Fatalf("%d frames at once, %d in pieces", len(whole), len(split))
		}
		for i := range whole {
			if whole[i].err != split[i].err || !bytes.Equal(whole[i].frame, split[i].frame) {
				t.Fatalf("frame %d: %x, %v at once; %x, %v in pieces", i, whole[i].frame, whole[i].err, split[i].frame, split[i].err)
			}
		}
	})
}

// FuzzRoundTrip: the code and PROTOCOL.md agree on what parses, and that encodes to the same bytes. Optional fields are
// skipped by Parse, so what is missing at the end must be such fields with even tags.
func FuzzRoundTrip(f *testing.F) {
	seed(f, func(b []byte) { f.Add(b) })
	frames := documentFrames(f)
	f.Add(unhex(f, "0019183030303030303030300101303030303030303030020230"+"00")) // a subscribe whose list of gaps has what is no position
	f.Fuzz(func(t *testing.T, in []byte) {
		frame, typ, err := Next(in, MaxFrame)
		if err != nil {
			return
		}
		compareVerdicts(t, frames, frame)
		var s Stream
		if typ&TypeStream != 0 {
			if ParseStream(frame, &s) == nil && !bytes.Equal(enc(s.Append(nil)), frame) {
				t.Fatalf("stream frame %x became %x", frame, enc(s.Append(nil)))
			}
			return
		}
		c, err := ParseControl(frame)
		if err != nil {
			return
		}
		out := enc(c.Append(nil))
		if int(binary.BigEndian.Uint16(out)) != len(out)-LengthSize {
			t.Fatalf("%T: length is %d in a frame of %d bytes", c, binary.BigEndian.Uint16(out), len(out))
		}
		if m, is := c.(*Subscribe); is && len(m.Gapped) > 0 { // what is no index of a position has been passed over
			again, err := ParseControl(out)
			if err != nil || !reflect.DeepEqual(c, again) {
				t.Fatalf("%+v became %+v, %v", c, again, err)
			}
			return
		}
		if len(out) > len(frame) || !bytes.Equal(out[LengthSize:], frame[LengthSize:len(out)]) {
			t.Fatalf("%T: %x became %x", c, frame, out)
		}
		last := uint64(0)
		for ext := frame[len(out):]; len(ext) > 0; {
			tag, n := binary.Uvarint(ext)
			size, m := binary.Uvarint(ext[max(n, 0):])
			if n <= 0 || m <= 0 || tag <= last || tag%2 != 0 || size > uint64(len(ext)-n-m) {
				t.Fatalf("%T: skipped %x, which are no optional fields", c, frame[len(out):])
			}
			last, ext = tag, ext[n+m+int(size):]
		}
	})
}

// FuzzRoomID: a text that is a room number is the only text of that number.
func FuzzRoomID(f *testing.F) {
	v := loadVectors(f)
	for _, r := range v.Room {
		f.Add(r.Text)
	}
	for _, r := range v.RoomInvalid {
		f.Add(r.Text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseRoomID(s)
		if err == nil && (id == 0 || id.String() != s) {
			t.Fatalf("%q is %d, which is %q", s, id, id)
		}
	})
}
