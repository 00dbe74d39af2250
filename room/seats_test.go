package room

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// acked returns what the publisher is told of a stream by now.
func (x *bench) acked(dtype uint8) (seq uint64) {
	for _, s := range x.pub.streams {
		if s.key.Dtype == dtype {
			seq = s.acked.Load()
		}
	}
	return seq
}

func (x *bench) ack(v *viewer, seq uint64) {
	x.t.Helper()
	if err := x.room.Ack(v, x.key(1), seq, x.now); err != nil {
		x.t.Fatal(err)
	}
}

func losslessBench(t *testing.T) *bench {
	return newBench(t, Config{Window: 1 << 20}, codec.Register{Policy: codec.PolicyLossless})
}

func TestSlowestSubscriberRules(t *testing.T) {
	x := losslessBench(t)
	x.script(1, "1", "2")
	if x.acked(1) != 2 {
		t.Fatalf("with nobody there %d is acknowledged, want 2", x.acked(1))
	}
	a, b := x.viewer(Join{Account: "a"}), x.viewer(Join{Account: "b"})
	x.script(1, "3", "4", "5", "6")
	x.loop.drain()
	for _, step := range []struct {
		who  *viewer
		seq  uint64
		want uint64
	}{{a, 5, 2}, {b, 3, 3}, {b, 2, 3}, {a, 6, 3}, {b, 6, 6}} {
		x.ack(step.who, step.seq)
		if got := x.acked(1); got != step.want {
			t.Fatalf("after an ack of %d: %d, want %d", step.seq, got, step.want)
		}
	}
	if x.pub.pushed.Load() != x.pub.done.Load() {
		t.Errorf("%d bytes pushed, %d arrived", x.pub.pushed.Load(), x.pub.done.Load())
	}
	if n := x.table.CacheBytes(); n != 0 {
		t.Errorf("%d bytes kept though all have all", n)
	}
	if err := x.room.Ack(a, x.key(1), 7, x.now); !errors.Is(err, ErrFlow) {
		t.Errorf("ack of what was never sent: %v", err)
	}
	if err := x.room.Ack(a, x.key(9), 7, x.now); err != nil {
		t.Errorf("ack of a stream that does not exist: %v", err)
	}
	if err := x.room.Ack(x.newViewer(), x.key(1), 1, x.now); err != nil {
		t.Errorf("ack of one who has left: %v", err)
	}
}

// A batch is acknowledged frame by frame, and so the publisher may send as much again.
func TestPartOfABatchArrives(t *testing.T) {
	x := losslessBench(t)
	v := x.viewer(Join{Account: "v"})
	var run []byte
	for seq := uint64(1); seq <= 10; seq++ {
		run = x.message(run, 1, seq, 0, 1, 100)
	}
	x.push(run)
	x.loop.drain()
	size := int64(len(run) / 10)
	for _, seq := range []uint64{1, 4, 5, 9, 10} {
		x.ack(v, seq)
		if owed, want := x.pub.pushed.Load()-x.pub.done.Load(), int64(10-seq)*size; owed != want {
			t.Errorf("after an ack of %d: %d bytes have not arrived, want %d", seq, owed, want)
		}
	}
}

func TestLosslessLateJoinStartsAtTheOldestUnacknowledged(t *testing.T) {
	x := losslessBench(t)
	slow := x.viewer(Join{Account: "slow"})
	x.script(1, "1", "2>", "3<>", "4<", "5", "6-7", "8")
	x.loop.drain()
	x.ack(slow, 2) // within a message
	late := x.viewer(Join{Account: "late"})
	late.take(1 << 30)
	if got := strings.Join(late.stream(x.key(1)).script, " "); got != "1-4 joined 5 6-7 publisher 8" {
		t.Errorf("got %s", got)
	}
	x.ack(slow, 8)
	if x.acked(1) != 4 {
		t.Errorf("%d is acknowledged, want 4: the late one has nothing else", x.acked(1))
	}
	x.ack(late, 8)
	if x.acked(1) != 8 {
		t.Errorf("%d is acknowledged, want 8", x.acked(1))
	}
	slow.take(1 << 30)
}

