// Command loadgen drives a timedge server, or one of its peers, and reports figures one can trust.
//
//	loadgen run fan-out --subscribers 1000 --payload 64
//	loadgen run my-load.toml --html report.html --json result.json
//	loadgen sweep fan-out-paced
//	loadgen list
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"
)

var cli struct {
	Run   runCmd   `cmd:"" help:"Run a scenario: one of 'loadgen list', or a .toml file."`
	Sweep sweepCmd `cmd:"" help:"Raise the rate until the server does not keep up, and find the knee."`
	List  listCmd  `cmd:"" help:"List the scenarios."`
	Show  showCmd  `cmd:"" help:"Print a scenario's file, to start one's own from."`

	Version     versionCmd  `cmd:"" help:"Print the version, the commit and what it was built with."`
	ShowVersion versionFlag `name:"version" help:"Print the version and end."`

	Part partCmd `cmd:"" hidden:"" help:"One process of a run that several share."`
}

// version and commit are set by the linker: see the Makefile.
var version, commit = "unknown", "unknown"

type versionCmd struct{}

// Run prints the version.
func (*versionCmd) Run() error {
	_, err := fmt.Printf("loadgen %s, commit %s, %s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// versionFlag is "loadgen version" for who types a flag.
type versionFlag bool

// BeforeReset prints the version, before anything that is missing is complained of.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	if err := (&versionCmd{}).Run(); err != nil {
		return err
	}
	k.Exit(0)
	return nil
}

// Exit codes: a script must be able to tell a broken promise from a machine that was too busy.
const (
	exitFailed  = 1 // a promise was broken
	exitInvalid = 2 // the figures are not to be believed
	exitNoRun   = 3 // there was no run
)

// errFailed and errInvalid end the program after the report has been printed.
var (
	errFailed  = errors.New("the run failed")
	errInvalid = errors.New("the run is invalid")
)

func main() {
	// The loops wait in system calls on threads of their own; more of them than processors must be able to.
	runtime.GOMAXPROCS(runtime.NumCPU() + 4)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k := kong.Parse(&cli, kong.Name("loadgen"), kong.Description("Load generator for timedge and its peers."),
		kong.ShortUsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	err := k.Run()
	switch {
	case err == nil:
	case errors.Is(err, errFailed):
		os.Exit(exitFailed)
	case errors.Is(err, errInvalid):
		os.Exit(exitInvalid)
	default:
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(exitNoRun)
	}
}
