package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strings"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
)

// job is one cell of the tables: a load, to be run on every target in every round.
type job struct {
	part string // of the comparison
	cfg  load.Config
}

func (j *job) key() string {
	return fmt.Sprint(j.part, j.order())
}

func payload(c *load.Config) int {
	if len(c.Streams) == 0 {
		return 0
	}
	return c.Streams[0].Payload
}

// outcome is what came of a job on a target in a round.
type outcome struct {
	job    *job
	target string
	round  int
	result *load.Result
	no     string // why the target cannot do it
	broken string // why there is no figure though it should
}

// size is what the limit program's best read size depends on.
type size struct{ subs, payload int }

func (j *job) size() size { return size{j.cfg.Subscribers, payload(&j.cfg)} }

// pair is one load in one round: what was run on all targets one right after the other.
type pair struct {
	job   *job
	round int
}

type bench struct {
	ctx       context.Context
	dir, root string
	timedge   string
	limit     string
	versions  map[string]string
	reads     map[size]int // the limit program's best read size
	rates     map[int]float64
	seals     map[pair]float64 // ns a byte, measured beside
}

// split takes a target apart: its server, and what subscribers speak below the protocol, as in timedge+tls.
func split(target string) (server string, kind over.Kind) {
	server, k, _ := strings.Cut(target, "+")
	return server, over.Kind(k)
}