func TestLosslessStall(t *testing.T) {
	stall := int64(10 * time.Second)
	x := losslessBench(t)
	good, bad := x.viewer(Join{Account: "good"}), x.viewer(Join{Account: "bad"})
	x.at(x.now + 2*stall)
	x.script(1, "1", "2")
	x.loop.drain()
	x.ack(good, 2)
	x.at(x.now + stall)
	x.ack(bad, 1) // moves, late
	x.at(x.now + stall)
	if len(bad.cuts) != 0 {
		t.Fatal("cut off though it moves")
	}
	x.at(x.now + 1)
	if fmt.Sprint(bad.cuts) != fmt.Sprint([]codec.Code{codec.CodeTooSlow}) || len(good.cuts) != 0 {
		t.Fatalf("cuts: %v, %v", bad.cuts, good.cuts)
	}
	if x.acked(1) != 2 || x.table.Stats().CutOff.Load() != 1 {
		t.Errorf("%d is acknowledged, %d cut off", x.acked(1), x.table.Stats().CutOff.Load())
	}
	bad.q.Clear()
}

func TestLosslessPlaceIsKept(t *testing.T) {
	stall := int64(10 * time.Second)
	for _, c := range []struct {
		name   string
		wait   int64
		acked  uint64 // just before it comes back
		forget bool   // it comes back without positions
		want   string
	}{
		{"comes back in time", stall, 2, false, "3 4 5"},
		{"comes back too late", stall + 1, 4, false, "3-4 expired 5"},
		{"comes back and has forgotten", stall, 2, true, "1-2 joined 3 4 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := losslessBench(t)
			v := x.viewer(Join{Account: "v", Instance: 9})
			x.script(1, "1", "2", "3")
			x.loop.drain()
			v.take(240) // joined, frame 1 and a part of 2
			v.take(1 << 30)
			x.ack(v, 2)
			x.loop.unsubscribe(v, true)
			x.script(1, "4")
			v.stream(x.key(1)).expected = 3 // it had not got frame 3
			v.stream(x.key(1)).prev = 0
			x.at(x.now + c.wait)
			if x.acked(1) != c.acked {
				t.Fatalf("%d is acknowledged, want %d", x.acked(1), c.acked)
			}
			j := Join{Account: "v", Instance: 9}
			v.reconnect(x.room)
			if c.forget {
				v.streams = make(map[codec.StreamKey]*viewed)
			} else {
				j.Have = v.have()
			}
			v.stream(x.key(1)).script = nil
			x.join(v, j)
			x.script(1, "5")
			x.loop.drain()
			v.take(1 << 30)
			if got := strings.Join(v.stream(x.key(1)).script, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			x.ack(v, 5)
			if x.acked(1) != 5 || len(x.room.seats.seats) != 1 {
				t.Errorf("%d is acknowledged, %d seats", x.acked(1), len(x.room.seats.seats))
			}
		})
	}
}

func TestLosslessNewerSessionReplacesOlder(t *testing.T) {
	x := losslessBench(t)
	old := x.viewer(Join{Account: "v"})
	x.script(1, "1", "2")
	x.loop.drain()
	old.take(1 << 30)
	v := x.newViewer()
	v.streams, v.joined = old.streams, old.joined
	x.join(v, Join{Account: "v", Have: old.have()})
	if fmt.Sprint(old.cuts) != fmt.Sprint([]codec.Code{codec.CodeReplaced}) {
		t.Fatalf("the older one is told %v", old.cuts)
	}
	if x.room.subs != 1 || len(x.room.seats.seats) != 1 {
		t.Errorf("%d subscribers, %d seats", x.room.subs, len(x.room.seats.seats))
	}
	x.ack(v, 2)
	x.script(1, "3")
	x.loop.drain()
	v.take(1 << 30)
	x.ack(v, 3)
	if x.acked(1) != 3 {
		t.Errorf("%d is acknowledged, want 3", x.acked(1))
	}
}

