package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"

	"github.com/timedge/timedge/benchmarks/internal/drive"
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
	figures    map[key]*pair
	text       [2]bytes.Buffer // what benchstat reads, of base and head
}

func (c *comparison) loads() []drive.Case {
	w, d := cli.Warmup, cli.Duration
	cases := []drive.Case{drive.Closed(100, 64, w, d), drive.Closed(100, 1024, w, d)}
	if cli.Quick {
		return cases
	}
	return append(cases, drive.Closed(1000, 64, w, d), drive.Closed(100, 16384, w, d), drive.Paced(200, 10, 256, 10, w, d), drive.Idle(3000, d/2))
}

// measure runs the rounds: in each, every load and every package's benchmarks on both sides, one right after the other, and
// whichever comes first is drawn.
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
	}
	if has("go") {
		for _, p := range cli.Packages {
			if c.base.tests[p] != "" && c.head.tests[p] != "" {
				steps = append(steps, func(s *side) (string, error) { return c.benchmarks(s, p) })
			}
		}
	}
	for round := range cli.Rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, cli.Rounds)
		for _, i := range rand.Perm(len(steps)) {
			sides := []*side{c.base, c.head}
			if rand.IntN(2) == 1 {
				slices.Reverse(sides)
			}
			for _, s := range sides {
				out, err := steps[i](s)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				if err := c.add(s, out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *comparison) load(s *side, l drive.Case) (string, error) {
	k, set := drive.Timedge(c.tmp, s.bin, 0)
	r, err := drive.Believable(c.ctx, k, set, l.Config)
	if err != nil {
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
			if c.figures[k] == nil {
				c.figures[k] = &pair{}
			}
			if s == c.head {
				c.figures[k].head = append(c.figures[k].head, v.Value)
			} else {
				c.figures[k].base = append(c.figures[k].base, v.Value)
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
