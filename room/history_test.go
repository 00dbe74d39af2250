package room

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// frameSize is the size of a frame that bench.script pushes.
const frameSize = 100 + codec.StreamHeaderSize

// Who joins late begins as far back as the room's history goes, at a frame where a decoder can start.
func TestHistory(t *testing.T) {
	second := int64(time.Second)
	frames := func(n uint64) codec.Keep { return codec.Keep{HistoryBytes: n * frameSize} }
	for _, c := range []struct {
		name   string
		policy codec.Policy
		keep   codec.Keep
		script []string // a second apart
		later  int64    // then
		want   string
	}{
		{"none", codec.PolicyLive, codec.Keep{}, []string{"1", "2", "3"}, 0, "[1-3 joined]"},
		{"bytes", codec.PolicyLive, frames(2), []string{"1", "2", "3", "4"}, 0, "[1-2 joined 3 4]"},
		{"bytes, not quite", codec.PolicyLive, codec.Keep{HistoryBytes: 3*frameSize - 1},
			[]string{"1", "2", "3", "4"}, 0, "[1-2 joined 3 4]"},
		{"bytes, more than there are", codec.PolicyLive, frames(9), []string{"1", "2", "3", "4"}, 0, "[1 2 3 4]"},
		{"bytes do not age", codec.PolicyLive, frames(2), []string{"1", "2", "3", "4"}, 100 * second, "[1-2 joined 3 4]"},
		{"age", codec.PolicyLive, codec.Keep{HistoryMillis: 2000}, []string{"1", "2", "3", "4"}, 0, "[1-1 joined 2 3 4]"},
		{"age, later", codec.PolicyLive, codec.Keep{HistoryMillis: 2000},
			[]string{"1", "2", "3", "4"}, 2 * second, "[1-3 joined 4]"},
		{"age, all too old", codec.PolicyLive, codec.Keep{HistoryMillis: 2000},
			[]string{"1", "2", "3", "4"}, 3 * second, "[1-4 joined]"},
		{"both, bytes are nearer", codec.PolicyLive, codec.Keep{HistoryBytes: 2 * frameSize, HistoryMillis: 60_000},
			[]string{"1", "2", "3", "4"}, 0, "[1-2 joined 3 4]"},
		{"both, age is nearer", codec.PolicyLive, codec.Keep{HistoryBytes: 3 * frameSize, HistoryMillis: 1000},
			[]string{"1", "2", "3", "4"}, 0, "[1-2 joined 3 4]"},
		{"whole messages", codec.PolicyLive, frames(3), []string{"1", "2>", "3<", "4>", "5<"}, 0, "[1-3 joined 4> 5<]"},
		{"one longer than that", codec.PolicyLive, frames(1), []string{"1", "2>", "3><", "4<"}, 0, "[1-4 joined]"},
		{"the message that goes on", codec.PolicyLive, frames(1), []string{"1", "2>", "3><"}, 0, "[1-1 joined 2> 3><]"},
		{"a gap in it", codec.PolicyLive, codec.Keep{HistoryMillis: 3000},
			[]string{"1", "2", "3-5", "6"}, 0, "[1 2 3-5 publisher 6]"},
		{"behind the init message", codec.PolicyLive, frames(4),
			[]string{"1i", "2", "3", "4i", "5", "6"}, 0, "[1-3 joined 4i 5 6]"},
		{"after the init message", codec.PolicyLive, frames(2), []string{"1i", "2", "3", "4"}, 0, "[1i 2-2 joined 3 4]"},
		{"key frames: never later than without", codec.PolicyLive, frames(1),
			[]string{"1k", "2", "3k", "4", "5"}, 0, "[1-2 joined 3k 4 5]"},
		{"key frames: at one", codec.PolicyLive, frames(4), []string{"1k", "2", "3k", "4", "5k"}, 0, "[1-2 joined 3k 4 5k]"},
		{"key frames: lines of a chat", codec.PolicyLive, frames(3),
			[]string{"1k", "2k", "3k", "4k"}, 0, "[1-1 joined 2k 3k 4k]"},
		{"key frames: before the first", codec.PolicyLive, frames(4), []string{"1", "2", "3", "4k"}, 0, "[1-3 joined 4k]"},
		{"disconnect", codec.PolicyDisconnect, frames(2), []string{"1", "2", "3", "4"}, 0, "[1-2 joined 3 4]"},
		{"lossless", codec.PolicyLossless, frames(2), []string{"1", "2", "3", "4"}, 0, "[1-2 joined 3 4]"},
		{"lossless, none", codec.PolicyLossless, codec.Keep{}, []string{"1", "2", "3", "4"}, 0, "[1-4 joined]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{History: 1}, codec.Register{Policy: c.policy, Keep: c.keep})
			for _, word := range c.script {
				x.now += second
				x.script(1, word)
			}
			v := x.newViewer()
			x.now += c.later
			x.loop.now = x.now
			x.join(v, Join{Account: "late"})
			v.take(1 << 30)
			if got := fmt.Sprint(v.stream(x.key(1)).script); got != c.want {
				t.Errorf("a late joiner gets %s, want %s", got, c.want)
			}
			// It goes on, and what the history does not want is let go of.
			next := v.stream(x.key(1)).expected
			if v.stream(x.key(1)).prev.End() {
				x.script(1, fmt.Sprintf("%dk", next))
				x.loop.drain()
				v.take(1 << 30)
				if got := v.stream(x.key(1)).script; got[len(got)-1] != fmt.Sprintf("%dk", next) {
					t.Errorf("the next frame after %v", got)
				}
			}
		})
	}
}

