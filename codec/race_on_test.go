//go:build race

package codec

// raceEnabled skips allocation counts: the race detector allocates on its own.
const raceEnabled = true
