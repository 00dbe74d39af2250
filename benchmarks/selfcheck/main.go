// Command selfcheck tests the comparison itself: it compares this tree with itself, ten times with a slowdown of 20
// percent planted in the fan-out and ten times without, in turn, and prints how often each was reported as slower.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	runs := flag.Int("runs", 10, "comparisons of each kind")
	rounds := flag.Int("rounds", 12, "rounds of one comparison")
	repeat := flag.Int("repeat", 1, "runs of every load per side in a round; 3 on a busy machine")
	duration := flag.Duration("duration", 300*time.Millisecond, "measured time of one load")
	base := flag.String("base", "HEAD", "the commit to compare with itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *runs, *rounds, *repeat, *duration, *base); err != nil {
		fmt.Fprintln(os.Stderr, "selfcheck:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs, rounds, repeat int, duration time.Duration, base string) error {
	dir, err := os.MkdirTemp("", "selfcheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "compare")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/timedge/timedge/benchmarks/compare").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	reported := map[bool]int{}
	start := time.Now()
	for i := range runs {
		for _, planted := range []bool{true, false} {
			args := []string{"--base", base, "--head", base, "--only", "load", "--quick", "--rounds", fmt.Sprint(rounds),
				"--repeat", fmt.Sprint(repeat), "--duration", duration.String(), "--warmup", "100ms", "--html", filepath.Join(dir, "page.html")}
			if planted {
				args = append(args, "--plant")
			}
			cmd := exec.CommandContext(ctx, bin, args...)
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it has work trees to remove
			cmd.WaitDelay = time.Minute
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case err == nil:
			case errors.As(err, &exit) && exit.ExitCode() == 1:
				reported[planted]++
			default:
				return fmt.Errorf("compare: %w\n%s", err, out)
			}
			fmt.Printf("run %d, planted %v: reported %v (%v since the beginning)\n%s", i+1, planted, err != nil,
				time.Since(start).Round(time.Second), judgedLines(out))
		}
	}
	fmt.Printf("planted slowdown reported in %d of %d runs, no slowdown reported as one in %d of %d\n", reported[true], runs, reported[false], runs)
	if reported[true] < runs || reported[false] > 0 {
		return errors.New("the comparison does not tell them apart on this machine")
	}
	return nil
}

// judgedLines are the lines of a comparison that give the judged figures.
func judgedLines(out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, " p=") && strings.Contains(line, "cpu-sec/delivery") {
			b.WriteString("  " + line)
		}
	}
	return b.String()
}
