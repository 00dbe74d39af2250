package codec

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What is written can be read, and what cannot be written is an error: the tests in this file fill the frames to their
// limits and beyond.

// fullest returns the highest value of a field, with lists as long as they may be.
func (f layoutField) fullest() any {
	if f.typ == "list" {
		list := make([]any, f.arg)
		for i := range list {
			if f.entry[0].name == "" {
				list[i] = f.entry[0].fullest()
				continue
			}
			entry := map[string]any{}
			for _, e := range f.entry {
				entry[e.name] = e.fullest()
			}
			list[i] = entry
		}
		return list
	}
	x := f.extremes()
	return x[len(x)-1]
}

// all returns the frames of clients and of links, but for stream frames.
func allControls(t testing.TB) map[string]documentFrame {
	m := documentFrames(t)
	maps.Copy(m, documentTables(t, "link type"))
	delete(m, "stream")
	return m
}

// parseFrame parses a whole frame of either kind.
func parseFrame(b []byte) (Control, error) {
	c := NewControl(b[LengthSize])
	if c == nil {
		c = NewLink(b[LengthSize])
	}
	return c, c.Parse(b)
}

// TestFullest fills every field of every frame to its limit. The frame is read as it was written, but for those whose
// lists may be too long together: an inbox is refused, a state is split, what a node has goes in several, and a change
// that does not fit goes as a state.
func TestFullest(t *testing.T) {
	for name, d := range allControls(t) {
		t.Run(name, func(t *testing.T) {
			fields := map[string]any{}
			for _, l := range d.layout {
				fields[l.name] = l.fullest()
			}
			m := newFrame(t, frameVector{Type: name, Fields: fields}).(Control)
			before := []byte("before")
			b, err := m.Append(before)
			var unfit *EncodeError
			switch {
			case name == "hello" || name == "inbox" || name == "have" || name == "change":
				if !errors.As(err, &unfit) || !bytes.Equal(b, before) {
					t.Fatalf("%d bytes, %v", len(b), err)
				}
			case name == "state":
				if !errors.As(err, &unfit) {
					t.Fatalf("%d bytes, %v", len(b), err)
				}
				for _, part := range m.(*State).Split() {
					if _, err := part.Append(nil); err != nil {
						t.Error(err)
					}
				}
			case err != nil:
				t.Fatal(err)
			default:
				got, err := parseFrame(b[len(before):])
				if err != nil || !reflect.DeepEqual(got, m) {
					t.Errorf("%v, or not what was written", err)
				}
			}
		})
	}
}

