package main

import (
	"fmt"
	"strings"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// tables are what people read of a suite, as Markdown.
type tables struct{ strings.Builder }

func (t *tables) lead() {
	h := load.ReadHost()
	fmt.Fprintf(t, "Medians of %d runs, %v measured each, on %s with %d cores, Linux %s, %s; generator and server share the cores.\n",
		cli.Rounds, cli.Duration, h.CPU, h.Cores, h.Kernel, h.Go)
}

// row writes one line, and the line under it if it is a head.
func (t *tables) row(head bool, cells ...string) {
	fmt.Fprintf(t, "| %s |\n", strings.Join(cells, " | "))
	if head {
		fmt.Fprintln(t, "|"+strings.Repeat(" --- |", len(cells)))
	}
}

// loads writes the loads that are kept for every release: results are those of each case, as many as there were rounds
// with a figure.
func (t *tables) loads(cases []drive.Case, results [][]*load.Result) {
	fmt.Fprint(t, "\nLoads\n\n")
	t.row(true, "load", "deliveries/s", "server CPU per delivery", "p50 / p99 / p99.9", "memory per idle subscriber")
	for i, c := range cases {
		of := results[i]
		if len(of) == 0 {
			t.row(false, c.Name, "no figure", "", "", "")
			continue
		}
		mid := func(f func(*load.Result) float64) float64 {
			var v []float64
			for _, r := range of {
				v = append(v, f(r))
			}
			return middle(v)
		}
		cells := []string{c.Name, "", "", "", ""}
		if c.Config.Idle {
			cells[4] = report.Size(int64(mid(perIdle)))
		} else {
			cells[1] = report.Count(mid(func(r *load.Result) float64 { return r.Rate }))
			cells[2] = report.Nanos(mid(func(r *load.Result) float64 { return r.Server.PerDelivery }))
		}
		if c.Config.Mode == load.Open {
			at := func(f func(*load.Histogram) int64) string {
				return report.Nanos(mid(func(r *load.Result) float64 { return float64(f(r.Healthy().Latency)) }))
			}
			cells[3] = at(func(h *load.Histogram) int64 { return h.P50 }) + " / " + at(func(h *load.Histogram) int64 { return h.P99 }) +
				" / " + at(func(h *load.Histogram) int64 { return h.P999 })
		}
		t.row(false, cells...)
	}
}

// scaling writes how cost grows in one way, with the slope.
func (t *tables) scaling(s *report.Section) {
	fmt.Fprintf(t, "\n%s\n\n", s.Title)
	t.row(true, s.Head...)
	for _, r := range s.Rows {
		t.row(false, r...)
	}
	fmt.Fprintf(t, "\n%s\n", s.Plots[0].Note)
}

func perIdle(r *load.Result) float64 {
	return float64(r.Server.RSSIdle-r.Server.RSSBefore) / float64(r.Config.Rooms*r.Config.Subscribers)
}
