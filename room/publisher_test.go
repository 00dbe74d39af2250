package room

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

func TestPushRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(x *bench) error
		want error
	}{
		{"skips a frame", func(x *bench) error { return x.tryPush(x.message(nil, 1, 4, 0, 1, 8)) }, ErrSequence},
		{"another stream begins at two", func(x *bench) error { return x.tryPush(x.message(nil, 2, 2, 0, 1, 8)) },
			ErrSequence},
		{"gap ahead", func(x *bench) error {
			return x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 4, To: 5}, 0)
		}, ErrSequence},
		{"gap", func(x *bench) error {
			return x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 1, To: 5}, 0)
		}, nil},
		{"replay", func(x *bench) error { return x.tryPush(x.message(nil, 1, 1, 0, 1, 8)) }, nil},
		{"replayed gap", func(x *bench) error {
			return x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 1, To: 2}, 0)
		}, nil},
		{"a piece of nothing", func(x *bench) error { return x.tryPush(x.message(nil, 1, 3, codec.FlagCont, 1, 8)) },
			ErrPieces},
		{"a message within another", func(x *bench) error {
			x.push(x.message(nil, 1, 3, codec.FlagMore, 1, 8))
			return x.tryPush(x.message(nil, 1, 4, 0, 1, 8))
		}, ErrPieces},
		{"key on the second piece only", func(x *bench) error {
			x.push(x.message(nil, 1, 3, codec.FlagMore, 1, 8))
			return x.tryPush(x.message(nil, 1, 4, codec.FlagCont|codec.FlagKey, 1, 8))
		}, ErrPieces},
		{"init on the first piece only, in one write", func(x *bench) error {
			b := x.message(nil, 1, 3, codec.FlagMore|codec.FlagInit, 1, 8)
			return x.tryPush(x.message(b, 1, 4, codec.FlagCont, 1, 8))
		}, ErrPieces},
		{"key on the first piece only, in one write", func(x *bench) error {
			b := x.message(nil, 1, 3, codec.FlagMore|codec.FlagKey, 1, 8)
			return x.tryPush(x.message(b, 1, 4, codec.FlagCont, 1, 8))
		}, ErrPieces},
		{"a piece after a gap", func(x *bench) error {
			x.push(x.message(nil, 1, 3, codec.FlagMore, 1, 8))
			x.script(1, "4-4")
			return x.tryPush(x.message(nil, 1, 5, codec.FlagCont, 1, 8))
		}, ErrPieces},
		{"largest message in one frame", func(x *bench) error { return x.tryPush(x.message(nil, 1, 3, 0, 1, 1000)) }, nil},
		{"too large a message in one frame", func(x *bench) error { return x.tryPush(x.message(nil, 1, 3, 0, 1, 1001)) },
			ErrPayload},
		{"largest message in pieces", func(x *bench) error { return x.tryPush(x.message(nil, 1, 3, 0, 2, 500)) }, nil},
		{"too large a message in pieces", func(x *bench) error { return x.tryPush(x.message(nil, 1, 3, 0, 2, 501)) },
			ErrPayload},
		{"too large a message, piece by piece", func(x *bench) error {
			x.push(x.message(nil, 1, 3, codec.FlagMore, 1, 500))
			x.push(x.message(nil, 1, 4, codec.FlagMore|codec.FlagCont, 1, 500))
			return x.tryPush(x.message(nil, 1, 5, codec.FlagCont, 1, 8))
		}, ErrPayload},
		{"too large an unfinished message", func(x *bench) error {
			return x.tryPush(x.message(nil, 1, 3, codec.FlagMore, 1, 1001))
		}, ErrPayload},
		{"superseded", func(x *bench) error {
			_, _, _ = x.room.Publish(&fakeHolder{}, "owner", 1, false)
			return x.tryPush(x.message(nil, 1, 3, 0, 1, 8))
		}, ErrSuperseded},
		{"unpublished", func(x *bench) error {
			_ = x.pub.Unpublish(x.hold, 0)
			return x.tryPush(x.message(nil, 1, 3, 0, 1, 8))
		}, ErrNotPublishing},
		{"unpublished twice", func(x *bench) error {
			_ = x.pub.Unpublish(x.hold, 0)
			return x.pub.Unpublish(x.hold, 0)
		}, ErrNotPublishing},
		{"room ended", func(x *bench) error {
			x.table.EndAll(codec.CodeRemoved)
			return x.tryPush(x.message(nil, 1, 3, 0, 1, 8))
		}, ErrUnknown},
		{"gap in a room that ended", func(x *bench) error {
			x.table.EndAll(codec.CodeRemoved)
			return x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 3, To: 5}, 0)
		}, ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{MaxPayload: 1000}, codec.Register{})
			x.push(x.message(x.message(nil, 1, 1, 0, 1, 8), 1, 2, 0, 1, 8))
			if err := c.do(x); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	x := newBench(t, Config{Window: 1000}, codec.Register{})
	v := x.viewer(Join{})
	var err error
	sent := 0
	for seq := uint64(1); err == nil; seq++ {
		b := x.message(nil, 1, seq, 0, 1, 80)
		if err = x.tryPush(b); err == nil {
			sent += len(b)
		}
	}
	if !errors.Is(err, ErrFlow) || sent < 1000 || sent > 3000 {
		t.Fatalf("%v after %d bytes that no loop has taken", err, sent)
	}
	if err := x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 1, To: 900}, 0); !errors.Is(err, ErrFlow) {
		t.Fatalf("gap: %v", err)
	}
	x.loop.drain()
	if x.hold.nudges != 1 {
		t.Errorf("asked %d times for acknowledgements, want once", x.hold.nudges)
	}
	var acks []uint64
	x.pub.Acks(x.hold, func(k codec.StreamKey, seq uint64) { acks = append(acks, seq) })
	if x.pub.Pending() || fmt.Sprint(acks) != "[21]" {
		t.Errorf("pending %v, acks %v", x.pub.Pending(), acks)
	}
	v.take(1 << 30)
}

