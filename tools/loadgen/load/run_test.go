package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(runtime.NumCPU() + 4) // see poller.wait
	os.Exit(m.Run())
}

// testConfig is a short open loop through a fake server.
func testConfig(addr string) Config {
	return Config{Target: "limit", Addr: addr, Subscribers: 3, Mode: Open, Duration: 300 * time.Millisecond, Check: true,
		Streams: []Stream{{Payload: 64, Rate: 200}}, MaxLag: time.Hour, MaxTurn: time.Hour}
}

func mustRun(t *testing.T, c Config) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Run(ctx, c, Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// quantile is the value at quantile q of sorted values, as HdrHistogram defines it.
func quantile(sorted []int64, q float64) int64 {
	return sorted[min(max(int(math.Ceil(q/100*float64(len(sorted))))-1, 0), len(sorted)-1)]
}

// tooBusy is how much later than planned the fake server may have been itself, for its delays to be the known ones, and
// how long the generator may not have looked at its sockets: within the tolerance.
const tooBusy = 12 * time.Millisecond

func withinFivePercent(t *testing.T, name string, got, want int64) {
	t.Helper()
	if d := math.Abs(float64(got-want)) / float64(want); d > 0.05 {
		t.Errorf("%s is %v, the server delayed by %v: off by %.1f %%", name, time.Duration(got), time.Duration(want), 100*d)
	}
}

// TestPercentilesOfAKnownDistribution runs against a server that delays each frame by a known time.
func TestPercentilesOfAKnownDistribution(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for range 3 {
		var last int64
		s := &fakeServer{release: func(i int, due int64) int64 {
			// At least 1 s, now and then up to 3 s, and a frame never overtakes the one before: p50 is 1.3 s, p99 2.4 s. 5 % of
			// that are 50 ms and more, which no machine makes out of nothing.
			u := math.Mod(float64(i)*math.Phi, 1)
			last = max(last, due+int64((1+2*math.Pow(u, 800))*float64(time.Second)))
			return last
		}}
		c := testConfig(startFake(t, s))
		c.Duration, c.Streams[0].Rate = 3*time.Second, 500
		r := mustRun(t, c)
		if len(r.Failed) > 0 {
			t.Fatal(r.Failed)
		}
		s.mu.Lock()
		want, overtime := slices.Sorted(slices.Values(s.latency)), s.overtime
		s.mu.Unlock()
		if overtime > tooBusy || time.Duration(r.Generator.Turn.Max) > tooBusy {
			continue // this machine had no time for one of the two; the figures would be about that
		}
		got := r.Healthy().Latency
		if got.Count != int64(3*len(want)) {
			t.Errorf("%d samples, want %d", got.Count, 3*len(want))
		}
		withinFivePercent(t, "p50", got.P50, quantile(want, 50))
		withinFivePercent(t, "p99", got.P99, quantile(want, 99))
		withinFivePercent(t, "p99.9", got.P999, quantile(want, 99.9))
		t.Logf("p50 %v of %v, p99 %v of %v, p99.9 %v of %v", time.Duration(got.P50), time.Duration(quantile(want, 50)),
			time.Duration(got.P99), time.Duration(quantile(want, 99)), time.Duration(got.P999), time.Duration(quantile(want, 99.9)))
		return
	}
	t.Skip("the machine is too busy to tell 5 %")
}

// TestStallIsInThePercentiles stalls the server for one second in four. The frames that were due meanwhile waited for
// up to that second, whether the generator could hand them over (the server delays) or not (it does not read).
func TestStallIsInThePercentiles(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const stall = time.Second
	cases := []struct {
		name    string
		payload int
		server  func() *fakeServer
		held    bool
	}{
		{"frames wait in the server", 64, func() *fakeServer {
			var until int64
			return &fakeServer{release: func(i int, due int64) int64 {
				if i == 200 {
					until = due + int64(stall)
				}
				return max(due, until)
			}}
		}, false},
		{"frames wait in the generator", 60_000, func() *fakeServer {
			return &fakeServer{stall: func(read int) {
				if read == 300 {
					time.Sleep(stall)
				}
			}}
		}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(startFake(t, c.server()))
			cfg.Duration, cfg.Subscribers, cfg.Streams[0].Payload = 4*time.Second, 1, c.payload
			r := mustRun(t, cfg)
			if len(r.Failed) > 0 {
				t.Fatal(r.Failed)
			}
			// 200 a second for 4 s: of 800 frames 200 were held up, evenly from 1 s down to nothing.
			l := r.Healthy().Latency
			if l.Max < int64(stall)*9/10 || l.P99 < int64(stall)*8/10 || l.P90 < int64(stall)*4/10 {
				t.Errorf("a stall of %v shows as p90 %v, p99 %v, max %v", stall, time.Duration(l.P90), time.Duration(l.P99), time.Duration(l.Max))
			}
			if c.held && r.Held == 0 {
				t.Error("no message is counted as held up by the server")
			}
			if len(r.Invalid) > 0 {
				t.Errorf("the server's stall was taken for the generator's: %v", r.Invalid)
			}
		})
	}
}

