package room

import (
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// edgeOf returns another node's fresh mirror of a bench's room, fed by a link that has asked for it with a position, as
// for a first subscriber that resumes; with none as for one who joins late. What is pushed later feed brings there.
func edgeOf(t *testing.T, was *bench, have []codec.Position) (x *bench, feed func()) {
	x = otherNode(t, was)
	r, err := x.table.Mirror(&was.room.State().RoomHead, x.now)
	if err != nil {
		t.Fatal(err)
	}
	x.room, x.loop = r, &fakeLoop{room: r, pool: x.pool, now: x.now}
	fed := map[uint16]*Publisher{}
	link := was.newViewer()
	link.fail = func(string, ...any) {} // a mirror may be sent what lies below the position
	link.tap = func(frame []byte, typ byte) {
		if typ&codec.TypeStream != 0 {
			run, _ := ScanRun(frame)
			if _, err := fed[run.Key.Pub].Push(x.hold, run, x.now); err != nil {
				t.Errorf("frame %d: %v", run.First, err)
			}
			return
		}
		m, _ := codec.ParseControl(frame)
		switch m := m.(type) {
		case *codec.Joined:
			fed[m.Pub], _ = x.room.Told(0, x.hold, m.Pub, m.Account, codec.Life{}, m.Mark)
			x.pub = fed[m.Pub]
		case *codec.Gap:
			if err := fed[m.Pub].PushGap(x.hold, *m, x.now); err != nil {
				t.Errorf("gap %d-%d: %v", m.From, m.To, err)
			}
		}
	}
	was.join(link, Join{Link: "edge", Have: have, New: true})
	link.take(1 << 30)
	r.Whole(0)
	return x, func() {
		was.loop.drain()
		link.take(1 << 30)
	}
}

// The first subscriber of a mirror resumes, and so needs no init message; who joins after it does.
func TestInitInMirrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy codec.Policy
		have   uint64
		first  string
		late   string
	}{
		{"live", codec.PolicyLive, 6, "7", "1i 2-4 joined 5k 6 7"},
		{"live, at the end", codec.PolicyLive, 7, "", "1i 2-4 joined 5k 6 7"},
		{"lossless", codec.PolicyLossless, 6, "7", "1i 2-6 joined 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := newBench(t, Config{History: 1}, codec.Register{Policy: c.policy})
			v := was.viewer(Join{Account: "keeps"})
			was.script(1, "1i", "2k", "3", "4", "5k", "6", "7")
			was.loop.drain()
			v.take(1 << 30)
			if c.policy == codec.PolicyLossless {
				was.ack(v, 6)
			}
			x, _ := edgeOf(t, was, was.at1(c.have))
			first := x.back(Join{Account: "first"}, c.have)
			x.wantScript(first, 1, c.first)
			x.wantScript(x.viewer(Join{Account: "late"}), 1, c.late)
		})
	}
}

// In a lossless room a node may come whose subscribers are behind all that are there. Who joins late begins where they
// are, with the init message that goes by that; and so does a node that has nothing.
func TestInitOfWhatIsBehind(t *testing.T) {
	x := newBench(t, Config{Clustered: true}, codec.Register{Policy: codec.PolicyLossless})
	own := x.viewer(Join{Account: "own"})
	x.script(1, "1i", "2", "3", "4i", "5", "6")
	x.loop.drain()
	own.take(1 << 30)
	x.ack(own, 6)
	x.wantAcked(6)
	x.wantScript(x.back(Join{Link: "edge"}, 2), 1, "3 4i 5 6")
	x.wantScript(x.viewer(Join{Account: "late"}), 1, "1i 2-2 joined 3 4i 5 6")
	node, _ := edgeOf(t, x, x.at1(2))
	node.wantScript(node.back(Join{Account: "first"}, 2), 1, "3 4i 5 6")
	node.wantScript(node.viewer(Join{Account: "later"}), 1, "1i 2-2 joined 3 4i 5 6")
}

