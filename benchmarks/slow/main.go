// Command slow measures what slow subscribers cost the others: pairs of runs of loadgen's scenario slow, one with a
// tenth of the subscribers stalled and a tenth at half speed, one with the others alone, in turn, on one server of this
// tree. It prints the healthy subscribers' latency in both, as medians, and the median of the pairs' ratios.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/scenario"
)

func main() {
	pairs := flag.Int("pairs", 16, "pairs of runs")
	rate := flag.Float64("rate", 60, "messages per second, of 4,000 bytes")
	duration := flag.Duration("duration", 3*time.Second, "measured time of a run")
	flag.Parse()
	drive.Prepare()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *pairs, *rate, *duration); err != nil {
		fmt.Fprintln(os.Stderr, "slow:", err)
		os.Exit(1)
	}
}

// quantiles are those measured.
var quantiles = [...]string{"p50", "p90", "p99"}

func run(ctx context.Context, pairs int, rate float64, duration time.Duration) error {
	root, err := server.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "slow")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := server.BuildTimedge(root, dir)
	if err != nil {
		return err
	}
	with, without := make([][]float64, len(quantiles)), make([][]float64, len(quantiles))
	for i := range pairs {
		for _, slow := range []bool{i%2 == 0, i%2 != 0} {
			ms, err := measure(ctx, dir, bin, slow, rate, duration)
			if err != nil {
				return err
			}
			fmt.Printf("pair %d, slow ones %-5v p50 %.2f ms, p90 %.2f ms, p99 %.2f ms\n", i+1, slow, ms[0], ms[1], ms[2])
			for q, v := range ms {
				if slow {
					with[q] = append(with[q], v)
				} else {
					without[q] = append(without[q], v)
				}
			}
		}
	}
	for q, name := range quantiles {
		ratios := make([]float64, pairs)
		for i := range ratios {
			ratios[i] = with[q][i] / without[q][i]
		}
		fmt.Printf("%s of the healthy: %.2f ms beside slow ones, %.2f ms alone (medians); ratio within a pair %.2f (median)\n",
			name, median(with[q]), median(without[q]), median(ratios))
	}
	return nil
}

// measure runs the scenario once and returns the healthy subscribers' latencies in ms.
func measure(ctx context.Context, dir, bin string, slow bool, rate float64, duration time.Duration) ([]float64, error) {
	s, err := scenario.Load("slow")
	if err != nil {
		return nil, err
	}
	cfg := s.Config
	cfg.Streams = slices.Clone(cfg.Streams)
	cfg.Streams[0].Rate, cfg.Warmup, cfg.Duration = rate, time.Second, duration
	if !slow {
		cfg.Subscribers -= int(cfg.Stalled*float64(cfg.Subscribers)) + int(cfg.Half*float64(cfg.Subscribers))
		cfg.Stalled, cfg.Half = 0, 0
	}
	kind, settings := drive.Timedge(dir, bin, 0)
	r, err := drive.Once(ctx, kind, settings, cfg)
	if err != nil {
		return nil, err
	}
	if len(r.Failed) > 0 {
		return nil, fmt.Errorf("a promise was broken: %s", r.Failed[0])
	}
	l := r.Classes["healthy"].Latency
	return []float64{float64(l.P50) / 1e6, float64(l.P90) / 1e6, float64(l.P99) / 1e6}, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
