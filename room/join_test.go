package room

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

func TestLateJoin(t *testing.T) {
	live, latest, lossless := codec.PolicyLive, codec.PolicyLatest, codec.PolicyLossless
	small := Config{CacheRoom: 1}
	for _, c := range []struct {
		name   string
		policy codec.Policy
		cfg    Config
		before string
		after  string
		want   string
	}{
		{"nothing pushed", live, Config{}, "", "1", "1"},
		{"init, gap, newest group", live, Config{}, "1i 2k 3 4k 5", "6", "1i 2-3 joined 4k 5 6"},
		{"several init messages in a row", live, Config{}, "1i 2i 3k 4k 5", "6", "1i 2i 3-3 joined 4k 5 6"},
		{"newer init replaces", live, Config{}, "1i 2k 3i 4k 5", "", "1-2 joined 3i 4k 5"},
		{"init within the group", live, Config{}, "1k 2 3i 4", "5", "1k 2 3i 4 5"},
		{"init after the group's key is for the next group", live, Config{}, "1i 2k 3 4k 5i 6", "7",
			"1i 2-3 joined 4k 5i 6 7"},
		{"init after the group's key, next group", live, Config{}, "1i 2k 3i 4 5k 6", "7", "1-2 joined 3i 4-4 joined 5k 6 7"},
		{"newest of two inits after the group's key", live, Config{}, "1i 2k 3i 4 5i 6i 7k", "8", "1-4 joined 5i 6i 7k 8"},
		{"emptied cache, init within the group", live, small, "1i 2k 3i 4", "5 6k", "1-4 joined 5-5 joined 6k"},
		{"key and init in one", live, Config{}, "1ki 2 3ki 4", "5", "1-2 joined 3ki 4 5"},
		{"key of several pieces", live, Config{}, "1k 2 3k> 4k<> 5k<", "6", "1-2 joined 3k> 4k>< 5k< 6"},
		{"key message in progress", live, Config{}, "1k 2 3k> 4k<>", "5k< 6", "1-2 joined 3k> 4k>< 5k< 6"},
		{"delta in progress", live, Config{}, "1k 2 3> 4<>", "5< 6", "1k 2 3> 4>< 5< 6"},
		{"init in progress", live, Config{}, "1k 2 3i>", "4i< 5k", "1k 2 3i> 4i< 5k"},
		{"no keys", live, Config{}, "1 2 3", "4", "1-3 joined 4"},
		{"no keys, init", live, Config{}, "1i 2 3", "4", "1i 2-3 joined 4"},
		{"no keys, message in progress", live, Config{}, "1 2> 3<>", "4< 5", "1-1 joined 2> 3>< 4< 5"},
		{"publisher's gap in the group", live, Config{}, "1k 2-4 5", "6", "1k 2-4 publisher 5 6"},
		{"publisher's gap within a message", live, Config{}, "1k 2> 3-3 4", "5", "1k 2> 3-3 publisher 4 5"},
		{"emptied cache waits for a key", live, small, "1k 2 3", "4 5 6k 7", "1-3 joined 4-5 joined 6k 7"},
		{"emptied cache, delta begun since", live, small, "1k 2 3>", "4< 5 6k", "1-3 joined 4-5 joined 6k"},
		{"emptied cache, no keys", live, small, "1 2", "3", "1-2 joined 3"},
		{"emptied cache, no keys, message in progress", live, small, "1 2>", "3< 4", "1-2 joined 3-3 joined 4"},
		{"latest: the newest message", latest, Config{}, "1 2 3", "4", "1-2 joined 3 4"},
		{"latest: keys mean nothing", latest, Config{}, "1k 2 3", "4", "1-2 joined 3 4"},
		{"latest: in progress", latest, Config{}, "1 2 3> 4<>", "5<", "1-2 joined 3> 4>< 5<"},
		{"latest: init is no newest", latest, Config{}, "1 2 3i", "4", "1-1 joined 2 3i 4"},
		{"latest: emptied cache", latest, small, "1k 2>", "3< 4", "1-2 joined 3-3 joined 4"},
		{"lossless: all has arrived", lossless, Config{}, "1 2 3", "4", "1-3 joined 4"},
		{"lossless: keys mean nothing", lossless, Config{}, "1k 2 3", "4", "1-3 joined 4"},
		{"lossless: message in progress", lossless, Config{}, "1 2> 3<>", "4< 5", "1-3 joined 4-4 joined 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, c.cfg, codec.Register{Policy: c.policy})
			x.script(7, strings.Fields(c.before)...)
			v := x.viewer(Join{Account: "v"})
			if got := x.after(v, c.after); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// after has a member take what waits for it, pushes what comes after that, and returns all of the stream that it had.
func (x *bench) after(v *viewer, script string) string {
	v.take(1 << 30)
	x.script(7, strings.Fields(script)...)
	x.loop.drain()
	v.q.Tell(&v.Sub, x.now)
	v.take(1 << 30)
	return strings.Join(v.stream(x.key(7)).script, " ")
}

func TestLateJoinFromWithinABatch(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	var b []byte
	for seq, flags := range []codec.Flags{codec.FlagKey, 0, codec.FlagKey, 0} {
		b = x.message(b, 1, uint64(seq+1), flags, 1, 8)
	}
	x.push(b)
	// An init message and the beginning of another in one batch, of which only the first is over.
	x.push(append(x.message(nil, 2, 1, codec.FlagInit, 1, 8), x.message(nil, 2, 2, codec.FlagInit, 2, 8)[:28]...))
	v := x.viewer(Join{})
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(x.key(1)).script, v.stream(x.key(2)).script); got != "[1-2 joined 3k 4] [1i 2i>]" {
		t.Error(got)
	}
}

// Its session has not learnt its number yet: a client that has come back by another node asks for both at once, and a
// mirror that is there already admits the subscriber before the relay has answered the publisher.
func TestNoEcho(t *testing.T) {
	for name, open := range map[string]func(*bench) *bench{
		"relay":  func(x *bench) *bench { return x },
		"mirror": func(x *bench) *bench { m, _ := mirrorOf(t, x); return m },
	} {
		x := open(newBench(t, Config{}, codec.Register{}))
		x.script(7, "1k", "2")
		v := x.viewer(Join{Account: "owner", Instance: 1, NoEcho: true})
		other := x.viewer(Join{Account: "owner", Instance: 2, NoEcho: true})
		x.script(7, "3")
		x.loop.drain()
		v.take(1 << 30)
		other.take(1 << 30)
		if len(v.streams) != 0 || !v.joined[x.pub.Num] {
			t.Errorf("%s: the publisher hears itself: %v", name, v.streams)
		}
		if got := fmt.Sprint(other.stream(x.key(7)).script); got != "[1k 2 3]" {
			t.Errorf("%s: another session of the account gets %s", name, got)
		}
	}
}

func TestCacheBoundOverAllRooms(t *testing.T) {
	x := newBench(t, Config{CacheAll: 10_000}, codec.Register{})
	for seq := uint64(1); seq <= 200; seq++ {
		flags := codec.Flags(0)
		if seq == 1 {
			flags = codec.FlagInit
		}
		x.push(x.message(nil, 1, seq, flags, 1, 1000))
		x.table.Balance(1 << 40)
		if n := x.table.CacheBytes(); n > 10_000 {
			t.Fatalf("%d bytes cached", n)
		}
	}
	if x.table.Stats().CacheOverflows.Load() == 0 {
		t.Error("no overflow counted")
	}
	for dtype := range 50 { // init messages are bounded too
		x.push(x.message(nil, uint8(dtype+10), 1, codec.FlagInit, 1, 1000))
		x.table.Balance(1 << 40)
		if n := x.table.CacheBytes(); n > 10_000 {
			t.Fatalf("%d bytes cached", n)
		}
	}
}

func TestInitsTooLongAreNotRetained(t *testing.T) {
	x := newBench(t, Config{Window: 16 << 20, MaxPayload: 1 << 20}, codec.Register{})
	for seq := uint64(1); seq <= 20; seq++ {
		x.push(x.message(nil, 1, seq, codec.FlagInit, 1, 60<<10))
	}
	x.push(x.message(nil, 1, 21, codec.FlagKey, 1, 8))
	x.push(x.message(nil, 1, 22, codec.FlagKey, 1, 8))
	v := x.viewer(Join{})
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(x.key(1)).script); got != "[1-21 joined 22k]" {
		t.Error(got)
	}
}

func TestSubscribeRefusals(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{MaxSubs: 2})
	a := x.viewer(Join{})
	x.viewer(Join{})
	if err := x.loop.subscribe(x.newViewer(), Join{}); !errors.Is(err, ErrFull) {
		t.Fatalf("third of two: %v", err)
	}
	a.take(1 << 30)
	x.loop.unsubscribe(a, false)
	x.viewer(Join{})
	x.table.EndAll(codec.CodeRemoved)
	if err := x.loop.subscribe(x.newViewer(), Join{}); !errors.Is(err, ErrUnknown) {
		t.Fatalf("ended room: %v", err)
	}
}