// TestBeyond gives every field of every frame, one at a time, a value that its layout does not allow.
func TestBeyond(t *testing.T) {
	tried := 0
	for name, d := range allControls(t) {
		typical := typicalFields(t)[name]
		if typical == nil {
			for _, v := range loadVectors(t).LinkFrame {
				if v.Type == name {
					typical = v.Fields
					break
				}
			}
		}
		for i, l := range d.layout {
			var beyond []any
			switch l.typ {
			case "string":
				beyond = []any{strings.Repeat("a", l.arg+1), "\xff"}
				if l.name == "text" {
					continue // is cut
				}
			case "bytes":
				beyond = []any{strings.Repeat("5a", l.arg+1)}
			case "bits":
				beyond = []any{float64(255 &^ l.arg)}
			case "list":
				beyond = []any{append(l.fullest().([]any), l.fullest().([]any)[0])}
			}
			if l.typ == "u48" {
				beyond = append(beyond, "281474976710656")
			}
			if !l.zero && l.typ != "bits" && l.typ != "list" {
				beyond = append(beyond, "0")
			}
			for _, v := range beyond {
				tried++
				t.Run(name+"/"+d.layout[i].name, func(t *testing.T) {
					fields := maps.Clone(typical)
					fields[l.name] = v
					m := newFrame(t, frameVector{Type: name, Fields: fields})
					b, err := m.Append([]byte("before"))
					if unfit := (*EncodeError)(nil); !errors.As(err, &unfit) || string(b) != "before" {
						t.Errorf("%d bytes, %v", len(b), err)
					}
				})
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d fields tried", tried)
	}
}

// TestAnyFrame: whatever a frame's fields hold, it is written so that it is read as the same, or not at all.
func TestAnyFrame(t *testing.T) {
	var types []reflect.Type
	for typ := range 256 {
		if c := NewControl(byte(typ)); c != nil {
			types = append(types, reflect.TypeOf(c).Elem())
		}
		if c := NewLink(byte(typ)); c != nil {
			types = append(types, reflect.TypeOf(c).Elem())
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := reflect.New(rapid.SampledFrom(types).Draw(t, "type"))
		fillAny(t, v.Elem())
		m := v.Interface().(Control)
		prefix := []byte("before")
		b, err := m.Append(prefix)
		if err != nil {
			if unfit := (*EncodeError)(nil); !errors.As(err, &unfit) || unfit.Type != m.Type() || !bytes.Equal(b, prefix) {
				t.Fatalf("%T: %v, %d bytes", m, err, len(b))
			}
			return
		}
		if !bytes.HasPrefix(b, prefix) || len(b)-len(prefix) > MaxFrame {
			t.Fatalf("%T: %d bytes", m, len(b))
		}
		got, err := parseFrame(b[len(prefix):])
		if err != nil {
			t.Fatalf("%T: written, but not read: %v", m, err)
		}
		cutTexts(m)
		cutLives(m)
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("%T: read as %+v\nwritten %+v", m, got, m)
		}
	})
}

// cutTexts does to the texts of a frame what writing them does.
func cutTexts(m Control) {
	cut := func(s string) string {
		r := reader{b: enc((&Error{Text: s}).Append(nil))[LengthSize+3:]}
		return r.string(MaxText)
	}
	switch m := m.(type) {
	case *Error:
		m.Text = cut(m.Text)
	case *Refused:
		m.Text = cut(m.Text)
	}
}

// cutLives does to the lives of a frame what writing them does: one that is not known is left out.
func cutLives(m Control) {
	cut := func(l *Life) {
		if l.Epoch == 0 {
			*l = Life{}
		}
	}
	switch m := m.(type) {
	case *Joined:
		cut(&m.Life)
	case *State:
		for i := range m.Publishers {
			cut(&m.Publishers[i].Life)
		}
	}
}

// fillAny draws values for all fields, more often than not such as their layouts allow.
func fillAny(t *rapid.T, v reflect.Value) {
	odd := rapid.IntRange(0, 19).Draw(t, "odd") == 0
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillAny(t, v.Field(i))
		}
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.String:
		n := rapid.SampledFrom([]int{0, 1, 5, MaxAccount - 1, MaxAccount}).Draw(t, "length")
		s := strings.Repeat("a", n)
		if odd {
			s = rapid.SampledFrom([]string{"\xff", strings.Repeat("é", MaxAccount/2+1), strings.Repeat("a", MaxText+1)}).Draw(t, "string")
		}
		v.SetString(s)
	case reflect.Uint8:
		n := rapid.Uint8Range(0, 1).Draw(t, "u8")
		if odd {
			n = rapid.Byte().Draw(t, "u8")
		}
		v.SetUint(uint64(n))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		limit := uint64(MaxSeq)
		if odd {
			limit = math.MaxUint64
		}
		n := rapid.OneOf(rapid.Uint64Range(1, limit), rapid.SampledFrom([]uint64{1, 2, MaxSeq, limit, 0})).Draw(t, "number")
		v.SetUint(n & (1<<v.Type().Bits() - 1))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(make([]byte, rapid.SampledFrom([]int{0, 1, 100, 3000, 4096, 61440, 65000, 65536}).Draw(t, "bytes")))
			return
		}
		n := rapid.SampledFrom([]int{0, 0, 1, 2, 64, 65, 256, 257, 1024, 1025, 4097, 8001}).Draw(t, "list")
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		fillAny(t, v.Index(0))
		for i := 1; i < n; i++ {
			v.Index(i).Set(v.Index(0))
		}
		if g, ok := v.Interface().([]uint32); ok { // the indexes of Subscribe.Gapped
			for i := range g {
				g[i] = uint32(i)
			}
		}
	default:
		panic("no rule for " + v.Type().String())
	}
}

