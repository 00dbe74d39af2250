package engine

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"
)

func written(t testing.TB, m prometheus.Metric) *dto.Histogram {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Histogram
}

// TestHistogram holds our histogram to that of client_golang, in its native and in its classic form.
func TestHistogram(t *testing.T) {
	var bounds []float64
	for i := firstClassic; i < longest; i += perDoubling {
		bounds = append(bounds, math.Exp2(float64(i)/perDoubling))
	}
	d := prometheus.NewDesc("x", "x", nil, nil)
	rapid.Check(t, func(rt *rapid.T) {
		theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "x", Buckets: bounds, NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: math.Exp2(float64(shortest) / perDoubling),
		})
		ours := make([]histogram, 3) // as of so many loops
		for _, ns := range rapid.SliceOf(rapid.Int64Range(0, int64(time.Minute))).Draw(rt, "times") {
			theirs.Observe(time.Duration(ns).Seconds())
			ours[ns%3].observe(ns)
		}
		got, want := written(t, sumOf(d, &ours[0], &ours[1], &ours[2])), written(t, theirs)
		if got.GetSampleCount() != want.GetSampleCount() || math.Abs(got.GetSampleSum()-want.GetSampleSum()) > 1e-6 {
			rt.Errorf("%d, %v in all, want %d, %v", got.GetSampleCount(), got.GetSampleSum(), want.GetSampleCount(), want.GetSampleSum())
		}
		if got.GetSchema() != want.GetSchema() || got.GetZeroCount() != want.GetZeroCount() || got.GetZeroThreshold() != want.GetZeroThreshold() {
			rt.Errorf("schema %d, %d below %v, want %d, %d below %v", got.GetSchema(), got.GetZeroCount(), got.GetZeroThreshold(),
				want.GetSchema(), want.GetZeroCount(), want.GetZeroThreshold())
		}
		if !reflect.DeepEqual(counts(got), counts(want)) {
			rt.Errorf("%v, want %v", counts(got), counts(want))
		}
		if !reflect.DeepEqual(classic(got), classic(want)) {
			rt.Errorf("%v, want %v", classic(got), classic(want))
		}
	})
}

// counts returns what the native buckets hold, by index.
func counts(h *dto.Histogram) map[int32]int64 {
	m, at, n, next := map[int32]int64{}, int32(0), int64(0), 0
	for _, s := range h.PositiveSpan {
		at += s.GetOffset()
		for range s.GetLength() {
			if n += h.PositiveDelta[next]; n != 0 {
				m[at] = n
			}
			next++
			at++
		}
	}
	return m
}

func classic(h *dto.Histogram) map[float64]uint64 {
	m := map[float64]uint64{}
	for _, b := range h.Bucket {
		m[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	return m
}

// What is out of range counts at the ends, also when a clock seems to go back.
func TestHistogramEnds(t *testing.T) {
	for ns, want := range map[int64]int{
		-1: shortest, 0: shortest, 1: shortest, int64(time.Second): 0, int64(2 * time.Second): perDoubling, int64(64 * time.Second): longest,
		int64(time.Hour): longest, math.MaxInt64: longest,
	} {
		if got := bucketOf(ns); got != want {
			t.Errorf("%d ns: bucket %d, want %d", ns, got, want)
		}
	}
}

func TestHistogramDoesNotAllocate(t *testing.T) {
	var h histogram
	ns := int64(1)
	if n := testing.AllocsPerRun(1000, func() { h.observe(ns); ns += ns/3 + 1 }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHistogram(b *testing.B) {
	var h histogram
	ns := int64(1)
	for b.Loop() {
		h.observe(ns)
		ns = ns*31%1_000_003 + 1
	}
}

// TestExcess: nobody is sent away in vain, and afterwards nobody has more than the mean.
func TestExcess(t *testing.T) {
	for _, c := range []struct {
		name        string
		have, moves []int
	}{
		{"nobody", nil, []int{}},
		{"alone", []int{100}, []int{0}},
		{"no clients", []int{0, 0, 0}, []int{0, 0, 0}},
		{"all at one", []int{300, 0, 0}, []int{200, 0, 0}},
		{"within the slack", []int{104, 100, 96}, []int{0, 0, 0}},
		{"just beyond it", []int{106, 100, 94}, []int{6, 0, 0}},
		{"one more", []int{2, 1, 1}, []int{0, 0, 0}},
		{"few", []int{5, 0, 0}, []int{3, 0, 0}},
		{"two that have too many", []int{200, 200, 50}, []int{50, 50, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := excess(c.have); !reflect.DeepEqual(got, c.moves) {
				t.Errorf("%v, want %v", got, c.moves)
			}
		})
	}
	rapid.Check(t, func(rt *rapid.T) {
		have := rapid.SliceOfN(rapid.IntRange(0, 100_000), 1, 20).Draw(rt, "have")
		sum, room := 0, 0
		moves := excess(have)
		for _, n := range have {
			sum += n
		}
		for i, n := range have {
			mean := (sum + len(have) - 1) / len(have)
			if left := n - moves[i]; moves[i] < 0 || moves[i] > 0 && left != mean || left > mean+max(1, mean/slack) {
				rt.Errorf("of %d %d go; the mean is %d", n, moves[i], mean)
			}
			room += max(0, mean-n)
			room -= moves[i]
		}
		if room < 0 {
			rt.Errorf("%d have nowhere to go", -room)
		}
	})
}