// TestSeam joins, leaves and resumes at random between pushes, over two loops that lag behind at random: each
// subscriber sees every frame once, or is told that it will not, and can decode from the first frame that is no init
// on.
func TestSeam(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := rapid.SampledFrom([]codec.Policy{codec.PolicyLive, codec.PolicyLatest, codec.PolicyDisconnect,
			codec.PolicyLossless}).Draw(rt, "policy")
		cfg := Config{
			History:   rapid.SampledFrom([]int{1, 2000, 1 << 20}).Draw(rt, "history"),
			CacheRoom: rapid.SampledFrom([]int{1 << 20, 8000}).Draw(rt, "cache"),
			Window:    1 << 20,
		}
		x := openBench(rt, cfg, codec.Register{Policy: policy})
		loops := []*fakeLoop{x.loop, {room: x.room, pool: x.pool, now: x.now}}
		var here, away []*viewer
		home, name := make(map[*viewer]*fakeLoop), make(map[*viewer]string)
		next := map[uint8]uint64{1: 1, 2: 1}
		open := map[uint8]int{}
		flags := map[uint8]codec.Flags{}
		keyed := false
		for range rapid.IntRange(5, 80).Draw(rt, "steps") {
			l := loops[rapid.IntRange(0, 1).Draw(rt, "loop")]
			switch op := rapid.IntRange(0, 19).Draw(rt, "op"); {
			case op < 9: // stream 1 has keys and inits, stream 2 has neither
				d := uint8(rapid.IntRange(1, 2).Draw(rt, "dtype"))
				if rapid.IntRange(0, 14).Draw(rt, "gap") == 0 {
					x.script(d, fmt.Sprintf("%d-%d", next[d], next[d]+1))
					next[d] += 2
					open[d] = 0
					break
				}
				var b []byte
				for range rapid.IntRange(1, 4).Draw(rt, "frames") {
					f := codec.FlagCont
					if open[d] == 0 {
						open[d], flags[d], f = max(1, rapid.IntRange(-3, 3).Draw(rt, "pieces")), 0, 0
						if d == 1 {
							flags[d] = rapid.SampledFrom([]codec.Flags{0, 0, 0, codec.FlagKey, codec.FlagInit}).Draw(rt, "flags")
							if !keyed {
								flags[d], keyed = codec.FlagKey, true
							}
						}
					}
					open[d]--
					if f |= flags[d]; open[d] > 0 {
						f |= codec.FlagMore
					}
					b = x.message(b, d, next[d], f, 1, rapid.IntRange(8, 400).Draw(rt, "size"))
					next[d]++
				}
				x.push(b)
			case op < 11:
				v := x.newViewer()
				home[v], name[v] = l, fmt.Sprint(len(name))
				if err := l.subscribe(v, Join{Account: name[v]}); err != nil {
					rt.Fatal(err)
				}
				here = append(here, v)
			case op == 11 && len(here) > 0:
				i := rapid.IntRange(0, len(here)-1).Draw(rt, "who")
				if v := here[i]; v.member {
					v.take(rapid.IntRange(0, 3000).Draw(rt, "taken"))
					home[v].unsubscribe(v, true)
					here, away = slices.Delete(here, i, i+1), append(away, v)
				}
			case op == 12 && len(away) > 0:
				v := away[len(away)-1]
				away = away[:len(away)-1]
				v.reconnect(x.room)
				home[v] = l
				if err := l.subscribe(v, Join{Account: name[v], Have: v.have()}); err != nil {
					rt.Fatal(err)
				}
				here = append(here, v)
			case op < 17:
				l.drain()
			default:
				for _, v := range here {
					v.take(rapid.IntRange(0, 2000).Draw(rt, "taken"))
				}
			}
		}
		x.now += int64(time.Second) / 2
		for _, l := range loops {
			l.now = x.now
			l.drain()
		}
		for _, v := range here {
			if v.cutOff {
				rt.Fatal("cut off")
			}
			v.q.Tell(&v.Sub, x.now)
			v.take(1 << 30)
			for d, n := range next {
				s := v.streams[x.key(d)]
				if n > 1 && (s == nil || s.expected != n) {
					rt.Fatalf("stream %d ends at %+v, pushed up to %d", d, s, n-1)
				}
				if d == 1 && s != nil && (policy == codec.PolicyLive || policy == codec.PolicyDisconnect) {
					wantDecodable(rt, s.script)
				}
			}
		}
		for _, l := range loops {
			for len(l.members) > 0 {
				l.unsubscribe(l.members[0], false)
			}
		}
		for v := range home {
			v.q.Clear()
		}
		x.end()
	})
}