// TestLosslessNewerSessionWithNothing: a client whose connection broke before it had anything takes its seat again,
// whether or not the server knows that the older connection is dead. Otherwise that seat would owe acknowledgements.
func TestLosslessNewerSessionWithNothing(t *testing.T) {
	x := losslessBench(t)
	old := x.viewer(Join{Account: "v", Instance: 9})
	v := x.newViewer()
	x.join(v, Join{Account: "v", Instance: 9})
	if fmt.Sprint(old.cuts) != fmt.Sprint([]codec.Code{codec.CodeReplaced}) || len(x.room.seats.seats) != 1 {
		t.Fatalf("the older one is told %v; %d seats", old.cuts, len(x.room.seats.seats))
	}
	x.script(1, "1", "2")
	x.loop.drain()
	v.take(1 << 30)
	if x.ack(v, 2); x.acked(1) != 2 {
		t.Errorf("%d is acknowledged, want 2", x.acked(1))
	}
}

// A subscriber that came with all of a stream, and has been told that the publisher left, hears no more of it when it
// comes back. Its seat has acknowledged nothing here, since there was nothing to acknowledge.
func TestLosslessHasHeardThatThePublisherLeft(t *testing.T) {
	x := losslessBench(t)
	x.script(1, "1", "2", "3")
	v := x.back(Join{Account: "v", Instance: 9}, 3)
	if err := x.pub.Unpublish(x.hold, x.now); err != nil {
		t.Fatal(err)
	}
	x.wantScript(v, 1, "")
	if len(v.lefts) != 1 {
		t.Fatalf("it hears %v", v.lefts)
	}
	x.loop.unsubscribe(v, true)
	v.reconnect(x.room)
	clear(v.streams) // the number may come again
	x.join(v, Join{Account: "v", Instance: 9})
	if v.take(1 << 30); len(v.lefts) != 1 || len(v.streams) != 0 {
		t.Errorf("it hears %v, and of %d streams", v.lefts[1:], len(v.streams))
	}
}

func TestLosslessPublisherLeaves(t *testing.T) {
	x := losslessBench(t)
	v := x.viewer(Join{Account: "v"})
	x.script(1, "1", "2")
	x.loop.drain()
	if err := x.pub.Unpublish(x.hold, x.now); err != nil {
		t.Fatal(err)
	}
	x.at(x.now + 9e9)
	x.ack(v, 1)
	x.at(x.now + 9e9) // forgotten
	if err := x.room.Ack(v, x.key(1), 2, x.now); err != nil {
		t.Fatal(err)
	}
	x.at(x.now + 30e9)
	if len(v.cuts) != 0 {
		t.Error("cut off for a stream that is no more")
	}
	v.take(1 << 30)
}

// What a subscriber owes of a publisher that has left is no reason to cut it off for the frames of another that have
// only just come. Seeds 14236 and 19165 found it: a link, and a subscriber, were cut off as too slow.
func TestLosslessStallsAnewBehindALeft(t *testing.T) {
	x := losslessBench(t)
	v := x.viewer(Join{Account: "v"})
	x.script(1, "1", "2")
	x.at(x.now + 5e9)
	if err := x.pub.Unpublish(x.hold, x.now); err != nil {
		t.Fatal(err)
	}
	x.at(x.now + 3e9)
	x.republish()
	x.script(1, "1")
	x.at(x.now + 3e9)
	if len(v.cuts) != 0 {
		t.Fatalf("cut off with %v, three seconds after a publisher's first frame", v.cuts)
	}
	x.at(x.now + 11e9)
	if len(v.cuts) != 1 {
		t.Errorf("cuts: %v, want one", v.cuts)
	}
	v.q.Clear()
}

// client is a viewer with what it should have acknowledged.
type client struct {
	*viewer
	name  string
	acked uint64
}