// Who joins late at a node that mirrors the room anew is told how far each stream has come, also if that node was given
// nothing of it since its first subscriber had all; and whoever has the beginning of a message gets its rest there.
func TestHowFarStreamsHaveComeInMirrors(t *testing.T) {
	const late = -1
	for _, c := range []struct {
		name   string
		policy codec.Policy
		log    string // pushed before the node comes
		acked  uint64 // of that, in a lossless room, by another
		have   int64  // of the first subscriber
		after  string // pushed then
		first  string // what who resumes at the frame acknowledged gets, or at the end
		late   string
	}{
		{"a publisher that rests", codec.PolicyLive, "1 2 3", 0, 3, "", "", "1-3 joined"},
		{"and goes on", codec.PolicyLive, "1 2 3", 0, 3, "4 5", "4 5", "1-3 joined 4 5"},
		{"a publisher that rests, lossless", codec.PolicyLossless, "1 2 3", 3, 3, "", "", "1-3 joined"},
		{"and goes on, lossless", codec.PolicyLossless, "1 2 3", 3, 3, "4 5", "4 5", "1-3 joined 4 5"},
		{"within a message", codec.PolicyLossless, "1 2> 3<>", 3, 3, "4< 5", "4< 5", "1-3 joined 4-4 joined 5"},
		{"within a message, live", codec.PolicyLive, "1 2> 3<>", 0, 3, "4< 5", "4< 5", "1-1 joined 2> 3>< 4< 5"},
		{"within a message, behind a header", codec.PolicyLossless, "1i 2 3> 4<>", 4, 4, "5< 6", "5< 6",
			"1i 2-4 joined 5-5 joined 6"},
		{"a message that is there, behind a header", codec.PolicyLossless, "1i 2 3> 4<> 5< 6", 4, 4, "", "5< 6",
			"1i 2-5 joined 6"},
		{"the first joins late", codec.PolicyLossless, "1 2> 3<> 4< 5", 2, late, "", "3>< 4< 5", "1-4 joined 5"},
		{"the first joins late, within a message", codec.PolicyLossless, "1 2> 3<>", 3, late, "4< 5", "4< 5",
			"1-3 joined 4-4 joined 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := newBench(t, Config{History: 1}, codec.Register{Policy: c.policy})
			v := was.viewer(Join{Account: "keeps"})
			was.script(1, strings.Fields(c.log)...)
			was.loop.drain()
			v.take(1 << 30)
			if c.policy == codec.PolicyLossless {
				was.ack(v, c.acked)
			}
			var have []codec.Position
			if c.have != late {
				have = was.at1(uint64(c.have))
			}
			x, feed := edgeOf(t, was, have)
			first := x.back(Join{Account: "first"}, max(c.acked, uint64(max(c.have, 0))))
			joins := x.viewer(Join{Account: "late"})
			was.script(1, strings.Fields(c.after)...)
			feed()
			x.wantScript(first, 1, c.first)
			x.wantScript(joins, 1, c.late)
			if c.after != "" { // what is told of the middle of a message depends on when they come
				return
			}
			x.wantScript(x.viewer(Join{Account: "later"}), 1, c.late)
		})
	}
}

// Who comes back to a mirror from before the gap with which that begins does not go on within a message either.
func TestBackFromBeforeAMirrorsBeginning(t *testing.T) {
	was := newBench(t, Config{}, codec.Register{Policy: codec.PolicyLossless})
	v := was.viewer(Join{Account: "keeps"})
	was.script(1, "1i", "2", "3", "4>", "5<>")
	was.loop.drain()
	v.take(1 << 30)
	was.ack(v, 5)
	x, feed := edgeOf(t, was, was.at1(5))
	first, behind := x.back(Join{Account: "first"}, 5), x.back(Join{Account: "behind"}, 2)
	was.script(1, "6<>")
	feed()
	after := x.back(Join{Account: "after"}, 2)
	was.script(1, "7<", "8")
	feed()
	x.wantScript(first, 1, "6>< 7< 8")
	x.wantScript(behind, 1, "3-5 expired 6-7 expired 8")
	x.wantScript(after, 1, "3-5 expired 6-6 expired 7-7 expired 8")
}
