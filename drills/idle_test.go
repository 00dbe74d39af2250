package drills

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

var idleFor = flag.Duration("idlefor", 0, "how long TestIdleCost watches idle nodes; 0: it is left out")

// TestIdleCost prints what a node of an idle cluster takes of one processor, by the number of nodes and of rooms.
func TestIdleCost(t *testing.T) {
	if *idleFor == 0 {
		t.Skip("a figure, no check: give -idlefor=30s")
	}
	for _, nodes := range []int{3, 9} {
		for _, rooms := range []int{0, 10_000} {
			t.Run(fmt.Sprintf("nodes=%d/rooms=%d", nodes, rooms), func(t *testing.T) {
				f := newFleet(t, nodes)
				c := f.client(0, "owner")
				for range rooms {
					if _, err := c.Register(t.Context(), client.RoomOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(3 * time.Second) // what came before comes to rest
				used := func() (s float64) {
					for i := range f.nodes {
						s += f.metric(i, "process_cpu_seconds_total")
					}
					return s
				}
				begun, before := time.Now(), used()
				time.Sleep(*idleFor)
				share := (used() - before) / time.Since(begun).Seconds() / float64(nodes)
				t.Logf("%d nodes, %d rooms: %.2f %% of a processor each", nodes, rooms, 100*share)
			})
		}
	}
}