// startedAt takes over what a late joiner is told that it has missed.
func (c *client) startedAt(s *viewed) {
	for _, w := range s.script {
		if to := uint64(0); strings.Contains(w, "joined") {
			fmt.Sscanf(w, "1-%d", &to)
			c.acked = max(c.acked, to)
		}
	}
}

// TestLosslessModel lets subscribers come, go, acknowledge and resume at random. The publisher is acknowledged what the
// slowest has, never more; whoever keeps its place gets every frame from where it began.
func TestLosslessModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := openBench(rt, Config{Window: 1 << 20}, codec.Register{Policy: codec.PolicyLossless})
		var clients []*client
		next, told := uint64(1), uint64(0)
		for range rapid.IntRange(5, 80).Draw(rt, "steps") {
			switch op := rapid.IntRange(0, 11).Draw(rt, "op"); {
			case op < 5:
				n := rapid.IntRange(1, 4).Draw(rt, "pieces")
				x.push(x.message(nil, 1, next, 0, n, 50))
				next += uint64(n)
			case op == 5:
				c := &client{viewer: x.viewer(Join{Account: fmt.Sprint(len(clients))}), name: fmt.Sprint(len(clients))}
				c.take(1 << 30)
				if s := c.streams[x.key(1)]; s != nil {
					c.startedAt(s)
				}
				clients = append(clients, c)
			case op < 9 && len(clients) > 0:
				c := clients[rapid.IntRange(0, len(clients)-1).Draw(rt, "who")]
				x.loop.drain()
				if s := c.streams[x.key(1)]; c.member && s != nil {
					c.take(rapid.IntRange(0, 2000).Draw(rt, "taken"))
					if seq := s.expected - 1; seq > c.acked {
						c.acked = seq - uint64(rapid.IntRange(0, int(seq-c.acked)-1).Draw(rt, "behind"))
						x.ack(c.viewer, c.acked)
					}
				} else if c.member {
					c.take(rapid.IntRange(0, 2000).Draw(rt, "taken"))
				}
			case op == 9 && len(clients) > 0:
				c := clients[rapid.IntRange(0, len(clients)-1).Draw(rt, "who")]
				x.loop.drain()
				if c.member {
					x.loop.unsubscribe(c.viewer, true)
				} else {
					// Within the stall time nothing that it may need has been let go.
					if s := c.streams[x.key(1)]; s != nil {
						s.script = nil
					}
					c.reconnect(x.room)
					have := c.have()
					x.join(c.viewer, Join{Account: c.name, Have: have})
					c.take(1 << 30)
					if s := c.streams[x.key(1)]; s != nil {
						if strings.Contains(fmt.Sprint(s.script), "expired") {
							rt.Fatalf("client %s missed frames: %v", c.name, s.script)
						}
						if c.startedAt(s); len(have) > 0 {
							c.acked = max(c.acked, have[0].Last)
						}
					}
				}
			}
			low := next - 1
			for _, c := range clients {
				low = min(low, c.acked)
			}
			x.counted()
			if got := x.acked(1); got < told || got > low && got > told {
				rt.Fatalf("%d is acknowledged; the slowest has %d, %d was told before", got, low, told)
			}
			told = x.acked(1)
		}
		x.loop.drain()
		for _, c := range clients {
			if !c.member {
				c.q.Clear()
			}
		}
		x.end()
	})
}

// An edge that leaves a lossless room's relay for another, and comes back because that one had no right to it, goes on
// where it was, though it counted no more meanwhile.
func TestLosslessEdgeLeavesAndComesBack(t *testing.T) {
	x := newBench(t, Config{Clustered: true}, codec.Register{Policy: codec.PolicyLossless})
	edge, own := x.viewer(Join{Link: "edge"}), x.viewer(Join{Account: "own"})
	x.script(1, "1", "2")
	x.loop.drain()
	edge.take(1 << 30)
	own.take(1 << 30)
	x.ack(edge, 1)
	x.ack(own, 2)
	x.wantAcked(1)
	x.loop.unsubscribe(edge, false)
	x.wantAcked(2)
	x.wantScript(x.back(Join{Link: "edge"}, 1), 1, "2")
}
