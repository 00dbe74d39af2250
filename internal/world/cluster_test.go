package world

import (
	"strings"
	"testing"
	"time"
)

// TestCluster plays days of clusters.
func TestCluster(t *testing.T) { play(t, Cluster, 20) }

// TestParted plays days of clusters that are of two minds.
func TestParted(t *testing.T) { play(t, Parted, 20) }

// play plays the days of many seeds, or the one that was asked for, with its story, shrunk.
func play(t *testing.T, draw func(seed uint64) *Day, seeds int) {
	if *seedFlag != 0 {
		d := draw(*seedFlag)
		res := d.Play(true)
		t.Logf("%s", strings.Join(res.Story, "\n"))
		if res.Fault != nil {
			small := d.Shrink(res.Fault.Invariant, 2000)
			t.Fatalf("%v\n%v\n%s", res.Fault, small, strings.Join(small.Play(true).Story, "\n"))
		}
		return
	}
	if *seedsFlag > 0 {
		seeds = *seedsFlag
	}
	events, began := 0, time.Now()
	bad := map[string]int{}
	for seed := range seeds {
		res := draw(uint64(seed + 1)).Play(false)
		events += res.Events
		if res.Fault != nil {
			if bad[res.Fault.Invariant]++; bad[res.Fault.Invariant] < 4 {
				t.Errorf("seed %d: %v", seed+1, res.Fault)
			}
		}
	}
	d := time.Since(began)
	t.Logf("%d seeds, %d events, %v, %.1f us an event; %v", seeds, events, d, float64(d.Microseconds())/float64(events), bad)
}
