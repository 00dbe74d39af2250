package drills

import (
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
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

// A room whose publisher is at an edge gets a frame each four seconds, and may be idle for six: it does not end, whatever
// becomes of its relay meanwhile.
func TestSlowStreamIsNotIdle(t *testing.T) {
	if *kills < 10 {
		t.Skip("takes 80 seconds: give -kills=10")
	}
	f := newFleet(t, 3, "--idle", "6s")
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}, policy: policy}, 4*time.Second)
		s.reach(2)
		f.kill(0)
		s.reach(2)
		f.start(0)
		f.await(3)
		s.reach(2)
		f.signal(0, syscall.SIGSTOP)
		s.reach(1)
		f.signal(0, syscall.SIGCONT)
		s.reach(2)
		s.finish()
	}
}
