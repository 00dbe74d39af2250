// Package drive runs one load on one freshly started server. The load generator runs in this very process; its caller
// has to give the Go runtime more processors than the machine has, with [Prepare].
package drive

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
)

// Prepare makes room for the generator's loops, which wait in system calls.
func Prepare() { runtime.GOMAXPROCS(runtime.NumCPU() + 4) }

// Once starts a server, runs cfg on it, and stops it. Kind and s say which server; cfg's target, address and process
// are filled in.
func Once(ctx context.Context, kind server.Kind, s server.Settings, cfg load.Config) (*load.Result, error) {
	dir, err := os.MkdirTemp(s.Dir, kind.Name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // mosquitto gives up root before it writes
		return nil, err
	}
	s.Dir, s.Over = dir, cfg.Over
	if s.MaxConn == 0 {
		s.MaxConn = cfg.Rooms*cfg.Subscribers + 2000
	}
	srv, err := kind.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	defer srv.Stop()
	cfg.Target, cfg.Addr, cfg.OverAddr, cfg.ServerPID = kind.Name, srv.Addr, srv.Over[cfg.Over], srv.PID
	return load.Run(ctx, cfg, load.Hooks{})
}

// Timedge is the kind and the settings for a timedge program.
func Timedge(dir, bin string, loops int) (server.Kind, server.Settings) {
	k, err := server.Find("timedge")
	if err != nil {
		panic(err) // it is one of Kinds
	}
	return k, server.Settings{Dir: dir, Binary: bin, Loops: loops}
}

// lateAgain is how often a run in which the generator was late is run again.
const lateAgain = 2

// Believable is Once, again if the figures are not to be believed because the generator was late. A broken promise is
// an error here: a suite is no place for figures of a server that loses frames.
func Believable(ctx context.Context, kind server.Kind, s server.Settings, cfg load.Config) (*load.Result, error) {
	var r *load.Result
	var err error
	for range lateAgain + 1 {
		if r, err = Once(ctx, kind, s, cfg); err != nil {
			return nil, err
		}
		if len(r.Failed) > 0 {
			return nil, fmt.Errorf("%s: %s", cfg.Scenario, r.Failed[0])
		}
		if len(r.Invalid) == 0 {
			break
		}
	}
	return r, nil
}

// Case is one load of a suite.
type Case struct {
	Name   string
	Config load.Config
}

// Closed is a closed loop: one room, as fast as the slowest subscriber.
func Closed(subs, payload int, warmup, duration time.Duration) Case {
	return Case{fmt.Sprintf("%d x %d B", subs, payload), load.Config{Scenario: "fan-out", Rooms: 1, Publishers: 1,
		Subscribers: subs, Mode: load.Closed,
		Warmup: warmup, Duration: duration, Streams: []load.Stream{{Payload: payload}}}}
}

// Paced is an open loop.
func Paced(rooms, subs, payload int, rate float64, warmup, duration time.Duration) Case {
	return Case{fmt.Sprintf("%d rooms x %d x %d B at %g/s", rooms, subs, payload, rate), load.Config{Scenario: "paced", Rooms: rooms, Publishers: 1,
		Subscribers: subs, Mode: load.Open, Warmup: warmup, Duration: duration, Streams: []load.Stream{{Payload: payload, Rate: rate}}}}
}

// Idle is subscribers that are connected and nothing else.
func Idle(subs int, duration time.Duration) Case {
	return Case{fmt.Sprintf("%d idle", subs), load.Config{Scenario: "idle", Rooms: 1, Subscribers: subs, Idle: true, Duration: duration}}
}
