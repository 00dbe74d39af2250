package gates

import (
	"context"
	"crypto/tls"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/testcert"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
)

func TestMain(m *testing.M) {
	drive.Prepare()
	os.Exit(m.Run())
}

// counters are the server's own, by name.
type counters map[string]float64

// reading is what a run did to the counters.
type reading struct {
	d       counters // what they rose by from early in the measured time to near its end
	mallocs uint64   // objects that the whole process, generator included, allocated in that time
	all     counters // what they stand at when all is over: the only ones to compare with each other to the byte
}

// certified is the configuration of a server by TLS.
var certified = &tls.Config{Certificates: []tls.Certificate{testcert.New(1)}, MinVersion: tls.VersionTLS13}

// measured runs a load on a server in this process.
func measured(t *testing.T, c drive.Case) (m reading) {
	t.Helper()
	cfg := engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2}
	switch c.Config.Over {
	case over.TLS:
		cfg.ListenTLS, cfg.TLS = cfg.Listen, certified
	case over.WS:
		cfg.ListenWS = cfg.Listen
	case over.WSS:
		cfg.ListenWSS, cfg.TLS = cfg.Listen, certified
	}
	e, err := engine.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = e.Shutdown(ctx)
	}()
	reg := prometheus.NewRegistry()
	reg.MustRegister(e)
	c.Config.Target, c.Config.Addr = "timedge", e.Addrs()[0].String()
	if c.Config.Over != over.Plain {
		c.Config.OverAddr = e.Addrs()[1].String()
	}
	c.Config.MaxLag, c.Config.MaxTurn = time.Hour, time.Hour // no figure here depends on time
	var before, after counters
	var memory [2]runtime.MemStats
	r, err := load.Run(t.Context(), c.Config, load.Hooks{Progress: func(p load.Progress) {
		if p.Stage != "measuring" {
			return
		}
		if before == nil {
			before = gather(t, reg)
			runtime.ReadMemStats(&memory[0])
			return
		}
		if after == nil && p.Elapsed > p.Total-300*time.Millisecond { // once: reading the counters allocates
			runtime.ReadMemStats(&memory[1])
			after = gather(t, reg)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failed {
		t.Error(f)
	}
	if after == nil {
		t.Fatal("the measured time was too short")
	}
	m.d, m.all = make(counters), gather(t, reg)
	for k, v := range after {
		m.d[k] = v - before[k]
	}
	if m.d["timedge_deliveries_total"] == 0 {
		t.Fatal("nothing was delivered")
	}
	m.mallocs = memory[1].Mallocs - memory[0].Mallocs
	return m
}

func gather(t *testing.T, reg *prometheus.Registry) counters {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	c := make(counters)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			c[f.GetName()] += m.GetCounter().GetValue()
		}
	}
	return c
}

const (
	subs    = 50
	payload = 64
)

func busy() drive.Case {
	return drive.Closed(subs, payload, 200*time.Millisecond, 800*time.Millisecond)
}

func paced() drive.Case {
	return drive.Paced(1, subs, payload, 200, 200*time.Millisecond, 800*time.Millisecond)
}

func below(t *testing.T, what string, got, bound float64) {
	t.Helper()
	t.Logf("%s: %.4f", what, got)
	if got > bound {
		t.Errorf("%s: %.4f, at most %.4f", what, got, bound)
	}
}

// TestBytesPerFrame: 20 bytes around a payload and nothing else, but for the publisher's acknowledgements.
func TestBytesPerFrame(t *testing.T) {
	d := measured(t, paced()).d // nothing queues, so that what is counted as delivered is what was written
	per := d["timedge_bytes_out_total"] / d["timedge_deliveries_total"]
	// The two counters are read one after the other while both rise, which is worth a few thousandths.
	below(t, "bytes out per delivery", per, (payload+codec.StreamHeaderSize)*1.05)
	in := d["timedge_bytes_in_total"] / d["timedge_frames_in_total"]
	below(t, "bytes in per frame", in, (payload+codec.StreamHeaderSize)*1.05)
}

// TestWritesPerDelivery: a frame that comes alone costs one write per subscriber; under load many share one.
func TestWritesPerDelivery(t *testing.T) {
	d := measured(t, paced()).d
	below(t, "paced: writes per delivery", d["timedge_writes_total"]/d["timedge_deliveries_total"], 1.1)
	d = measured(t, busy()).d
	below(t, "busy: writes per delivery", d["timedge_writes_total"]/d["timedge_deliveries_total"], 0.02)
	below(t, "busy: reads per frame", d["timedge_reads_total"]/d["timedge_frames_in_total"], 0.1)
}

// TestCarriersWriteAsPlain: by TLS and WebSocket a frame that comes alone costs one write for each subscriber, too, the
// header with it, and allocates nothing.
func TestCarriersWriteAsPlain(t *testing.T) {
	for _, kind := range over.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			c := paced()
			c.Config.Over = kind
			m := measured(t, c)
			below(t, "writes per delivery", m.d["timedge_writes_total"]/m.d["timedge_deliveries_total"], 1.1)
			if !raceEnabled {
				below(t, "allocations per delivery", float64(m.mallocs)/m.d["timedge_deliveries_total"], 0.2)
			}
		})
	}
}

// TestCopies: a frame is copied once, from the read buffer into the batch that everybody shares, however many
// subscribers it has, on however many loops, and also when they are slow and it waits for them. Only a frame that a
// read cut in two is put together first.
func TestCopies(t *testing.T) {
	crowd := func(n int, c drive.Case) drive.Case {
		c.Config.Subscribers = n
		return c
	}
	slow := drive.Paced(1, subs, 16<<10, 500, 200*time.Millisecond, 800*time.Millisecond)
	slow.Config.Stalled, slow.Config.Receive = 0.5, 16<<10
	for name, c := range map[string]drive.Case{
		"busy, one subscriber": crowd(1, busy()), "busy, 50 subscribers": crowd(50, busy()),
		"paced, one subscriber": crowd(1, paced()), "paced, 50 subscribers": crowd(50, paced()),
		"paced, half of 50 subscribers do not read": slow,
	} {
		t.Run(name, func(t *testing.T) {
			all := measured(t, c).all
			below(t, "bytes copied per byte that came in", all["timedge_copied_bytes_total"]/all["timedge_bytes_in_total"], 1.1)
			if c.Config.Stalled > 0 { // what was dropped for them did not go out
				if all["timedge_blocks_total"] == 0 {
					t.Error("nobody was slow")
				}
			} else {
				below(t, "bytes copied per byte that went out",
					all["timedge_copied_bytes_total"]/all["timedge_bytes_out_total"], 1.1/float64(c.Config.Subscribers))
			}
		})
	}
}

// TestAllocationsPerFrame: none on the way of a frame. What is left are timers and the reading of the counters
// themselves.
func TestAllocationsPerFrame(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := measured(t, busy())
	below(t, "busy: allocations per frame", float64(m.mallocs)/m.d["timedge_frames_in_total"], 0.01)
	// A paced frame may not allocate once per delivery either.
	m = measured(t, paced())
	below(t, "paced: allocations per delivery", float64(m.mallocs)/m.d["timedge_deliveries_total"], 0.1)
}
