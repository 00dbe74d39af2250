package room

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// tidy releases all that was let go of.
func tidy(p *Pool) {
	for p.Tidy(1 << 20) {
	}
}

// What was pushed over many turns may be let go of by one frame, one room's end or one broken connection: the batches
// are released over many turns, too.
func TestMuchIsReleasedInTurns(t *testing.T) {
	const frames = 20 * wasteFrom
	for _, c := range []struct {
		name   string
		policy codec.Policy
		free   func(t *testing.T, x *bench, v *viewer)
	}{
		{"an acknowledgement", codec.PolicyLossless, func(t *testing.T, x *bench, v *viewer) {
			if err := x.room.Ack(v, x.key(1), frames, x.now); err != nil {
				t.Fatal(err)
			}
		}},
		{"a key message", codec.PolicyLive, func(_ *testing.T, x *bench, _ *viewer) { x.script(1, "5121k") }},
		{"the end of the room", codec.PolicyLive, func(_ *testing.T, x *bench, _ *viewer) {
			x.table.End(x.room, codec.CodeRemoved)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{History: 1, MaxPublishers: 2}, codec.Register{Policy: c.policy})
			v := x.viewer(Join{Account: "v"})
			for i := range frames {
				flags := codec.Flags(0)
				if i == 0 {
					flags = codec.FlagKey
				}
				x.push(x.message(nil, 1, uint64(i+1), flags, 1, gatherSmall)) // small ones are gathered
				x.loop.drain()
				v.take(1 << 30)
			}
			had := x.pool.Outstanding()
			if had < frames {
				t.Fatalf("%d batches are kept, want %d: the test frees nothing", had, frames)
			}
			c.free(t, x, v)
			x.loop.drain()
			v.take(1 << 30)
			if n := x.table.CacheBytes(); n > 4096 {
				t.Errorf("%d bytes count as cached", n)
			}
			if n := x.pool.Outstanding(); n < had-wasteFrom {
				t.Errorf("%d of %d batches were released at once", had-n, had)
			}
			for rounds := 0; x.pool.Tidy(1024); rounds++ {
				if rounds > frames {
					t.Fatal("what was let go of does not come to an end")
				}
			}
			if n := x.pool.Outstanding(); n > 8 {
				t.Errorf("%d batches outstanding", n)
			}
		})
	}
}
