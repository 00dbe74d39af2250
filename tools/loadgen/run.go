package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
	"github.com/timedge/timedge/tools/loadgen/report"
	"github.com/timedge/timedge/tools/loadgen/scenario"
)

// overrides are the settings of a scenario that the command line may change. A pointer tells "not given" from zero.
type overrides struct {
	Target      *string        `help:"Kind of server: timedge, limit, nats, redis, mosquitto."`
	Server      string         `aliases:"servers" default:"127.0.0.1:7400" env:"TIMEDGE_SERVER" help:"Address of the server, or of several nodes, comma-separated: connections are spread over them, and change to another when one dies."`
	Over        *over.Kind     `help:"What subscribers speak below the protocol: tls, ws, wss. Certificates are not looked at; publishers are plain."`
	OverServer  *string        `name:"over-server" help:"Where they connect."`
	Link        *float64       `help:"Bytes per second that those read whom --half counts; half of the stream's if not given."`
	ServerPID   *int           `name:"server-pid" help:"Process of the server on this machine, to measure its processor time and memory."`
	Rooms       *int           `help:"Number of rooms."`
	Publishers  *int           `help:"Publishers per room."`
	Subscribers *int           `short:"n" help:"Subscribers per room."`
	Payload     *int           `help:"Payload in bytes, of every stream."`
	Rate        *float64       `help:"Messages per second, of every stream; makes the loop open."`
	Window      *int           `help:"Bytes that a publisher may be ahead of the slowest subscriber; makes the loop closed."`
	Duration    *time.Duration `short:"d" help:"Measured time."`
	Warmup      *time.Duration `help:"Time before it."`
	Policy      *string        `help:"Policy of the rooms: live, latest, disconnect, lossless."`
	Stalled     *float64       `help:"Share of the subscribers that stop reading."`
	Half        *float64       `help:"Share that reads at half speed."`
	Late        *float64       `help:"Share that joins at random moments."`
	Churn       *float64       `help:"Subscribers per second that leave and come back."`
	KillPID     *int           `name:"kill-pid" help:"Process of a node, to kill during the run."`
	Signal      *string        `help:"How: KILL, or STOP, which freezes it."`
	KillAfter   *time.Duration `name:"kill-after" help:"When, from the beginning of the measured time on."`
	Silence     *time.Duration `help:"Several servers: one that says nothing for so long is left for another."`
	LostFails   bool           `name:"lost-is-failure" help:"Frames that are announced as lost, expired or given up fail the run."`
	Register    *string        `help:"Node that makes the rooms, and so relays them; the first of --server if not given."`
	Loops       *int           `help:"Receiving threads."`
	ReadSize    *int           `help:"Bytes of one read."`
	Check       *bool          `help:"Compare every byte of every payload."`
	MaxLag      *time.Duration `help:"Bound on how late the generator may send (p99)."`
	Seed        *uint64        `help:"Of everything random."`
}

func set[T any](dst *T, src *T) {
	if src != nil {
		*dst = *src
	}
}

// apply changes a scenario as the command line says.
func (o *overrides) apply(c *load.Config) {
	c.Addr = o.Server
	set(&c.Target, o.Target)
	set(&c.Over, o.Over)
	set(&c.OverAddr, o.OverServer)
	set(&c.Link, o.Link)
	set(&c.ServerPID, o.ServerPID)
	set(&c.Rooms, o.Rooms)
	set(&c.Publishers, o.Publishers)
	set(&c.Subscribers, o.Subscribers)
	set(&c.Duration, o.Duration)
	set(&c.Warmup, o.Warmup)
	set(&c.Policy, o.Policy)
	set(&c.Stalled, o.Stalled)
	set(&c.Half, o.Half)
	set(&c.Late, o.Late)
	set(&c.Churn, o.Churn)
	set(&c.KillPID, o.KillPID)
	set(&c.Signal, o.Signal)
	set(&c.KillAfter, o.KillAfter)
	set(&c.Silence, o.Silence)
	c.LostFails = c.LostFails || o.LostFails
	set(&c.Register, o.Register)
	set(&c.Loops, o.Loops)
	set(&c.ReadSize, o.ReadSize)
	set(&c.Check, o.Check)
	set(&c.MaxLag, o.MaxLag)
	set(&c.Seed, o.Seed)
	for i := range c.Streams {
		set(&c.Streams[i].Payload, o.Payload)
		set(&c.Streams[i].Rate, o.Rate)
	}
	if o.Rate != nil {
		c.Mode = load.Open
	}
	if o.Window != nil {
		c.Mode, c.Window = load.Closed, *o.Window
	}
}

// outputs are the forms in which a result may be kept.
type outputs struct {
	JSON    string `type:"path" help:"Write the result to this file." placeholder:"FILE"`
	Bench   string `type:"path" help:"Append Go benchmark lines to this file; - prints them." placeholder:"FILE"`
	HTML    string `type:"path" help:"Write a report with plots to this file." placeholder:"FILE"`
	Profile string `type:"path" help:"Write a processor profile of the generator itself to this file." placeholder:"FILE"`
	Quiet   bool   `short:"q" help:"No progress bar."`
}

func (o *outputs) write(results ...*load.Result) error {
	if o.JSON != "" {
		if err := report.WriteJSON(o.JSON, results); err != nil {
			return err
		}
	}
	if o.Bench != "" {
		if err := report.AppendBench(o.Bench, results); err != nil {
			return err
		}
	}
	return nil
}

// profile begins the generator's own profile, if one is wanted; the function it returns ends it.
func (o *outputs) profile() (stop func(), err error) {
	if o.Profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(o.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

type runCmd struct {
	Scenario string `arg:"" help:"Name or file."`
	overrides
	outputs
	Procs int `default:"1" help:"Processes that share the run."`
}

func (c *runCmd) Run(ctx context.Context) error {
	s, err := scenario.Load(c.Scenario)
	if err != nil {
		return err
	}
	c.apply(&s.Config)
	stop, err := c.profile()
	if err != nil {
		return err
	}
	defer stop()
	var res *load.Result
	if c.Procs > 1 {
		res, err = runShared(ctx, s.Config, c.Procs)
	} else {
		bar := report.NewBar(os.Stderr, s.Name, c.Quiet)
		res, err = load.Run(ctx, s.Config, load.Hooks{Progress: bar.Update})
		bar.Close()
	}
	if err != nil {
		return err
	}
	report.Summary(os.Stdout, res)
	if err := c.write(res); err != nil {
		return err
	}
	if c.HTML != "" {
		page, err := report.ResultPage("loadgen: "+s.Name, []*load.Result{res})
		if err != nil {
			return err
		}
		if err := report.WriteHTML(c.HTML, page); err != nil {
			return err
		}
	}
	return verdict(res)
}

// verdict turns broken promises and useless figures into the program's exit code.
func verdict(results ...*load.Result) error {
	var err error
	for _, r := range results {
		if len(r.Failed) > 0 {
			return errFailed
		}
		if len(r.Invalid) > 0 {
			err = errInvalid
		}
	}
	return err
}

type listCmd struct{}

func (listCmd) Run() error {
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %s\n", name, s.About)
	}
	return nil
}

type showCmd struct {
	Scenario string `arg:""`
}

func (c *showCmd) Run() error {
	b, err := scenario.Source(c.Scenario)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b)
	return err
}
