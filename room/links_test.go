package room

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// wantAcked checks how much of stream 1 the publisher is acknowledged, and, when that is all, that its window is whole.
func (x *bench) wantAcked(seq uint64) {
	x.t.Helper()
	if got := x.acked(1); got != seq {
		x.t.Fatalf("%d is acknowledged, want %d", got, seq)
	}
	if owed := x.pub.pushed.Load() - x.pub.done.Load(); x.pub.find(1).next == seq+1 && owed != 0 {
		x.t.Fatalf("all has arrived, but for %d bytes", owed)
	}
}

// at1 is where a subscriber stands that has stream 1 up to seq.
func (x *bench) at1(seq uint64) []codec.Position {
	return []codec.Position{{StreamKey: x.key(1), Last: seq}}
}

// Who says that it has more than the room holds nobody up, and counts from where it said it was.
func TestSeatAheadOfTheRoom(t *testing.T) {
	for _, c := range []struct {
		policy codec.Policy
		join   Join
	}{{codec.PolicyLossless, Join{Account: "ahead"}}, {codec.PolicyLive, Join{Link: "edge"}}} {
		x := newBench(t, Config{}, codec.Register{Policy: c.policy})
		x.script(1, "1", "2")
		c.join.Have = x.at1(4)
		ahead := x.viewer(c.join)
		ahead.stream(x.key(1)).expected = 5
		x.script(1, "3", "4")
		x.loop.drain()
		x.wantAcked(4)
		x.script(1, "5")
		x.loop.drain()
		x.wantAcked(4)
		x.ack(ahead, 5)
		x.wantAcked(5)
		other := x.viewer(Join{Account: "liar", Have: x.at1(1 << 40)})
		x.script(1, "6")
		x.loop.drain()
		x.ack(ahead, 6)
		x.wantAcked(6)
		if x.at(x.now + 60e9); len(ahead.cuts)+len(other.cuts) != 0 {
			t.Error("cut off without owing anything")
		}
		ahead.take(1 << 30)
	}
}
