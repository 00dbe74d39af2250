package codec

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestPacked: whatever is packed comes out as it went in, in its order, in packs that a node takes.
func TestPacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ms []Control
		for range rapid.IntRange(0, 400).Draw(t, "frames") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				ms = append(ms, &OK{Req: rapid.Uint32().Draw(t, "req")})
			case 1:
				ms = append(ms, &Moved{Room: RoomID(rapid.Uint64Min(1).Draw(t, "room")), To: "n2"})
			default:
				st := &State{Req: rapid.Uint32().Draw(t, "req"), RoomState: RoomState{RoomHead: RoomHead{Room: 7, Relay: "n1", Owner: "o"}}}
				for range rapid.IntRange(0, 300).Draw(t, "grants") / 290 * 200 {
					st.Grants = append(st.Grants, GrantState{Account: strings.Repeat("a", 100), Version: 1})
				}
				ms = append(ms, st)
			}
		}
		var got []Control
		packed := Packed(ms)
		for _, m := range packed {
			b, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, is := m.(*Pack); !is {
				got = append(got, m)
				continue
			}
			var p Pack
			if err := p.Parse(b); err != nil {
				t.Fatal(err)
			}
			if err := p.Each(func(c Control) error { got = append(got, c); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != len(ms) {
			t.Fatalf("%d frames, not %d", len(got), len(ms))
		}
		for i := range ms {
			want, _ := ms[i].Append(nil)
			if b, _ := got[i].Append(nil); !bytes.Equal(b, want) || reflect.TypeOf(got[i]) != reflect.TypeOf(ms[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

// TestPackHostile: what is no whole frame of a kind that packs hold is refused.
func TestPackHostile(t *testing.T) {
	ok, _ := (&OK{Req: 1}).Append(nil)
	nested, _ := (&Pack{Frames: ok}).Append(nil)
	stream := []byte{0, 22, 0x80}
	for name, c := range map[string]struct {
		frames []byte
		want   Code
	}{
		"cut in the length":   {append(bytes.Clone(ok), 0), CodeMalformed},
		"cut in the body":     {ok[:len(ok)-1], CodeMalformed},
		"an empty frame":      {[]byte{0, 0, 0}, CodeMalformed},
		"a pack":              {nested, CodeUnexpected},
		"a stream frame":      {append(stream, make([]byte, 21)...), CodeUnexpected},
		"a frame of no type":  {[]byte{0, 1, 0x7f}, CodeUnexpected},
		"a body that is none": {[]byte{0, 1, TypeState}, CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&Pack{Frames: c.frames}).Each(func(Control) error { return nil })
			var pe *ProtocolError
			if !errors.As(err, &pe) || pe.Code != c.want {
				t.Errorf("%v, not %v", err, c.want)
			}
		})
	}
}