// Frames of one batch are not all or nothing.
func TestHistoryWithinBatch(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{Keep: codec.Keep{HistoryBytes: 3 * frameSize}})
	var frames []byte
	for seq := uint64(1); seq <= 10; seq++ {
		frames = x.message(frames, 1, seq, 0, 1, 100)
	}
	x.push(frames)
	v := x.viewer(Join{Account: "late"})
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(x.key(1)).script); got != "[1-7 joined 8 9 10]" {
		t.Error(got)
	}
}

// What is kept goes when time has passed, also if nothing comes, and counts for the bounds on logs: over them the
// oldest goes, nothing else.
func TestHistoryBounded(t *testing.T) {
	const room = 64 << 10
	x := newBench(t, Config{CacheRoom: room, History: 1}, codec.Register{Keep: codec.Keep{HistoryMillis: 60_000}})
	x.script(2, "1k", "2")
	for seq := uint64(1); seq <= 1000; seq++ {
		x.push(x.message(nil, 1, seq, 0, 1, 100))
		if n := x.room.cacheBytes; n > room {
			t.Fatalf("%d bytes are cached", n)
		}
	}
	if n := x.room.cacheBytes; n < room/2 {
		t.Errorf("%d bytes are cached, there is room for %d", n, room)
	}
	if n := x.table.Stats().CacheOverflows.Load(); n != 0 {
		t.Errorf("%d logs were emptied", n)
	}
	v := x.viewer(Join{Account: "late"})
	v.take(1 << 30)
	if got := v.stream(x.key(1)).script; len(got) < 50 || got[len(got)-1] != "1000" {
		t.Errorf("a late joiner gets %v", got)
	}
	if got := fmt.Sprint(v.stream(x.key(2)).script); got != "[1k 2]" {
		t.Errorf("a late joiner gets %v of the other stream", got)
	}
	x.at(x.now + 61e9)
	if n := x.stream(1).logCost; n > 1<<10 {
		t.Errorf("%d bytes are cached a minute later", n)
	}
}

// A lossless room's publisher is acknowledged as without history, and nobody has to acknowledge what is kept.
func TestHistoryLossless(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{Policy: codec.PolicyLossless, Keep: codec.Keep{HistoryBytes: 1 << 20}})
	early := x.viewer(Join{Account: "early"})
	x.script(1, "1", "2", "3")
	x.loop.drain()
	early.take(1 << 30)
	ack := func(v *viewer, seq, want uint64) {
		t.Helper()
		if err := x.room.Ack(v, x.key(1), seq, x.now); err != nil {
			t.Fatal(err)
		}
		if got := x.stream(1).acked.Load(); got != want {
			t.Errorf("%d is acknowledged, want %d", got, want)
		}
	}
	ack(early, 2, 2)
	late := x.viewer(Join{Account: "late"})
	late.take(1 << 30)
	if got := fmt.Sprint(late.stream(x.key(1)).script); got != "[1 2 3]" {
		t.Errorf("a late joiner gets %s", got)
	}
	ack(late, 1, 2)
	ack(early, 3, 2)
	ack(late, 2, 2)
	ack(late, 3, 3)
}

