package codec

import (
	"reflect"
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

// TestAwaited: the optional field of tally says how many are awaited back, and is not there if nobody is.
func TestAwaited(t *testing.T) {
	for _, m := range []Tally{{Room: 1, Subscribers: 3}, {Room: 1, Subscribers: 3, Awaited: 2}} {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := Tally{Awaited: 9}
		if err := got.Parse(b); err != nil || got != m {
			t.Errorf("%+v, %v; wanted %+v", got, err, m)
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
