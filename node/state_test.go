package node

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

func drawState(t *rapid.T, name string) *codec.RoomState {
	st := &codec.RoomState{RoomHead: codec.RoomHead{
		Epoch: rapid.Uint32Range(1, 3).Draw(t, name+" epoch"), Version: rapid.Uint64Range(1, 2).Draw(t, name+" version"),
		Relay: rapid.SampledFrom([]string{"a", "b"}).Draw(t, name+" relay"), Birth: rapid.Uint64Range(1, 2).Draw(t, name+" birth"),
	}}
	// Whoever wrote one reign and version wrote it once, so whether it ended as idle follows from those.
	ends := []codec.Code{0, codec.CodeRemoved, codec.CodeExpired}
	if (uint64(st.Epoch)+st.Version+st.Birth)%3 == 0 && st.Relay == "a" {
		ends[0] = codec.CodeIdle
	}
	st.Ended = rapid.SampledFrom(ends).Draw(t, name+" ended")
	for range rapid.IntRange(0, 4).Draw(t, name+" grants") {
		st.Grants = append(st.Grants, codec.GrantState{
			Account: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "account"), Version: rapid.Uint64Range(1, 3).Draw(t, "version"),
			Granted: rapid.Bool().Draw(t, "granted"),
		})
	}
	st.Grants = sortGrants(st.Grants)
	return st
}

// TestLawMerge: in whatever order and however often states meet, the same comes of it.
func TestLawMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawState(t, "a"), drawState(t, "b"), drawState(t, "c")
		if x, y := merge(a, b), merge(b, a); !equal(x, y) {
			t.Fatalf("one way %+v, the other %+v", x, y)
		}
		if x := merge(a, a); !equal(x, a) {
			t.Fatalf("with itself %+v", x)
		}
		if x, y := merge(merge(a, b), c), merge(a, merge(b, c)); !equal(x, y) {
			t.Fatalf("grouped one way %+v, the other %+v", x, y)
		}
		if m := merge(a, b); final(a.Ended) && !final(m.Ended) {
			t.Fatalf("an end %v was forgotten", a.Ended)
		}
	})
}

func TestSetGrant(t *testing.T) {
	gs := SetGrant(nil, "bob", true)
	gs = SetGrant(gs, "alice", true)
	before := gs
	gs = SetGrant(gs, "bob", false)
	want := []codec.GrantState{{Account: "alice", Version: 2, Granted: true}, {Account: "bob", Version: 3}}
	if len(gs) != 2 || gs[0] != want[0] || gs[1] != want[1] {
		t.Errorf("got %+v, want %+v", gs, want)
	}
	if !before[1].Granted {
		t.Error("the list given was changed")
	}
}

// TestRevokedElsewhere: a reign may begin with a state that was out of date. Who was revoked meanwhile is not there any
// more, even if its account may push again; all others are.
func TestRevokedElsewhere(t *testing.T) {
	state := func(epoch uint32, seen uint64, rights []codec.GrantState, lives ...uint64) *codec.RoomState {
		st := &codec.RoomState{RoomHead: codec.RoomHead{Epoch: epoch}, Grants: rights, Seen: []codec.Life{{Epoch: 1, Birth: 1, Version: seen}}}
		for _, v := range lives {
			st.Publishers = append(st.Publishers, codec.PublisherState{
				Num: uint16(v), Account: "a", Instance: v, Life: codec.Life{Epoch: 1, Birth: 1, Version: v},
			})
		}
		return st
	}
	rights := func(account string, version uint64) []codec.GrantState {
		return []codec.GrantState{{Account: account, Version: version, Granted: true}}
	}
	for _, c := range []struct {
		name   string
		hi, lo *codec.RoomState
		want   []uint16
	}{
		{"both have it", state(2, 1, rights("a", 1), 1), state(1, 1, rights("a", 3), 1), []uint16{1}},
		{"its right was taken back and given again", state(2, 1, rights("a", 1), 1), state(1, 1, rights("a", 3)), nil},
		{"everybody's right was", state(2, 1, rights("*", 1), 1), state(1, 1, rights("*", 3)), nil},
		{"another's right was", state(2, 1, rights("b", 1), 1), state(1, 1, rights("b", 3)), []uint16{1}},
		{"the older alone lost its node", state(2, 1, rights("a", 1), 1), state(1, 1, rights("a", 1)), []uint16{1}},
		{"the older does not know it", state(2, 2, rights("a", 1), 2), state(1, 1, rights("a", 3)), []uint16{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, m := range []*codec.RoomState{merge(c.hi, c.lo), merge(c.lo, c.hi)} {
				var got []uint16
				for _, p := range m.Publishers {
					got = append(got, p.Num)
				}
				if !slices.Equal(got, c.want) {
					t.Fatalf("got %v, want %v", got, c.want)
				}
			}
		})
	}
}
