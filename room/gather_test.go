package room

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// Small batches in a log are gathered: it costs little more than what is in it, and nobody notices: who resumes
// anywhere gets all from there on, and what subscribers acknowledge counts as it did.
func TestSmallBatchesAreGathered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]codec.Policy{codec.PolicyLive, codec.PolicyLossless}).Draw(t, "policy")
		x := openBench(t, Config{History: 16 << 20}, codec.Register{Policy: policy})
		defer x.end()
		behind := x.viewer(Join{Account: "behind"}) // in a lossless room its acknowledgements are what counts
		large := rapid.SampledFrom([]int{0, 3, 100}).Draw(t, "one in so many messages is large")
		total := rapid.IntRange(3*gatherEvery, 8*gatherEvery).Draw(t, "messages")
		seq, acked, least := uint64(0), uint64(0), 0
		for i := range total {
			size, pieces := 8, 1
			if large > 0 && i%large == large-1 {
				size, pieces = 3000, 2
			}
			x.push(x.message(nil, 1, seq+1, 0, pieces, size))
			seq += uint64(pieces)
			least += pieces * (size + codec.StreamHeaderSize)
			if i%100 != 99 {
				continue
			}
			x.loop.drain()
			behind.take(1 << 30)
			if acked += rapid.Uint64Range(0, (seq-acked)/4).Draw(t, "acknowledged"); acked > 0 {
				x.ack(behind, acked)
			}
			if policy == codec.PolicyLossless {
				if got := x.acked(1); got != acked {
					t.Fatalf("%d is acknowledged, want %d", got, acked)
				}
			}
			s, size, cost := x.stream(1), 0, 0
			for next, spans := s.spans()[0].first, s.spans(); len(spans) > 0; spans = spans[1:] {
				sp := spans[0]
				if sp.first != next || sp.b.First != sp.first || sp.b.Last != sp.last {
					t.Fatalf("frames %d to %d in a batch of %d to %d, expected %d", sp.first, sp.last, sp.b.First, sp.b.Last, next)
				}
				next, size, cost = sp.last+1, size+sp.size(), cost+sp.b.cost()
			}
			if size != s.logSize || cost != s.logCost {
				t.Fatalf("the log has %d bytes and costs %d, counted %d and %d", size, cost, s.logSize, s.logCost)
			}
			if most := 3*least + 3*gatherEvery*512; large == 0 && cost > most {
				t.Fatalf("the log costs %d, at most %d are expected for %d bytes", cost, most, least)
			}
		}
		x.loop.drain()
		behind.take(1 << 30)
		from := acked + rapid.Uint64Range(0, seq-acked).Draw(t, "resumes behind")
		back := x.newViewer()
		back.stream(x.key(1)).expected, back.stream(x.key(1)).resumed = from+1, true
		x.join(back, Join{Account: "back", Have: x.at1(from), Resumes: true})
		back.take(1 << 30)
		if got := back.stream(x.key(1)); got.expected != seq+1 || len(got.script) != int(seq-from) {
			t.Fatalf("who has %d got %d frames and stands at %d, of %d", from, len(got.script), got.expected, seq)
		}
		if seq > 0 {
			x.ack(behind, seq)
			if from < seq {
				x.ack(back, seq)
			}
		}
		if owed := x.pub.pushed.Load() - x.pub.done.Load(); owed != 0 {
			t.Fatalf("all has arrived, but for %d bytes", owed)
		}
	})
}
