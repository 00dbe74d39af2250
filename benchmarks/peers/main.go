// Command peers runs timedge, its peers and the limit program under the same loads, in shuffled rounds on one machine,
// and prints the tables of benchmarks/README.md.
//
//	go run ./benchmarks/peers
//	go run ./benchmarks/peers --targets limit,timedge --rounds 5 --sizes 64 --subs 100 --only throughput
//
// As it stands it takes about twenty minutes. Every run starts its server afresh. Figures are medians over the rounds.
// What a server cannot do stands as "no".
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

var cli struct {
	Targets  []string      `default:"limit,timedge,timedge+tls,timedge+ws,timedge+wss,nats,nats+tls,nats+ws,nats+wss,centrifugo+ws,centrifugo+wss,redis" help:"Servers to compare; timedge+tls, +ws and +wss have subscribers come by these, nats+tls likewise. Publishers are plain."`
	Only     []string      `default:"throughput,latency,paced,idle,rooms" help:"Parts of the comparison."`
	Rounds   int           `default:"3" help:"Rounds; the figures are medians."`
	More     int           `default:"6" help:"Further rounds of timedge alone, for what its carriers cost beside plain TCP."`
	Duration time.Duration `default:"700ms" help:"Measured time of one run."`
	Warmup   time.Duration `default:"300ms" help:"Time before it."`
	Subs     []int         `default:"100,1000" help:"Subscribers, for throughput and latency."`
	Sizes    []int         `default:"64,1024,16384" help:"Payloads in bytes, for throughput."`
	Window   int           `default:"1048576" help:"Bytes that the publisher may be ahead of the slowest subscriber, for throughput."`
	Payload  int           `default:"256" help:"Payload in bytes, for latency."`
	Rate     float64       `help:"Messages per second, for latency; 0: half of what NATS can carry."`
	Paced    []float64     `default:"1000,2000" help:"Messages per second to the first number of subscribers, for paced: so few that nothing is sent together."`
	Idle     int           `default:"5000" help:"Idle subscribers."`
	Rooms    int           `default:"1000" help:"Rooms of ten subscribers at 30 messages a second, against one room with as many deliveries."`
	Loops    int           `default:"1" help:"Event loops of timedge; 0: its default, one per processor."`
	Reads    []int         `default:"65536,262144,1048576" help:"Read sizes that the limit program is tried with."`
	Timedge  string        `type:"path" help:"Program to use for timedge; built from this tree if not given."`
	Version  string        `help:"Name for the results; from git if not given."`
	Out      string        `type:"path" help:"Folder for the results; benchmarks/results if not given."`
	Seed     int64         `default:"1" help:"Of the order of the runs."`
}

func main() {
	drive.Prepare()
	kong.Parse(&cli, kong.Name("peers"), kong.Description("Compare timedge with its peers and with the limit."), kong.ShortUsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := server.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, root: root, versions: make(map[string]string), reads: make(map[size]int), seals: make(map[pair]float64)}
	if err := b.setUp(); err != nil {
		return err
	}
	outcomes, err := b.all()
	if err != nil {
		return err
	}
	if cli.Version == "" {
		cli.Version, _ = server.Settings{}.Revision()
	}
	if cli.Out == "" {
		cli.Out = filepath.Join(root, "benchmarks", "results")
	}
	out := filepath.Join(cli.Out, cli.Version, load.ReadHost().Name)
	var results []*load.Result
	for _, o := range outcomes {
		if o.result != nil {
			results = append(results, o.result)
		}
	}
	if err := report.WriteJSON(filepath.Join(out, "peers.json"), results); err != nil {
		return err
	}
	table := b.markdown(outcomes)
	if err := os.WriteFile(filepath.Join(out, "peers.md"), []byte(table), 0o644); err != nil {
		return err
	}
	fmt.Print(table)
	rel, err := filepath.Rel(root, out)
	if err != nil || strings.HasPrefix(rel, "..") {
		rel = out
	}
	fmt.Fprintf(os.Stderr, "\nkept in %s\n", rel)
	return nil
}
