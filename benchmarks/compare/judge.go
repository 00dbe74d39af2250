package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// judged are the units that can fail a comparison, as benchfmt names them (ns become sec); of all of them less is
// better.
var judged = map[string]bool{"cpu-sec/delivery": true, "B/idle-subscriber": true, "sec/op": true, "B/op": true, "allocs/op": true}

// more lists the units of which more is better.
var more = map[string]bool{"deliveries/s": true, "B/s": true}

// verdict is what is said of one figure.
type verdict struct {
	key
	base, head float64 // medians
	change     float64 // median over the rounds of head/base-1
	p          float64
	worse      bool // significantly, beyond the bound, and judged
}

// judge compares a figure round by round: base and head of a round ran one right after the other, so what the machine
// did besides cancels out as well as it can.
func judge(k key, f *pair, alpha, bound float64) verdict {
	n := min(len(f.base), len(f.head))
	v := verdict{key: k, base: median(f.base), head: median(f.head), p: 1}
	var logs, changes []float64
	for i := range n {
		b, h := f.base[i], f.head[i]
		switch {
		case b == h:
			changes, logs = append(changes, 0), append(logs, 0)
		case b <= 0 || h <= 0:
			// From nothing to something has no ratio. It is a change of any size: allocations that appear.
			step := math.Copysign(1, h-b)
			changes, logs = append(changes, step), append(logs, step)
		default:
			changes, logs = append(changes, h/b-1), append(logs, math.Log(h/b))
		}
	}
	v.change, v.p = median(changes), signFlip(logs)
	loss := v.change
	if more[k.unit] {
		loss = -loss
	}
	v.worse = judged[k.unit] && v.p < alpha && loss > bound/100
	return v
}

// maxFlips bounds the differences that signFlip goes through all signs of: 2^20 sums.
const maxFlips = 20

// signFlip is the exact two-sided permutation test on paired differences: the share of all ways to choose their signs
// that give a mean at least as far from 0. With n differences it is never below 2/2^n.
func signFlip(d []float64) float64 {
	if len(d) > maxFlips {
		d = d[:maxFlips]
	}
	seen := 0.0
	for _, x := range d {
		seen += x
	}
	seen = math.Abs(seen) * (1 - 1e-12)
	far := 0
	for signs := range 1 << len(d) {
		sum := 0.0
		for i, x := range d {
			if signs>>i&1 == 1 {
				x = -x
			}
			sum += x
		}
		if math.Abs(sum) >= seen {
			far++
		}
	}
	return float64(far) / float64(int(1)<<len(d))
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

// report prints the tables, writes the page and says whether anything got worse.
func (c *comparison) report() error {
	var all []verdict
	for k, f := range c.figures {
		all = append(all, judge(k, f, cli.Alpha, cli.Bound))
	}
	slices.SortFunc(all, func(a, b verdict) int {
		if a.name != b.name {
			return strings.Compare(a.name, b.name)
		}
		return strings.Compare(a.unit, b.unit)
	})
	if err := c.benchstat(); err != nil {
		return err
	}
	fmt.Printf("\nround by round, %d rounds; judged: worse by more than %g %% with p < %g\n", cli.Rounds, cli.Bound, cli.Alpha)
	worse := 0
	for _, v := range all {
		if v.worse {
			worse++
		}
		if v.worse || v.unit == allLoads.unit || judged[v.unit] && v.p < cli.Alpha {
			fmt.Printf("%-9s %+6.1f %%  p=%.3f  %s %s\n", v.mark(), 100*v.change, v.p, v.name, v.unit)
		}
	}
	if cli.HTML != "" {
		if err := c.page(all); err != nil {
			return err
		}
		fmt.Println("page:", cli.HTML)
	}
	if worse > 0 {
		fmt.Printf("%d figure(s) got worse\n", worse)
		return errRegression
	}
	fmt.Println("nothing got worse")
	return nil
}

func (v *verdict) mark() string {
	switch {
	case v.worse:
		return "WORSE"
	case v.p >= cli.Alpha:
		return "~"
	case (v.change < 0) == more[v.unit]:
		return "worse"
	}
	return "better"
}

// benchstat prints benchstat's own table.
func (c *comparison) benchstat() error {
	var files []string
	for i, s := range []*side{c.base, c.head} {
		f := filepath.Join(c.tmp, s.name+".txt")
		if err := os.WriteFile(f, c.text[i].Bytes(), 0o644); err != nil {
			return err
		}
		files = append(files, s.name+"="+f)
	}
	cmd := exec.Command("go", append([]string{"tool", "benchstat"}, files...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func (c *comparison) page(all []verdict) error {
	p := &report.Page{Title: "Comparison", Lead: fmt.Sprintf(
		"Base %s, head %s. %d rounds in turn on one machine: %s. Worse: by more than %g %% with p < %g.",
		c.base.ref, c.head.ref, cli.Rounds, report.HostLine(load.ReadHost()), cli.Bound, cli.Alpha)}
	for _, part := range []struct {
		title string
		has   func(v *verdict) bool
	}{
		{"What got worse", func(v *verdict) bool { return v.worse }},
		{"Judged figures", func(v *verdict) bool { return judged[v.unit] }},
		{"Other figures", func(v *verdict) bool { return !judged[v.unit] }},
	} {
		s := report.Section{Title: part.title, Head: []string{"benchmark", "unit", "base", "head", "change", "p", ""}}
		for _, v := range all {
			if part.has(&v) {
				s.Rows = append(s.Rows, []string{v.name, v.unit, fmt.Sprintf("%.5g", v.base), fmt.Sprintf("%.5g", v.head),
					fmt.Sprintf("%+.1f %%", 100*v.change), fmt.Sprintf("%.3f", v.p), v.mark()})
			}
		}
		if len(s.Rows) == 0 {
			s.Text = "Nothing."
		}
		p.Sections = append(p.Sections, s)
	}
	return report.WriteHTML(cli.HTML, p)
}
