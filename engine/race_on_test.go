//go:build race

package engine_test

// raceEnabled makes the longest tests shorter under the race detector, and leaves out what counts allocations.
const raceEnabled = true