func (b *bench) setUp() (err error) {
	if slices.Contains(cli.Targets, "limit") {
		if b.limit, err = server.BuildLimit(b.root, b.dir); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(cli.Targets, func(t string) bool { name, _ := split(t); return name == "timedge" }) {
		if b.timedge = cli.Timedge; b.timedge == "" {
			if b.timedge, err = server.BuildTimedge(b.root, b.dir); err != nil {
				return err
			}
		}
	}
	for _, t := range cli.Targets {
		name, _ := split(t)
		k, err := server.Find(name)
		if err != nil {
			return err
		}
		if b.versions[t], err = k.Version(server.Settings{}); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return nil
}

func has(part string) bool { return slices.Contains(cli.Only, part) }

// jobs lists the cells. Rates for the latency part have been found before.
func (b *bench) jobs() []*job {
	var jobs []*job
	base := load.Config{Rooms: 1, Publishers: 1, Warmup: cli.Warmup, Duration: cli.Duration}
	add := func(part string, change func(c *load.Config)) {
		j := &job{part: part, cfg: base}
		j.cfg.Scenario = part
		change(&j.cfg)
		jobs = append(jobs, j)
	}
	for _, subs := range cli.Subs {
		if has("throughput") {
			for _, size := range cli.Sizes {
				add("throughput", func(c *load.Config) {
					c.Mode, c.Window, c.Subscribers, c.Streams = load.Closed, cli.Window, subs, []load.Stream{{Payload: size}}
				})
			}
		}
		if has("latency") {
			add("latency", func(c *load.Config) {
				c.Mode, c.Subscribers, c.Streams = load.Open, subs, []load.Stream{{Payload: cli.Payload, Rate: b.rates[subs]}}
			})
		}
	}
	if has("paced") {
		for _, rate := range cli.Paced {
			add("paced", func(c *load.Config) {
				c.Mode, c.Subscribers, c.Streams = load.Open, cli.Subs[0], []load.Stream{{Payload: cli.Payload, Rate: rate}}
			})
		}
	}
	if has("idle") {
		add("idle", func(c *load.Config) { c.Idle, c.Subscribers = true, cli.Idle })
	}
	if has("rooms") {
		// The same deliveries per second from many rooms and from one: 10 subscribers x 30/s x rooms.
		stream := load.Stream{Payload: cli.Payload, Rate: 30}
		add("rooms", func(c *load.Config) {
			c.Mode, c.Rooms, c.Subscribers, c.Streams = load.Open, cli.Rooms, 10, []load.Stream{stream}
		})
		add("rooms", func(c *load.Config) {
			c.Mode, c.Subscribers = load.Open, cli.Rooms*10
			c.Streams = []load.Stream{stream}
		})
	}
	return jobs
}

// all finds the read sizes and rates, and then runs the rounds.
func (b *bench) all() ([]outcome, error) {
	if slices.Contains(cli.Targets, "limit") {
		if err := b.findReads(); err != nil {
			return nil, err
		}
	}
	if has("latency") {
		if err := b.findRates(); err != nil {
			return nil, err
		}
	}
	jobs := b.jobs()
	rng := rand.New(rand.NewSource(cli.Seed))
	var outcomes []outcome
	for round := range cli.Rounds + cli.More {
		rng.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
		for i, j := range jobs {
			targets := slices.Clone(cli.Targets)
			if round >= cli.Rounds {
				if targets = own(targets); j.part != "throughput" && j.part != "paced" {
					continue
				}
			}
			b.seals[pair{j, round}] = sealCost()
			rng.Shuffle(len(targets), func(i, k int) { targets[i], targets[k] = targets[k], targets[i] })
			for _, t := range targets {
				if err := b.ctx.Err(); err != nil {
					return nil, err
				}
				fmt.Fprintf(os.Stderr, "round %d of %d, load %d of %d: %s on %s\n", round+1, cli.Rounds+cli.More, i+1, len(jobs), j.key(), t)
				outcomes = append(outcomes, b.again(j, t, round))
			}
		}
	}
	return outcomes, nil
}

// own returns timedge's targets.
func own(targets []string) []string {
	return slices.DeleteFunc(slices.Clone(targets), func(t string) bool { name, _ := split(t); return name != "timedge" })
}

// again runs a job, more than once if the generator was late.
func (b *bench) again(j *job, target string, round int) outcome {
	var o outcome
	for range repeats + 1 {
		o = b.once(j, target, b.reads[j.size()])
		if o.result == nil || len(o.result.Invalid) == 0 {
			break
		}
		fmt.Fprintln(os.Stderr, "  late:", o.result.Invalid[0])
	}
	if o.broken != "" {
		fmt.Fprintln(os.Stderr, "  no figure:", o.broken)
	}
	o.round = round
	return o
}

// repeats is how often a run in which the generator was late is run again.
const repeats = 2

// once runs a job on a fresh server.
func (b *bench) once(j *job, target string, read int) outcome {
	o := outcome{job: j, target: target}
	name, kind := split(target)
	if name == "centrifugo" { // WebSocket is its protocol's own
		kind = map[over.Kind]over.Kind{over.WS: over.Plain, over.WSS: over.TLS}[kind]
	}
	k, err := server.Find(name)
	if err != nil {
		o.broken = err.Error()
		return o
	}
	s := server.Settings{Dir: b.dir, Read: max(read, 64<<10)}
	switch name {
	case "limit":
		s.Binary = b.limit
	case "timedge":
		s.Binary, s.Loops = b.timedge, cli.Loops
	}
	cfg := j.cfg
	cfg.Over = kind
	res, err := drive.Once(b.ctx, k, s, cfg)
	switch {
	case errors.Is(err, load.ErrCannot):
		o.no = err.Error()
	case err != nil:
		o.broken = err.Error()
	case len(res.Failed) > 0:
		o.broken = res.Failed[0]
	default:
		o.result = res
	}
	return o
}

// findReads tries the limit program's read sizes on every load of the throughput part and keeps the one with the least
// processor time per delivery.
func (b *bench) findReads() error {
	if !has("throughput") {
		return nil
	}
	for _, subs := range cli.Subs {
		for _, bytes := range cli.Sizes {
			best := 0.0
			j := &job{part: "read size", cfg: load.Config{Scenario: "read-size", Rooms: 1, Publishers: 1, Subscribers: subs, Mode: load.Closed,
				Window: cli.Window, Warmup: cli.Warmup / 2, Duration: cli.Duration / 2, Streams: []load.Stream{{Payload: bytes}}}}
			for _, read := range cli.Reads {
				o := b.once(j, "limit", read)
				if o.result == nil {
					return fmt.Errorf("limit, read size %d: %s", read, o.broken+o.no)
				}
				if cost := o.result.Server.PerDelivery; best == 0 || cost < best {
					best, b.reads[j.size()] = cost, read
				}
			}
			fmt.Fprintf(os.Stderr, "limit at %d x %d B: best read size %d\n", subs, bytes, b.reads[j.size()])
		}
	}
	return nil
}

// findRates finds the offered load of the latency part: half of what NATS carries in a closed loop, for all alike.
func (b *bench) findRates() error {
	b.rates = make(map[int]float64)
	for _, subs := range cli.Subs {
		if b.rates[subs] = cli.Rate; cli.Rate > 0 {
			continue
		}
		var rates []float64
		for range 3 {
			j := &job{part: "rate", cfg: load.Config{Scenario: "rate", Rooms: 1, Publishers: 1, Subscribers: subs, Mode: load.Closed,
				Window: cli.Window, Warmup: cli.Warmup, Duration: cli.Duration, Streams: []load.Stream{{Payload: cli.Payload}}}}
			o := b.once(j, "nats", 0)
			if o.result == nil {
				return fmt.Errorf("finding the rate: %s", o.broken+o.no)
			}
			rates = append(rates, o.result.Rate/float64(subs)/2)
		}
		b.rates[subs] = float64(int(median(rates)))
		fmt.Fprintf(os.Stderr, "offered load with %d subscribers: %.0f messages/s\n", subs, b.rates[subs])
	}
	return nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
