package engine

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// histogram counts times by their length, in the buckets of a native histogram of Prometheus: eight to a doubling, so
// that a quantile is known to within 9 %. To observe costs two additions and no allocation. (An observation by
// client_golang's own histogram allocates.) Any goroutine. The zero value is ready to use.
type histogram struct {
	sum     atomic.Int64                          // ns
	buckets [1 + longest - shortest]atomic.Uint64 // the first: all up to 2^(shortest/perDoubling) s; the last: what is longer, too
}

const (
	schema      = 3
	perDoubling = 1 << schema
	// shortest and longest are the indices of the buckets that end with a microsecond, or so, and a minute.
	shortest = -20 * perDoubling
	longest  = 6 * perDoubling
)

// boundaries lie within a doubling: the bucket of index i ends with 2^(i/perDoubling) s.
var boundaries = func() (b [perDoubling]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/perDoubling - 1)
	}
	return b
}()

// observe counts a time, in ns.
func (h *histogram) observe(ns int64) {
	h.sum.Add(ns)
	h.buckets[bucketOf(ns)-shortest].Add(1)
}

// bucketOf returns the index of the bucket that a time in ns belongs to.
func bucketOf(ns int64) int {
	if ns <= 0 {
		return shortest
	}
	part, exp := math.Frexp(float64(ns) / float64(time.Second))
	i, _ := slices.BinarySearch(boundaries[:], part)
	return min(max(i+(exp-1)*perDoubling, shortest), longest)
}

// sampleEvery says that one in so many observations is made where they are many.
const sampleEvery = 8

// sampler picks one in sampleEvery.
type sampler uint8

func (s *sampler) due() bool {
	*s++
	return *s%sampleEvery == 0
}

// times is what several histograms have counted: a metric.
type times struct {
	prometheus.Metric
	classic []*dto.Bucket
}

// Write implements prometheus.Metric. Who asks for text gets a bucket for each doubling, from 15 us on: the text format
// has no native histograms.
func (t *times) Write(m *dto.Metric) error {
	err := t.Metric.Write(m)
	m.Histogram.Bucket, m.Histogram.CreatedTimestamp = t.classic, nil
	return err
}

const firstClassic = -16 * perDoubling

// sumOf adds histograms up.
func sumOf(d *prometheus.Desc, of ...*histogram) prometheus.Metric {
	native, count, zero, sum := make(map[int]int64), uint64(0), uint64(0), int64(0)
	t := &times{}
	for i := shortest; i <= longest; i++ {
		n := uint64(0)
		for _, h := range of {
			n += h.buckets[i-shortest].Load()
		}
		switch count += n; {
		case n == 0:
		case i == shortest:
			zero = n
		default:
			native[i] = int64(n)
		}
		if i >= firstClassic && i < longest && i%perDoubling == 0 {
			up, le := count, math.Exp2(float64(i)/perDoubling)
			t.classic = append(t.classic, &dto.Bucket{CumulativeCount: &up, UpperBound: &le})
		}
	}
	for _, h := range of {
		sum += h.sum.Load()
	}
	t.Metric = prometheus.MustNewConstNativeHistogram(d, count, time.Duration(sum).Seconds(), native, nil, zero, schema,
		math.Exp2(float64(shortest)/perDoubling), time.Time{})
	return t
}
