package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// axis is one way in which a load can grow.
type axis struct {
	file     string // of the plot
	title, x string
	values   []int
	load     func(v int) drive.Case
	loops    func(v int) int
	// perByte shows cost by byte besides, where the size of a delivery is what grows.
	perByte bool
}

func axes() []axis {
	w, d := cli.Warmup, cli.Duration
	same := func(int) int { return cli.Loops }
	return []axis{
		{file: "subscribers", title: "Subscribers of one room, 64 B", x: "subscribers", values: []int{1, 10, 100, 1000, 10000}, loops: same,
			load: func(v int) drive.Case { return drive.Closed(v, 64, w, d) }},
		{file: "payload", title: "Payload, 100 subscribers", x: "bytes", values: []int{16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}, loops: same,
			perByte: true,
			load:    func(v int) drive.Case { return drive.Closed(100, v, w, d) }},
		{file: "rooms", title: "Rooms of one subscriber, 10,000 deliveries/s in all, 256 B", x: "rooms", values: []int{1, 10, 100, 1000, 10000}, loops: same,
			load: func(v int) drive.Case { return drive.Paced(v, 1, 256, 10000/float64(v), w, d) }},
		{file: "loops", title: "Event loops, 1,000 subscribers, 64 B", x: "loops", values: []int{1, 2}, loops: func(v int) int { return v },
			load: func(int) drive.Case { return drive.Closed(1000, 64, w, d) }},
	}
}

// scaling measures how the cost of a delivery grows and draws it.
func (s *suite) scaling() error {
	page := &report.Page{Title: "How cost grows", Lead: fmt.Sprintf(
		"%s. Medians of %d runs, %v measured each; generator and server share the cores.",
		report.HostLine(load.ReadHost()), cli.Rounds, cli.Duration)}
	for _, a := range axes() {
		cost := &report.Plot{Title: a.title, X: a.x, Y: "server ns per delivery", LogX: true, LogY: true,
			Series: []report.Series{{Name: "CPU per delivery"}}}
		rate := &report.Plot{Title: a.title, X: a.x, Y: "deliveries/s", LogX: true, LogY: true,
			Series: []report.Series{{Name: "deliveries/s"}}}
		sec := report.Section{Title: a.title, Head: []string{a.x, "deliveries/s", "server CPU per delivery"}}
		if a.perByte {
			sec.Head = append(sec.Head, "per byte of payload")
		}
		for _, v := range a.values {
			var costs, rates []float64
			for range cli.Rounds {
				r, err := s.once(a.load(v), a.loops(v))
				if err != nil {
					return err
				}
				if r == nil {
					continue
				}
				costs, rates = append(costs, r.Server.PerDelivery), append(rates, r.Rate)
			}
			if len(costs) == 0 {
				continue
			}
			c, d := middle(costs), middle(rates)
			fmt.Fprintf(os.Stderr, "%s: %d: %s/s, %s\n", a.title, v, report.Count(d), report.Nanos(c))
			row := []string{fmt.Sprint(v), report.Count(d), report.Nanos(c)}
			if a.perByte {
				row = append(row, fmt.Sprintf("%.3f ns", c/float64(v)))
			}
			sec.Rows = append(sec.Rows, row)
			cost.Series[0].Points = append(cost.Series[0].Points, [2]float64{float64(v), c})
			rate.Series[0].Points = append(rate.Series[0].Points, [2]float64{float64(v), d})
		}
		cost.Note = fmt.Sprintf("Slope %.2f: the cost of a delivery grows as %s to that power.", report.Slope(cost.Series[0].Points), a.x)
		rate.Note = fmt.Sprintf("Slope %.2f.", report.Slope(rate.Series[0].Points))
		sec.Plots = []*report.Plot{cost, rate}
		s.tables.scaling(&sec)
		if err := report.WriteSVG(filepath.Join(s.out, a.file+".svg"), cost); err != nil {
			return err
		}
		page.Sections = append(page.Sections, sec)
	}
	return report.WriteHTML(filepath.Join(s.out, "scaling.html"), page)
}

// middle is the median of v.
func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
