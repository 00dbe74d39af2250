package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/tools/loadgen/load"
)

// sample is what one run showed.
type sample struct {
	rate     float64 // deliveries per second
	cpu      float64 // microseconds of all nodes per delivery
	p50, p99 float64 // ms
	copies   float64 // frames on links for each frame pushed
	late     bool    // the generator was
	broken   bool    // a link was, and frames crossed it twice
}

// table collects the runs. Those of one load and round are a pair, or rather a triple.
type table struct {
	runs map[string]*[places][]sample
	idle [2][]float64 // percent of one processor: the server on its own, the cluster
}

func newTable() *table {
	return &table{runs: make(map[string]*[places][]sample)}
}

func (t *table) add(c drive.Case, p place, s sample) {
	if t.runs[c.Name] == nil {
		t.runs[c.Name] = new([places][]sample)
	}
	t.runs[c.Name][p] = append(t.runs[c.Name][p], s)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// of is the median of a figure.
func of(all []sample, f func(sample) float64) float64 {
	var v []float64
	for _, s := range all {
		v = append(v, f(s))
	}
	return median(v)
}

// ratio is the median of the ratios within rounds.
func ratio(all, base []sample, f func(sample) float64) float64 {
	var v []float64
	for i := range all {
		v = append(v, f(all[i])/f(base[i]))
	}
	return median(v)
}

// added is the median of the differences within rounds.
func added(all, base []sample, f func(sample) float64) float64 {
	var v []float64
	for i := range all {
		v = append(v, f(all[i])-f(base[i]))
	}
	return median(v)
}

func (t *table) print(out io.Writer, o options) {
	fmt.Fprintf(out, "one room, its subscribers on one node, or a third of them on each of %d nodes; medians of %d rounds of %v, changes within a round\n", nodes, o.rounds, o.duration)
	cpu := func(s sample) float64 { return s.cpu }
	rate := func(s sample) float64 { return s.rate }
	copies := func(s sample) float64 { return s.copies }

	fmt.Fprintln(out, "\nas fast as it goes (a publisher at most 1 MiB ahead of the slowest subscriber)")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\twhere\tdeliveries/s\tCPU of all nodes per delivery\tagainst one node\tcopies of a frame on links\t")
	t.each(load.Closed, func(name string, runs *[places][]sample) {
		for p, all := range runs {
			fmt.Fprintf(w, "%s\t%v\t%.2fM\t%.3f us\tx %.2f\t%.2f\t\n", name, place(p), of(all, rate)/1e6, of(all, cpu), ratio(all, runs[alone], cpu), of(all, copies))
		}
	})
	_ = w.Flush()

	fmt.Fprintln(out, "\nat a steady rate")
	fmt.Fprintln(w, "load\twhere\tCPU of all nodes per delivery\tagainst one node\tless what idling takes\tp50\tadded\tp99\tadded\tcopies of a frame on links\t")
	p50, p99 := func(s sample) float64 { return s.p50 }, func(s sample) float64 { return s.p99 }
	t.each(load.Open, func(name string, runs *[places][]sample) {
		for p, all := range runs {
			fmt.Fprintf(w, "%s\t%v\t%.2f us\tx %.2f\t%.2f us\t%.2f ms\t%+.2f\t%.2f ms\t%+.2f\t%.2f\t\n", name, place(p), of(all, cpu), ratio(all, runs[alone], cpu),
				of(all, cpu)-t.idling(place(p))/of(all, rate), of(all, p50), added(all, runs[alone], p50), of(all, p99), added(all, runs[alone], p99), of(all, copies))
		}
	})
	_ = w.Flush()

	fmt.Fprintf(out, "\nnobody connected: one node uses %.1f %% of a processor, the cluster of %d %.1f %%: links and gossip, and ticks\n", median(t.idle[0]), nodes, median(t.idle[1]))
	var runs, late, broken int
	for _, r := range t.runs {
		for _, all := range r {
			for _, s := range all {
				runs++
				if s.late {
					late++
				}
				if s.broken {
					broken++
				}
			}
		}
	}
	fmt.Fprintf(out, "runs that count though, repeated, the generator was late in them: %d of %d; though a link broke in them: %d\n", late, runs, broken)
	fmt.Fprintln(out, "a link is encrypted; what that costs: go test -run '^$' -bench Link ./node (links), go test -run '^$' -bench TLS ./engine (clients)")
}

// idling is what the servers use when nobody is connected, in microseconds of processor time per second.
func (t *table) idling(p place) float64 {
	if p == alone {
		return 1e4 * median(t.idle[0])
	}
	return 1e4 * median(t.idle[1])
}

// each calls f for the loads of a mode, in order.
func (t *table) each(mode load.Mode, f func(name string, runs *[places][]sample)) {
	for _, c := range loads(options{}) {
		if c.Config.Mode == mode && t.runs[c.Name] != nil {
			f(c.Name, t.runs[c.Name])
		}
	}
}