func TestReplayedFramesAreAcknowledgedAgain(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	hold := x.hold
	acks := func() (s string) {
		x.pub.Acks(hold, func(k codec.StreamKey, seq uint64) { s += fmt.Sprintf("%d:%d ", k.Dtype, seq) })
		return s
	}
	x.script(1, "1k>", "2k<")
	if got := acks(); got != "1:2 " || x.pub.Pending() {
		t.Fatalf("acks %q, pending %v", got, x.pub.Pending())
	}
	if got := acks(); got != "" {
		t.Fatalf("told again: %q", got)
	}
	b := x.message(nil, 1, 1, codec.FlagKey, 2, 8)
	b = x.message(b, 1, 3, 0, 1, 8)
	x.push(b) // two replayed, one new, in one run
	if got := acks(); got != "1:3 " || x.table.Stats().Replays.Load() != 2 {
		t.Fatalf("acks %q, %d replays", got, x.table.Stats().Replays.Load())
	}
	x.push(x.message(nil, 1, 3, 0, 1, 8))
	if !x.pub.Pending() {
		t.Fatal("a replay is not to be acknowledged")
	}
	if got := acks(); got != "1:3 " {
		t.Fatalf("acks %q", got)
	}
	// A publisher that comes back is told where it stands without pushing anything.
	x.pub.Detach(x.hold, x.now)
	h := &fakeHolder{}
	_, next, err := x.room.Publish(h, "owner", 1, false)
	if err != nil || fmt.Sprint(next) != "[{1 4}]" || h.nudges != 1 || !x.pub.Pending() {
		t.Fatalf("next %v, %v; %d nudges, pending %v", next, err, h.nudges, x.pub.Pending())
	}
	hold = h
	if got := acks(); got != "1:3 " || x.pub.Pending() {
		t.Fatalf("acks %q, pending %v", got, x.pub.Pending())
	}
	// So is one that takes over from a session that has not noticed yet, and asks once more for what it waits for.
	again := &fakeHolder{}
	if _, _, err := x.room.Publish(again, "owner", 1, false); err != nil {
		t.Fatal(err)
	}
	if got := acks(); got != "" || !x.pub.Pending() {
		t.Fatalf("who does not hold the publisher any more takes acks %q, pending %v", got, x.pub.Pending())
	}
	hold = again
	if got := acks(); got != "1:3 " || x.pub.Pending() {
		t.Fatalf("acks %q, pending %v", got, x.pub.Pending())
	}
}

