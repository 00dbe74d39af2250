package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// vectors is testdata/vectors.json; testdata/README.md tells what each section means.
type vectors struct {
	About             string
	Version           int
	Preface           []prefaceVector
	PrefaceIncomplete []bytesVector `json:"preface_incomplete"`
	PrefaceInvalid    []bytesVector `json:"preface_invalid"`
	Room              []struct{ Text, Number string }
	RoomInvalid       []struct{ Name, Text string } `json:"room_invalid"`
	Frame             []frameVector
	LongFrame         []frameVector `json:"long_frame"`
	Incomplete        []bytesVector
	Invalid           []bytesVector
	LinkFrame         []frameVector `json:"link_frame"`
	LinkInvalid       []bytesVector `json:"link_invalid"`
	Keep              []keepVector
}

// keepVector is a value of the optional field that holds a Keep.
type keepVector struct {
	Name, Hex     string
	HistoryBytes  uint64 `json:"history_bytes,string"`
	HistoryMillis uint64 `json:"history_millis,string"`
	Occupied      bool
	Read          bool // it is read so, and not written
}

type prefaceVector struct {
	Name, From, Hex         string
	Lowest, Highest, Chosen uint8
}

type bytesVector struct {
	Name, Hex string
	Code      Code
	Limit     int
}

type frameVector struct {
	Name, Type, Hex string
	Fields          map[string]any
	Ext             []extField
	Fill            string // long frames only: the payload is this byte ...
	Times           int    // ... so many times
}

type extField struct{ Tag, Value string }

func loadVectors(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	for i := range v.LongFrame {
		l := &v.LongFrame[i]
		payload := strings.Repeat(l.Fill, l.Times)
		l.Hex += payload
		l.Fields["payload"] = payload
	}
	return &v
}

// unmarshal is json.Unmarshal that keeps numbers exact and refuses keys that nothing reads.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frames returns the valid frames of both sections.
func (v *vectors) frames() []frameVector {
	return append(v.Frame[:len(v.Frame):len(v.Frame)], v.LongFrame...)
}

// snake turns a Go name into the one that PROTOCOL.md and the vectors use.
func snake(s string) string {
	if s == strings.ToUpper(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// setFields fills the struct v from the fields of a vector. Every field of the one must be in the other.
func setFields(v reflect.Value, fields map[string]any) error {
	seen := 0
	var walk func(v reflect.Value) error
	walk = func(v reflect.Value) error {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Anonymous {
				if err := walk(v.Field(i)); err != nil {
					return err
				}
				continue
			}
			x, ok := fields[snake(f.Name)]
			optional := []string{"Gapped", "Renew", "To", "Life", "Mark", "Seen", "Reign", "Keep", "Resumes", "Clients"}
			if !ok && slices.Contains(optional, f.Name) {
				continue // each has a test of its own: TestGapped, TestRenew, TestSendTo, TestLives, TestReign, TestKeep ...
			}
			if !ok {
				return fmt.Errorf("field %s is not in the vector", snake(f.Name))
			}
			seen++
			if err := setValue(v.Field(i), x); err != nil {
				return fmt.Errorf("%s: %w", snake(f.Name), err)
			}
		}
		return nil
	}
	if err := walk(v); err != nil {
		return err
	}
	if seen != len(fields) {
		return fmt.Errorf("vector has %d fields, %s has %d", len(fields), v.Type(), seen)
	}
	return nil
}

func setValue(v reflect.Value, x any) error {
	switch v.Kind() {
	case reflect.Bool: // on the wire bits(0x01)
		n, err := strconv.ParseUint(fmt.Sprint(x), 10, 1)
		v.SetBool(n == 1)
		return err
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(fmt.Sprint(x), 10, v.Type().Bits())
		v.SetUint(n)
		return err
	case reflect.String:
		v.SetString(x.(string))
		return nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b, err := hex.DecodeString(x.(string))
			v.SetBytes(b)
			return err
		}
		for _, e := range x.([]any) {
			entry := reflect.New(v.Type().Elem()).Elem()
			set := func() error { return setValue(entry, e) }
			if row, named := e.(map[string]any); named {
				set = func() error { return setRow(entry, row) }
			}
			if err := set(); err != nil {
				return err
			}
			v.Set(reflect.Append(v, entry))
		}
		return nil
	}
	return fmt.Errorf("no rule for %s", v.Type())
}

