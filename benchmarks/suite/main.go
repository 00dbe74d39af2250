// Command suite runs all benchmarks of this tree and keeps the results under benchmarks/results/<version>/<host>/:
//
//	go.txt        Go benchmarks of the packages
//	load.txt      loads through a real server, as Go benchmark lines
//	load.json     the same with everything, histograms included
//	scaling.html  how cost grows with subscribers, rooms, payload and loops; its plots also as *.svg
//	suite.md      the tables of all parts
//
// As it stands it takes about seven minutes. With --count 10 --benchtime 200ms --rounds 7 --duration 3s it takes an
// hour, and its figures scatter less. benchstat reads the text files. Results of two releases made on one machine at
// different times differ by more than the releases do: go run ./benchmarks/compare is for that question.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

var cli struct {
	Only      []string      `default:"go,load,rooms,scaling" help:"Parts of the suite."`
	Count     int           `default:"4" help:"Repetitions of every Go benchmark."`
	Benchtime time.Duration `default:"50ms" help:"Time of one of them."`
	Rounds    int           `default:"3" help:"Repetitions of every load."`
	Duration  time.Duration `default:"1s" help:"Measured time of one load."`
	Warmup    time.Duration `default:"300ms" help:"Time before it."`
	Loops     int           `default:"0" help:"Event loops of the server; 0: its default."`
	Version   string        `help:"Name for the results; from git if not given."`
	Out       string        `type:"path" help:"Folder for the results; benchmarks/results if not given."`
}

func main() {
	drive.Prepare()
	kong.Parse(&cli, kong.Name("suite"), kong.Description("Run all benchmarks and keep the results."), kong.ShortUsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := server.Root()
	if err != nil {
		return err
	}
	if cli.Version == "" {
		if cli.Version, err = (server.Settings{}).Revision(); err != nil {
			return err
		}
	}
	if cli.Out == "" {
		cli.Out = filepath.Join(root, "benchmarks", "results")
	}
	out := filepath.Join(cli.Out, cli.Version, load.ReadHost().Name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "suite")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	bin, err := server.BuildTimedge(root, tmp)
	if err != nil {
		return err
	}
	s := &suite{ctx: ctx, tmp: tmp, bin: bin, out: out}
	s.tables.lead()
	for _, part := range []struct {
		name string
		run  func() error
	}{{"go", s.packages}, {"load", s.loads}, {"rooms", s.rooms}, {"scaling", s.scaling}} {
		if !slices.Contains(cli.Only, part.name) {
			continue
		}
		start := time.Now()
		if err := part.run(); err != nil {
			if s.ctx.Err() != nil {
				return err
			}
			s.fail(part.name, err) // the other parts have figures all the same
		}
		fmt.Fprintf(os.Stderr, "%s took %v\n", part.name, time.Since(start).Round(time.Second))
	}
	if err := os.WriteFile(filepath.Join(out, "suite.md"), []byte(s.tables.String()), 0o644); err != nil {
		return err
	}
	fmt.Print(s.tables.String())
	fmt.Println("kept in", out)
	return errors.Join(s.failed...)
}

type suite struct {
	ctx           context.Context
	tmp, bin, out string
	tables        tables
	failed        []error // what there are no figures of, and why
}

// fail takes note of what there is no figure of. The suite goes on, and fails at its end.
func (s *suite) fail(what string, err error) {
	err = fmt.Errorf("%s: %w", what, err)
	fmt.Fprintln(os.Stderr, "no figure:", err)
	s.failed = append(s.failed, err)
}

// packages runs the Go benchmarks of the packages that the server is made of.
func (s *suite) packages() error {
	f, err := os.Create(filepath.Join(s.out, "go.txt"))
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.CommandContext(s.ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", cli.Benchtime.String(), "-count", fmt.Sprint(cli.Count),
		"./codec", "./ring", "./room", "./internal/record", "./engine", "./client")
	cmd.Stdout, cmd.Stderr = f, os.Stderr
	fmt.Fprintln(os.Stderr, "Go benchmarks")
	return cmd.Run()
}

// cases are the loads that are kept for every release.
func cases(warmup, duration time.Duration) []drive.Case {
	var c []drive.Case
	for _, payload := range []int{64, 1024, 16384} {
		for _, subs := range []int{100, 1000} {
			c = append(c, drive.Closed(subs, payload, warmup, duration))
		}
	}
	return append(c, drive.Paced(1, 100, 256, 1000, warmup, duration), drive.Paced(1, 1000, 256, 100, warmup, duration),
		drive.Paced(1000, 10, 256, 10, warmup, duration), drive.Idle(5000, time.Second))
}

func (s *suite) loads() error {
	txt := filepath.Join(s.out, "load.txt")
	if err := os.WriteFile(txt, []byte(report.BenchHead()), 0o644); err != nil {
		return err
	}
	var results []*load.Result
	loads := cases(cli.Warmup, cli.Duration)
	of := make([][]*load.Result, len(loads))
	for round := range cli.Rounds {
		for i, c := range loads {
			r, err := s.once(c, cli.Loops)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, cli.Rounds, report.BenchLine(r))
			results, of[i] = append(results, r), append(of[i], r)
			if err := report.AppendBench(txt, []*load.Result{r}); err != nil {
				return err
			}
		}
	}
	s.tables.loads(loads, of)
	return report.WriteJSON(filepath.Join(s.out, "load.json"), results)
}

// once runs a load. Without a result there is no figure of it, which has been noted; an error ends the suite.
func (s *suite) once(c drive.Case, loops int) (*load.Result, error) {
	k, set := drive.Timedge(s.tmp, s.bin, loops)
	r, err := drive.Believable(s.ctx, k, set, c.Config)
	if err != nil && s.ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		s.fail(c.Name, err)
		return nil, nil
	}
	return r, nil
}
