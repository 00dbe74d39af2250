package room

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// wantAcked checks how much of stream 1 the publisher is acknowledged, and, when that is all, that its window is whole.
func (x *bench) wantAcked(seq uint64) {
	x.t.Helper()
	if got := x.acked(1); got != seq {
		x.t.Fatalf("%d is acknowledged, want %d", got, seq)
	}
	if owed := x.pub.pushed.Load() - x.pub.done.Load(); x.stream(1).next == seq+1 && owed != 0 {
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

// restored is a bench whose room has come from another node: the publisher is there by the state alone, and its session
// with it. fill, if it is not nil, acts on the mirror that this node had before.
func restored(t *testing.T, cfg Config, reg codec.Register, fill func(x *bench)) *bench {
	t.Helper()
	was := newBench(t, cfg, reg)
	st := was.room.State()
	var x *bench
	if fill == nil {
		x = otherNode(t, was)
	} else {
		x, _ = mirrorOf(t, was)
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

// otherNode returns a table without rooms, on another node.
func otherNode(t *testing.T, of *bench) *bench {
	x := &bench{t: t, pool: &Pool{}, hold: &fakeHolder{}, now: 5e9, broken: make(map[codec.Position]bool)}
	x.table = NewTable(of.table.Config(), rand.Reader, x.pool)
	t.Cleanup(x.end)
	return x
}

// mirrorOf returns another node's mirror of a bench's room, with its publisher, and what makes a publisher of the relay
// known there.
func mirrorOf(t *testing.T, of *bench) (x *bench, told func(num uint16, account string) *Publisher) {
	x = otherNode(t, of)
	r, err := x.table.Mirror(&of.room.State().RoomHead, x.now)
	if err != nil {
		t.Fatal(err)
	}
	r.Whole(0)
	x.room, x.loop = r, &fakeLoop{room: r, pool: x.pool, now: x.now}
	told = func(num uint16, account string) *Publisher {
		p, err := r.Told(0, x.hold, num, account, codec.Life{}, codec.ClientMark(r.ID, account, 1))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	x.pub = told(of.pub.Num, "owner")
	return x, told
}

// TestNewestFeeds: of two links that feed a mirror, since the word that the first is not wanted any more comes late,
// the one asked last counts.
func TestNewestFeeds(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	r, err := x.table.Mirror(&codec.RoomHead{Room: x.room.ID + 1, Owner: "owner"}, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Feed(1) || !r.Feed(2) || r.Feed(1) {
		t.Error("not the newest feed is the one")
	}
	older, newer := &fakeHolder{}, &fakeHolder{}
	if _, err := r.Told(2, newer, 1, "owner", codec.Life{}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Told(1, older, 1, "owner", codec.Life{}, 0); err != ErrFed {
		t.Errorf("the older one's publisher: %v", err)
	}
	r.Whole(1)
	r.ToldLeft(1, 1, codec.CodeLeft, x.now)
	if r.IsWhole() {
		t.Error("the older one has made the mirror whole")
	}
	r.Whole(2)
	holder := Holder(nil)
	r.Publishers(func(_ uint16, _ string, h Holder) bool { holder = h; return true })
	if !r.IsWhole() || holder != Holder(newer) {
		t.Errorf("whole: %v; the publisher's holder is %v", r.IsWhole(), holder)
	}
}

// republish is the publisher's session coming, or coming back.
func (x *bench) republish() {
	x.t.Helper()
	var err error
	if x.pub, _, err = x.room.Publish(x.hold, "owner", 1, false); err != nil {
		x.t.Fatal(err)
	}
}

// pushGap pushes a gap in stream 1.
func (x *bench) pushGap(from, to uint64, why codec.GapReason) {
	x.t.Helper()
	if err := x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: from, To: to, Reason: why}, x.now); err != nil {
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

// A subscriber that comes while a restored room settles is told from 1 what it misses of a stream, once.
func TestFreshStreamsBeginOnce(t *testing.T) {
	x := restored(t, Config{}, codec.Register{}, nil)
	v := x.viewer(Join{Account: "v"})
	x.script(1, "1", "2", "3")
	x.wantScript(v, 1, "1 2 3")
	x.script(2, "5<", "6", "7", "8")
	x.wantScript(v, 2, "1-5 lost 6 7 8")
	late := x.viewer(Join{Account: "late"})
	x.script(1, "4", "5")
	x.script(2, "9", "10")
	x.wantScript(late, 1, "1-3 joined 4 5")
	x.wantScript(late, 2, "1-8 joined 9 10")
	x.wantScript(v, 2, "1-5 lost 6 7 8 9 10")
	x.at(x.now + 10e9)
	x.script(1, "6")
	x.wantScript(v, 1, "1 2 3 4 5 6")
	x.wantScript(late, 1, "1-3 joined 4 5 6")
	if v.Slow() || late.Slow() {
		t.Error("slow for ever")
	}
}

// Whoever is in a mirror that becomes the room is told what it misses of streams that the mirror did not know, and
// misses nothing of those that it did.
func TestMembersInPlace(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		var v *viewer
		x := restored(t, Config{}, codec.Register{Policy: policy}, func(x *bench) {
			v = x.viewer(Join{Account: "v"})
			x.script(1, "1", "2", "3")
		})
		x.script(1, "2", "3", "4") // sent again from the first that is not acknowledged
		x.script(2, "5", "6")
		x.script(3, "5-6", "7")
		x.script(4, "3<", "4<", "5")
		if policy == codec.PolicyLossless {
			x.wantAcked(0)
			x.ack(v, 4)
		}
		x.wantScript(v, 1, "1 2 3 4")
		x.wantScript(v, 2, "1-4 lost 5 6")
		x.wantScript(v, 3, "1-4 lost 5-6 publisher 7")
		x.wantScript(v, 4, "1-3 lost 4-4 lost 5")
		for dtype, seq := range map[uint8]uint64{2: 6, 3: 7, 4: 5} {
			if err := x.room.Ack(v, x.key(dtype), seq, x.now); err != nil {
				t.Fatal(err)
			}
		}
		x.wantAcked(4)
	}
}

// A publisher that a merge brings later begins with a loss for who is in the room.
func TestMembersAtAMerge(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	v := x.viewer(Join{Account: "v"})
	st := x.room.State()
	st.Publishers = []codec.PublisherState{{Num: 77, Account: "owner", Instance: 5}}
	x.room.Merge(st, x.now)
	var err error
	if x.pub, _, err = x.room.Publish(x.hold, "owner", 5, false); err != nil || x.pub.Num != 77 {
		t.Fatal(x.pub, err)
	}
	other := x.back(Join{Account: "other"}, 8)
	x.script(1, "7", "8", "9")
	x.wantScript(v, 1, "1-6 lost 7 8 9")
	x.wantScript(other, 1, "9")
}

// When a room has settled nothing begins anywhere, and who came before is told nothing wrong by it, however late its
// loop is.
func TestEndOfSettling(t *testing.T) {
	x := restored(t, Config{}, codec.Register{}, nil)
	v := x.viewer(Join{Account: "v"})
	settles := x.now + x.table.conf().Settle.Nanoseconds()
	x.now = settles - 1
	x.script(1, "5", "6")
	x.now = settles
	x.script(2, "5", "6")
	x.script(3, "5-5", "6")
	x.loop.now = settles + 1e9
	x.wantScript(v, 1, "1-4 lost 5 6")
	x.wantScript(v, 2, "1-4 lost 5 6")
	x.wantScript(v, 3, "1-4 lost 5-5 publisher 6")
}

// A gap in a log keeps the reason that it came with.
func TestReplayedGapsKeepTheirReason(t *testing.T) {
	x := restored(t, Config{}, codec.Register{}, func(x *bench) {
		x.script(1, "1")
		x.pushGap(2, 3, codec.GapExpired)
		x.script(1, "4")
	})
	x.script(1, "6", "7-7", "8")
	v := x.back(Join{Account: "v"}, 1)
	x.wantScript(v, 1, "2-3 expired 4 5-5 lost 6 7-7 publisher 8")
}

// liveBench is a live room with the links of two nodes.
func liveBench(t *testing.T) (x *bench, a, b *viewer) {
	x = newBench(t, Config{}, codec.Register{})
	return x, x.viewer(Join{Link: "a"}), x.viewer(Join{Link: "b"})
}

// In a live room a frame has arrived when the loops and the links have it.
func TestSlowestOfLoopsAndLinks(t *testing.T) {
	x, a, b := liveBench(t)
	x.script(1, "1", "2", "3")
	x.ack(a, 3)
	x.ack(b, 2)
	x.wantAcked(0)
	x.loop.drain()
	x.wantAcked(2)
	x.loop.unsubscribe(b, false)
	x.wantAcked(3)
	x.script(1, "4")
	x.loop.drain()
	x.wantAcked(3)
	x.ack(a, 4)
	x.wantAcked(4)
	x.loop.unsubscribe(a, false)
	x.viewer(Join{})
	x.script(1, "5")
	x.loop.drain()
	x.wantAcked(5)
	a.q.Clear()
	b.q.Clear()
}

// A link that lags does not count, also if it moves, until it has what was acknowledged without it, also if it never
// has everything.
func TestLinkThatLags(t *testing.T) {
	x, a, b := liveBench(t)
	lag := int64(time.Second)
	x.script(1, "1", "2")
	x.loop.drain()
	x.ack(a, 2)
	x.at(x.now + lag)
	x.ack(b, 1)
	x.script(1, "3")
	x.loop.drain()
	x.at(x.now + 1)
	x.wantAcked(2) // b owes frame 2 for too long
	x.ack(a, 3)
	x.wantAcked(3)
	x.ack(b, 2)
	x.script(1, "4", "5")
	x.loop.drain()
	x.ack(a, 4)
	x.wantAcked(4)
	x.ack(b, 4) // has all that was acknowledged, but not 5
	x.ack(a, 5)
	x.wantAcked(4)
	x.ack(b, 5)
	x.wantAcked(5)
	if len(a.cuts)+len(b.cuts) != 0 {
		t.Error("cut off in a live room")
	}
	a.take(1 << 30)
	b.take(1 << 30)
}

// The seat of a broken link counts until the lag time is over, or its node is gone.
func TestSeatOfABrokenLink(t *testing.T) {
	for _, gone := range []bool{false, true} {
		x, a, b := liveBench(t)
		x.loop.unsubscribe(b, true)
		x.script(1, "1")
		x.loop.drain()
		x.ack(a, 1)
		x.wantAcked(0)
		if gone {
			x.table.Vacate("b")
		} else {
			x.at(x.now + int64(time.Second))
			x.wantAcked(0)
			x.at(x.now + 1)
		}
		x.wantAcked(1)
		if n := len(x.room.seats.seats); n != 1 {
			t.Errorf("%d seats", n)
		}
		b.q.Clear()
	}
}

// A batch counts as a whole for links, in frames as in bytes: a publisher told of a part would send more than the
// window has.
func TestLinkAcknowledgesWithinABatch(t *testing.T) {
	x, a, b := liveBench(t)
	x.push(x.message(x.message(nil, 1, 1, 0, 1, 100), 1, 2, 0, 1, 100))
	x.loop.drain()
	x.ack(a, 2)
	x.ack(b, 1)
	x.wantAcked(0)
	x.ack(b, 2)
	x.wantAcked(2)
}

// Who is not sent its own frames does not owe them, neither at a mirror, which knows it by its number only.
func TestNoEchoOwesNothing(t *testing.T) {
	mirror := func(x *bench) *bench {
		m, _ := mirrorOf(t, x)
		return m
	}
	for name, open := range map[string]func(*bench) *bench{"relay": func(x *bench) *bench { return x }, "mirror": mirror} {
		for _, late := range []bool{false, true} {
			x := open(losslessBench(t))
			x.script(1, "1")
			j := Join{Account: "owner", Instance: 1, NoEcho: true, Mute: x.pub.Num}
			if late {
				j.Instance, j.Mute = 9, 0
			}
			v := x.viewer(j)
			if late {
				x.script(1, "2")
				x.room.Mute(v, x.pub.Num)
				v.mute = x.pub.Num
			} else {
				x.script(1, "2")
			}
			x.script(1, "3")
			x.script(2, "1")
			x.loop.drain()
			x.wantAcked(3)
			if x.at(x.now + 60e9); len(v.cuts) != 0 {
				t.Errorf("%s, late %v: cut off for frames that it was not sent", name, late)
			}
			v.take(1 << 30)
		}
	}
}

// A live room that nobody has a seat in any more is as it was before, also for what is on its way.
func TestLastLinkLeaves(t *testing.T) {
	x, a, b := liveBench(t)
	x.script(1, "1", "2")
	x.loop.unsubscribe(a, false)
	x.loop.unsubscribe(b, true)
	v := x.newViewer()
	if err := x.loop.subscribe(v, Join{}); err != nil {
		t.Fatal(err)
	}
	x.room.sweepSeats(x.now + 2e9)
	if x.room.seats != nil || len(x.table.watched()) != 0 {
		t.Fatal("still watched")
	}
	x.script(1, "3")
	x.wantAcked(0)
	x.loop.drain()
	x.wantAcked(3)
	c := x.viewer(Join{Link: "c"})
	x.script(1, "4")
	x.loop.drain()
	x.wantAcked(3)
	x.ack(c, 4)
	x.wantAcked(4)
	x.room.Hold(x.now + 1e9)
	x.loop.unsubscribe(c, false)
	x.script(1, "5")
	x.loop.drain()
	x.wantAcked(4)
	x.at(x.now + 1e9)
	x.wantAcked(5)
	if x.room.seats != nil || len(x.table.watched()) != 0 {
		t.Error("still watched")
	}
	a.q.Clear()
	b.q.Clear()
	c.q.Clear()
}

// A relay that meets another, and goes on above it, keeps all for those who come over from there, ahead of it: its own
// log was only as long as a late joiner needs.
func TestLogsAfterAMerge(t *testing.T) {
	x := newBench(t, Config{History: 1}, codec.Register{})
	x.script(1, "1k", "2")
	x.room.Merge(x.room.State(), x.now)
	x.script(1, "3k", "4", "5k", "6", "7k", "8")
	x.wantScript(x.back(Join{Link: "edge"}, 4), 1, "5k 6 7k 8")
	x.at(x.now + x.table.conf().Settle.Nanoseconds())
	x.wantScript(x.back(Join{Account: "late"}, 4), 1, "5-6 expired 7k 8")
}
