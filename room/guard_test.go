package room

import (
	"errors"
	"testing"

	"github.com/timedge/timedge/codec"
)

// faulty is a holder in which something goes wrong while the room's mutex is held.
type faulty struct {
	fakeHolder
	cut bool // also when the room is given up
}

func (h *faulty) AckNow(Pusher) { panic("a fault") }

func (h *faulty) Cut(p Pusher, code codec.Code) {
	if h.cut {
		panic("another fault")
	}
	h.fakeHolder.Cut(p, code)
}

// fault returns what f panics with.
func fault(f func()) (what any) {
	defer func() { what = recover() }()
	f()
	return nil
}

// TestPanicCostsOneRoom: a panic lets go of the mutex that it passes, the room is ended for everybody, and nothing of
// it is left; others go on.
func TestPanicCostsOneRoom(t *testing.T) {
	for name, h := range map[string]*faulty{"once": {}, "again when the room is ended": {cut: true}} {
		t.Run(name, func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{})
			other, err := x.table.Register("owner", &codec.Register{}, x.now)
			if err != nil {
				t.Fatal(err)
			}
			v := x.viewer(Join{})
			x.script(1, "1i", "2k", "3")
			x.script(2, "1k")
			if _, _, err := x.room.Publish(h, "owner", 2, false); err != nil { // has no streams yet, so nothing is told
				t.Fatal(err)
			}
			ended := []codec.Code{}
			x.table.OnChange(func(r *Room, code codec.Code) { ended = append(ended, code) })
			p := x.room.pubs[len(x.room.pubs)-1]
			x.room.mu.Lock()
			if _, err := p.find(7); err != nil { // as if it had pushed
				t.Fatal(err)
			}
			x.room.mu.Unlock()
			if what := fault(func() { _, _, _ = x.room.Publish(h, "owner", 2, false) }); what != "a fault" {
				t.Fatalf("panic %v", what)
			}
			if !x.room.mu.TryLock() {
				t.Fatal("the mutex is held")
			}
			x.room.mu.Unlock()
			if n := x.table.Mend(); n != 1 {
				t.Errorf("%d rooms ended", n)
			}
			if n := x.table.Mend(); n != 0 {
				t.Errorf("%d rooms ended the second time", n)
			}
			x.loop.drain()
			v.take(1 << 30)
			if v.closed != codec.CodeNodeLost {
				t.Errorf("the viewer was told %v", v.closed)
			}
			if len(x.hold.cuts) != 1 || x.hold.cuts[0] != codec.CodeNodeLost {
				t.Errorf("the publisher was told %v", x.hold.cuts)
			}
			if len(ended) != 1 || ended[0] != codec.CodeNodeLost {
				t.Errorf("told of the end: %v", ended)
			}
			if _, err := x.table.Get(x.room.ID); !errors.Is(err, ErrUnknown) {
				t.Error("the room is still there")
			}
			if r, err := x.table.Get(other.ID); err != nil || r.ended != 0 {
				t.Error("the other room is not")
			}
			x.table.Sweep(x.now) // nothing that is left stumbles
		})
	}
}

// TestPanicInSweep: what one room does to a sweep, and to what a node's end brings, the others do not notice.
func TestPanicInSweep(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	var rooms []*Room
	for range 1000 {
		r, err := x.table.Register("owner", &codec.Register{IdleMillis: 1000}, x.now)
		if err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, r)
	}
	faults := 0
	x.table.OnFault(func(any) { faults++ })
	for _, r := range rooms[:3] { // a fault of ours: the sweep stumbles over it
		r.pubs = append(r.pubs, nil)
	}
	ended := 0
	for range 11 {
		x.table.Sweep(x.now)
		ended += x.table.Mend()
	}
	if ended != 3 || faults != 3 {
		t.Errorf("%d rooms ended, %d faults told", ended, faults)
	}
	if n := x.table.Len(); n != 998 {
		t.Errorf("%d rooms are left", n)
	}
	x.at(x.now + 2e9)
	if n := x.table.Len(); n != 1 {
		t.Errorf("%d rooms are left when all but one have been idle", n)
	}
	if faults != 3 {
		t.Errorf("%d faults told", faults)
	}
}
