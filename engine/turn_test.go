package engine_test

import (
	"net"
	"testing"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// turnBounds are bounds on what waits for its session's turn: one that is never met, one that sometimes is, one that
// always is.
var turnBounds = map[string]int{"wide": 16 << 20, "narrow": 20_000, "none": 0}

// Far more frames than a turn has, cut anywhere, are all handled, in order.
func TestManyTinyFrames(t *testing.T) {
	for name, bound := range turnBounds {
		t.Run(name, func(t *testing.T) {
			engine.SetMaxWaiting(t, bound)
			e := start(t)
			w := login(t, e, "alice", 1)
			const n = 10_000
			var b []byte
			for i := range n {
				b = enc((&codec.Ping{Echo: uint64(i)}).Append(b))
			}
			for _, size := range []int{7, 30_001, 3, 20_000, len(b)} {
				size = min(size, len(b))
				w.write(b[:size])
				b = b[size:]
			}
			for i := range n {
				if p := next[*codec.Pong](w); p.Echo != uint64(i) {
					t.Fatalf("pong %d, expected %d", p.Echo, i)
				}
			}
			if n := e.Waiting(); n != 0 {
				t.Errorf("%d bytes are left waiting", n)
			}
		})
	}
}

// What a publisher has sent counts, though it has left before the server had handled all of it.
func TestPushedBeforeClosing(t *testing.T) {
	for name, bound := range turnBounds {
		t.Run(name, func(t *testing.T) {
			engine.SetMaxWaiting(t, bound)
			e := start(t)
			pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
			room := pub.register(codec.Register{})
			sub.subscribe(room)
			num := pub.publish(room).Pub
			const n = 5000
			var b []byte
			for i := range n { // each frame is a run of its own
				b = enc((&codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: num, Dtype: uint8(i % 2)}, Seq: uint64(1 + i/2), Flags: codec.FlagKey, Payload: []byte("x")}).Append(b))
			}
			pub.write(b)
			if err := pub.c.(*net.TCPConn).CloseWrite(); err != nil { // to close all of it with acknowledgements unread would be a reset
				t.Fatal(err)
			}
			for i := range n {
				if f := next[*codec.Stream](sub); f.Dtype != uint8(i%2) || f.Seq != uint64(1+i/2) {
					t.Fatalf("frame %d is %d of stream %d", i, f.Seq, f.Dtype)
				}
			}
			if n := e.Waiting(); n != 0 {
				t.Errorf("%d bytes are left waiting", n)
			}
		})
	}
}
