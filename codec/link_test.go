package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The frames of links go through the tests that those of clients go through, but by ParseLink.

func linkTypesByName() map[string]byte {
	m := map[string]byte{}
	for typ := range 256 {
		if c := NewLink(byte(typ)); c != nil {
			m[snake(reflect.TypeOf(c).Elem().Name())] = byte(typ)
		}
	}
	return m
}

func parseLink(b []byte) (Control, error) {
	frame, typ, err := Next(b, MaxFrame)
	if err != nil {
		return nil, err
	}
	if typ >= TypeStream {
		return nil, errType
	}
	return ParseLink(frame)
}

func TestLinkTypes(t *testing.T) {
	got := map[string]byte{}
	for name, f := range documentTables(t, "link type") {
		got[name] = f.typ
		if !slices.Contains([]string{"D>A", "A>D", "both"}, f.direction) {
			t.Errorf("%s: direction %q", name, f.direction)
		}
	}
	if want := linkTypesByName(); !maps.Equal(got, want) {
		t.Errorf("PROTOCOL.md has %v\nthe code has     %v", got, want)
	}
	for typ := range 256 {
		c := NewLink(byte(typ))
		if c == nil {
			continue
		}
		if c.Type() != byte(typ) || typ < 0x40 || typ > 0x5f {
			t.Errorf("NewLink(%#x) has the type %#x", typ, c.Type())
		}
		if NewControl(byte(typ)) != nil {
			t.Errorf("type %#x is one of clients", typ)
		}
	}
	for _, b := range [][]byte{nil, {0}, {0, 1}} {
		if _, err := ParseLink(b); err != errMalformed {
			t.Errorf("ParseLink(%x): %v", b, err)
		}
	}
}

func TestLinkVectors(t *testing.T) {
	frames, covered := documentTables(t, "link type"), map[string]int{}
	for _, v := range loadVectors(t).LinkFrame {
		covered[v.Type]++
		t.Run(v.Name, func(t *testing.T) {
			b := unhex(t, v.Hex)
			byLayout, err := frames[v.Type].encode(v.Fields, v.Ext)
			if err != nil || !bytes.Equal(byLayout, b) {
				t.Errorf("the layout gives %x, %v\nthe vector has   %x", byLayout, err, b)
			}
			want := newFrame(t, v)
			got, err := parseLink(b)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, any(want)) {
				t.Errorf("parsed %+v\nwant   %+v", got, want)
			}
			if out := enc(want.Append([]byte("before"))); len(v.Ext) == 0 && !bytes.Equal(out, append([]byte("before"), b...)) {
				t.Errorf("encoded %x\nwant    %x", out[6:], b)
			}
			if _, err := ParseControl(b); err != errType {
				t.Errorf("a client may send it: %v", err)
			}
		})
	}
	for name := range linkTypesByName() {
		if covered[name] < 3 {
			t.Errorf("%d vectors of %s", covered[name], name)
		}
	}
	for _, v := range loadVectors(t).LinkInvalid {
		t.Run("invalid/"+v.Name, func(t *testing.T) {
			_, err := parseLink(unhex(t, v.Hex))
			checkCode(t, err, v.Code)
		})
	}
}

// TestLinkVerdicts changes every byte of every short vector, and cuts it at every byte: the code and PROTOCOL.md must
// agree.
func TestLinkVerdicts(t *testing.T) {
	frames := documentTables(t, "link type")
	for _, v := range loadVectors(t).LinkFrame {
		whole := unhex(t, v.Hex)
		if len(whole) > 256 {
			continue
		}
		for i := LengthSize; i < len(whole); i++ {
			for _, c := range []byte{0, 1, 2, 0x7f, 0x80, 0xff, whole[i] + 1, whole[i] - 1} {
				b := bytes.Clone(whole)
				b[i] = c
				compareLinkVerdicts(t, frames, b)
			}
			if i > LengthSize {
				b := bytes.Clone(whole[:i])
				binary.BigEndian.PutUint16(b, uint16(i-LengthSize))
				compareLinkVerdicts(t, frames, b)
			}
		}
	}
}

func compareLinkVerdicts(t testing.TB, frames map[string]documentFrame, frame []byte) {
	t.Helper()
	_, err := parseLink(frame)
	got := Code(0)
	if err != nil {
		got = err.(*ProtocolError).Code
	}
	if want := judge(frames, frame); got != want {
		t.Errorf("%x: the code says %d %s, PROTOCOL.md %d %s", frame, got, got, want, want)
	}
}

// TestLinkHugeCounts: no count makes the receiver allocate for more than the frame holds.
func TestLinkHugeCounts(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates on its own")
	}
	for _, v := range loadVectors(t).LinkInvalid {
		if !strings.Contains(v.Name, "2^") {
			continue
		}
		b := unhex(t, v.Hex)
		if allocs := testing.AllocsPerRun(10, func() { _, _ = ParseLink(b) }); allocs > 5 {
			t.Errorf("%s: %v allocations", v.Name, allocs)
		}
	}
}

