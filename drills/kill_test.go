package drills

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// figures collects what subscribers saw over all repetitions of a drill.
type figures struct {
	gaps   []time.Duration // the longest pause of each viewer
	frames uint64
}

func (g *figures) add(s *stream) {
	g.frames += s.pushed.Load() * uint64(len(s.subs))
	for _, v := range s.subs {
		g.gaps = append(g.gaps, v.longest)
	}
}

// String gives the pauses' percentiles. That nothing was lost or came twice has been checked by then.
func (g *figures) String() string {
	slices.Sort(g.gaps)
	at := func(q float64) time.Duration {
		return g.gaps[min(len(g.gaps)-1, int(q*float64(len(g.gaps))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%d viewers, %d frames delivered: 0 lost, 0 twice; longest pause p50 %v, p99 %v, worst %v",
		len(g.gaps), g.frames, at(0.5), at(0.99), g.gaps[len(g.gaps)-1].Round(100*time.Microsecond))
}

const pace = 2 * time.Millisecond

// The relay is killed while it carries a stream between clients of the two other nodes.
func TestRelayKilled(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	for k := range *kills {
		relay := k % 3
		a, b := (relay+1)%3, (relay+2)%3
		s := f.run(place{relay: relay, publisher: a, subscribers: []int{a, b, b}}, pace)
		s.reach(50)
		f.kill(relay)
		s.reach(100)
		s.finish()
		g.add(s)
		f.start(relay)
		f.await(3)
	}
	t.Log("relay killed:", &g)
}