// TestHistoryRefused: what cannot be, or is more than a room may keep.
func TestHistoryRefused(t *testing.T) {
	table := NewTable(Config{CacheRoom: 1 << 20}, nil, &Pool{})
	for name, m := range map[string]codec.Register{
		"latest":         {Policy: codec.PolicyLatest, Keep: codec.Keep{HistoryBytes: 1}},
		"too many bytes": {Keep: codec.Keep{HistoryBytes: 1<<20 + 1}},
		"far too many":   {Keep: codec.Keep{HistoryBytes: 1<<64 - 1}},
		"too long":       {Keep: codec.Keep{HistoryMillis: 24*3600*1000 + 1}},
		"far too long":   {Keep: codec.Keep{HistoryMillis: 1<<64 - 1}},
	} {
		if _, err := table.conf().settings(&m); !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHistoryLogSize: the log's own account of its bytes is true whatever happens to it.
func TestHistoryLogSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.Uint64Range(0, 5000)
		keep := codec.Keep{HistoryBytes: few.Draw(t, "bytes"), HistoryMillis: few.Draw(t, "age")}
		x := openBench(t, Config{CacheRoom: 20_000, History: 1}, codec.Register{Keep: keep})
		defer x.end()
		next := uint64(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				x.at(x.now + rapid.Int64Range(0, 3e9).Draw(t, "time"))
			default:
				n := rapid.IntRange(1, 4).Draw(t, "pieces")
				flags := codec.Flags(rapid.SampledFrom([]int{0, 0, 0, int(codec.FlagKey), int(codec.FlagInit)}).Draw(t, "flags"))
				x.push(x.message(nil, 1, next, flags, n, rapid.IntRange(8, 900).Draw(t, "size")))
				next += uint64(n)
			}
			s, size, cost := x.stream(1), 0, 0
			for _, sp := range s.spans() {
				size, cost = size+len(sp.bytes()), cost+sp.cost
			}
			if size != s.logSize || cost != s.logCost {
				t.Fatalf("the log has %d bytes and costs %d, counted %d and %d", size, cost, s.logSize, s.logCost)
			}
			v := x.viewer(Join{Account: "late"}) // which checks what it gets
			v.take(1 << 30)
			if got := v.stream(x.key(1)).expected; got != next && got != 1 {
				t.Fatalf("a late joiner stands at %d of %d", got, next)
			}
		}
	})
}

// TestKeepTravels: what a room keeps it keeps at other nodes, and when another node takes it over.
func TestKeepTravels(t *testing.T) {
	keep := codec.Keep{HistoryBytes: 5000, HistoryMillis: 60_000, Occupied: true}
	was := newBench(t, Config{}, codec.Register{Keep: keep})
	st := was.room.State()
	if st.Keep != keep {
		t.Errorf("the state has %+v", st.Keep)
	}
	x := newBench(t, Config{}, codec.Register{})
	mirror, err := x.table.Mirror(&st.RoomHead, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if got := mirror.Settings(); got.History != was.room.set.History || !got.Occupied {
		t.Errorf("a mirror has %+v", got)
	}
	r, err := x.table.Restore(st, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.State().Keep; got != keep {
		t.Errorf("after a takeover %+v", got)
	}
}

// A node that has nothing of the room is given its history also when its first subscriber has been there before: others
// will come who have not.
func TestHistoryOfNewNode(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyDisconnect, codec.PolicyLossless} {
		x := newBench(t, Config{History: 1}, codec.Register{Policy: policy, Keep: codec.Keep{HistoryBytes: 3 * frameSize}})
		x.script(1, "1", "2", "3", "4", "5")
		v := x.newViewer()
		v.stream(x.key(1)).expected = 3
		x.join(v, Join{Link: "n2", New: true, Have: []codec.Position{{StreamKey: x.key(1), Last: 5}}})
		v.take(1 << 30)
		if got := fmt.Sprint(v.stream(x.key(1)).script); got != "[3 4 5]" {
			t.Errorf("%v: the node is given %s", policy, got)
		}
	}
}

// A mirror keeps two windows for those who may need them when its node comes to relay the room, but not for ever: what
// it holds goes by the rate of the stream, and goes also if nothing more comes.
func TestWindowsOfAMirrorAreLetGoOf(t *testing.T) {
	x, _ := mirrorOf(t, newBench(t, Config{History: 1}, codec.Register{}))
	seq := 0
	push := func(seconds int) {
		for range seconds {
			seq++
			x.at(x.now + int64(time.Second))
			x.script(1, fmt.Sprint(seq))
			x.loop.drain()
		}
	}
	keeps := func() int { return len(x.stream(1).spans()) }
	push(20)
	if n := keeps(); n != 20 {
		t.Errorf("%d frames are kept of 20 in 20 seconds", n)
	}
	push(100)
	if n, most := keeps(), int(windowsFor/time.Second)+2; n > most || n < most-4 {
		t.Errorf("%d frames are kept, one came each second, and for %v they are to be kept", n, windowsFor)
	}
	for range 60 {
		x.at(x.now + int64(time.Second))
	}
	if n := keeps(); n > 1 {
		t.Errorf("%d frames are kept a minute after the last", n)
	}
}