func TestGeneratorLagMakesARunInvalid(t *testing.T) {
	addr := startFake(t, &fakeServer{})
	cases := []struct {
		name   string
		change func(c *Config)
		want   string // part of the reason; empty: valid
	}{
		{"within its bounds", func(c *Config) {}, ""},
		{"sent late", func(c *Config) { c.MaxLag = time.Nanosecond }, "sent late"},
		{"did not look at its sockets", func(c *Config) { c.MaxTurn = time.Nanosecond }, "did not look at its sockets"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(addr)
			c.change(&cfg)
			r := mustRun(t, cfg)
			if got := strings.Join(r.Invalid, "; "); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("invalid because %q, want %q", got, c.want)
			}
			if r.OK() != (c.want == "") {
				t.Errorf("OK is %v", r.OK())
			}
		})
	}
}

// TestKilledNode kills a process in the middle of a run, at which the fake server falls silent for half a second.
func TestKilledNode(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	node := exec.Command("sleep", "60")
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = node.Wait(); close(gone) }()
	const silence = 500 * time.Millisecond
	var until int64
	c := testConfig(startFake(t, &fakeServer{release: func(i int, due int64) int64 {
		select {
		case <-gone:
			if until == 0 {
				until = due + int64(silence)
			}
		default:
		}
		return max(due, until)
	}}))
	c.Duration, c.KillPID, c.KillAfter = 1500*time.Millisecond, node.Process.Pid, 300*time.Millisecond
	r := mustRun(t, c)
	<-gone
	for _, f := range r.Failed {
		t.Error(f)
	}
	if r.Longest.Count != int64(c.Subscribers) || r.Longest.P50 < int64(silence)*9/10 {
		t.Errorf("%d subscribers heard nothing for %v, want %d for %v", r.Longest.Count, time.Duration(r.Longest.P50), c.Subscribers, silence)
	}
}

func TestViolationsFailTheRun(t *testing.T) {
	seqAt := codec.StreamHeaderSize - 6
	var saved []byte
	cases := []struct {
		name   string
		change func(i int, frame []byte) []byte
		want   string // part of the reason; empty: no failure
	}{
		{"nothing wrong", func(_ int, f []byte) []byte { return f }, ""},
		{"one frame left out", func(i int, f []byte) []byte {
			if i == 10 {
				return nil
			}
			return f
		}, "missing without an announcement"},
		{"one frame twice", func(i int, f []byte) []byte {
			if i == 10 {
				return append(f, f...)
			}
			return f
		}, "received twice"},
		{"two frames change places", func(i int, f []byte) []byte {
			switch i {
			case 10:
				saved = f
				return nil
			case 11:
				return append(f, saved...)
			}
			return f
		}, "out of order"},
		{"one byte of a payload", func(i int, f []byte) []byte {
			if i == 10 {
				f[len(f)-1]++
			}
			return f
		}, "payloads damaged"},
		{"a buffer used again", func(i int, f []byte) []byte {
			if i == 10 {
				// The payload of another frame under this one's header.
				binary.BigEndian.PutUint32(f[seqAt+6+8:], 12345)
			}
			return f
		}, "payloads damaged"},
		{"the end never comes", func(i int, f []byte) []byte {
			if i >= 40 {
				return nil
			}
			return f
		}, "never arrived"},
		{"not a frame", func(i int, f []byte) []byte {
			if i == 10 {
				return bytes.Repeat([]byte{0}, len(f))
			}
			return f
		}, "not a frame"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(startFake(t, &fakeServer{change: c.change}))
			cfg.Subscribers, cfg.Drain = 1, 200*time.Millisecond
			r := mustRun(t, cfg)
			if got := strings.Join(r.Failed, "; "); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("failed because %q, want %q", got, c.want)
			}
		})
	}
}

func startEngine(t *testing.T) string {
	t.Helper()
	e, err := engine.Start(engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = e.Shutdown(ctx)
	})
	return e.Addrs()[0].String()
}

