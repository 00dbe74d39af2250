// Command selfcheck tests the comparison itself: it compares this tree with itself, ten times with a slowdown of 20 percent
// planted in the fan-out and ten times without, in turn, and prints how often each was reported as slower.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	runs := flag.Int("runs", 10, "comparisons of each kind")
	rounds := flag.Int("rounds", 10, "rounds of one comparison")
	base := flag.String("base", "HEAD", "the commit to compare with itself")
	flag.Parse()
	if err := run(*runs, *rounds, *base); err != nil {
		fmt.Fprintln(os.Stderr, "selfcheck:", err)
		os.Exit(1)
	}
}

func run(runs, rounds int, base string) error {
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
	for i := range runs {
		for _, planted := range []bool{true, false} {
			args := []string{"--base", base, "--head", base, "--only", "load", "--quick", "--rounds", fmt.Sprint(rounds),
				"--duration", "700ms", "--warmup", "300ms", "--html", filepath.Join(dir, "page.html")}
			if planted {
				args = append(args, "--plant")
			}
			out, err := exec.Command(bin, args...).CombinedOutput()
			var exit *exec.ExitError
			switch {
			case err == nil:
			case errors.As(err, &exit) && exit.ExitCode() == 1:
				reported[planted]++
			default:
				return fmt.Errorf("compare: %w\n%s", err, out)
			}
			fmt.Printf("run %d, planted %v: reported %v\n", i+1, planted, err != nil)
		}
	}
	fmt.Printf("planted slowdown reported in %d of %d runs, no slowdown reported as one in %d of %d\n", reported[true], runs, reported[false], runs)
	if reported[true] < runs || reported[false] > 0 {
		return errors.New("the comparison does not tell them apart on this machine")
	}
	return nil
}
