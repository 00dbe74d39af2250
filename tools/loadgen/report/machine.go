package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/over"
)

// WriteJSON writes results to a file, as an array even if it is only one.
func WriteJSON(file string, results []*load.Result) error {
	for _, r := range results {
		if err := r.Encode(); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(file string) ([]*load.Result, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var results []*load.Result
	if err := json.Unmarshal(b, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, r := range results {
		if r.Schema != load.Schema {
			return nil, fmt.Errorf("%s: schema %d, this program reads %d", file, r.Schema, load.Schema)
		}
	}
	return results, nil
}

// BenchName is the name of a result as a Go benchmark, in key=value parts that benchstat can pivot on.
func BenchName(c *load.Config) string {
	name := fmt.Sprintf("BenchmarkLoad/scenario=%s/target=%s/rooms=%d/subs=%d", c.Scenario, c.Target, c.Rooms, c.Subscribers)
	if c.Over != over.Plain {
		name += "/over=" + string(c.Over)
	}
	if len(c.Streams) == 1 {
		name += fmt.Sprintf("/payload=%d", c.Streams[0].Payload)
		if c.Mode == load.Open {
			name += fmt.Sprintf("/rate=%g", c.Streams[0].Rate)
		}
	}
	return name
}

// BenchLine writes a result in the Go benchmark format. ns/op is server processor time per delivery where it was
// measured, and otherwise wall-clock time per delivery.
func BenchLine(r *load.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s 1", BenchName(&r.Config))
	value := func(v float64, unit string) { fmt.Fprintf(&b, " %.6g %s", v, unit) }
	if r.Deliveries > 0 {
		value(r.Rate, "deliveries/s")
	}
	if s := r.Server; s != nil && r.Deliveries > 0 {
		value(s.PerDelivery, "cpu-ns/delivery")
		value(float64(s.RSSMax), "RSS-bytes")
	}
	if s := r.Server; s != nil && r.Config.Idle {
		value(float64(s.RSSIdle-s.RSSBefore)/float64(max(r.Config.Rooms*r.Config.Subscribers, 1)), "B/idle-subscriber")
	}
	if h := r.Healthy(); h != nil && r.Config.Mode == load.Open && h.Latency.Count > 0 {
		value(float64(h.Latency.P50), "p50-ns")
		value(float64(h.Latency.P99), "p99-ns")
		value(float64(h.Latency.P999), "p99.9-ns")
	}
	return b.String()
}

// AppendBench appends results to a file as benchmark lines; "-" is standard output. Runs that failed or are invalid
// leave a comment instead of figures.
func AppendBench(file string, results []*load.Result) error {
	var b strings.Builder
	for _, r := range results {
		if !r.OK() {
			fmt.Fprintf(&b, "# %s: no figures: %s\n", BenchName(&r.Config), strings.Join(append(r.Failed, r.Invalid...), "; "))
			continue
		}
		fmt.Fprintln(&b, BenchLine(r))
	}
	if file == "-" {
		_, err := os.Stdout.WriteString(b.String())
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(b.String()); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// BenchHead is what a file of benchmark lines begins with: where they come from, in the Go benchmark format.
func BenchHead() string {
	h := load.ReadHost()
	return fmt.Sprintf("goos: linux\ngoarch: %s\npkg: github.com/timedge/timedge/benchmarks\ncpu: %s\nkernel: %s\ngo: %s\ncommit: %s\n",
		runtime.GOARCH, h.CPU, h.Kernel, h.Go, h.Commit)
}