// wantDecodable checks that after every gap that is not the publisher's the first frame that is no init message is a
// key.
func wantDecodable(t *rapid.T, script []string) {
	need := false
	for i, s := range script {
		switch {
		case s == "resumed": // a subscriber that waits for a key when its connection breaks has to go on waiting by itself
			need = false
		case strings.Contains(s, " "):
			need = need || !strings.Contains(s, "publisher")
		case need && !strings.Contains(s, "i"):
			if !strings.Contains(s, "k") || strings.Contains(s, "<") {
				t.Fatalf("%s is no key (item %d of %v)", s, i, script)
			}
			need = false
		}
	}
}

// In a lossless room a late joiner begins with what not all have consumed, and gets the header of that, not of what
// comes behind it.
func TestLateJoinerOfALosslessRoomGetsTheHeaderOfItsFirstFrame(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{Policy: codec.PolicyLossless})
	slow := x.viewer(Join{Account: "slow", Instance: 1})
	x.script(1, "1i>", "2i<", "3", "4", "5i", "6", "7i", "8")
	x.loop.drain()
	slow.take(1 << 30)
	for _, step := range []struct {
		acked uint64
		want  string
	}{
		{0, "[1i> 2i< 3 4 5i 6 7i 8]"},
		{3, "[1i> 2i< 3-3 joined 4 5i 6 7i 8]"},
		{5, "[1-4 joined 5i 6 7i 8]"},
		{7, "[1-6 joined 7i 8]"},
	} {
		if err := x.room.Ack(slow, x.key(1), step.acked, x.now); err != nil {
			t.Fatal(err)
		}
		late := x.newViewer()
		x.join(late, Join{Account: "late", Instance: step.acked + 10})
		late.take(1 << 30)
		if got := fmt.Sprint(late.stream(x.key(1)).script); got != step.want {
			t.Errorf("with %d acknowledged: %s, want %s", step.acked, got, step.want)
		}
		x.loop.unsubscribe(late, false)
	}
}

// What says that a replay is over is the end of it: a member that is cut off before it has had it all, because its room
// has moved, is not told that it has.
func TestReplayIsOverWhenAllOfItHasGone(t *testing.T) {
	for _, cut := range []bool{false, true} {
		x := newBench(t, Config{}, codec.Register{})
		x.script(1, "1k", "2", "3")
		v := x.newViewer()
		x.loop.end = &codec.OK{Req: 7}
		x.join(v, Join{Link: "b", New: true})
		if cut {
			v.q.Forget(&v.Sub)
		}
		ended := false
		v.tap = func(_ []byte, typ byte) { ended = typ == codec.TypeOK }
		v.take(1 << 30)
		if ended == cut || v.joined[x.pub.Num] == cut {
			t.Errorf("cut off: %v; it has heard of the publisher: %v, and of the end: %v", cut, v.joined[x.pub.Num], ended)
		}
	}
}
