// Command hostile measures what hostile clients cost a server and its good clients. It runs a server process, good
// clients that stream at a paced rate, and each attack in turn, from a process of its own. It prints what the server
// and the good clients notice of each, beside the same without it, measured right before, and what the attacker was
// told.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/benchmarks/internal/server"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
)

// settings of the server beside its defaults: rates that good clients keep to, and that an attacker exceeds tenfold.
var settings = map[string]string{"TIMEDGE_LIMIT_SESSION_FRAMES": "2000", "TIMEDGE_LIMIT_ACCOUNT_FRAMES": "4000"}

type options struct {
	only     string
	rate     float64
	subs     int
	duration time.Duration
	pairs    int
	limit    bool
	over     string
	memory   int64 // bytes, of the server that is to hold much
	shared   bool  // good clients wait for processors, too
	orders   int   // in which attacks on memory run, drawn; 0: as they are named
}

// bound is how much a server may have resident, whatever clients do.
func (o *options) bound() int64 { return o.memory + o.memory/4 + 64<<20 }

func main() {
	if addr := os.Getenv(attackEnv); addr != "" {
		os.Exit(attacker(addr))
	}
	var o options
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(attacks)), func(name string) bool { return name == "halves" })
	flag.StringVar(&o.only, "attacks", strings.Join(all, ","), "which, comma-separated; with -over tls also halves")
	flag.Float64Var(&o.rate, "rate", 200, "messages per second of the good publisher, of 1,000 bytes")
	flag.IntVar(&o.subs, "subs", 20, "good subscribers")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "measured time with and without each attack")
	flag.IntVar(&o.pairs, "pairs", 3, "how often each is measured")
	flag.BoolVar(&o.limit, "limit", false,
		"hold the attacker's address to so many connections as one may make by default; "+
			"without, it is exempt, as a load balancer's is")
	flag.StringVar(&o.over, "over", "",
		"what the attacker speaks below the protocol: tls, ws, wss; good clients are plain")
	memory := flag.Int64("memory", 256, "MiB that clients may make the server hold (--memory), in attacks on that")
	flag.IntVar(&o.orders, "orders", 0,
		"run the attacks on memory on so many servers, one right after the other in an order that is drawn for each")
	flag.BoolVar(&o.shared, "shared", false,
		"good clients wait for processors like any other process, the server's too; without, they run as soon as they can")
	flag.Parse()
	o.memory = *memory << 20
	drive.Prepare()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	root, err := server.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := server.BuildTimedge(root, dir)
	if err != nil {
		return err
	}
	keys := filepath.Join(dir, "keys")
	token := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, bin, append([]string{"token"}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	_, err = token("key", keys)
	good, err2 := token("sign", keys, "alice")
	bad, err3 := token("sign", keys, "mallory")
	if err := errors.Join(err, err2, err3); err != nil {
		return fmt.Errorf("making tokens: %w", err)
	}
	if err := os.Setenv("TIMEDGE_AUTH", "jwt:"+keys); err != nil {
		return err
	}
	if o.limit {
		if err := os.Setenv("TIMEDGE_LIMIT_EXEMPT", "127.0.0.1/32"); err != nil {
			return err
		}
	}
	fmt.Printf("good clients: 1 publisher, %g messages of 1,000 bytes a second, %d subscribers; "+
		"medians of %d runs of %v\n"+
		"each figure: without the attack, measured right before -> during it (change); the same server serves both; "+
		"CPU in percent of one processor;\n"+
		"memory: the most that was resident\n\n", o.rate, o.subs, o.pairs, o.duration)
	var rated, holds []string
	for _, name := range strings.Split(o.only, ",") {
		how, ok := attacks[name]
		switch {
		case !ok:
			return fmt.Errorf("there is no attack %q", name)
		case how.holds:
			holds = append(holds, name)
		default:
			rated = append(rated, name)
		}
	}
	s := site{o: o, dir: dir, bin: bin, good: good, bad: bad}
	if _, err := s.runAll(ctx, rated, settings, 0); err != nil || len(holds) == 0 {
		return err
	}
	fmt.Printf("\n--memory %d MiB; no more than %d MiB may be resident\n", o.memory>>20, o.bound()>>20)
	most := 0.0
	for i := range max(o.orders, 1) {
		if o.orders > 0 {
			rand.Shuffle(len(holds), func(i, j int) { holds[i], holds[j] = holds[j], holds[i] })
			fmt.Printf("order %d: -attacks %s\n", i+1, strings.Join(holds, ","))
		}
		n, err := s.runAll(ctx, holds, map[string]string{"TIMEDGE_MEMORY": fmt.Sprint(o.memory)}, o.bound())
		if most = max(most, n); err != nil {
			return err
		}
	}
	fmt.Printf("at most %.0f MiB were resident\n", most)
	return nil
}

