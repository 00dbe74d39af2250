package engine_test

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// A subscriber that reads loses nothing of messages far above its queue's bound, and one that joins late gets the whole
// of a group that is above it.
func TestMessagesAboveTheQueueOverRealSockets(t *testing.T) {
	e := start(t)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueBytes: 64 << 10})
	src := newSource(pub, room)
	early := login(t, e, "bob", 2)
	early.subscribe(room)

	const groups = 4
	v := newVerifier(room)
	for range groups {
		src.message(1, codec.FlagKey, make([]byte, 9<<20), 60_000)
		v.upTo(early, src.key(1), src.seq[1])
		for range 50 {
			src.message(1, 0, make([]byte, 100_000), 60_000)
		}
		v.upTo(early, src.key(1), src.seq[1])
	}
	src.settle()
	late := login(t, e, "carol", 3)
	late.subscribe(room)
	src.push(1, 0, []byte("last"))
	end, perGroup := src.seq[1], (src.seq[1]-1)/groups
	v.upTo(early, src.key(1), end)
	lv := newVerifier(room)
	lv.upTo(late, src.key(1), end)
	if s := v.stream(src.key(1)); len(s.gaps) != 0 || s.frames != int(end) {
		t.Errorf("the early one got %d frames of %d, gaps %v", s.frames, end, s.gaps)
	}
	if s := lv.stream(src.key(1)); s.frames != int(perGroup)+1 || lv.missed(codec.GapJoined) != end-perGroup-1 {
		t.Errorf("the late one got %d frames, expected %d, gaps %v", s.frames, perGroup+1, s.gaps)
	}
}
