package tim

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stats are counted while the gateway runs.
type stats struct {
	opened, closed    atomic.Uint64
	turnedAway        atomic.Uint64
	logins            [2]atomic.Uint64 // accepted, refused
	framesIn          atomic.Uint64
	bytesIn, bytesOut atomic.Uint64
	deliveries        atomic.Uint64
	away              atomic.Uint64
	cutOff            atomic.Uint64
	held              atomic.Int64
	refusals          [len(failures)]atomic.Uint64
}

// failures are all that a client may be told, for the metrics.
var failures = [...]*failure{
	failExists, failPassword, failParameter, failDenied, failAccount, failInterface, failUnknown, failFull, failFormat, failBig,
	failToken, failOther, failLoad, failTooFast,
}

func (s *stats) refused(f *failure) {
	for i, known := range failures {
		if f == known {
			s.refusals[i].Add(1)
		}
	}
}

var (
	descConns      = prometheus.NewDesc("timedge_tim_connections", "Connections of tim clients.", nil, nil)
	descTurned     = prometheus.NewDesc("timedge_tim_turned_away_total", "Connections of tim clients that were turned away.", nil, nil)
	descLogins     = prometheus.NewDesc("timedge_tim_logins_total", "Logins of tim clients.", []string{"outcome"}, nil)
	descFrames     = prometheus.NewDesc("timedge_tim_frames_in_total", "Frames from tim clients.", nil, nil)
	descBytesIn    = prometheus.NewDesc("timedge_tim_bytes_in_total", "Bytes of frames from tim clients.", nil, nil)
	descBytesOut   = prometheus.NewDesc("timedge_tim_bytes_out_total", "Bytes written to tim clients.", nil, nil)
	descDeliveries = prometheus.NewDesc("timedge_tim_deliveries_total", "Pushes delivered to tim clients.", nil, nil)
	descAway       = prometheus.NewDesc("timedge_tim_recipient_away_total", "Streams to accounts that were not there.", nil, nil)
	descCutOff     = prometheus.NewDesc("timedge_tim_cut_off_total", "Connections of tim clients that held most when the bound on memory was reached.", nil, nil)
	descHeld       = prometheus.NewDesc("timedge_tim_held_bytes", "What connections of tim clients hold: frames that come, and what waits for who does not read.", nil, nil)
	descRefused    = prometheus.NewDesc("timedge_tim_refused_total", "Refusals, by the code that tim clients know.", []string{"code"}, nil)
)

// Describe implements prometheus.Collector.
func (g *Gateway) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, to) }

// Collect implements prometheus.Collector.
func (g *Gateway) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v *atomic.Uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v.Load()), labels...)
	}
	s := &g.stats
	g.mu.Lock()
	conns := len(g.conns)
	g.mu.Unlock()
	to <- prometheus.MustNewConstMetric(descConns, prometheus.GaugeValue, float64(conns))
	counter(descTurned, &s.turnedAway)
	counter(descLogins, &s.logins[0], "accepted")
	counter(descLogins, &s.logins[1], "refused")
	counter(descFrames, &s.framesIn)
	counter(descBytesIn, &s.bytesIn)
	counter(descBytesOut, &s.bytesOut)
	counter(descDeliveries, &s.deliveries)
	counter(descAway, &s.away)
	counter(descCutOff, &s.cutOff)
	to <- prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, float64(s.held.Load()))
	for i, f := range failures {
		counter(descRefused, &s.refusals[i], strconv.Itoa(int(f.Code)))
	}
}
