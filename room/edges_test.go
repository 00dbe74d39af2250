package room

import (
	"crypto/rand"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// TestPositionsAtTheEdges: whatever positions and numbers clients invent, the frames that the room makes of them can be
// written, and each subscriber's order holds.
func TestPositionsAtTheEdges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]codec.Policy{codec.PolicyLive, codec.PolicyLatest, codec.PolicyDisconnect,
			codec.PolicyLossless}).Draw(t, "policy")
		x := openBench(t, Config{}, codec.Register{Policy: policy})
		next := map[uint8]uint64{1: 1, 2: 1}
		push := func(dtype uint8, flags codec.Flags) {
			if next[dtype] >= codec.MaxSeq {
				return
			}
			f := codec.Stream{Room: x.room.ID, StreamKey: x.key(dtype), Seq: next[dtype], Flags: flags,
				Payload: []byte("payload")}
			if x.tryPush(enc(f.Append(nil))) == nil {
				next[dtype]++
			}
		}
		var viewers []*viewer
		for range rapid.IntRange(3, 25).Draw(t, "steps") {
			dtype := uint8(rapid.IntRange(1, 2).Draw(t, "dtype"))
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				push(dtype, codec.FlagKey)
			case 2:
				push(dtype, 0)
			case 3: // a gap, maybe to the end or beyond
				to := rapid.SampledFrom([]uint64{next[dtype], next[dtype] + 3, codec.MaxSeq - 2, codec.MaxSeq - 1,
					codec.MaxSeq}).Draw(t, "to")
				from := rapid.SampledFrom([]uint64{1, next[dtype]}).Draw(t, "from")
				g := codec.Gap{Room: x.room.ID, StreamKey: x.key(dtype), From: from, To: max(from, to)}
				if x.pub.PushGap(x.hold, g, x.now) == nil && g.To >= next[dtype] {
					x.broken[codec.Position{StreamKey: x.key(dtype), Last: next[dtype] - 1}] = true
					next[dtype] = g.To + 1
				}
			case 4, 5: // somebody comes, or comes back from anywhere
				v := x.newViewer()
				var j Join
				for d := uint8(1); d <= 3; d++ {
					if rapid.Bool().Draw(t, "names it") {
						last := rapid.SampledFrom([]uint64{0, 1, 2, next[d] - min(next[d], 2), next[d] - min(next[d], 1), next[d],
							codec.MaxSeq - 1, codec.MaxSeq}).Draw(t, "last")
						key := codec.StreamKey{Pub: uint16(rapid.IntRange(1, 2).Draw(t, "pub")), Dtype: d}
						if rapid.Bool().Draw(t, "gapped") && last > 0 {
							j.Gapped = append(j.Gapped, uint32(len(j.Have)))
						}
						j.Have = append(j.Have, codec.Position{StreamKey: key, Last: min(last, codec.MaxSeq)})
						s := v.stream(key)
						s.expected, s.resumed = min(last, codec.MaxSeq)+1, last > 0
						x.broken[codec.Position{StreamKey: key, Last: min(last, codec.MaxSeq)}] = true
					}
				}
				if x.loop.subscribe(v, j) == nil {
					x.loop.drain()
					viewers = append(viewers, v)
				}
			case 6:
				x.at(x.now + int64(rapid.SampledFrom([]int{1e6, 1e9, 20e9}).Draw(t, "pause")))
			}
			x.loop.drain()
			for _, v := range viewers {
				v.take(1 << 20)
			}
			if p, streams, err := x.room.Publish(x.hold, "owner", 1, false); err == nil { // what it would be told can be told
				x.pub = p
				if _, err := (&codec.Published{Room: x.room.ID, Pub: p.Num, Streams: streams}).Append(nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rapid.Bool().Draw(t, "leaves") {
			_ = x.pub.Unpublish(x.hold, x.now)
			x.at(x.now + 11e9)
		}
		x.end()
	})
}

// TestPolicyOfAnotherVersion: a node of a later version may have policies that this one does not know.
func TestPolicyOfAnotherVersion(t *testing.T) {
	table := NewTable(Config{}, rand.Reader, &Pool{})
	h := codec.RoomHead{Room: 7, Owner: "owner", Created: 1<<64 - 1, RoomSettings: codec.RoomSettings{
		Policy: 200, IdleMillis: 1<<64 - 1, ExpireMillis: 1<<64 - 1, QueueBytes: 1<<64 - 1, QueueMillis: 1<<64 - 1,
		MaxSubs: 1<<64 - 1,
	}}
	r, err := table.Mirror(&h, 1)
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Settings().Policy; !p.Valid() {
		t.Errorf("policy %v", p)
	}
	if r.created < 0 {
		t.Errorf("made at %d", r.created)
	}
}

// What a link has not acknowledged of a publisher that has left it never will: it does not lag for that.
func TestLinkThatOwesALeftPublisher(t *testing.T) {
	x, a, b := liveBench(t)
	x.script(1, "1", "2")
	x.loop.drain()
	x.ack(a, 2)
	x.ack(b, 1)
	left := x.pub
	if err := left.Unpublish(x.hold, x.now); err != nil {
		t.Fatal(err)
	}
	x.at(x.now + int64(2*time.Second))
	x.republish()
	if x.pub == left {
		t.Fatal("the publisher is the same")
	}
	x.script(1, "1")
	x.loop.drain()
	x.ack(a, 1)
	x.wantAcked(0)
	x.ack(b, 1)
	x.wantAcked(1)
	a.take(1 << 30)
	b.take(1 << 30)
}