// site is where the attacks run: a program and the tokens of its clients.
type site struct {
	o         options
	dir, bin  string
	good, bad string
}

// runAll runs attacks on a server of their own, with settings of its environment. It returns the most that was
// resident, in MiB, and fails if that is above the bound in bytes; 0: none.
func (x *site) runAll(ctx context.Context, names []string, env map[string]string, bound int64) (most float64,
	err error) {
	if len(names) == 0 {
		return 0, nil
	}
	for k, v := range env {
		if err := os.Setenv(k, v); err != nil {
			return 0, err
		}
		defer os.Unsetenv(k)
	}
	o := x.o
	kind, s := drive.Timedge(x.dir, x.bin, 0)
	s.Over = over.Kind(o.over)
	if s.Admin, err = server.FreeAddr(); err != nil {
		return 0, err
	}
	srv, err := kind.Start(ctx, s)
	if err != nil {
		return 0, err
	}
	defer srv.Stop()
	if !o.shared {
		if err := prompt(srv.PID); err != nil {
			return 0, err
		}
	}
	g, err := newGood(ctx, srv.Addr, x.good, o)
	if err != nil {
		return 0, err
	}
	defer g.close()
	w := watched{srv.PID, s.Admin}
	fmt.Printf("%-10s %22s %22s %24s %24s %24s %24s  %s\n", "attack", "server CPU %", "server memory MiB", "good p50 ms",
		"good p99 ms", "longest turn ms", "longest wait ms", "the attacker")
	for _, name := range names {
		var calm, under []sample
		told := map[string]int{}
		for range o.pairs {
			c, err := g.measure(ctx, w, o.duration)
			if err != nil {
				return most, err
			}
			u, err := attacked(ctx, g, srv, w, over.Kind(o.over), name, x.bad, o.duration, told)
			if err != nil {
				return most, fmt.Errorf("%s: %w", name, err)
			}
			calm, under = append(calm, c), append(under, u)
			most = max(most, u.rss)
		}
		row := func(f func(sample) float64) string {
			a, b := median(calm, f), median(under, f)
			return fmt.Sprintf("%.1f -> %.1f (%+.0f%%)", a, b, 100*(b/max(a, 1e-9)-1))
		}
		fmt.Printf("%-10s %22s %22s %24s %24s %24s %24s  %s\n", name, row(func(s sample) float64 { return s.cpu }),
			row(func(s sample) float64 { return s.rss }),
			row(func(s sample) float64 { return s.p50 }), row(func(s sample) float64 { return s.p99 }),
			row(func(s sample) float64 { return s.turn }), row(func(s sample) float64 { return s.wait }), summary(told))
		if bound > 0 && most > float64(bound>>20) {
			return most, fmt.Errorf("%s: %.0f MiB were resident, bound %d", name, most, bound>>20)
		}
	}
	return most, nil
}

// attacked measures while another process attacks.
func attacked(ctx context.Context, g *good, srv *server.Running, w watched, over over.Kind, name, token string,
	d time.Duration, told map[string]int) (sample, error) {
	// what the attacker computes is no cost of the server's
	cmd := exec.CommandContext(ctx, "chrt", "--idle", "0", os.Args[0])
	at := srv.Addr
	if over != "" {
		at = srv.Over[over]
	}
	cmd.Env = append(os.Environ(), attackEnv+"="+at, attackOverEnv+"="+string(over), attackNameEnv+"="+name,
		attackTokenEnv+"="+token)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return sample{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return sample{}, err
	}
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	s, err := g.measure(ctx, w, d)
	_ = in.Close() // ends the attack
	var got map[string]int
	err = errors.Join(err, json.NewDecoder(out).Decode(&got), cmd.Wait())
	for k, n := range got {
		told[k] += n
	}
	return s, err
}

func median(all []sample, f func(sample) float64) float64 {
	var v []float64
	for _, s := range all {
		v = append(v, f(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// summary tells what the attacker counted, the most frequent first.
func summary(told map[string]int) string {
	names := slices.SortedFunc(maps.Keys(told),
		func(a, b string) int { return cmp.Or(told[b]-told[a], strings.Compare(a, b)) })
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, told[n])
	}
	return strings.Join(names, ", ")
}

// sample is what a measured time showed.
type sample struct {
	cpu      float64 // percent of one processor
	rss      float64 // MiB, the most at once
	p50, p99 float64 // ms from push to Next, over all good subscribers
	turn     float64 // ms, the longest that a loop was at one thing
	wait     float64 // ms, the longest that something that could run in the server waited for a processor
}

func usage(pid int) (cpu time.Duration, rss int64, err error) {
	if cpu, err = load.ProcessCPU(pid); err == nil {
		rss, err = load.ProcessRSS(pid)
	}
	return cpu, rss, err
}
