// Command compare tells whether this tree is slower than another one:
//
//	go run ./benchmarks/compare --base v1.2.0
//
// It builds both, each in a work tree of its own, and runs them in turn on this machine, round by round, so that
// whatever else the machine does meets both alike. It prints a benchstat table of everything, writes an HTML page with
// every figure's change and significance, and exits 1 if a figure that is judged got worse: significantly, and by more
// than the bound.
//
// What is judged is what a machine repeats well enough: server processor time per delivery, memory per idle subscriber,
// and of the Go benchmarks time, bytes and allocations per operation. Rates and latencies of a machine that generator
// and server share are shown beside them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
)

var cli struct {
	Base     string        `help:"Release, tag or commit to compare with."`
	Head     string        `help:"Release, tag or commit to judge; the files as they are now if not given."`
	Only     []string      `default:"load,go" help:"Parts: loads through a server, Go benchmarks."`
	Rounds   int           `default:"10" help:"Rounds; fewer than 8 cannot be significant."`
	Repeat   int           `default:"1" help:"Runs of every load and benchmark per side in a round; 3 or more on a busy machine."`
	Duration time.Duration `default:"1500ms" help:"Measured time of one load."`
	Warmup   time.Duration `default:"500ms" help:"Time before it."`
	Bound    float64       `default:"8" help:"Percent by which a judged figure may get worse."`
	Alpha    float64       `default:"0.01" help:"Chance of calling a change significant that is none, per figure."`
	Packages []string      `default:"./codec,./ring,./room,./client" help:"Packages whose Go benchmarks are run."`
	Bench    string        `default:"." help:"Go benchmarks to run, a regular expression."`
	HTML     string        `type:"path" default:"benchmarks/compare.html" help:"Page to write."`
	Plant    bool          `help:"Plant a slowdown of 20 percent in the fan-out of the tree that is judged, to see whether it is caught."`
	Quick    bool          `help:"Only the two fan-out loads."`
	Watched  bool          `help:"Compare a tree with itself, watched: with an audit, and with metrics and the console's figures asked for each second. There is no base."`
}

// errRegression ends the program after the report has been printed.
var errRegression = errors.New("slower than the base")

func main() {
	drive.Prepare()
	kong.Parse(&cli, kong.Name("compare"), kong.Description("Compare this tree with another one."), kong.ShortUsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx); {
	case errors.Is(err, errRegression):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
}

// side is one of the two trees.
type side struct {
	name  string // base or head
	ref   string
	root  string            // its files
	bin   string            // its server
	tests map[string]string // its test programs, by package
}

func run(ctx context.Context) error {
	if (cli.Base == "") != cli.Watched {
		return errors.New("either --base or --watched")
	}
	if cli.Watched {
		cli.Only = []string{"load"} // nobody looks at a Go benchmark
	}
	root, err := server.Root()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "compare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	base, head := &side{name: "base", ref: cli.Base}, &side{name: "head", ref: cli.Head}
	if cli.Watched {
		base.ref = cli.Head
	}
	for _, s := range []*side{base, head} {
		remove, err := s.checkOut(root, tmp)
		if err != nil {
			return err
		}
		defer remove()
		if err := s.build(tmp); err != nil {
			return err
		}
	}
	if cli.Watched {
		base.ref, head.ref = head.ref+", unwatched", head.ref+", watched"
	}
	c := &comparison{ctx: ctx, tmp: tmp, base: base, head: head}
	if err := c.measure(); err != nil {
		return err
	}
	return c.report()
}

// checkOut gives a side its files: a work tree for a tag or commit, and otherwise those that are here.
func (s *side) checkOut(root, tmp string) (remove func(), err error) {
	if s.ref == "" {
		s.ref, s.root = "the files as they are", root
		return func() {}, nil
	}
	at, err := resolve(root, s.ref)
	if err != nil {
		return nil, err
	}
	s.root = filepath.Join(tmp, "tree-"+s.name)
	if err := command(root, "git", "worktree", "add", "--detach", s.root, at); err != nil {
		return nil, err
	}
	return func() { _ = command(root, "git", "worktree", "remove", "--force", s.root) }, nil
}

func (s *side) build(tmp string) error {
	fmt.Fprintf(os.Stderr, "building %s: %s\n", s.name, s.ref)
	s.bin = filepath.Join(tmp, "timedge-"+s.name)
	// Without paths and commits in them, what is the same on both sides is compiled once, and not again for the next
	// comparison.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", s.bin}
	if cli.Plant && s.name == "head" {
		overlay, err := plant(s.root, tmp)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	if err := command(s.root, "go", append(args, ".")...); err != nil {
		return err
	}
	s.tests = make(map[string]string)
	if !has("go") {
		return nil
	}
	for _, p := range cli.Packages {
		bin := filepath.Join(tmp, s.name+"-"+strings.ReplaceAll(strings.TrimPrefix(p, "./"), "/", "-")+".test")
		if _, err := os.Stat(filepath.Join(s.root, p)); err != nil {
			continue // a package that this side does not have yet, or any more
		}
		if err := command(s.root, "go", "test", "-c", "-trimpath", "-buildvcs=false", "-o", bin, p); err != nil {
			return err
		}
		s.tests[p] = bin
	}
	return nil
}

func has(part string) bool {
	for _, p := range cli.Only {
		if p == part {
			return true
		}
	}
	return false
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
