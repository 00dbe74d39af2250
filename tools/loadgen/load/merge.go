package load

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/timedge/timedge/tools/loadgen/verify"
)

// Split divides a run between n processes of this machine. Where there are rooms enough, each process has rooms of its
// own; otherwise the first publishes and all share the subscribers. ids are the rooms that Prepare made, or nil.
func Split(c Config, n int, ids []uint64) ([]Config, error) {
	c.SetDefaults()
	byRoom := c.Rooms >= n
	if !byRoom && c.Mode == Closed {
		return nil, errors.New("a closed loop can only be shared by processes that have rooms of their own: give at least as many rooms as processes")
	}
	if c.KillPID > 0 {
		return nil, errors.New("a run that kills a node cannot be shared between processes")
	}
	if !byRoom && c.Subscribers < n {
		return nil, fmt.Errorf("%d subscribers are too few for %d processes", c.Subscribers, n)
	}
	parts := make([]Config, n)
	for i := range parts {
		p := c
		p.Churn, p.ConnRate, p.Seed = c.Churn/float64(n), c.ConnRate/float64(n), c.Seed+uint64(i)
		if i > 0 {
			p.ServerPID = 0
		}
		p.RoomIDs = ids
		if byRoom {
			from, to := c.Rooms*i/n, c.Rooms*(i+1)/n
			p.Rooms, p.First = to-from, c.First+from*c.Publishers*len(c.Streams)
			p.FirstRoom = c.FirstRoom + from
			if ids != nil {
				p.RoomIDs = ids[from:to]
			}
		} else {
			p.Subscribers = c.Subscribers*(i+1)/n - c.Subscribers*i/n
			p.Listen = i > 0
		}
		parts[i] = p
	}
	return parts, nil
}

// Merge makes one result of those of the processes that shared a run. whole is the run's configuration before Split.
func Merge(whole Config, parts []*Result) (*Result, error) {
	m := *parts[0]
	m.Config = whole
	m.Classes, m.Errors, m.Cut, m.Failed, m.Invalid = make(map[string]*Class), make(map[string]int), make(map[string]int), nil, nil
	m.Published, m.Behind, m.Held, m.Deliveries, m.Rate, m.Bytes = 0, 0, 0, 0, 0, 0
	m.Generator = Generator{Priority: true}
	var err error
	add := func(into **Histogram, h *Histogram) {
		if err == nil {
			*into, err = mergeHistogram(*into, h)
		}
	}
	m.Connect, m.First, m.Longest = nil, nil, nil
	if m.Failover != nil {
		m.Failover = new(Failover)
	}
	var receive float64
	for i, r := range parts {
		m.Published += r.Published
		m.Behind += r.Behind
		m.Held += r.Held
		m.Deliveries += r.Deliveries
		m.Rate += r.Rate
		m.Bytes += r.Bytes
		m.Unfinished = m.Unfinished || r.Unfinished
		m.Seconds = max(m.Seconds, r.Seconds)
		for name, c := range r.Classes {
			if m.Classes[name] == nil {
				m.Classes[name] = &Class{}
			}
			into := m.Classes[name]
			into.Subscribers += c.Subscribers
			into.Counts.Add(&c.Counts)
			if whole.Mode == Open {
				add(&into.Latency, c.Latency)
			} else {
				into.Latency = c.Latency
			}
		}
		add(&m.Connect, r.Connect)
		add(&m.First, r.First)
		if r.Longest != nil {
			add(&m.Longest, r.Longest)
		}
		if f := r.Failover; f != nil {
			add(&m.Failover.Subscribers, f.Subscribers)
			add(&m.Failover.Publishers, f.Publishers)
			m.Failover.Replayed += f.Replayed
			m.Failover.Moves += f.Moves
		}
		g := &m.Generator
		add(&g.Lag, r.Generator.Lag)
		add(&g.Turn, r.Generator.Turn)
		g.CPU += r.Generator.CPU
		receive += r.Generator.PerDelivery * float64(r.Deliveries)
		g.Busy = append(g.Busy, r.Generator.Busy...)
		g.PublishBusy = max(g.PublishBusy, r.Generator.PublishBusy)
		g.Priority = g.Priority && r.Generator.Priority
		for e, k := range r.Errors {
			m.Errors[e] += k
		}
		for e, k := range r.Cut {
			m.Cut[e] += k
		}
		for _, f := range r.Failed {
			m.Failed = append(m.Failed, fmt.Sprintf("process %d: %s", i, f))
		}
		for _, f := range r.Invalid {
			m.Invalid = append(m.Invalid, fmt.Sprintf("process %d: %s", i, f))
		}
		if m.Limited == "" {
			m.Limited = r.Limited
		}
	}
	if m.Deliveries > 0 {
		m.Generator.PerDelivery = receive / float64(m.Deliveries)
	}
	if s := parts[0].Server; s != nil {
		u := *s
		if m.Rate > 0 {
			u.PerDelivery = u.Cores * float64(time.Second) / m.Rate
		}
		m.Server = &u
	}
	slices.Sort(m.Failed)
	return &m, err
}

func mergeHistogram(into, h *Histogram) (*Histogram, error) {
	sum := verify.NewHistogram()
	for _, part := range []*Histogram{into, h} {
		if part == nil {
			continue
		}
		raw, err := part.Raw()
		if err != nil {
			return nil, err
		}
		sum.Merge(raw)
	}
	return Describe(sum), nil
}
