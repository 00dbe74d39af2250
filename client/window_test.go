package client

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// What a window has for a whole message each of its pieces gets without waiting.
func TestWindowHasWholeMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &window{size: rapid.IntRange(codec.MaxFrame, 4<<20).Draw(t, "size")}
		st := new(outStream)
		st.q.bytes = rapid.IntRange(0, w.size).Draw(t, "of the stream")
		w.used = st.q.bytes + rapid.IntRange(0, w.size-st.q.bytes).Draw(t, "of others")
		payload := make([]byte, rapid.IntRange(0, 5<<20).Draw(t, "payload"))
		if !w.has(payload, st) {
			t.Skip()
		}
		var share *outStream
		if len(payload) > codec.MaxPiece {
			share = st
		}
		for first := true; first || len(payload) > 0; first = false {
			n := min(len(payload), codec.MaxPiece)
			payload = payload[n:]
			if !w.take(codec.StreamHeaderSize+n, share) {
				t.Fatalf("%d bytes are left of the message when the window is used up", len(payload)+n)
			}
			st.q.bytes += codec.StreamHeaderSize + n
		}
	})
}
