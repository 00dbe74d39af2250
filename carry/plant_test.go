package carry_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/timedge/timedge/internal/world"
)

// TestPlanted plants faults in the seams of the world, one at a time, and sees that each is found: a simulation that
// finds nothing shows nothing. Those that are planted in the code itself are in mutant_test.go.
func TestPlanted(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("long")
	}
	const most = 100
	for _, plant := range slices.Sorted(maps.Keys(world.Plants)) {
		t.Run(string(plant), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= most; seed++ {
				d := world.Cluster(seed)
				d.Plant = plant
				f := d.Play(false).Fault
				if f == nil {
					continue
				}
				if !slices.Contains(world.Plants[plant], f.Invariant) {
					t.Errorf("found at seed %d by %v, and expected by one of %v", seed, f, world.Plants[plant])
				}
				t.Logf("found at seed %d: %v", seed, f)
				return
			}
			t.Errorf("not found in %d seeds", most)
		})
	}
}