// TestCarriedOnwards takes the longest of what a frame may bring, and puts it into every frame that carries it on.
func TestCarriedOnwards(t *testing.T) {
	name := strings.Repeat("é", MaxAccount/2)
	var longest []Position
	for i := range MaxPositions {
		longest = append(longest, Position{StreamKey{uint16(1 + i/256), uint8(i)}, MaxSeq})
	}
	names := func(n, size int) (list []string) {
		for range n {
			list = append(list, strings.Repeat("x", size))
		}
		return list
	}
	request := func(m Control) Control {
		return &As{Account: name, Instance: math.MaxUint64, Frame: enc(m.Append(nil)), Renew: true}
	}
	inbox := &Inbox{Req: 1, Room: 1, Accept: names(MaxEntries, 29), Block: names(MaxEntries, 27)}
	for pad := 0; ; pad++ { // as long as the frame of a client can be
		inbox.Accept[pad] += "x"
		if b, err := inbox.Append(nil); err != nil {
			inbox.Accept[pad] = inbox.Accept[pad][1:]
			break
		} else if len(b) == MaxRequest {
			break
		}
	}
	inbox.Req = math.MaxUint32
	if _, err := inbox.Append(nil); err == nil || inbox.Fits() {
		t.Error("an inbox request that fits with its client's number only is said to fit")
	}
	inbox.Accept = inbox.Accept[1:]
	if !inbox.Fits() {
		t.Error("an inbox request that fits is said not to")
	}
	streams := make([]StreamNext, MaxStreams)
	for i := range streams {
		streams[i] = StreamNext{uint8(i), MaxSeq}
	}
	head := RoomHead{
		Room: math.MaxUint64, Epoch: math.MaxUint32, Version: math.MaxUint64, Relay: name, Birth: math.MaxUint64, Ended: math.MaxUint16,
		Owner: name, Created: math.MaxUint64, NextPub: math.MaxUint16,
		RoomSettings: RoomSettings{255, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, Keep{math.MaxUint64, math.MaxUint64, true}},
	}
	for what, m := range map[string]Control{
		"a subscriber's positions, to the relay": &Mirror{Req: math.MaxUint32, Flags: mirrorFlagMask, Room: math.MaxUint64, Have: longest},
		"a publish, to the relay":                request(&Publish{Req: math.MaxUint32, Room: math.MaxUint64, Flags: pubFlagMask, To: name}),
		"a grant, to the relay":                  request(&Grant{reqRoomAccount{math.MaxUint32, math.MaxUint64, name}}),
		"an inbox, to the relay":                 request(inbox),
		"a publisher's name, to a subscriber":    &Joined{Room: math.MaxUint64, Pub: math.MaxUint16, Account: name},
		"a room, to an edge":                     &Mirrored{Req: math.MaxUint32, RoomHead: head},
		"an owner, to who asks":                  &Info{math.MaxUint32, math.MaxUint64, 255, name, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64},
		"streams, to their publisher":            &Published{math.MaxUint32, math.MaxUint64, math.MaxUint16, 255, math.MaxUint32, streams},
		"what was wrong, to who did it":          &Refused{math.MaxUint32, math.MaxUint16, strings.Repeat("\x00", MaxFrame)},
		"what was wrong, at the end":             &Error{math.MaxUint16, strings.Repeat("\xff", MaxFrame)},
	} {
		b, err := m.Append(nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if _, err := parseFrame(b); err != nil {
			t.Errorf("%s: not read: %v", what, err)
		}
	}
	state := State{Req: math.MaxUint32, Flags: StateHandover, RoomState: RoomState{RoomHead: head}}
	for i := range 1 << 12 {
		state.Grants = append(state.Grants, GrantState{name, math.MaxUint64, true})
		state.Publishers = append(state.Publishers, PublisherState{Num: uint16(i + 1), Account: name, Instance: math.MaxUint64})
	}
	for _, part := range state.Split() {
		if _, err := part.Append(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnfitStream: a stream frame that could not be read is not written.
func TestUnfitStream(t *testing.T) {
	good := Stream{Room: 1, StreamKey: StreamKey{1, 1}, Seq: 1}
	for name, breakIt := range map[string]func(*Stream){
		"payload above max_piece":      func(s *Stream) { s.Payload = make([]byte, MaxPiece+1) },
		"sequence number 0":            func(s *Stream) { s.Seq = 0 },
		"sequence number above 48 bit": func(s *Stream) { s.Seq = MaxSeq + 1 },
		"room 0":                       func(s *Stream) { s.Room = 0 },
		"publisher 0":                  func(s *Stream) { s.Pub = 0 },
		"unknown flag":                 func(s *Stream) { s.Flags = 0x10 },
	} {
		s := good
		breakIt(&s)
		b, err := s.Append([]byte("before"))
		if unfit := (*EncodeError)(nil); !errors.As(err, &unfit) || string(b) != "before" {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	good.Payload, good.Seq = make([]byte, MaxPiece), MaxSeq
	if b, err := good.Append(nil); err != nil || len(b) != MaxFrame {
		t.Errorf("the largest: %d bytes, %v", len(b), err)
	}
}
