package engine_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// quiet keeps what is not the path of a frame out of what is counted.
func quiet(c *engine.Config) { c.Ping = time.Hour }

// calm is a room whose policy does not act on readers that are only as slow as a busy machine makes them.
var calm = codec.Register{QueueBytes: 64 << 20, QueueMillis: 60_000}

// A frame costs no allocation from the publisher's socket over both loops to the subscribers' sockets, whether it comes
// alone or among many. Acknowledgements cost some, but they are coalesced.
func TestNoAllocationsPerFrame(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector pools forget on purpose")
	}
	for _, tc := range []struct {
		name                    string
		rooms, frames, payload  int // of a round
		rounds, warmUp, maximum int // allocations per 100 frames
	}{
		{"one at a time", 1, 1, 64, 4_000, 500, 5},
		{"in bulk", 1, 100, 64, 1_000, 200, 1},
		{"large", 1, 4, 16 << 10, 1_000, 200, 5},
		{"in many rooms", 20, 1, 64, 500, 100, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Without history the logs reach their steady state at once.
			e := start(t, quiet, func(c *engine.Config) { c.Rooms.History = 1 })
			w := login(t, e, "alice", 1)
			var srcs []*source
			var rooms []codec.RoomID
			for range tc.rooms {
				room := w.register(calm)
				srcs, rooms = append(srcs, newSource(w, room)), append(rooms, room)
			}
			const subs = 6 // on both loops
			s := newSink(t, e.Addrs()[0], rooms, subs)
			p := newPump(w, srcs, tc.payload, tc.frames)
			want := int64(0)
			play := func(rounds int) {
				for range rounds {
					p.round(t)
					want += int64(subs * len(p.buf))
					s.await(want)
				}
			}
			play(tc.warmUp)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			play(tc.rounds)
			runtime.ReadMemStats(&after)
			n, frames := after.Mallocs-before.Mallocs, uint64(tc.rounds*tc.frames*tc.rooms)
			t.Logf("%d allocations for %d frames", n, frames)
			if n*100 > frames*uint64(tc.maximum) {
				t.Errorf("%d allocations for %d frames", n, frames)
			}
		})
	}
}
