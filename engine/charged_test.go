//go:build !race

package engine

import (
	"math"
	"testing"
)

// TestRequestsAreCharged holds that no request costs more than four times what it is charged. It compares the least
// that each ever took, which what else the machine does can only bring closer with more rounds: it goes on until the
// least is low enough.
func TestRequestsAreCharged(t *testing.T) {
	const most, rounds = 4, 2000
	for _, c := range requestsCharged {
		t.Run(c.name, func(t *testing.T) {
			x := newStepsBench(t)
			next := c.make(x)
			least := [2]float64{math.Inf(1), math.Inf(1)} // of the unit, of the request
			for n := 1; ; n++ {
				unit, charged := x.round(next)
				least[0], least[1] = min(least[0], unit), min(least[1], charged)
				ratio := least[1] / least[0]
				switch {
				case n >= 20 && ratio <= most:
					t.Logf("%.1f times what it is charged, in %d rounds", ratio, n)
					return
				case n == rounds:
					t.Fatalf("it costs %.1f times what it is charged, at most %d times are allowed", ratio, most)
				}
			}
		})
	}
}
