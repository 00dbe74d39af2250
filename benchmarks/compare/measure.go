package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// key names one figure: a benchmark and a unit.
type key struct{ name, unit string }

// pair is one figure's values on both sides, by round.
type pair struct{ base, head []float64 }

type comparison struct {
	ctx        context.Context
	tmp        string
	base, head *side
	figures    map[key]*pair   // one value a round
	round      map[key]*pair   // of the round that runs
	text       [2]bytes.Buffer // what benchstat reads, of base and head
}

func (c *comparison) loads() []drive.Case {
	w, d := cli.Warmup, cli.Duration
	cases := []drive.Case{drive.Closed(100, 64, w, d), drive.Closed(100, 1024, w, d)}
	if cli.Quick {
		return cases
	}
	slow := drive.Paced(1, 100, 1024, 500, w, d)
	slow.Name, slow.Config.Scenario, slow.Config.Stalled, slow.Config.Half = "slow subscribers", "slow", 0.1, 0.1
	late := drive.Paced(20, 20, 1024, 50, w, d)
	late.Name, late.Config.Scenario, late.Config.Late = "late joins", "late", 0.5
	late.Config.Streams[0].KeyEvery = 25
	sealed := drive.Closed(100, 1024, w, d)
	sealed.Name, sealed.Config.Over = sealed.Name+" by TLS", over.TLS
	return append(cases, sealed, drive.Closed(1000, 64, w, d), drive.Closed(100, 16384, w, d), drive.Paced(200, 10, 256, 10, w, d), slow, late,
		drive.Idle(3000, d/2))
}

// steps is how many loads and packages a round has for each side.
func (c *comparison) steps() (loads, packages int) {
	if has("load") {
		loads = len(c.loads())
		if c.spread() {
			loads += len(clusterLoads())
		}
	}
	if has("go") {
		for _, p := range cli.Packages {
			if c.base.tests[p] != "" && c.head.tests[p] != "" {
				packages++
			}
		}
	}
	return loads, packages
}

// A load takes its own time and about so long to start and end, a package about so long in all.
const (
	aroundLoad    = 1500 * time.Millisecond
	packageBenchs = 8 * time.Second
)

// estimate says how long the comparison is going to take, before it does, as far as that can be told.
func (c *comparison) estimate() time.Duration {
	loads, packages := c.steps()
	round := time.Duration(loads)*(cli.Warmup+cli.Duration+aroundLoad) + time.Duration(packages)*packageBenchs
	return round * time.Duration(2*cli.Rounds*cli.Repeat)
}

// spread reports whether loads of clusters are run.
func (c *comparison) spread() bool {
	return !cli.Quick && !cli.Watched && c.base.clusters() && c.head.clusters()
}

// clusterLoads are for three nodes: subscribers are spread over all of them.
func clusterLoads() []drive.Case {
	c := drive.Paced(10, 30, 256, 50, cli.Warmup, cli.Duration)
	c.Name, c.Config.Scenario = "three nodes", "cluster"
	return []drive.Case{c}
}

// measure runs the rounds: in each, every load and every package's benchmarks on both sides, one right after the other.
// Which comes first is drawn.
func (c *comparison) measure() error {
	c.figures = make(map[key]*pair)
	for i := range c.text {
		c.text[i].WriteString(report.BenchHead())
	}
	var steps []func(s *side) (string, error)
	if has("load") {
		for _, l := range c.loads() {
			steps = append(steps, func(s *side) (string, error) { return c.load(s, l) })
		}
		if c.spread() {
			for _, l := range clusterLoads() {
				steps = append(steps, func(s *side) (string, error) { return c.clusterLoad(s, l) })
			}
		}
	}
	if has("go") {
		for _, p := range cli.Packages {
			if c.base.tests[p] != "" && c.head.tests[p] != "" {
				steps = append(steps, func(s *side) (string, error) { return c.benchmarks(s, p) })
			}
		}
	}
	fmt.Fprintf(os.Stderr, "this will take about %v\n", c.estimate().Round(time.Minute))
	began := time.Now()
	for round := range cli.Rounds {
		left := ""
		if round > 0 {
			left = fmt.Sprintf(", %v left", (time.Since(began) / time.Duration(round) * time.Duration(cli.Rounds-round)).Round(10*time.Second))
		}
		fmt.Fprintf(os.Stderr, "round %d of %d%s\n", round+1, cli.Rounds, left)
		c.round = make(map[key]*pair)
		for _, i := range rand.Perm(len(steps)) {
			// In turn, and there and back again: base head head base. What drifts meets both alike.
			sides := []*side{c.base, c.head}
			if rand.IntN(2) == 1 {
				slices.Reverse(sides)
			}
			for range cli.Repeat {
				for _, s := range sides {
					out, err := steps[i](s)
					if err != nil {
						return fmt.Errorf("%s: %w", s.name, err)
					}
					if err := c.add(s, out); err != nil {
						return err
					}
				}
				slices.Reverse(sides)
			}
		}
		c.closeRound()
	}
	return nil
}