// TestLinkLongest: what the code calls the most that a frame carries fits into one.
func TestLinkLongest(t *testing.T) {
	rooms := make([]RoomID, MaxDigest)
	for i := range rooms {
		rooms[i] = RoomID(1<<64 - 1 - uint64(i))
	}
	account := strings.Repeat("a", MaxAccount)
	for _, m := range []Control{
		&Digest{Flags: DigestMore, Rooms: rooms},
		&Report{Req: 1<<32 - 1, JSON: bytes.Repeat([]byte("j"), MaxReport)},
		&As{Account: account, Instance: 1<<64 - 1, Frame: bytes.Repeat([]byte("f"), MaxHandshakeFrame)},
	} {
		got, err := parseLink(enc(m.Append(nil)))
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: %v, or not what was sent", m, err)
		}
	}
}

// TestRenew: the optional field of as has no value; one that has is taken all the same, and other tags are passed over.
func TestRenew(t *testing.T) {
	plain := As{Account: "a", Instance: 1, Frame: []byte{}}
	m := plain
	m.Renew = true
	b := enc(m.Append(nil))
	if want := append(enc(plain.Append(nil))[LengthSize:], tagRenew, 0); !bytes.Equal(b[LengthSize:], want) {
		t.Errorf("encoded %x, want %x", b[LengthSize:], want)
	}
	for ext, want := range map[string]bool{"": false, "\x02\x00": true, "\x02\x01x": true, "\x04\x00": false, "\x02\x00\x04\x00": true} {
		b := append(enc(plain.Append(nil)), ext...)
		binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
		got := As{Renew: true} // of the frame before
		if err := got.Parse(b); err != nil || got.Renew != want {
			t.Errorf("%x: %v, %v", ext, got.Renew, err)
		}
	}
}

// TestStateSplit: a state of any size travels in frames that fit and is the same when it is put together.
func TestStateSplit(t *testing.T) {
	for _, c := range []struct {
		name                  string
		grants, pubs, account int
		frames                int
	}{
		{"empty", 0, 0, 5, 1},
		{"small", 3, 2, 5, 1},
		{"long lists", 2000, 1000, 5, 7},
		{"longest names", 1000, 1000, MaxAccount, 5},
		{"as many as a room may have", 1 << 14, 1 << 10, MaxAccount, 39},
		{"publishers only", 0, 1000, MaxAccount, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := State{Req: 7, Flags: StateHandover}
			whole.Room, whole.Relay, whole.Owner = 1, strings.Repeat("r", MaxAccount), strings.Repeat("o", MaxAccount)
			for i := range c.grants {
				account := strings.Repeat("a", c.account-4) + hex.EncodeToString(binary.BigEndian.AppendUint16(nil, uint16(i)))
				whole.Grants = append(whole.Grants, GrantState{account, 1<<64 - 1, i%2 == 0})
			}
			for i := range c.pubs {
				whole.Publishers = append(whole.Publishers, PublisherState{Num: uint16(i + 1), Account: strings.Repeat("p", c.account), Instance: uint64(i)})
			}
			var got State
			parts := whole.Split()
			for i := range parts {
				var p State
				if err := p.Parse(enc(parts[i].Append(nil))); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					got = p
				} else if !got.Join(&p) {
					t.Fatalf("frame %d does not fit to those before", i)
				}
			}
			if !reflect.DeepEqual(got, whole) {
				t.Errorf("%d frames: not what was sent", len(parts))
			}
			if len(parts) > c.frames {
				t.Errorf("%d frames, want at most %d", len(parts), c.frames)
			}
			if got.Join(&got) {
				t.Error("a whole state was continued")
			}
		})
	}
	first := State{Req: 1, Flags: StateMore}
	first.Room = 1
	for name, next := range map[string]State{
		"other req":   {Req: 2, RoomState: first.RoomState},
		"other flags": {Req: 1, Flags: StateReturn, RoomState: first.RoomState},
		"other room":  {Req: 1, RoomState: RoomState{RoomHead: RoomHead{Room: 2}}},
	} {
		if first.Join(&next) {
			t.Errorf("%s: joined", name)
		}
	}
}

// FuzzLink: the code and PROTOCOL.md agree on what parses on a link, and it encodes to the same bytes.
func FuzzLink(f *testing.F) {
	v := loadVectors(f)
	for _, x := range v.LinkFrame {
		f.Add(unhex(f, x.Hex))
	}
	for _, x := range v.LinkInvalid {
		f.Add(unhex(f, x.Hex))
	}
	frames := documentTables(f, "link type")
	f.Fuzz(func(t *testing.T, in []byte) {
		for typ := range 256 { // given frames as cut by Next, but must hold against anything
			if c := NewLink(byte(typ)); c != nil {
				if err := c.Parse(in); err != nil {
					isProtocolError(t, err, false)
				}
			}
		}
		frame, typ, err := Next(in, MaxFrame)
		if err != nil || typ >= TypeStream {
			return
		}
		compareLinkVerdicts(t, frames, frame)
		c, err := ParseLink(frame)
		if err != nil {
			return
		}
		if as, ok := c.(*As); ok {
			within(t, frame, as.Frame)
			as.Renew = false // an optional field, whose value is passed over
		}
		if tally, ok := c.(*Tally); ok {
			tally.Clients = nil // an optional field, of which what cannot be read is passed over
		}
		if out := enc(c.Append(nil)); len(out) > len(frame) || !bytes.Equal(out[LengthSize:], frame[LengthSize:len(out)]) {
			t.Fatalf("%T: %x became %x", c, frame, out)
		}
	})
}
