package room

import (
	"crypto/rand"
	"strings"
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

// restored is a bench whose room has come from another node: the publisher is there by the state alone, and its session with it. fill, if
// it is not nil, acts on the mirror that this node had before.
func restored(t *testing.T, cfg Config, reg codec.Register, fill func(x *bench)) *bench {
	t.Helper()
	was := newBench(t, cfg, reg)
	st := was.room.State()
	x := &bench{t: t, pool: &Pool{}, hold: &fakeHolder{}, now: 5e9, broken: make(map[codec.Position]bool)}
	x.table = NewTable(cfg, rand.Reader, x.pool)
	t.Cleanup(x.end)
	if fill != nil {
		r, err := x.table.Mirror(&st.RoomHead, x.now)
		if err != nil {
			t.Fatal(err)
		}
		x.room, x.loop = r, &fakeLoop{room: r, pool: x.pool, now: x.now}
		if x.pub, err = r.Told(x.hold, was.pub.Num, "owner"); err != nil {
			t.Fatal(err)
		}
		fill(x)
	}
	r, err := x.table.Restore(st, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if x.room = r; x.loop == nil {
		x.loop = &fakeLoop{room: r, pool: x.pool, now: x.now}
	}
	x.republish()
	return x
}

// republish is the publisher's session coming, or coming back.
func (x *bench) republish() {
	x.t.Helper()
	var err error
	if x.pub, _, err = x.room.Publish(x.hold, "owner", 1, false); err != nil {
		x.t.Fatal(err)
	}
}

// wantScript checks what a subscriber got of a stream so far.
func (x *bench) wantScript(v *viewer, dtype uint8, want string) {
	x.t.Helper()
	x.loop.drain()
	v.q.Tell(&v.Sub, x.now)
	v.take(1 << 30)
	if got := strings.Join(v.stream(x.key(dtype)).script, " "); got != want {
		x.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// back returns a subscriber that comes from another node, where it has had stream 1 up to seq.
func (x *bench) back(j Join, seq uint64) *viewer {
	x.t.Helper()
	v := x.newViewer()
	s := v.stream(x.key(1))
	s.expected, s.resumed = seq+1, true
	j.Have = x.at1(seq)
	x.join(v, j)
	return v
}

// A subscriber of a restored room is not waited for to acknowledge what it has had elsewhere.
func TestSeatOfAStreamYetToCome(t *testing.T) {
	for _, c := range []struct {
		policy codec.Policy
		join   Join
	}{{codec.PolicyLossless, Join{Account: "v"}}, {codec.PolicyLive, Join{Link: "edge"}}} {
		x := restored(t, Config{}, codec.Register{Policy: c.policy}, nil)
		v := x.back(c.join, 7)
		x.script(1, "4", "5", "6", "7")
		x.loop.drain()
		x.wantAcked(7)
		x.script(1, "8")
		x.wantScript(v, 1, "8")
		x.wantAcked(7)
		x.ack(v, 8)
		x.wantAcked(8)
	}
}

// A mirror may not know yet a stream that a subscriber has had elsewhere.
func TestMirrorWithoutTheStream(t *testing.T) {
	was := newBench(t, Config{}, codec.Register{})
	x := newBench(t, Config{}, codec.Register{})
	r, err := x.table.Mirror(&was.room.State().RoomHead, x.now)
	if err != nil {
		t.Fatal(err)
	}
	x.room, x.loop.room = r, r
	if x.pub, err = r.Told(x.hold, was.pub.Num, "owner"); err != nil {
		t.Fatal(err)
	}
	v := x.back(Join{Account: "v"}, 4)
	if err := x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 1, To: 2, Reason: codec.GapLost}, x.now); err != nil {
		t.Fatal(err)
	}
	x.script(1, "3", "4", "5")
	x.wantScript(v, 1, "5")
	v.q.Clear()
}
