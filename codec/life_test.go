package codec

import (
	"encoding/binary"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var drawLife = rapid.Custom(func(t *rapid.T) Life {
	return Life{rapid.Uint32Min(1).Draw(t, "epoch"), rapid.Uint64().Draw(t, "birth"), rapid.Uint64().Draw(t, "version")}
})

// TestLives: a state in any number of frames keeps what it says of lives, and a node of level 0 reads the rest.
func TestLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &State{Req: 7, RoomState: RoomState{RoomHead: RoomHead{Room: 1, Epoch: 3, Relay: "n1"}}}
		m.Seen = rapid.SliceOfN(drawLife, 0, MaxSeen).Draw(t, "seen")
		if len(m.Seen) == 0 {
			m.Seen = nil
		}
		for i := range rapid.IntRange(0, 3000).Draw(t, "publishers") {
			p := PublisherState{Num: uint16(i + 1), Account: "a", Instance: uint64(i)}
			if i%3 != 0 {
				p.Life = Life{1, 2, uint64(i)}
			}
			m.Publishers = append(m.Publishers, p)
		}
		var got *State
		for _, part := range m.Split() {
			b, err := part.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			next := new(State)
			if err := next.Parse(b); err != nil {
				t.Fatal(err)
			}
			if got == nil {
				got = next
			} else if !got.Join(next) {
				t.Fatal("not joined")
			}
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("read   %+v\nwanted %+v", got, m)
		}
	})
}

func TestLifeAndMarkOfJoined(t *testing.T) {
	for _, m := range []Joined{
		{Room: 1, Pub: 2, Account: "a"}, {Room: 1, Pub: 2, Account: "a", Life: Life{1, 2, 3}},
		{Room: 1, Pub: 2, Account: "a", Mark: 7}, {Room: 1, Pub: 2, Account: "a", Life: Life{1, 2, 3}, Mark: 1 << 63},
	} {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := Joined{Life: Life{9, 9, 9}, Mark: 9}
		if err := got.Parse(b); err != nil || got != m {
			t.Errorf("%+v, %v; wanted %+v", got, err, m)
		}
	}
}

func TestReign(t *testing.T) {
	for _, m := range []Mirror{{Room: 1}, {Room: 1, Reign: Reign{3, "n1", 7}}} {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := Mirror{Reign: Reign{9, "x", 9}}
		if err := got.Parse(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v; wanted %+v", got, err, m)
		}
	}
	for i, r := range []Reign{{1, "b", 2}, {2, "a", 9}, {2, "b", 1}, {2, "b", 2}} {
		for j, o := range []Reign{{1, "b", 2}, {2, "a", 9}, {2, "b", 1}, {2, "b", 2}} {
			if r.Before(o) != (i < j) {
				t.Errorf("%v before %v: %v", r, o, r.Before(o))
			}
		}
	}
}

// TestTally: the optional field of tally says who has come and gone, and is not there if nobody has. What cannot be read
// of it is left out.
func TestTally(t *testing.T) {
	moves := []ClientMove{{7, PresenceHere}, {1<<64 - 1, PresenceAwaited}, {9, PresenceGone}, {3, 200}}
	for _, m := range []Tally{
		{Room: 1, Subscribers: 3}, {Room: 1, Clients: moves}, {Room: 1, Subscribers: 3, Clients: slices.Repeat(moves, MaxMoves/4)},
	} {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := Tally{Clients: []ClientMove{{1, 1}}}
		if err := got.Parse(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v; wanted %+v", got, err, m)
		}
	}
	many := Tally{Room: 1, Clients: make([]ClientMove, MaxMoves+1)}
	if _, err := many.Append(nil); err == nil {
		t.Error("more clients than a tally names")
	}
	for name, value := range map[string][]byte{"cut": {2, 0, 0, 0, 0, 0, 0, 0, 7, 2}, "endless": {0xff, 0xff, 3}, "empty": {}} {
		b := enc((&Tally{Room: 1, Subscribers: 3}).Append(nil))
		b = append(append(b, tagMoves, byte(len(value))), value...)
		binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
		got := Tally{}
		if err := got.Parse(b); err != nil || len(got.Clients) != 0 || got.Subscribers != 3 {
			t.Errorf("%s: parsed %+v, %v", name, got, err)
		}
	}
}

// TestHaveFrames: however much a node has, the frames that tell it fit and hold all of it, in order.
func TestHaveFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var have []Position
		lives := map[uint16]Life{}
		for pub := range uint16(rapid.IntRange(0, 1100).Draw(t, "publishers")) {
			lives[pub+1] = Life{1, 2, uint64(pub)}
			n := 1
			if rapid.IntRange(0, 20).Draw(t, "many") == 0 {
				n = 256
			}
			for dtype := range n {
				have = append(have, Position{StreamKey{pub + 1, uint8(dtype)}, uint64(dtype)})
			}
		}
		var got []Position
		for _, m := range HaveFrames(7, 1, have, lives) {
			b, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			var r Have
			if err := r.Parse(b); err != nil || r.Req != 7 || r.Room != 1 {
				t.Fatal(r, err)
			}
			for _, p := range r.Pubs {
				if p.Life != lives[p.Num] {
					t.Fatalf("publisher %d has the life %v", p.Num, p.Life)
				}
				for _, s := range p.Streams {
					got = append(got, Position{StreamKey{p.Num, s.Dtype}, s.Last})
				}
			}
		}
		if !reflect.DeepEqual(got, have) {
			t.Fatalf("%d positions of %d, or others", len(got), len(have))
		}
	})
}
