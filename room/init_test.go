package room

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// edgeOf returns another node's fresh mirror of a bench's room, fed by a link that has asked for it with a position, as
// for a first subscriber that resumes.
func edgeOf(t *testing.T, was *bench, have []codec.Position) *bench {
	x := otherNode(t, was)
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
	return x
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
			x := edgeOf(t, was, was.at1(c.have))
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
	node := edgeOf(t, x, x.at1(2))
	node.wantScript(node.back(Join{Account: "first"}, 2), 1, "3 4i 5 6")
	node.wantScript(node.viewer(Join{Account: "later"}), 1, "1i 2-2 joined 3 4i 5 6")
}
