// Command cluster measures what it costs to spread a room's subscribers over three nodes instead of one. It runs a
// server on its own and a cluster of three, processes of this tree on loopback, and in each round puts every load on
// both, one right after the other: the same subscribers, in the cluster a third of them on each node, the publisher on
// the room's relay or on another node. It prints the medians, and how many copies of a frame crossed the links between
// the nodes, which is counted, not timed.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
)

type options struct {
	rounds   int
	duration time.Duration
	warmup   time.Duration
	seed     uint64
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 4, "rounds")
	flag.DurationVar(&o.duration, "duration", time.Second, "measured time of a run")
	flag.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "time before that")
	flag.Uint64Var(&o.seed, "seed", 1, "of the order of runs")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.duration <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	drive.Prepare()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// nodes of the cluster.
const nodes = 3

// place is where a load is put.
type place int

const (
	alone     place = iota // on the single server
	onRelay                // on the cluster; the publisher is connected to the relay
	elsewhere              // on the cluster; the publisher is connected to another node
	places
)

func (p place) String() string {
	return [...]string{"one node", "three, pub at relay", "three, pub elsewhere"}[p]
}

func run(ctx context.Context, o options) error {
	root, err := server.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "building")
	bin, err := server.BuildTimedge(root, dir)
	if err != nil {
		return err
	}
	began := time.Now()
	t := newTable()
	order := rand.New(rand.NewPCG(o.seed, 0))
	for i := range o.rounds {
		if err := round(ctx, o, server.Settings{Dir: dir, Binary: bin}, order, t); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, after %v\n", i+1, o.rounds, time.Since(began).Round(time.Second))
	}
	t.print(os.Stdout, o)
	return nil
}

// loads are those that every round runs.
func loads(o options) (all []drive.Case) {
	for _, payload := range []int{64, 1024} {
		for _, l := range []struct {
			subs int
			rate float64
		}{{100, 200}, {1000, 50}} {
			closed, paced := drive.Closed(l.subs, payload, o.warmup, o.duration), drive.Paced(1, l.subs, payload, l.rate, o.warmup, o.duration)
			paced.Name = fmt.Sprintf("%s at %g/s", closed.Name, l.rate)
			all = append(all, closed, paced)
		}
	}
	return all
}

// round runs every load in every place, on freshly started servers, in an order that is drawn.
func round(ctx context.Context, o options, s server.Settings, order *rand.Rand, t *table) error {
	single, err := server.StartNode(ctx, s)
	if err != nil {
		return err
	}
	defer single.Stop()
	cluster, err := server.StartCluster(ctx, nodes, s)
	if err != nil {
		return err
	}
	for _, n := range cluster {
		defer n.Stop()
	}
	if err := idle(ctx, o.duration, single, cluster, t); err != nil {
		return err
	}
	all := loads(o)
	order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, c := range all {
		for _, p := range order.Perm(int(places)) {
			serving := []*server.Node{single}
			if place(p) != alone {
				serving = cluster
			}
			m, err := measure(ctx, c.Config, place(p), serving)
			if err != nil {
				return fmt.Errorf("%s, %v: %w", c.Name, place(p), err)
			}
			t.add(c, place(p), m)
		}
	}
	return nil
}

// again is how often a run is repeated in which the generator was late, or a link broke.
const again = 2

// measure puts a load on nodes. A broken promise is an error.
func measure(ctx context.Context, cfg load.Config, p place, nodes []*server.Node) (m sample, err error) {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	// The generator's publisher is connected to the first, its subscribers to all in turn.
	cfg.Target, cfg.Addr, cfg.LostFails = "timedge", strings.Join(addrs, ","), true
	cfg.ServerPID, cfg.NodePIDs = nodes[0].PID, nil
	for _, n := range nodes[1:] {
		cfg.NodePIDs = append(cfg.NodePIDs, n.PID)
	}
	cfg.Register = addrs[0]
	if p == elsewhere {
		cfg.Register = addrs[1]
	}
	for range again + 1 {
		before, err := counters(ctx, nodes)
		if err != nil {
			return m, err
		}
		r, err := load.Run(ctx, cfg, load.Hooks{})
		if err != nil {
			return m, err
		}
		if len(r.Failed) > 0 {
			return m, fmt.Errorf("a promise was broken: %s", strings.Join(r.Failed, "; "))
		}
		after, err := counters(ctx, nodes)
		if err != nil {
			return m, err
		}
		rise := func(name string) float64 { return after["timedge_"+name] - before["timedge_"+name] }
		m = sample{
			rate: r.Rate, cpu: r.Server.PerDelivery / 1e3, late: len(r.Invalid) > 0,
			p50: float64(r.Healthy().Latency.P50) / 1e6, p99: float64(r.Healthy().Latency.P99) / 1e6,
			copies: rise("link_frames_out_total") / max(rise("frames_in_total"), 1), broken: rise("links_lost_total") > 0,
		}
		if !m.late && !m.broken {
			break
		}
	}
	return m, nil
}

// counters sums those of all nodes.
func counters(ctx context.Context, nodes []*server.Node) (map[string]float64, error) {
	sum := make(map[string]float64)
	for _, n := range nodes {
		c, err := n.Counters(ctx)
		if err != nil {
			return nil, err
		}
		for k, v := range c {
			sum[k] += v
		}
	}
	return sum, nil
}

// idle measures what the servers use when nobody is connected.
func idle(ctx context.Context, d time.Duration, single *server.Node, cluster []*server.Node, t *table) error {
	use := func(nodes ...*server.Node) (sum time.Duration, err error) {
		for _, n := range nodes {
			cpu, err := load.ProcessCPU(n.PID)
			if err != nil {
				return 0, err
			}
			sum += cpu
		}
		return sum, nil
	}
	var used [2][2]time.Duration
	var err error
	begin := time.Now()
	for i := range 2 {
		if used[i][0], err = use(single); err != nil {
			return err
		}
		if used[i][1], err = use(cluster...); err != nil {
			return err
		}
		if i == 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	took := time.Since(begin)
	for k := range t.idle {
		t.idle[k] = append(t.idle[k], 100*(used[1][k]-used[0][k]).Seconds()/took.Seconds())
	}
	return nil
}
