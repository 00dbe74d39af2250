package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// TestMain lets the test program stand in for loadgen when a shared run starts its parts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"part", "version", "--version"}, os.Args[1]) {
		main()
		return
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + 4)
	os.Exit(m.Run())
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

func TestProcessesShareARun(t *testing.T) {
	addr := startEngine(t)
	base := load.Config{Scenario: "shared", Addr: addr, Rooms: 1, Subscribers: 9, Duration: 300 * time.Millisecond,
		MaxLag: time.Hour, MaxTurn: time.Hour,
		Streams: []load.Stream{{Payload: 64, Rate: 200}}}
	cases := []struct {
		name   string
		change func(c *load.Config)
		want   int // messages due in the measured time, over all subscribers
	}{
		{"one room, its subscribers divided", func(*load.Config) {}, 9 * 60},
		{"rooms divided", func(c *load.Config) { c.Rooms, c.Subscribers = 5, 2 }, 5 * 2 * 60},
		{"closed loop, rooms divided", func(c *load.Config) { c.Rooms, c.Mode = 4, load.Closed }, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := base
			cfg.Streams = append([]load.Stream(nil), base.Streams...)
			c.change(&cfg)
			r, err := runShared(t.Context(), cfg, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Failed {
				t.Error(f)
			}
			h := r.Healthy()
			if h.Subscribers != cfg.Rooms*cfg.Subscribers {
				t.Errorf("%d subscribers, want %d", h.Subscribers, cfg.Rooms*cfg.Subscribers)
			}
			if c.want > 0 && h.Latency.Count != int64(c.want) {
				t.Errorf("%d latencies, want %d", h.Latency.Count, c.want)
			}
			if r.Deliveries == 0 {
				t.Error("nothing was delivered")
			}
		})
	}
}

func TestASharedRunReportsItsPartsErrors(t *testing.T) {
	c := load.Config{Target: "nats", Addr: "127.0.0.1:1", Rooms: 2, Subscribers: 1, Duration: time.Second,
		Streams: []load.Stream{{Payload: 64, Rate: 1}}}
	if _, err := runShared(t.Context(), c, 2); err == nil {
		t.Error("a run against nothing succeeded")
	}
}

func TestCommandLine(t *testing.T) {
	addr := startEngine(t)
	dir := t.TempDir()
	html, js := filepath.Join(dir, "r.html"), filepath.Join(dir, "r.json")
	cases := []struct {
		name string
		args []string
		want error
	}{
		{"run", []string{"run", "fan-out-paced", "--server", addr, "-n", "3", "-d", "300ms", "--warmup", "0s", "--max-lag", "1h", "-q",
			"--json", js, "--html", html}, nil},
		{"run that is invalid", []string{"run", "fan-out-paced", "--server", addr, "-n", "3", "-d", "200ms", "--warmup", "0s",
			"--max-lag", "1ns", "-q"}, errInvalid},
		{"sweep", []string{"sweep", "--server", addr, "-n", "3", "-d", "200ms", "--warmup", "0s", "--max-lag", "1h",
			"--from", "50", "--steps", "2", "--refine", "1", "--html", filepath.Join(dir, "s.html")}, nil},
		{"list", []string{"list"}, nil},
		{"show", []string{"show", "video"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k, err := kong.New(&cli, kong.BindTo(t.Context(), (*context.Context)(nil)))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := k.Parse(c.args)
			if err != nil {
				t.Fatal(err)
			}
			if err := parsed.Run(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	results, err := report.ReadJSON(js)
	if err != nil || len(results) != 1 || results[0].Config.Subscribers != 3 || !results[0].OK() {
		t.Errorf("read back %+v, %v", results, err)
	}
	for _, f := range []string{html, filepath.Join(dir, "s.html")} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

// The version is printed by a command and by a flag, with what it was built of.
func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		out, err := exec.Command(os.Args[0], arg).Output()
		want := "loadgen " + version + ", commit " + commit + ", " + runtime.Version()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%s: %q, %v; want %s", arg, out, err, want)
		}
	}
}
