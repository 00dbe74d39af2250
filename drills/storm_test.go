package drills

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/internal/testcert"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
)

var storm = flag.Int("storm", 300, "clients of the node that dies in drills of storms")

// certificate writes a certificate for loopback, and its key.
func (f *fleet) certificate() (cert, key string) {
	f.t.Helper()
	dir := f.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := testcert.Write(testcert.New(1), cert, key); err != nil {
		f.t.Fatal(err)
	}
	return cert, key
}

// A node dies that has two thirds of all clients: all of them connect to the other two at once. Nothing is lost. It says
// how long it took until every one of them had its stream again, what it cost at its peak, and how many connections it
// took: as many as clients if there was no second wave.
func TestStorm(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 4)) // the generator's loops wait in system calls
	for _, kind := range []over.Kind{over.Plain, over.TLS} {
		name := map[over.Kind]string{over.Plain: "plain", over.TLS: "TLS"}[kind]
		t.Run(name, func(t *testing.T) {
			f := (&fleet{t: t}).begin(0)
			cert, key := f.certificate()
			var secure []string
			for i := range 3 {
				f.add(fmt.Sprintf("n%d", i+1))
				secure = append(secure, freeAddr(t))
				f.nodes[i].args = []string{"--listen-tls", secure[i], "--tls-cert", cert, "--tls-key", key}
				f.start(i)
			}
			f.await(3)
			plain := []string{f.nodes[0].listen, f.nodes[1].listen, f.nodes[2].listen}
			const victim = 2
			deal := func(at []string) string { // four of six are the victim's
				return strings.Join([]string{at[0], at[victim], at[victim], at[1], at[victim], at[victim]}, ",")
			}
			clients := *storm / 4 * 4
			cfg := load.Config{
				Scenario: "storm", Addr: deal(plain), Register: plain[0], Subscribers: clients / 4 * 6, Returning: clients,
				Streams: []load.Stream{{Payload: 64, Rate: 10}}, Warmup: time.Second, Duration: killAfter + 3*time.Second + time.Duration(clients)*2*time.Millisecond, KillAfter: killAfter,
				KillPID: f.nodes[victim].cmd.Process.Pid, Silence: patience, Drain: patience, LostFails: true,
				MaxLag: time.Hour, MaxTurn: time.Hour, // whose figures these are nobody compares with others'
			}
			if kind != over.Plain {
				cfg.Over, cfg.OverAddr = kind, deal(secure)
			}
			w := &survivors{f: f, nodes: []int{0, 1}, over: make(chan struct{})}
			res, err := load.Run(t.Context(), cfg, load.Hooks{Progress: func(p load.Progress) {
				if p.Stage == "measuring" && p.Elapsed > cfg.Warmup+cfg.KillAfter/2 {
					w.once.Do(w.watch)
				}
			}})
			close(w.over)
			w.done.Wait()
			if err != nil {
				t.Fatal(err)
			}
			f.gone(victim)
			for _, why := range res.Failed {
				t.Error(why)
			}
			back := res.Failover.Subscribers
			if back.Count != int64(clients) {
				t.Errorf("%d connections were made again, of %d", back.Count, clients)
			}
			accepted := w.accepted() - w.before
			ms := func(ns int64) time.Duration { return time.Duration(ns).Round(time.Millisecond) }
			t.Logf("storm, %s: %d clients of a node that died are back after p50 %v, p99 %v, worst %v; all stream again after %v; "+
				"at the peak the others took %.2f processors; %.0f connections for %d clients%s",
				name, clients, ms(back.P50), ms(back.P99), ms(back.Max), ms(res.Longest.Max), w.peak, accepted, clients, w.ended())
		})
	}
}

// killAfter is how long a stream runs before the node dies.
const killAfter = 1500 * time.Millisecond

// survivors are the nodes that take the clients.
type survivors struct {
	f      *fleet
	nodes  []int
	before float64 // connections that they had accepted before
	peak   float64 // processors that they took within a tenth of a second
	over   chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

func (w *survivors) accepted() (n float64) {
	for _, i := range w.nodes {
		var v float64
		w.f.until("the node says what it has accepted", func() bool {
			v = w.f.metric(i, "timedge_accepted_total")
			return v >= 0
		})
		n += v
	}
	return n
}

// ended tells how many connections they ended before these streamed, by what they count them as.
func (w *survivors) ended() (all string) {
	for _, series := range []string{
		`timedge_turned_away_total{reason="handshakes"}`, `timedge_turned_away_total{reason="connections"}`,
		`timedge_closed_total{code="hello_timeout"}`, "timedge_handshakes_failed_total",
	} {
		n := 0.0
		for _, i := range w.nodes {
			n += max(0, w.f.metric(i, series))
		}
		if n > 0 {
			all += fmt.Sprintf("; %s %.0f", series, n)
		}
	}
	return all
}

// watch looks at what they take until the storm is over.
func (w *survivors) watch() {
	w.before = w.accepted()
	cpu := func() (all time.Duration) {
		for _, i := range w.nodes {
			n, err := load.ProcessCPU(w.f.nodes[i].cmd.Process.Pid)
			if err != nil {
				w.f.t.Error(err)
			}
			all += n
		}
		return all
	}
	w.done.Go(func() {
		at, was := time.Now(), cpu()
		for t := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-w.over:
				t.Stop()
				return
			case <-t.C:
			}
			now, is := time.Now(), cpu()
			w.peak = max(w.peak, (is-was).Seconds()/now.Sub(at).Seconds())
			at, was = now, is
		}
	})
}
