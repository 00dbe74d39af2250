package room

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// A mirror that begins within a message, where the subscriber stands for whom it was made, goes on there.
func TestMirrorFromWithinAMessage(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		x, _ := mirrorOf(t, newBench(t, Config{}, codec.Register{Policy: policy}))
		x.script(1, "3><", "4<", "5")
		x.wantScript(x.back(Join{Account: "v"}, 2), 1, "3>< 4< 5")
	}
}

// A node that has nothing of a room asks with what the first of its subscribers has, and gets for the others all that
// there is.
func TestMirrorForMoreThanOne(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	x.script(1, "1k", "2", "3", "4")
	node := x.newViewer()
	x.join(node, Join{Link: "edge", New: true, Have: x.at1(3)})
	x.wantScript(node, 1, "1k 2 3 4")

	// And of a stream that its new relay does not know yet.
	x = restored(t, Config{}, codec.Register{}, nil)
	node = x.newViewer()
	x.join(node, Join{Link: "edge", New: true, Have: x.at1(3)})
	x.script(1, "2", "3", "4")
	x.wantScript(node, 1, "1-1 lost 2 3 4")
}

// A mirror may not know yet a stream that a subscriber has had elsewhere.
func TestMirrorWithoutTheStream(t *testing.T) {
	x, _ := mirrorOf(t, newBench(t, Config{}, codec.Register{}))
	v := x.back(Join{Account: "v"}, 4)
	x.pushGap(1, 2, codec.GapLost)
	x.script(1, "3", "4", "5")
	x.wantScript(v, 1, "5")
	v.q.Clear()
}
