package room

import (
	"fmt"
	"slices"
	"testing"

	"github.com/timedge/timedge/codec"
)

// What a room tells of its changes, added to the state that was known, is the state that it has.
func TestChangesAddUp(t *testing.T) {
	x := newBench(t, Config{Clustered: true, MaxPublishers: 8}, codec.Register{})
	x.room.Reigned(3, 7)
	known := x.room.State()
	x.room.Changes()
	step := func(what string, do func()) {
		t.Helper()
		do()
		d := x.room.Changes()
		for _, g := range d.Grants {
			i := slices.IndexFunc(known.Grants, func(k codec.GrantState) bool { return k.Account == g.Account })
			if i < 0 {
				known.Grants, i = append(known.Grants, g), len(known.Grants)
			}
			known.Grants[i] = g
		}
		known.Publishers = slices.DeleteFunc(known.Publishers,
			func(p codec.PublisherState) bool { return slices.Contains(d.Left, p.Num) })
		known.Publishers = append(known.Publishers, d.Came...)
		known.NextPub = d.NextPub
		if got, want := fmt.Sprint(known), fmt.Sprint(x.room.State()); got != want {
			t.Errorf("%s: it tells of\n%s and is\n%s", what, got, want)
		}
	}
	var pub *Publisher
	step("granted", func() { _ = x.room.Grant("owner", "bob") })
	step("published", func() { pub, _, _ = x.room.Publish(&fakeHolder{}, "bob", 5, false) })
	step("published and gone again", func() {
		h := &fakeHolder{}
		p, _, _ := x.room.Publish(h, "bob", 6, false)
		_ = p.Unpublish(h, x.now)
	})
	if pub.life.Epoch != 3 || pub.life.Birth != 7 || pub.life.Version == 0 {
		t.Errorf("the life %v", pub.life)
	}
	step("revoked", func() { _ = x.room.Revoke("owner", "bob", x.now) })
	step("nothing", func() {})
}

// Publishers leave by themselves, too: whoever relays the room next must not bring them back.
func TestLeavingIsTold(t *testing.T) {
	x := newBench(t, Config{Clustered: true}, codec.Register{})
	var told []codec.Code
	x.table.OnChange(func(_ *Room, ended codec.Code) { told = append(told, ended) })
	x.room.Changes()
	x.pub.Detach(x.hold, x.now)
	x.now += int64(x.table.conf().Linger) + 1
	for range 11 {
		x.table.Sweep(x.now)
	}
	if d := x.room.Changes(); !slices.Equal(told, []codec.Code{0}) || !slices.Equal(d.Left, []uint16{x.pub.Num}) {
		t.Errorf("told %v, left %v", told, d.Left)
	}
}

// A relay that was suspended while another saw its publishers leave has them begin anew, when it relays the room again.
func TestThawedRelay(t *testing.T) {
	x := newBench(t, Config{Clustered: true}, codec.Register{})
	x.room.Reigned(1, 7)
	old, fresh := &fakeHolder{}, &fakeHolder{}
	gone, _, _ := x.room.Publish(old, "owner", 5, false)
	st := x.room.State()
	x.room.Changes()
	st.Seen = []codec.Life{{Epoch: 1, Birth: 7, Version: gone.life.Version}}
	st.Publishers, st.Epoch = nil, 3 // all have left in reign 2
	came, _, _ := x.room.Publish(fresh, "owner", 6, false)
	x.room.Merge(st, x.now)
	if gone.ended == 0 || !slices.Equal(old.cuts, []codec.Code{codec.CodeMoved}) {
		t.Errorf("ended %v, told %v", gone.ended, old.cuts)
	}
	if came.ended != 0 || len(fresh.cuts) > 0 {
		t.Errorf("who has come since: ended %v, told %v", came.ended, fresh.cuts)
	}
	again, next, err := x.room.Publish(old, "owner", 5, false)
	if err != nil || again.Num == gone.Num || len(next) > 0 {
		t.Errorf("publisher %d again, %v, %v", again.Num, next, err)
	}
}
