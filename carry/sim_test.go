package carry_test

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/internal/world"
)

// The simulation: package world plays days of nodes and clients around real rooms and the machines of this package.
// docs/simulation.md tells how to read what it finds.
var (
	seedFlag   = flag.Uint64("seed", 0, "Sim: the one seed to play, with its story")
	seedsFlag  = flag.Int("seeds", 0, "Sim: how many seeds to play; 0: as many as there is time for in every test")
	fromFlag   = flag.Uint64("from", 1, "Sim: with -seeds: the first of them")
	untilFlag  = flag.Bool("until", false, "Sim: with -seeds: until one fails")
	shrinkFlag = flag.Bool("shrink", false, "Sim: with -seed: leave out what the fault does not need")
)

// kinds are the kinds of days, and how many of each every test plays.
var kinds = []struct {
	name  string
	draw  func(seed uint64) *world.Day
	seeds int
	short int
}{
	{"alone", world.Alone, 20, 10},
	{"cluster", world.Cluster, 100, 20},
	{"crashes", world.Crashes, 30, 5},
	{"mixed", world.Mixed, 20, 5},
	{"hostile", world.Hostile, 8, 2},
}

// TestSim plays days of seeds from 1 on. To see one: -run Sim/cluster -seed=N -v, and with -shrink the least of it that
// fails.
func TestSim(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			n := k.seeds
			if testing.Short() || raceEnabled {
				n = k.short
			}
			if *seedsFlag > 0 {
				n = *seedsFlag
			}
			if *seedFlag != 0 {
				playOne(t, k.draw(*seedFlag))
				return
			}
			play(t, k.draw, n)
		})
	}
}

// TestSimParted plays days on which the nodes are of two minds, if it is asked to: what is known to fail then is among
// the stories of testdata.
func TestSimParted(t *testing.T) {
	switch {
	case *seedFlag != 0:
		playOne(t, world.Parted(*seedFlag))
	case *seedsFlag > 0:
		play(t, world.Parted, *seedsFlag)
	default:
		t.Skip("give -seeds or -seed")
	}
}

// playOne tells the story of a day.
func playOne(t *testing.T, d *world.Day) {
	res := d.Play(true)
	if res.Fault == nil {
		t.Logf("holds\n%s", strings.Join(res.Story, "\n"))
		return
	}
	if *shrinkFlag {
		d = d.Shrink(res.Fault.Invariant, 3000)
		res = d.Play(true)
	}
	t.Fatalf("%v (%s)\n%v\n%s", res.Fault, world.Invariants[res.Fault.Invariant], d, strings.Join(res.Story, "\n"))
}

// play plays the days of many seeds, on all processors, and reports those that fail.
func play(t *testing.T, draw func(seed uint64) *world.Day, seeds int) {
	began := time.Now()
	var mu sync.Mutex
	first := max(1, *fromFlag)
	next, events, fails, failed := first-1, 0, map[string]int{}, 0
	var busy sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for {
				mu.Lock()
				next++
				seed, over := next, *untilFlag && failed > 0
				mu.Unlock()
				if over || seed >= first+uint64(seeds) {
					return
				}
				res := draw(seed).Play(false)
				mu.Lock()
				events += res.Events
				if f := res.Fault; f != nil {
					fails[f.Invariant]++
					if failed++; failed <= 20 { // at once: many seeds take long
						t.Errorf("seed %d: %v", seed, f)
					}
				}
				mu.Unlock()
			}
		})
	}
	busy.Wait()
	took := time.Since(began)
	rate := float64(events) / took.Seconds()
	t.Logf("%d seeds, %d events in %v: %.0f events a second", seeds, events, took.Round(time.Millisecond), rate)
	if failed > 0 {
		t.Errorf("%d of %d seeds fail: %v", failed, seeds, fmt.Sprint(fails))
	}
}
