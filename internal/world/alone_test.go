package world

import (
	"flag"
	"testing"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "the one seed to play, with its story")
	seedsFlag = flag.Int("seeds", 0, "how many seeds to play; 0: a number for the occasion")
)

// TestAlone plays days of one node: rooms, queues and logs alone, with clients that check what they are promised.
func TestAlone(t *testing.T) { play(t, Alone, 30) }
