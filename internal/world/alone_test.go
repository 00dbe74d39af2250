package world

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "the one seed to play, with its story")
	seedsFlag = flag.Int("seeds", 0, "how many seeds to play; 0: a number for the occasion")
)

// TestAlone plays days of one node: rooms, queues and logs alone, with clients that check what they are promised.
func TestAlone(t *testing.T) {
	if *seedFlag != 0 {
		d := Alone(*seedFlag)
		res := d.Play(true)
		t.Logf("%s", strings.Join(res.Story, "\n"))
		if res.Fault != nil {
			small := d.Shrink(res.Fault.Invariant, 2000)
			t.Fatalf("%v\n%v\n%s", res.Fault, small, strings.Join(small.Play(true).Story, "\n"))
		}
		return
	}
	events, began := 0, time.Now()
	n := max(*seedsFlag, 30)
	bad := map[string]int{}
	for seed := range n {
		res := Alone(uint64(seed + 1)).Play(false)
		events += res.Events
		if res.Fault != nil {
			if bad[res.Fault.Invariant]++; bad[res.Fault.Invariant] < 300 {
				t.Errorf("seed %d: %v", seed+1, res.Fault)
			}
		}
	}
	d := time.Since(began)
	t.Logf("%d seeds, %d events, %v, %.1f us an event; %v", n, events, d, float64(d.Microseconds())/float64(events), bad)
}