func TestPublishersComeAndGo(t *testing.T) {
	linger := int64(10 * time.Second)
	x := newBench(t, Config{}, codec.Register{})
	v := x.viewer(Join{})
	x.script(1, "1k")

	// The same client on a new session takes over.
	h := &fakeHolder{}
	p, next, err := x.room.Publish(h, "owner", 1, false)
	if err != nil || p != x.pub || len(next) != 1 || next[0].Next != 2 {
		t.Fatalf("taken over: %v %v %v", p, next, err)
	}
	if fmt.Sprint(x.hold.cuts) != fmt.Sprint([]codec.Code{codec.CodeSuperseded}) {
		t.Fatalf("the old session is told %v", x.hold.cuts)
	}
	p.Detach(x.hold, x.now) // the old one's end means nothing any more
	x.at(x.now + linger + 1)
	v.take(1 << 30)
	if len(v.lefts) != 0 {
		t.Fatalf("lefts: %v", v.lefts)
	}

	// Another instance of the account is another publisher.
	p2, _, err := x.room.Publish(&fakeHolder{}, "owner", 2, false)
	if err != nil || p2.Num == p.Num {
		t.Fatalf("second instance: %v", err)
	}

	// A broken connection is forgiven within the linger time.
	p.Detach(h, x.now)
	x.at(x.now + linger)
	if _, _, err := x.room.Publish(h, "owner", 1, false); err != nil {
		t.Fatal(err)
	}
	x.at(x.now + linger + 1)
	p.Detach(h, x.now)
	x.at(x.now + linger + 1)
	v.take(1 << 30)
	if len(v.lefts) != 1 || v.lefts[0].Code != codec.CodeGone || v.lefts[0].Pub != p.Num {
		t.Fatalf("lefts: %v", v.lefts)
	}
	p3, next, err := x.room.Publish(h, "owner", 1, false)
	if err != nil || p3.Num == p.Num || len(next) != 0 {
		t.Fatalf("after it left: number %d again, streams %v, %v", p3.Num, next, err)
	}
	if err := p3.Unpublish(h, x.now); err != nil {
		t.Fatal(err)
	}
	x.loop.drain()
	v.take(1 << 30)
	if len(v.lefts) != 2 || v.lefts[1].Code != codec.CodeLeft {
		t.Fatalf("lefts: %v", v.lefts)
	}
}

func TestRevokeInTheMiddleOfAMessage(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	v := x.viewer(Join{})
	if err := x.room.Grant("owner", "bob"); err != nil {
		t.Fatal(err)
	}
	h := &fakeHolder{}
	p, _, err := x.room.Publish(h, "bob", 1, false)
	if err != nil {
		t.Fatal(err)
	}
	x.pub, x.hold = p, h
	x.script(1, "1k>", "2k<>")
	if err := x.room.Revoke("owner", "bob", x.now); err != nil {
		t.Fatal(err)
	}
	if err := x.tryPush(x.message(nil, 1, 3, codec.FlagKey|codec.FlagCont, 1, 8)); !errors.Is(err, ErrRevoked) {
		t.Fatalf("push after revoke: %v", err)
	}
	if len(h.cuts) != 1 || h.cuts[0] != codec.CodeRevoked {
		t.Fatalf("the publisher is told %v", h.cuts)
	}
	x.loop.drain()
	v.take(1 << 30)
	want := fmt.Sprint([]string{"1k>", "2k><"}, []codec.Left{{Room: x.room.ID, Pub: p.Num, Code: codec.CodeRevoked}})
	if got := fmt.Sprint(v.stream(x.key(1)).script, v.lefts); got != want {
		t.Errorf("subscriber got %s", got)
	}
}

func TestNumbersAreNotUsedAgainSoon(t *testing.T) {
	x := newBench(t, Config{MaxPublishers: 4}, codec.Register{})
	last := x.pub.Num
	seen := map[uint16]int{last: 1}
	for i := range 1<<16 + 100 {
		h := &fakeHolder{}
		p, _, err := x.room.Publish(h, "owner", uint64(i+2), false)
		if err != nil {
			t.Fatal(err)
		}
		if p.Num == 0 || p.Num == x.pub.Num {
			t.Fatalf("number %d", p.Num)
		}
		if seen[p.Num]++; seen[p.Num] > 1 && len(seen) != 1<<16-1 {
			t.Fatalf("number %d again after %d others", p.Num, len(seen))
		}
		if err := p.Unpublish(h, x.now); err != nil {
			t.Fatal(err)
		}
		if n := len(x.room.pubs); n > 8 {
			t.Fatalf("%d publishers remembered", n)
		}
	}
}
