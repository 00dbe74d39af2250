package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sweep raises the rate of an open loop until the server does not keep up, and narrows down where that begins.
type Sweep struct {
	From   float64       // messages per second of every stream, to begin with
	Factor float64       // from step to step; above 1
	Steps  int           // at most, upwards
	Refine int           // steps of bisection between the last rate that was carried and the first that was not
	Bound  time.Duration // p99 above which a rate does not count as carried
	Done   func(rate float64, r *Result, why string)
}

// lateAgain is how often a step in which the generator was late is run again.
const lateAgain = 2

// carriedShare is the share of the offered deliveries that must arrive within the measured time.
const carriedShare = 0.97

// Run runs the sweep. It returns the knee, the highest rate that was carried, 0 if none was, and all results by rising
// time.
func (s *Sweep) Run(ctx context.Context, cfg Config, hooks Hooks) (knee float64, results []*Result, err error) {
	cfg.Mode = Open
	if s.Factor <= 1 || s.From <= 0 {
		return 0, nil, errors.New("a sweep needs a rate to begin with and a factor above 1")
	}
	try := func(rate float64) (bool, error) {
		c := cfg
		c.Streams = append([]Stream(nil), cfg.Streams...)
		for i := range c.Streams {
			c.Streams[i].Rate = rate
		}
		r, err := Run(ctx, c, hooks)
		for again := 0; again < lateAgain && err == nil && len(r.Invalid) > 0; again++ {
			r, err = Run(ctx, c, hooks)
		}
		if err != nil {
			return false, err
		}
		results = append(results, r)
		why := s.missed(r)
		if s.Done != nil {
			s.Done(rate, r, why)
		}
		return why == "", nil
	}
	rate, bad := s.From, 0.0
	for range s.Steps {
		ok, err := try(rate)
		if err != nil {
			return knee, results, err
		}
		if !ok {
			bad = rate
			break
		}
		knee = rate
		rate *= s.Factor
	}
	for range s.Refine {
		if bad == 0 || knee == 0 {
			break
		}
		mid := (knee + bad) / 2
		ok, err := try(mid)
		if err != nil {
			return knee, results, err
		}
		if ok {
			knee = mid
		} else {
			bad = mid
		}
	}
	return knee, results, nil
}

// missed says why a rate was not carried, or nothing.
func (s *Sweep) missed(r *Result) string {
	h := r.Healthy()
	if len(r.Failed) > 0 {
		return r.Failed[0]
	}
	if r.Unfinished {
		return "still delivering long after the end"
	}
	if n := h.Counts.GapFrames["slow"] + h.Counts.GapFrames["newer"]; n > 0 {
		return fmt.Sprintf("%d frames dropped", n)
	}
	if want := offered(&r.Config); r.Rate < carriedShare*want {
		return fmt.Sprintf("%.0f of %.0f deliveries/s arrived", r.Rate, want)
	}
	if p99 := time.Duration(h.Latency.P99); p99 > s.Bound {
		return fmt.Sprintf("p99 %v", p99.Round(time.Microsecond))
	}
	return ""
}

// offered is the rate of deliveries that a configuration asks for.
func offered(c *Config) float64 {
	sum := 0.0
	for _, s := range c.Streams {
		sum += s.Rate
	}
	return sum * float64(c.Rooms*c.Publishers*c.Subscribers)
}