// allLoads is the figure that stands for all loads together: the geometric mean of their processor time per delivery.
// One load's figure may be off by a tenth and more on a busy machine; a slowdown of the fan-out is in all of them.
var allLoads = key{"Load/all", "cpu-sec/delivery"}

// closeRound makes one value of what was repeated in a round, for each figure and for all loads together.
func (c *comparison) closeRound() {
	var all pair
	for k, p := range c.round {
		f := c.figures[k]
		if f == nil {
			f = &pair{}
			c.figures[k] = f
		}
		if len(p.base) == 0 || len(p.head) == 0 {
			continue // a benchmark that only one side has
		}
		b, h := middle(p.base), middle(p.head)
		f.base, f.head = append(f.base, b), append(f.head, h)
		if k.unit == allLoads.unit {
			all.base, all.head = append(all.base, b), append(all.head, h)
		}
	}
	if len(all.base) == 0 {
		return
	}
	if c.figures[allLoads] == nil {
		c.figures[allLoads] = &pair{}
	}
	f := c.figures[allLoads]
	f.base, f.head = append(f.base, geomean(all.base)), append(f.head, geomean(all.head))
}

// middle is the geometric mean of repeated values, or, where some are 0, their mean.
func middle(v []float64) float64 {
	if slices.Min(v) > 0 {
		return geomean(v)
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func geomean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(len(v)))
}

func (c *comparison) load(s *side, l drive.Case) (string, error) {
	k, set := drive.Timedge(c.tmp, s.bin, 0)
	end := func() error { return nil }
	if cli.Watched {
		var err error
		if end, err = c.look(s, &set); err != nil {
			return "", err
		}
	}
	r, err := drive.Believable(c.ctx, k, set, l.Config)
	if err = errors.Join(err, end()); err != nil {
		return "", fmt.Errorf("%s: %w", l.Name, err)
	}
	return report.BenchLine(r) + "\n", nil
}

func (c *comparison) benchmarks(s *side, pkg string) (string, error) {
	cmd := exec.CommandContext(c.ctx, s.tests[pkg], "-test.run", "^$", "-test.bench", cli.Bench, "-test.benchmem", "-test.benchtime", "20ms")
	cmd.Dir = filepath.Join(s.root, pkg)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("benchmarks of %s: %w\n%s%s", pkg, err, out.String(), errs.String())
	}
	// The same name may stand in two packages.
	return strings.ReplaceAll(out.String(), "\nBenchmark", "\nBenchmark"+strings.TrimPrefix(pkg, "./")+"/"), nil
}

// add takes the figures out of benchmark lines.
func (c *comparison) add(s *side, lines string) error {
	i := 0
	if s == c.head {
		i = 1
	}
	r := benchfmt.NewReader(strings.NewReader(lines), s.name)
	for r.Scan() {
		res, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		for _, v := range res.Values {
			k := key{string(res.Name.Full()), v.Unit}
			if c.round[k] == nil {
				c.round[k] = &pair{}
			}
			if s == c.head {
				c.round[k].head = append(c.round[k].head, v.Value)
			} else {
				c.round[k].base = append(c.round[k].base, v.Value)
			}
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	for line := range strings.Lines(lines) {
		if strings.HasPrefix(line, "Benchmark") {
			c.text[i].WriteString(line)
		}
	}
	return nil
}

// clusterLoad is load on three nodes of one cluster.
func (c *comparison) clusterLoad(s *side, l drive.Case) (string, error) {
	dir, err := os.MkdirTemp(c.tmp, "cluster")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	nodes, err := server.StartCluster(c.ctx, 3, server.Settings{Dir: dir, Binary: s.bin})
	if err != nil {
		return "", err
	}
	var addrs []string
	for _, n := range nodes {
		defer n.Stop()
		addrs = append(addrs, n.Addr)
	}
	cfg := l.Config
	cfg.Target, cfg.Addr, cfg.Register, cfg.ServerPID = "timedge", strings.Join(addrs, ","), addrs[0], nodes[0].PID
	for _, n := range nodes[1:] {
		cfg.NodePIDs = append(cfg.NodePIDs, n.PID)
	}
	r, err := load.Run(c.ctx, cfg, load.Hooks{})
	if err != nil {
		return "", fmt.Errorf("%s: %w", l.Name, err)
	}
	if len(r.Failed) > 0 {
		return "", fmt.Errorf("%s: %s", l.Name, r.Failed[0])
	}
	return report.BenchLine(r) + "\n", nil
}

// clusters reports whether a side has clusters at all: the first release has none.
func (s *side) clusters() bool { return exec.Command(s.bin, "key").Run() == nil }