// TestAgainstTimedge runs every kind of load for a moment against the real server.
func TestAgainstTimedge(t *testing.T) {
	addr := startEngine(t)
	video := Stream{Dtype: 1, Payload: 3000, Rate: 200, KeyEvery: 20, KeyScale: 30} // key messages of two pieces
	cases := []struct {
		name   string
		change func(c *Config)
		gaps   bool // some must have been announced
	}{
		{"fan-out", func(c *Config) { c.Mode, c.Subscribers = Closed, 50 }, false},
		{"large messages", func(c *Config) { c.Mode, c.Streams[0].Payload = Closed, 500_000 }, false},
		{"many rooms", func(c *Config) { c.Rooms, c.Subscribers = 50, 2 }, false},
		{"meeting", func(c *Config) {
			c.Publishers, c.Subscribers, c.Streams = 4, 4, []Stream{{Dtype: 2, Payload: 160, Rate: 100}, video}
		}, false},
		{"latest", func(c *Config) { c.Policy, c.Publishers = "latest", 4 }, false},
		{"lossless", func(c *Config) { c.Policy, c.Mode, c.Streams[0].Payload = "lossless", Closed, 60_000 }, false},
		{"late joiners", func(c *Config) { c.Subscribers, c.Late, c.Streams = 20, 0.5, []Stream{video} }, true},
		{"churn", func(c *Config) { c.Subscribers, c.Churn, c.Streams = 20, 50, []Stream{video} }, true},
		{"slow readers", func(c *Config) {
			c.Subscribers, c.Stalled, c.Half, c.Streams = 10, 0.2, 0.2, []Stream{{Payload: 20_000, Rate: 1000, KeyEvery: 50}}
		}, false},
		{"idle", func(c *Config) { c.Idle, c.Subscribers, c.Streams = true, 100, nil }, false},
		{"connections at a rate", func(c *Config) { c.ConnRate, c.Subscribers = 500, 50 }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(addr)
			cfg.Target, cfg.Loops = "timedge", 2
			c.change(&cfg)
			r := mustRun(t, cfg)
			for _, f := range r.Failed {
				t.Error(f)
			}
			if !cfg.Idle && r.Healthy().Counts.Messages == 0 {
				t.Error("nothing was delivered")
			}
			gaps := uint64(0)
			for _, cl := range r.Classes {
				gaps += cl.Counts.Gaps
			}
			if c.gaps && gaps == 0 {
				t.Error("no gap was announced")
			}
		})
	}
}

func TestPeersCannotDoWhatTheyCannot(t *testing.T) {
	for _, change := range []func(c *Config){
		func(c *Config) { c.Rooms = 2 },
		func(c *Config) { c.Policy = "lossless" },
	} {
		c := testConfig("127.0.0.1:1")
		change(&c)
		if _, err := Run(t.Context(), c, Hooks{}); err == nil || !strings.Contains(err.Error(), ErrCannot.Error()) {
			t.Errorf("got %v", err)
		}
	}
}

func TestValidateReportsEverything(t *testing.T) {
	c := Config{Mode: "fast", Policy: "strict", Streams: []Stream{{Payload: 3}, {Payload: 16, Rate: 1}}, Stalled: 0.7, Late: 0.7}
	c.SetDefaults()
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"no server address", "duration", "mode", "policy", "at least 16 bytes", "dtype 0 is taken", "shares"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported: %v", want, err)
		}
	}
}

func TestResultsSurviveJSONAndMerge(t *testing.T) {
	addr := startFake(t, &fakeServer{})
	a, b := mustRun(t, testConfig(addr)), mustRun(t, testConfig(addr))
	var parts []*Result
	for _, r := range []*Result{a, b} {
		if err := r.Encode(); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Result
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, &back)
	}
	m, err := Merge(a.Config, parts)
	if err != nil {
		t.Fatal(err)
	}
	la, lb, lm := a.Healthy().Latency, b.Healthy().Latency, m.Healthy().Latency
	if lm.Count != la.Count+lb.Count || lm.Max != max(la.Max, lb.Max) {
		t.Errorf("merged %d samples up to %d, want %d up to %d", lm.Count, lm.Max, la.Count+lb.Count, max(la.Max, lb.Max))
	}
	if m.Deliveries != a.Deliveries+b.Deliveries || m.Healthy().Subscribers != 6 {
		t.Errorf("merged %d deliveries of %d subscribers", m.Deliveries, m.Healthy().Subscribers)
	}
}

func TestSplit(t *testing.T) {
	base := Config{Addr: "x", Rooms: 1, Subscribers: 10, Mode: Open, Duration: 1, Streams: []Stream{{Payload: 16, Rate: 1}}, ServerPID: 5}
	parts, err := Split(base, 3, []uint64{77})
	if err != nil {
		t.Fatal(err)
	}
	subs := 0
	for i, p := range parts {
		subs += p.Subscribers
		if p.Listen != (i > 0) || p.RoomIDs[0] != 77 || (p.ServerPID != 0) != (i == 0) {
			t.Errorf("part %d: %+v", i, p)
		}
	}
	if subs != 10 {
		t.Errorf("%d subscribers in all, want 10", subs)
	}
	base.Rooms = 7
	parts, err = Split(base, 3, []uint64{1, 2, 3, 4, 5, 6, 7})
	if err != nil {
		t.Fatal(err)
	}
	rooms := 0
	for _, p := range parts {
		if p.First != rooms || p.FirstRoom != rooms || len(p.RoomIDs) != p.Rooms || p.RoomIDs[0] != uint64(rooms+1) || p.Listen {
			t.Errorf("%+v", p)
		}
		rooms += p.Rooms
	}
	if rooms != 7 {
		t.Errorf("%d rooms in all, want 7", rooms)
	}
	base.Rooms, base.Mode = 1, Closed
	if _, err := Split(base, 2, nil); err == nil {
		t.Error("a closed loop over one room was split")
	}
}
