package gates

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/timedge/timedge/benchmarks/internal/drive"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/tools/loadgen/load"
)

func TestMain(m *testing.M) {
	drive.Prepare()
	os.Exit(m.Run())
}

// counters are the server's own, by name.
type counters map[string]float64

// measured runs a load on a server in this process and returns what its counters rose by, and how many objects the whole
// process, generator included, allocated, from early in the measured time to near its end.
func measured(t *testing.T, c drive.Case) (d counters, mallocs uint64) {
	t.Helper()
	e, err := engine.Start(engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2})
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
	d = make(counters)
	for k, v := range after {
		d[k] = v - before[k]
	}
	if d["timedge_deliveries_total"] == 0 {
		t.Fatal("nothing was delivered")
	}
	return d, memory[1].Mallocs - memory[0].Mallocs
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
	d, _ := measured(t, paced()) // nothing queues, so that what is counted as delivered is what was written
	per := d["timedge_bytes_out_total"] / d["timedge_deliveries_total"]
	// The two counters are read one after the other while both rise, which is worth a few thousandths.
	below(t, "bytes out per delivery", per, (payload+codec.StreamHeaderSize)*1.05)
	in := d["timedge_bytes_in_total"] / d["timedge_frames_in_total"]
	below(t, "bytes in per frame", in, (payload+codec.StreamHeaderSize)*1.05)
}

// TestWritesPerDelivery: a frame that comes alone costs one write per subscriber; under load many share one.
func TestWritesPerDelivery(t *testing.T) {
	d, _ := measured(t, paced())
	below(t, "paced: writes per delivery", d["timedge_writes_total"]/d["timedge_deliveries_total"], 1.1)
	d, _ = measured(t, busy())
	below(t, "busy: writes per delivery", d["timedge_writes_total"]/d["timedge_deliveries_total"], 0.02)
	below(t, "busy: reads per frame", d["timedge_reads_total"]/d["timedge_frames_in_total"], 0.1)
}

// TestAllocationsPerFrame: none on the way of a frame. What is left are timers and the reading of the counters themselves.
func TestAllocationsPerFrame(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d, mallocs := measured(t, busy())
	below(t, "busy: allocations per frame", float64(mallocs)/d["timedge_frames_in_total"], 0.01)
	// A paced frame may not allocate once per delivery either.
	d, mallocs = measured(t, paced())
	below(t, "paced: allocations per delivery", float64(mallocs)/d["timedge_deliveries_total"], 0.1)
}
