package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// rooms measures what it costs that deliveries come from many rooms: a thousand rooms of ten subscribers at 30 frames a
// second each, against one room with as many subscribers at 30 frames a second, and so as many deliveries. The two run
// in turn.
func (s *suite) rooms() error {
	many := drive.Paced(1000, 10, 256, 30, cli.Warmup, cli.Duration)
	one := drive.Paced(1, 10000, 256, 30, cli.Warmup, cli.Duration)
	var costs, late [2][]float64
	var ratios []float64
	for range cli.Rounds {
		var pair [2]*load.Result
		for i, c := range []drive.Case{many, one} {
			var err error
			if pair[i], err = s.once(c, cli.Loops); err != nil {
				return err
			}
		}
		if pair[0] == nil || pair[1] == nil {
			continue
		}
		for i, r := range pair {
			costs[i] = append(costs[i], r.Server.PerDelivery)
			late[i] = append(late[i], float64(r.Healthy().Latency.P99))
		}
		n := len(costs[0]) - 1
		ratios = append(ratios, costs[0][n]/costs[1][n])
		fmt.Fprintf(os.Stderr, "rooms: 1,000 rooms %s a delivery, one room %s: %.2fx\n", report.Nanos(costs[0][n]), report.Nanos(costs[1][n]), ratios[n])
	}
	if len(ratios) == 0 {
		return errors.New("no pair of figures")
	}
	fmt.Fprint(&s.tables, "\nAs many deliveries from many rooms and from one\n\n")
	s.tables.row(true, "load", "server CPU per delivery", "p99")
	for i, c := range []drive.Case{many, one} {
		s.tables.row(false, c.Name, report.Nanos(middle(costs[i])), report.Nanos(middle(late[i])))
	}
	fmt.Fprintf(&s.tables, "\nMany rooms cost %.2f times as much per delivery as one (goal: at most 1.5).\n", middle(ratios))
	return nil
}
