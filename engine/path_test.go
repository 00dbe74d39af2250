package engine_test

import (
	"fmt"
	"testing"

	"github.com/timedge/timedge/codec"
)

func TestFrameReachesSubscribersOnEveryLoop(t *testing.T) {
	e := start(t)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{})
	p := pub.publish(room)
	var subs []*wire
	for i := range 8 {
		s := login(t, e, fmt.Sprintf("viewer%d", i), uint64(100+i))
		s.subscribe(room)
		subs = append(subs, s)
	}
	var b []byte
	for seq := uint64(1); seq <= 100; seq++ {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub, Dtype: 7}, Seq: seq, Payload: fmt.Appendf(nil, "frame %d", seq)}
		b = enc(f.Append(b))
	}
	pub.write(b)
	for _, s := range subs {
		for seq := uint64(1); seq <= 100; seq++ {
			f := next[*codec.Stream](s)
			if f.Seq != seq || string(f.Payload) != fmt.Sprintf("frame %d", seq) || f.Pub != p.Pub || f.Dtype != 7 {
				t.Fatalf("got frame %d %q, want %d", f.Seq, f.Payload, seq)
			}
		}
	}
	for ack := uint64(0); ack < 100; {
		ack = next[*codec.Ack](pub).Seq
	}
}
