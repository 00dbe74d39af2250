package room

import (
	"fmt"
	"slices"
	"testing"

	"github.com/timedge/timedge/codec"
)

// Sweeps go over the rooms in an order that follows from what happened to them, and from nothing else.
func TestSweepsInOrder(t *testing.T) {
	var runs [2]string
	for run := range runs {
		table := NewTable(Config{Clustered: true, Draw: counted()}, nil, &Pool{})
		var all []*Room
		for range 3000 {
			r, err := table.Register("alice", &codec.Register{Policy: codec.PolicyLossless}, 0)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		for i := 0; i < len(all); i += 3 {
			table.End(all[i], codec.CodeRemoved)
		}
		var order []codec.RoomID
		for i := range stripes {
			for _, r := range table.list(i) {
				order = append(order, r.ID)
			}
		}
		watched := table.watched()
		if len(order) != 2000 || len(watched) != 2000 {
			t.Fatalf("%d rooms listed, %d watched", len(order), len(watched))
		}
		for _, r := range watched {
			order = append(order, r.ID)
		}
		if got, want := len(slices.Compact(slices.Sorted(slices.Values(order)))), 2000; got != want {
			t.Fatalf("%d rooms, want %d", got, want)
		}
		runs[run] = fmt.Sprint(order)
	}
	if runs[0] != runs[1] {
		t.Error("two runs differ")
	}
}

func counted() func() (codec.RoomID, bool) {
	n := codec.RoomID(0)
	return func() (codec.RoomID, bool) { n += 7919; return n, true }
}
