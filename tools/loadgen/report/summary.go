package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/timedge/timedge/tools/loadgen/load"
)

// Count writes a number with three digits that matter: 41.8M, 120k, 95.
func Count(v float64) string {
	switch {
	case v >= 1e9:
		return fmt.Sprintf("%.3gG", v/1e9)
	case v >= 999.5e3:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 9995:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}

// Size writes a number of bytes.
func Size(n int64) string {
	switch v := float64(n); {
	case n >= 1<<30:
		return fmt.Sprintf("%.3g GiB", v/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", v/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.4g KiB", v/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// Nanos writes a time in nanoseconds with three digits that matter.
func Nanos(ns float64) string {
	switch {
	case ns >= 999.5e6:
		return fmt.Sprintf("%.3g s", ns/1e9)
	case ns >= 999.5e3:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	case ns >= 999.5:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	}
	return fmt.Sprintf("%.3g ns", ns)
}

// Load describes what a run did, in one line.
func Load(c *load.Config) string {
	var streams []string
	for _, s := range c.Streams {
		d := Size(int64(s.Payload))
		if c.Mode == load.Open {
			d += fmt.Sprintf(" at %s/s", Count(s.Rate))
		}
		streams = append(streams, d)
	}
	text := fmt.Sprintf("%d room(s) x %d publisher(s) x %d subscriber(s), %s loop", c.Rooms, c.Publishers, c.Subscribers, c.Mode)
	if c.Mode == load.Closed {
		text += " of " + Size(int64(c.Window))
	}
	if c.Idle {
		return fmt.Sprintf("%d room(s) x %d subscriber(s), idle", c.Rooms, c.Subscribers)
	}
	return text + ", " + strings.Join(streams, " + ")
}

// Summary writes a result as plain lines.
func Summary(w io.Writer, r *load.Result) {
	c := &r.Config
	fmt.Fprintf(w, "%s on %s: %s\n", c.Scenario, c.Target, Load(c))
	fmt.Fprintf(w, "  deliveries   %s/s  (%s/s of payload, %.1f s measured)\n", Count(r.Rate),
		Size(int64(float64(r.Bytes)/max(r.Seconds, 1e-9))), r.Seconds)
	if s := r.Server; s != nil {
		fmt.Fprintf(w, "  server       %s per delivery, %.2f cores, %s resident", Nanos(s.PerDelivery), s.Cores, Size(max(s.RSSMax, s.RSSIdle)))
		if n := c.Rooms * c.Subscribers; n > 0 && s.RSSIdle > s.RSSBefore {
			fmt.Fprintf(w, ", %s per idle subscriber", Size((s.RSSIdle-s.RSSBefore)/int64(n)))
		}
		fmt.Fprintln(w)
	}
	g := &r.Generator
	fmt.Fprintf(w, "  generator    %s per delivery, receiving threads %s busy, sent late by p99 %s, longest turn %s\n", Nanos(g.PerDelivery),
		percents(g.Busy), Nanos(float64(g.Lag.P99)), Nanos(float64(g.Turn.Max)))
	if r.Behind > 0 || r.Held > 0 {
		fmt.Fprintf(w, "  held up      %d messages sent late and %d not at all: the server did not take more\n", r.Held, r.Behind)
	}
	if r.Unfinished {
		fmt.Fprintf(w, "  did not keep up: still delivering %v after the last message was sent\n", load.DrainLimit*c.Drain)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "  latency\tsamples\tp50\tp90\tp99\tp99.9\tmax\t")
	// In a closed loop a message waits for the window, and its latency says how large that is.
	for _, name := range slices.Sorted(maps.Keys(r.Classes)) {
		if c.Mode == load.Open {
			row(tw, name, r.Classes[name].Latency)
		}
	}
	row(tw, "connect", r.Connect)
	row(tw, "to first message", r.First)
	row(tw, "longest gap in a stream", r.Longest)
	if f := r.Failover; f != nil {
		row(tw, "subscriber away", f.Subscribers)
		row(tw, "publisher away", f.Publishers)
	}
	_ = tw.Flush()
	if f := r.Failover; f != nil {
		fmt.Fprintf(w, "  reconnected  %d subscribers and %d publishers; %d frames pushed again, %d publishers moved with their room\n",
			f.Subscribers.Count, f.Publishers.Count, f.Replayed, f.Moves)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Classes)) {
		cl := r.Classes[name]
		if cl.Counts.Gaps == 0 {
			continue
		}
		fmt.Fprintf(w, "  announced    %s: %d gaps", name, cl.Counts.Gaps)
		for _, reason := range slices.Sorted(maps.Keys(cl.Counts.GapFrames)) {
			fmt.Fprintf(w, ", %d frames %s", cl.Counts.GapFrames[reason], reason)
		}
		fmt.Fprintln(w)
	}
	for _, e := range slices.Sorted(maps.Keys(r.Cut)) {
		fmt.Fprintf(w, "  cut off      %d slow subscribers: %s\n", r.Cut[e], e)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "  FAILED       %s\n", f)
	}
	for _, f := range r.Invalid {
		fmt.Fprintf(w, "  INVALID      %s\n", f)
	}
	if r.Limited != "" {
		fmt.Fprintf(w, "  note         %s\n", r.Limited)
	}
	if r.OK() {
		fmt.Fprintln(w, "  verified     every stream in order, nothing twice, nothing missing unannounced")
	}
}

func row(w io.Writer, name string, h *load.Histogram) {
	if h == nil || h.Count == 0 {
		return
	}
	fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, Count(float64(h.Count)), Nanos(float64(h.P50)), Nanos(float64(h.P90)),
		Nanos(float64(h.P99)), Nanos(float64(h.P999)), Nanos(float64(h.Max)))
}

func percents(busy []float64) string {
	var out []string
	for _, b := range busy {
		out = append(out, fmt.Sprintf("%.0f %%", 100*b))
	}
	return strings.Join(out, ", ")
}
