package load

import (
	"fmt"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/target"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// Schema is the version of the JSON form of Result. It rises when a field changes its meaning or goes away.
const Schema = 2

// Result is what one run measured. Durations are in nanoseconds, sizes in bytes.
type Result struct {
	Schema  int       `json:"schema"`
	Config  Config    `json:"config"`
	Host    Host      `json:"host"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // measured time

	Published  uint64  `json:"published"`  // messages in the measured time
	Behind     uint64  `json:"behind"`     // messages that were due and could not be sent at all before the end
	Held       uint64  `json:"held"`       // messages sent late because the server did not take more; their latency says so
	Deliveries uint64  `json:"deliveries"` // messages received in the measured time, over all subscribers
	Rate       float64 `json:"rate"`       // deliveries per second
	Bytes      uint64  `json:"bytes"`      // of payload, likewise

	Classes map[string]*Class `json:"classes"` // by class of subscriber; counts are of the whole run
	Connect *Histogram        `json:"connect"` // from the connection's beginning to the subscription

	First *Histogram `json:"first"` // to the first message, of those who joined during the run

	// Longest is the longest time between two messages, of each stream of each healthy subscriber: in the measured time,
	// or if a node was killed from then on. Open loop only.
	Longest  *Histogram `json:"longest_gap,omitempty"`
	Failover *Failover  `json:"failover,omitempty"` // where connections are made again

	Server    *Usage    `json:"server,omitempty"`
	Generator Generator `json:"generator"`

	// Unfinished says that the server was still delivering when the wait for the rest was given up: it did not keep up,
	// and what had not arrived is not counted against it.
	Unfinished bool `json:"unfinished,omitempty"`

	Errors  map[string]int `json:"errors,omitempty"`  // of subscribers that should not have had any
	Cut     map[string]int `json:"cut,omitempty"`     // of those that read slowly on purpose
	Failed  []string       `json:"failed,omitempty"`  // broken promises: the run fails
	Invalid []string       `json:"invalid,omitempty"` // why its figures are not to be believed
	Limited string         `json:"limited,omitempty"` // closed loop: why the rate may be the generator's own

	server, process *meter
}

// Failover is what it took to go on over broken connections.
type Failover struct {
	Subscribers *Histogram `json:"subscriber_outages"` // of each broken connection, until the subscription over another
	Publishers  *Histogram `json:"publisher_outages"`  // likewise, of publishers
	Replayed    uint64     `json:"replayed"`           // frames pushed again
	Moves       uint64     `json:"moves"`              // of a room, under a publisher whose connection stayed
}

// Class is what the subscribers of one class received.
type Class struct {
	Subscribers int           `json:"subscribers"`
	Counts      verify.Counts `json:"counts"`
	Latency     *Histogram    `json:"latency"`
}

// Usage is what a process used in the measured time.
type Usage struct {
	CPU         time.Duration `json:"cpu_ns"`
	PerDelivery float64       `json:"cpu_per_delivery_ns"`
	Cores       float64       `json:"cores"`      // processor time over time
	RSSBefore   int64         `json:"rss_before"` // before anybody connected
	RSSIdle     int64         `json:"rss_idle"`   // when everybody was connected and nothing published yet
	RSSMax      int64         `json:"rss_max"`
	Connecting  time.Duration `json:"connecting_ns"` // processor time from before anybody connected until everybody was ready
}

// Generator is what the generator itself needed, and how late it was.
type Generator struct {
	CPU         time.Duration `json:"cpu_ns"`              // of the whole process
	PerDelivery float64       `json:"cpu_per_delivery_ns"` // of the receiving threads alone
	Busy        []float64     `json:"busy"`                // processor time over time, of each receiving thread
	PublishBusy float64       `json:"publish_busy"`        // likewise, of the publishing thread
	Priority    bool          `json:"priority"`            // the publishing thread had its raised priority
	Lag         *Histogram    `json:"lag"`                 // how late it sent, where nobody else held it up; open loop
	Turn        *Histogram    `json:"turn"`                // how long a turn of a receiving loop took
}

// Histogram is a latency distribution: its usual figures, and all of it in HdrHistogram's compressed form (base64).
type Histogram struct {
	Count   int64   `json:"count"`
	Mean    float64 `json:"mean"`
	P50     int64   `json:"p50"`
	P90     int64   `json:"p90"`
	P99     int64   `json:"p99"`
	P999    int64   `json:"p99.9"`
	P9999   int64   `json:"p99.99"`
	Max     int64   `json:"max"`
	Encoded string  `json:"hdr,omitempty"`

	h *hdrhistogram.Histogram
}

// Describe returns the figures of h. Encoding happens when a result is written.
func Describe(h *hdrhistogram.Histogram) *Histogram {
	return &Histogram{Count: h.TotalCount(), Mean: h.Mean(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90),
		P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), P9999: h.ValueAtQuantile(99.99), Max: h.Max(), h: h}
}

// Encode fills in Encoded.
func (h *Histogram) Encode() error {
	if h == nil || h.h == nil {
		return nil
	}
	b, err := h.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	h.Encoded = string(b)
	return err
}

// Raw returns the whole distribution, decoding it if the result was read from a file.
func (h *Histogram) Raw() (*hdrhistogram.Histogram, error) {
	if h.h == nil {
		d, err := hdrhistogram.Decode([]byte(h.Encoded))
		if err != nil {
			return nil, fmt.Errorf("histogram: %w", err)
		}
		h.h = d
	}
	return h.h, nil
}

// Encode makes the result ready to be written as JSON.
func (r *Result) Encode() error {
	all := []*Histogram{r.Connect, r.First, r.Longest, r.Generator.Lag, r.Generator.Turn}
	if f := r.Failover; f != nil {
		all = append(all, f.Subscribers, f.Publishers)
	}
	for _, c := range r.Classes {
		if r.Config.Mode == Open { // that of a closed loop says only how large the window is
			all = append(all, c.Latency)
		}
	}
	for _, h := range all {
		if err := h.Encode(); err != nil {
			return err
		}
	}
	return nil
}

// Healthy returns the class by which a server is judged.
func (r *Result) Healthy() *Class { return r.Classes[healthy.String()] }

// OK reports whether the run kept all promises and its figures can be believed.
func (r *Result) OK() bool { return len(r.Failed) == 0 && len(r.Invalid) == 0 }

func newResult(c *Config) *Result {
	r := &Result{Schema: Schema, Config: *c, Host: ReadHost(), Began: time.Now(), process: newMeter(os.Getpid()), server: newMeter(c.ServerPID, c.NodePIDs...)}
	return r
}

// collect takes everything from the loops, which have ended.
func (r *Result) collect(run *run) {
	r.Classes = make(map[string]*Class)
	r.Errors, r.Cut = make(map[string]int), make(map[string]int)
	connect, first, turns := verify.NewHistogram(), verify.NewHistogram(), verify.NewHistogram()
	longest, outage := verify.NewHistogram(), verify.NewHistogram()
	var latency [classes]*hdrhistogram.Histogram
	var counts [classes]verify.Counts
	var cpu time.Duration
	for _, l := range run.loops {
		for c, s := range l.sinks {
			if latency[c] == nil {
				latency[c] = verify.NewHistogram()
			}
			latency[c].Merge(s.Latency)
			counts[c].Add(&s.Counts)
		}
		connect.Merge(l.connect)
		first.Merge(l.served)
		longest.Merge(l.longest)
		outage.Merge(l.outage)
		turns.Merge(l.turns)
		for e, n := range l.errs {
			r.Errors[e] += n
		}
		for e, n := range l.cut {
			r.Cut[e] += n
		}
		elapsed := float64(l.to.at-l.from.at) / float64(time.Second)
		if elapsed > 0 {
			r.Deliveries += l.to.messages - l.from.messages
			r.Bytes += l.to.bytes - l.from.bytes
			r.Rate += float64(l.to.messages-l.from.messages) / elapsed
			r.Seconds = max(r.Seconds, elapsed)
			cpu += l.to.cpu - l.from.cpu
			r.Generator.Busy = append(r.Generator.Busy, (l.to.cpu-l.from.cpu).Seconds()/elapsed)
		}
	}
	for c := range class(classes) {
		if n := run.count(c); n > 0 {
			r.Classes[c.String()] = &Class{Subscribers: n, Counts: counts[c], Latency: Describe(latency[c])}
		}
	}
	r.Connect, r.First = Describe(connect), Describe(first)
	if r.Config.Mode == Open {
		r.Longest = Describe(longest)
	}
	if run.resumes {
		r.Failover = &Failover{Subscribers: Describe(outage), Publishers: Describe(run.pub.outage)}
		for _, c := range run.pub.conns {
			if w, ok := c.wire.(target.Replayer); ok {
				frames, moves := w.Replayed()
				r.Failover.Replayed += frames
				r.Failover.Moves += moves
			}
		}
	}
	r.Published, r.Behind, r.Held = run.pub.measured, run.pub.behind, run.pub.held
	r.Generator.Lag, r.Generator.Turn, r.Generator.Priority = Describe(run.pub.lag), Describe(turns), run.pub.niced
	if r.Seconds > 0 {
		r.Generator.PublishBusy = (run.pub.cpu[1] - run.pub.cpu[0]).Seconds() / r.Seconds
	}
	r.Generator.CPU = r.process.used()
	if r.Deliveries > 0 {
		r.Generator.PerDelivery = float64(cpu) / float64(r.Deliveries)
	}
	r.Server = r.server.usage(r.Rate)
	r.judge(run)
}

func (r *run) count(c class) int {
	n := 0
	for _, l := range r.loops {
		n += l.made[c]
	}
	return n
}

// saturated is the share of the time above which a receiving thread is taken to be what limits a closed loop.
const saturated = 0.9

// judge says what was broken, and what makes the figures worthless.
func (r *Result) judge(run *run) {
	for name, c := range r.Classes {
		unfinished := c.Counts.Unfinished
		if r.Unfinished {
			unfinished = 0
		}
		for _, v := range []struct {
			n    uint64
			what string
		}{
			{c.Counts.Lost, "frames missing without an announcement"},
			{c.Counts.Duplicate, "frames received twice"},
			{c.Counts.Reordered, "frames out of order"},
			{c.Counts.BadGap, "gaps announced out of place"},
			{c.Counts.BadPieces, "pieces that make no message"},
			{c.Counts.BadPayload, "payloads damaged"},
			{unfinished, "frames that never arrived"},
		} {
			if v.n > 0 {
				r.Failed = append(r.Failed, fmt.Sprintf("%s subscribers: %d %s", name, v.n, v.what))
			}
		}
	}
	if r.Config.LostFails {
		r.judgeLost()
	}
	for e, n := range r.Errors {
		r.Failed = append(r.Failed, fmt.Sprintf("%d subscribers: %s", n, e))
	}
	if r.Seconds == 0 {
		r.Invalid = append(r.Invalid, "no measured time")
	}
	if r.Config.Idle {
		return
	}
	if r.Config.Mode == Closed {
		// A closed loop goes as fast as its slowest part. That must not be the generator.
		for _, busy := range r.Generator.Busy {
			if busy > saturated {
				r.Limited = fmt.Sprintf("a receiving thread was busy for %.0f %% of the time: the rate may be the generator's, not the server's", 100*busy)
			}
		}
		return
	}
	if lag := time.Duration(r.Generator.Lag.P99); lag > r.Config.MaxLag {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the generator sent late: p99 %v, bound %v", lag, r.Config.MaxLag))
	}
	if turn := time.Duration(r.Generator.Turn.Max); turn > r.Config.MaxTurn {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the generator did not look at its sockets for %v, bound %v", turn, r.Config.MaxTurn))
	}
}

// judgeLost fails the run for frames that were announced as missing, though no subscriber was slow or late.
func (r *Result) judgeLost() {
	for c := range class(classes) {
		if cl := r.Classes[c.String()]; cl != nil && c.judged() {
			for _, reason := range []codec.GapReason{codec.GapLost, codec.GapExpired, codec.GapPublisher} {
				if n := cl.Counts.GapFrames[reason.String()]; n > 0 {
					r.Failed = append(r.Failed, fmt.Sprintf("%s subscribers: %d frames announced as missing: %s", c, n, reason))
				}
			}
		}
	}
}

// meter measures processes, taken together. A nil meter measures nothing.
type meter struct {
	pids                   []int
	cpu                    [2]time.Duration
	at                     [2]int64
	before, atIdle, maxRSS int64
	connecting             time.Duration
}

func newMeter(pid int, more ...int) *meter {
	if pid == 0 {
		return nil
	}
	m := &meter{pids: append([]int{pid}, more...)}
	m.before, m.connecting = m.rss(), -m.processors()
	return m
}

func (m *meter) rss() (sum int64) {
	for _, pid := range m.pids {
		n, _ := ProcessRSS(pid)
		sum += n
	}
	return sum
}

func (m *meter) processors() (sum time.Duration) {
	for _, pid := range m.pids {
		cpu, _ := ProcessCPU(pid)
		sum += cpu
	}
	return sum
}

func (m *meter) idle() {
	if m != nil {
		m.atIdle = m.rss()
		m.connecting += m.processors()
	}
}

func (m *meter) read(i int) {
	if m != nil {
		m.cpu[i], m.at[i] = m.processors(), Now()
	}
}

func (m *meter) begin() { m.read(0) }
func (m *meter) end()   { m.read(1) }

func (m *meter) sample() {
	if m != nil {
		m.maxRSS = max(m.maxRSS, m.rss())
	}
}

func (m *meter) used() time.Duration {
	if m == nil {
		return 0
	}
	return m.cpu[1] - m.cpu[0]
}

// usage returns what the process used, over a load of rate deliveries per second.
func (m *meter) usage(rate float64) *Usage {
	if m == nil {
		return nil
	}
	u := &Usage{CPU: m.used(), RSSBefore: m.before, RSSIdle: m.atIdle, RSSMax: m.maxRSS, Connecting: m.connecting}
	if elapsed := time.Duration(m.at[1] - m.at[0]); elapsed > 0 {
		u.Cores = u.CPU.Seconds() / elapsed.Seconds()
		if rate > 0 {
			u.PerDelivery = u.Cores * float64(time.Second) / rate
		}
	}
	return u
}
