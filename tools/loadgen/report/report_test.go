package report

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// sample is a result as an open loop gives it.
func sample() *load.Result {
	h := verify.NewHistogram()
	for i := range int64(10_000) {
		_ = h.RecordValue(1_000_000 + i*1000)
	}
	return &load.Result{
		Schema: load.Schema,
		Config: load.Config{Scenario: "fan-out-paced", Target: "timedge", Rooms: 1, Publishers: 1, Subscribers: 100, Mode: load.Open,
			Streams: []load.Stream{{Payload: 256, Rate: 1000}}},
		Host: load.ReadHost(), Began: time.Unix(0, 0), Seconds: 1, Deliveries: 100_000, Rate: 100_000, Bytes: 25_600_000,
		Classes: map[string]*load.Class{"healthy": {Subscribers: 100, Latency: load.Describe(h)}},
		Connect: load.Describe(h), First: load.Describe(verify.NewHistogram()),
		Server: &load.Usage{CPU: time.Second, PerDelivery: 5000, Cores: 0.5, RSSBefore: 1 << 20, RSSIdle: 2 << 20, RSSMax: 3 << 20},
		Generator: load.Generator{PerDelivery: 1000, Busy: []float64{0.25}, Lag: load.Describe(verify.NewHistogram()),
			Turn: load.Describe(verify.NewHistogram())},
	}
}

func TestSummarySaysWhatMatters(t *testing.T) {
	r := sample()
	var b strings.Builder
	Summary(&b, r)
	for _, want := range []string{"100k/s", "5 µs per delivery", "10.24 KiB per idle subscriber", "healthy", "verified"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	r.Failed, r.Invalid = []string{"3 frames received twice"}, []string{"the generator sent late"}
	b.Reset()
	Summary(&b, r)
	s := b.String()
	if !strings.Contains(s, "FAILED       3 frames") || !strings.Contains(s, "INVALID      the gen") || strings.Contains(s, "verified") {
		t.Errorf("got\n%s", s)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "r.json")
	if err := WriteJSON(file, []*load.Result{sample()}); err != nil {
		t.Fatal(err)
	}
	back, err := ReadJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := back[0].Healthy().Latency.Raw()
	if err != nil || h.TotalCount() != 10_000 || h.ValueAtQuantile(99) != sample().Healthy().Latency.P99 {
		t.Errorf("histogram came back with %v samples, %v", h, err)
	}
	if err := os.WriteFile(file, []byte(`[{"schema":99}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadJSON(file); err == nil {
		t.Error("an unknown schema was read")
	}
}

func TestBenchLinesAreGoBenchmarks(t *testing.T) {
	r := benchfmt.NewReader(strings.NewReader(BenchHead()+BenchLine(sample())+"\n"), "x")
	if !r.Scan() {
		t.Fatal("no line was read")
	}
	res, ok := r.Result().(*benchfmt.Result)
	if !ok {
		t.Fatalf("got %v", r.Result())
	}
	if name := string(res.Name.Full()); name != "Load/scenario=fan-out-paced/target=timedge/rooms=1/subs=100/payload=256/rate=1000" {
		t.Errorf("name %q", name)
	}
	for unit, want := range map[string]float64{"deliveries/s": 100_000, "cpu-sec/delivery": 5e-6, "RSS-bytes": 3 << 20} {
		if got, ok := res.Value(unit); !ok || math.Abs(got-want) > want*1e-6 {
			t.Errorf("%s is %v, want %v", unit, got, want)
		}
	}
}

func TestFailedRunsLeaveNoFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.txt")
	r := sample()
	r.Failed = []string{"lost"}
	if err := AppendBench(file, []*load.Result{r, sample()}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "# ") || !strings.HasPrefix(lines[1], "Benchmark") {
		t.Errorf("got %q", lines)
	}
}

func TestPageLoadsNothingFromOutside(t *testing.T) {
	p, err := ResultPage("<title> & co", []*load.Result{sample()}, &Plot{Title: "t", LogX: true, LogY: true,
		Series: []Series{{Name: "a", Points: [][2]float64{{0, 1}, {1, 1}, {10, 1}}}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "p.html")
	if err := WriteHTML(file, p); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "<svg"); n != 2 {
		t.Errorf("%d plots, want 2", n)
	}
	if strings.Contains(string(b), "<title> & co") {
		t.Error("the title is not escaped")
	}
	// What a page could load: scripts, style sheets, images, fonts, frames. Name spaces of SVG are names, not addresses.
	outside := regexp.MustCompile(`(?i)<(script|link|img|iframe|image)\b|@import|url\(|\bsrc=|href="http`)
	if found := outside.Find(b); found != nil {
		t.Errorf("the page holds %q", found)
	}
}

func TestSlope(t *testing.T) {
	cases := []struct {
		name   string
		points [][2]float64
		want   float64
	}{
		{"flat", [][2]float64{{1, 5}, {10, 5}, {100, 5}}, 0},
		{"linear", [][2]float64{{1, 2}, {10, 20}, {100, 200}}, 1},
		{"square", [][2]float64{{1, 1}, {2, 4}, {4, 16}}, 2},
		{"one point", [][2]float64{{3, 3}}, 0},
	}
	for _, c := range cases {
		if got := Slope(c.points); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		Count(41_800_000): "41.8M", Count(120_000): "120k", Count(999_600): "1M", Count(95): "95", Count(9_999): "10k",
		Nanos(20): "20 ns", Nanos(999.6): "1 µs", Nanos(2_500_000): "2.5 ms", Nanos(3e9): "3 s",
		Size(10): "10 B", Size(1 << 20): "1 MiB", Size(9_970): "9.736 KiB",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