// setRow fills an entry of a list whose layout names its fields. A row of one field may be that field's type in Go.
func setRow(v reflect.Value, row map[string]any) error {
	if v.Kind() == reflect.Struct {
		return setFields(v, row)
	}
	if len(row) != 1 {
		return fmt.Errorf("%d fields in %s", len(row), v.Type())
	}
	for _, x := range row {
		return setValue(v, x) // the layout has checked its name
	}
	return nil
}

// typesByName maps the name of each control frame to its type byte, as the code has them.
func typesByName() map[string]byte {
	m := map[string]byte{}
	for typ := range 256 {
		if c := NewControl(byte(typ)); c != nil {
			m[snake(reflect.TypeOf(c).Elem().Name())] = byte(typ)
		}
	}
	return m
}

// parseAny reads one frame of either kind off the front of b.
func parseAny(b []byte, limit int) (frame any, n int, err error) {
	whole, typ, err := Next(b, limit)
	if err != nil {
		return nil, 0, err
	}
	if typ&TypeStream != 0 {
		s := new(Stream)
		return s, len(whole), ParseStream(whole, s)
	}
	c, err := ParseControl(whole)
	return c, len(whole), err
}

// newFrame returns the frame that a vector's fields describe.
func newFrame(t testing.TB, v frameVector) interface{ Append([]byte) ([]byte, error) } {
	t.Helper()
	var f interface{ Append([]byte) ([]byte, error) } = new(Stream)
	if v.Type != "stream" {
		if typ, ok := typesByName()[v.Type]; ok {
			f = NewControl(typ)
		} else if typ, ok := linkTypesByName()[v.Type]; ok {
			f = NewLink(typ)
		} else {
			t.Fatalf("no control frame is called %q", v.Type)
		}
	}
	if err := setFields(reflect.ValueOf(f).Elem(), v.Fields); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestVectorFrames(t *testing.T) {
	covered := map[string]int{}
	for _, v := range loadVectors(t).frames() {
		covered[v.Type]++
		t.Run(v.Name, func(t *testing.T) {
			b := unhex(t, v.Hex)
			want := newFrame(t, v)
			got, n, err := parseAny(b, MaxFrame)
			if err != nil {
				t.Fatal(err)
			}
			if n != len(b) {
				t.Fatalf("frame is %d bytes of %d", n, len(b))
			}
			if !reflect.DeepEqual(got, any(want)) {
				t.Errorf("parsed %+v\nwant   %+v", got, want)
			}
			if len(v.Ext) > 0 {
				return // this package skips optional fields and writes none
			}
			prefix := []byte("before")
			if out := enc(want.Append(prefix)); !bytes.Equal(out, append([]byte("before"), b...)) {
				t.Errorf("encoded %x\nwant    %x", out[len(prefix):], b)
			}
		})
	}
	for name := range typesByName() {
		if covered[name] < 3 {
			t.Errorf("%d vectors of %s", covered[name], name)
		}
	}
	if covered["stream"] < 20 {
		t.Errorf("%d vectors of stream", covered["stream"])
	}
}

func checkCode(t *testing.T, err error, want Code) {
	t.Helper()
	pe, ok := err.(*ProtocolError)
	if !ok {
		t.Fatalf("error is %v, want code %d %s", err, want, want)
	}
	if pe.Code != want {
		t.Errorf("code is %d %s, want %d %s", pe.Code, pe.Code, want, want)
	}
}

func TestVectorInvalid(t *testing.T) {
	vs := loadVectors(t)
	for _, v := range vs.Invalid {
		t.Run(v.Name, func(t *testing.T) {
			limit := v.Limit
			if limit == 0 {
				limit = MaxFrame
			}
			_, _, err := parseAny(unhex(t, v.Hex), limit)
			checkCode(t, err, v.Code)
		})
	}
	for _, v := range vs.Incomplete {
		t.Run("incomplete/"+v.Name, func(t *testing.T) {
			if _, _, err := parseAny(unhex(t, v.Hex), MaxFrame); err != ErrIncomplete {
				t.Errorf("error is %v, want ErrIncomplete", err)
			}
		})
	}
}

func TestVectorPrefaces(t *testing.T) {
	vs := loadVectors(t)
	for _, v := range vs.Preface {
		t.Run(v.Name, func(t *testing.T) {
			b := unhex(t, v.Hex)
			p, err := ParsePreface(b)
			if err != nil {
				t.Fatal(err)
			}
			if v.From == "server" {
				if want := (Preface{v.Chosen, v.Lowest, v.Highest}); p != want {
					t.Errorf("parsed %v, want %v", p, want)
				}
				if out := AppendServerPreface(nil, v.Chosen); v.Lowest == VersionMin && v.Highest == VersionMax && !bytes.Equal(out, b) {
					t.Errorf("encoded %x, want %x", out, b)
				}
				return
			}
			if p.A != v.Lowest || p.B != v.Highest {
				t.Errorf("parsed %v, want %d to %d", p, v.Lowest, v.Highest)
			}
			if c := Choose(p.A, p.B); c != v.Chosen {
				t.Errorf("chose %d, want %d", c, v.Chosen)
			}
			if out := AppendClientPreface(nil, v.Lowest, v.Highest); !bytes.Equal(out[:6], b[:6]) || out[6] != 0 || out[7] != 0 {
				t.Errorf("encoded %x, want %x and two zeros", out, b[:6])
			}
		})
	}
	for _, v := range vs.PrefaceIncomplete {
		t.Run("incomplete/"+v.Name, func(t *testing.T) {
			if _, err := ParsePreface(unhex(t, v.Hex)); err != ErrIncomplete {
				t.Errorf("error is %v, want ErrIncomplete", err)
			}
		})
	}
	for _, v := range vs.PrefaceInvalid {
		t.Run("invalid/"+v.Name, func(t *testing.T) {
			_, err := ParsePreface(unhex(t, v.Hex))
			checkCode(t, err, v.Code)
		})
	}
}

func TestVectorRooms(t *testing.T) {
	vs := loadVectors(t)
	for _, v := range vs.Room {
		t.Run(v.Text, func(t *testing.T) {
			n, err := strconv.ParseUint(v.Number, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if s := RoomID(n).String(); s != v.Text {
				t.Errorf("text is %s, want %s", s, v.Text)
			}
			if id, err := ParseRoomID(v.Text); err != nil || id != RoomID(n) {
				t.Errorf("number is %d, %v, want %d", id, err, n)
			}
		})
	}
	for _, v := range vs.RoomInvalid {
		t.Run("invalid/"+v.Name, func(t *testing.T) {
			if id, err := ParseRoomID(v.Text); err != ErrRoomMalformed {
				t.Errorf("got %d, %v, want ErrRoomMalformed", id, err)
			}
		})
	}
}

// TestGapped: the one optional field of this version lists positions that ended a gap, and passes over what is no
// index.
func TestGapped(t *testing.T) {
	m := Subscribe{Req: 7, Room: 1, Have: make([]Position, 200), Gapped: []uint32{0, 127, 128, 199}}
	for i := range m.Have {
		m.Have[i] = Position{StreamKey{Pub: uint16(i + 1), Dtype: 3}, uint64(i)}
	}
	plain := Subscribe{Req: m.Req, Room: m.Room, Have: m.Have}
	b := enc(m.Append(nil))
	if want := len(enc(plain.Append(nil))) + 2 + 1 + 1 + 2 + 2; len(b) != want {
		t.Errorf("encoded in %d bytes, want %d", len(b), want)
	}
	var got Subscribe
	if err := got.Parse(b); err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("parsed %+v, %v", got, err)
	}
	for name, value := range map[string][]byte{
		"out of range": {0xc8, 0x01}, // 200
		"overlong":     {0x80, 0x00},
		"cut":          {0x80},
		"empty":        {},
	} {
		b := enc(plain.Append(nil))
		b = append(append(b, tagGapped, byte(len(value))), value...)
		binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
		if err := got.Parse(b); err != nil || len(got.Gapped) != 0 {
			t.Errorf("%s: parsed %v, %v", name, got.Gapped, err)
		}
	}
}

// TestResumes: the optional field of subscribe and mirror has no value; one that has is taken all the same.
func TestResumes(t *testing.T) {
	for _, c := range []struct{ plain, with, got Control }{
		{&Subscribe{Req: 7, Room: 1}, &Subscribe{Req: 7, Room: 1, Resumes: true}, new(Subscribe)},
		{&Mirror{Req: 7, Room: 1}, &Mirror{Req: 7, Room: 1, Resumes: true}, new(Mirror)},
	} {
		bare, b := enc(c.plain.Append(nil)), enc(c.with.Append(nil))
		if want := append(bytes.Clone(bare[LengthSize:]), tagResumes, 0); !bytes.Equal(b[LengthSize:], want) {
			t.Errorf("encoded %x, want %x", b[LengthSize:], want)
		}
		valued := append(bytes.Clone(bare), tagResumes, 1, 'x')
		binary.BigEndian.PutUint16(valued, uint16(len(valued)-LengthSize))
		for _, b := range [][]byte{b, valued} {
			if err := c.got.Parse(b); err != nil || !reflect.DeepEqual(c.got, c.with) {
				t.Errorf("parsed %+v, %v", c.got, err)
			}
		}
		if err := c.got.Parse(bare); err != nil || !reflect.DeepEqual(c.got, c.plain) {
			t.Errorf("parsed %+v, %v", c.got, err)
		}
	}
}

// TestSendTo: the optional field of publish names the account that is sent to, and passes over what cannot be one's
// name.
func TestSendTo(t *testing.T) {
	plain := Publish{Req: 7, Room: InboxOf("bob"), Flags: PubCount}
	m := plain
	m.To = "bob"
	b := enc(m.Append(nil))
	if want := append(enc(plain.Append(nil))[LengthSize:], tagTo, 3, 'b', 'o', 'b'); !bytes.Equal(b[LengthSize:], want) {
		t.Errorf("encoded %x, want %x", b[LengthSize:], want)
	}
	for ext, want := range map[string]string{
		"": "", "\x02\x03bob": "bob", "\x02\x00": "", "\x02\x01\xff": "", "\x02\x81\x01" + strings.Repeat("a", 129): "",
		"\x02\x80\x01" + strings.Repeat("a", 128): strings.Repeat("a", 128), "\x04\x00": "", "\x02\x01a\x04\x00": "a",
	} {
		b := append(enc(plain.Append(nil)), ext...)
		binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
		got := Publish{To: "of the frame before"}
		if err := got.Parse(b); err != nil || got.To != want {
			t.Errorf("%x: %q, %v", ext, got.To, err)
		}
	}
}

// TestInboxOf: the numbers are those of PROTOCOL.md, for whoever computes them in another language.
func TestInboxOf(t *testing.T) {
	rows := tables(t, readProtocol(t), "account", "inbox")
	for _, row := range rows {
		if got := InboxOf(row[0]).String(); got != row[1] {
			t.Errorf("inbox of %s is %s, PROTOCOL.md has %s", row[0], got, row[1])
		}
	}
	if len(rows) < 3 {
		t.Errorf("%d examples", len(rows))
	}
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
