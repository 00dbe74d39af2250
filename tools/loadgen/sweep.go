package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
	"github.com/timedge/timedge/tools/loadgen/scenario"
)

type sweepCmd struct {
	Scenario string `arg:"" default:"fan-out-paced" help:"Name or file."`
	overrides
	outputs
	From   float64       `default:"500" help:"Messages per second of every stream, to begin with."`
	Factor float64       `default:"1.6" help:"From step to step."`
	Steps  int           `default:"16" help:"Steps upwards at most."`
	Refine int           `default:"3" help:"Steps of bisection at the knee."`
	Bound  time.Duration `default:"100ms" help:"A rate at which p99 is above this is not carried."`
}

// Help is shown by --help.
func (sweepCmd) Help() string {
	return "Raises the rate until the server does not keep up: messages late, dropped or not taken. The knee is the highest rate that was carried."
}

func (c *sweepCmd) Run(ctx context.Context) error {
	s, err := scenario.Load(c.Scenario)
	if err != nil {
		return err
	}
	if c.Duration == nil {
		s.Duration = 2 * time.Second
	}
	c.apply(&s.Config)
	s.SetDefaults()
	stop, err := c.profile()
	if err != nil {
		return err
	}
	defer stop()
	fmt.Printf("%s on %s, %d subscriber(s) in %d room(s)\n%12s %14s %10s %10s %10s  %s\n", s.Name, s.Target, s.Subscribers, s.Rooms,
		"messages/s", "deliveries/s", "p50", "p99", "p99.9", "")
	sweep := load.Sweep{From: c.From, Factor: c.Factor, Steps: c.Steps, Refine: c.Refine, Bound: c.Bound,
		Done: func(rate float64, r *load.Result, why string) {
			l := r.Healthy().Latency
			if why == "" {
				why = "carried"
			}
			if len(r.Invalid) > 0 {
				why += " (generator late)"
			}
			fmt.Printf("%12.0f %14s %10s %10s %10s  %s\n", rate, report.Count(r.Rate), report.Nanos(float64(l.P50)),
				report.Nanos(float64(l.P99)), report.Nanos(float64(l.P999)), why)
		}}
	bar := report.NewBar(os.Stderr, s.Name, true)
	knee, results, err := sweep.Run(ctx, s.Config, load.Hooks{Progress: bar.Update})
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return fmt.Errorf("no step was run")
	}
	fmt.Printf("knee: %.0f messages/s per stream\n", knee)
	if err := c.write(results...); err != nil {
		return err
	}
	if c.HTML != "" {
		return c.page(s.Name, knee, results)
	}
	return nil
}

func (c *sweepCmd) page(name string, knee float64, results []*load.Result) error {
	byRate := slices.SortedFunc(slices.Values(results), func(a, b *load.Result) int {
		return int(a.Config.Streams[0].Rate - b.Config.Streams[0].Rate)
	})
	latency := &report.Plot{Title: "Latency over the offered rate", X: "messages/s of every stream", Y: "ms", LogX: true, LogY: true,
		Series: []report.Series{{Name: "p50"}, {Name: "p99"}, {Name: "p99.9"}}, Note: fmt.Sprintf("Knee: %.0f messages/s.", knee)}
	rate := &report.Plot{Title: "Deliveries over the offered rate", X: "messages/s of every stream", Y: "deliveries/s", LogX: true, LogY: true,
		Series: []report.Series{{Name: "delivered"}}}
	for _, r := range byRate {
		x, l := r.Config.Streams[0].Rate, r.Healthy().Latency
		for i, v := range []int64{l.P50, l.P99, l.P999} {
			latency.Series[i].Points = append(latency.Series[i].Points, [2]float64{x, float64(v) / 1e6})
		}
		rate.Series[0].Points = append(rate.Series[0].Points, [2]float64{x, r.Rate})
	}
	page, err := report.ResultPage("Rate sweep: "+name, results, latency, rate)
	if err != nil {
		return err
	}
	return report.WriteHTML(c.HTML, page)
}
