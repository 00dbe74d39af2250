package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// markdown writes the tables: one row per load, one column per server.
func (b *bench) markdown(outcomes []outcome) string {
	var w strings.Builder
	h := load.ReadHost()
	fmt.Fprintf(&w, "Medians of %d shuffled rounds (timedge's throughput and paced loads: of %d), %v measured each, on %s with %d cores, Linux %s, %s; generator and server share the cores.\n\n",
		cli.Rounds, cli.Rounds+cli.More, cli.Duration, h.CPU, h.Cores, h.Kernel, h.Go)
	fmt.Fprintln(&w, "| server | version |\n| --- | --- |")
	for _, t := range cli.Targets {
		fmt.Fprintf(&w, "| %s | %s |\n", t, b.versions[t])
	}
	for _, part := range []struct{ name, title string }{
		{"throughput", "One room, one publisher at most " + report.Size(int64(cli.Window)) +
			" ahead of the slowest subscriber: deliveries/s, server CPU per delivery"},
		{"latency", "The same offered load for all, half of what NATS carries: p50 / p99 / p99.9 from the moment a message was due"},
		{"paced", "So few messages that each goes out by itself: server CPU per delivery, p50 / p99 from the moment a message was due"},
		{"rooms", "As many deliveries from many rooms and from one: server CPU per delivery, p99"},
		{"idle", "Resident memory per idle subscriber, and server CPU from the accept of each until it had subscribed"},
	} {
		b.part(&w, outcomes, part.name, part.title)
	}
	b.carriers(&w, outcomes)
	b.generator(&w, outcomes)
	return w.String()
}

func (b *bench) part(w *strings.Builder, outcomes []outcome, part, title string) {
	var jobs []*job
	for _, o := range outcomes {
		if o.job.part == part && !slices.Contains(jobs, o.job) {
			jobs = append(jobs, o.job)
		}
	}
	if len(jobs) == 0 {
		return
	}
	slices.SortFunc(jobs, func(a, b *job) int {
		return slices.Compare(a.order(), b.order())
	})
	fmt.Fprintf(w, "\n%s\n\n| load |", title)
	for _, t := range cli.Targets {
		fmt.Fprintf(w, " %s |", t)
	}
	ratios := part == "throughput" && slices.Contains(cli.Targets, "timedge")
	if ratios {
		fmt.Fprint(w, " timedge: CPU against limit, rate against the best peer |")
	}
	fmt.Fprint(w, "\n| --- |"+strings.Repeat(" --- |", len(cli.Targets)))
	if ratios {
		fmt.Fprint(w, " --- |")
	}
	fmt.Fprintln(w)
	for _, j := range jobs {
		fmt.Fprintf(w, "| %s |", b.name(j))
		rates, costs := make(map[string]float64), make(map[string]float64)
		for _, t := range cli.Targets {
			text, r, c := b.cell(outcomes, j, t)
			rates[t], costs[t] = r, c
			fmt.Fprintf(w, " %s |", text)
		}
		if ratios {
			fmt.Fprintf(w, " %s |", against(rates, costs))
		}
		fmt.Fprintln(w)
	}
	if part == "rooms" {
		b.manyAgainstOne(w, outcomes, jobs)
	}
}

// order is by what rows are sorted.
func (j *job) order() []float64 {
	rate := 0.0
	if len(j.cfg.Streams) > 0 {
		rate = j.cfg.Streams[0].Rate
	}
	return []float64{float64(payload(&j.cfg)), float64(j.cfg.Rooms), float64(j.cfg.Subscribers), rate}
}

// manyAgainstOne writes how much more a delivery costs when it comes from one of many rooms: the median over the
// rounds.
func (b *bench) manyAgainstOne(w *strings.Builder, outcomes []outcome, jobs []*job) {
	if len(jobs) != 2 {
		return
	}
	one, many := jobs[0], jobs[1] // by number of rooms
	var texts []string
	for _, t := range cli.Targets {
		costs := make(map[*job][]float64)
		for _, o := range outcomes {
			if o.target == t && o.result != nil {
				costs[o.job] = append(costs[o.job], o.result.Server.PerDelivery)
			}
		}
		var ratios []float64
		for i := range min(len(costs[one]), len(costs[many])) {
			ratios = append(ratios, costs[many][i]/costs[one][i])
		}
		if len(ratios) > 0 {
			texts = append(texts, fmt.Sprintf("%s %.2fx", t, median(ratios)))
		}
	}
	fmt.Fprintf(w, "\nCPU per delivery, many rooms against one: %s.\n", strings.Join(texts, ", "))
}

// generator writes what the load generator itself needed in the throughput runs: a rate at which its receiving thread
// had no time left is its own, not the server's.
func (b *bench) generator(w *strings.Builder, outcomes []outcome) {
	if !has("throughput") {
		return
	}
	fmt.Fprint(w, "\nThe generator's own cost in the throughput runs: CPU of its receiving thread per delivery, and how busy that was\n\n| load |")
	for _, t := range cli.Targets {
		fmt.Fprintf(w, " %s |", t)
	}
	fmt.Fprintln(w, "\n| --- |"+strings.Repeat(" --- |", len(cli.Targets)))
	for _, size := range cli.Sizes {
		for _, subs := range cli.Subs {
			fmt.Fprintf(w, "| %d x %s |", subs, report.Size(int64(size)))
			for _, t := range cli.Targets {
				var cost, busy []float64
				for _, o := range outcomes {
					if c := &o.job.cfg; o.job.part == "throughput" && o.target == t && o.result != nil && c.Subscribers == subs && payload(c) == size {
						cost = append(cost, o.result.Generator.PerDelivery)
						busy = append(busy, slices.Max(o.result.Generator.Busy))
					}
				}
				if len(cost) == 0 {
					fmt.Fprint(w, " - |")
					continue
				}
				fmt.Fprintf(w, " %s, %.0f %% |", report.Nanos(median(cost)), 100*median(busy))
			}
			fmt.Fprintln(w)
		}
	}
}

func (b *bench) name(j *job) string {
	c := &j.cfg
	switch j.part {
	case "idle":
		return fmt.Sprintf("%d subscribers", c.Subscribers)
	case "rooms":
		return fmt.Sprintf("%d room(s) x %d x %s at 30/s", c.Rooms, c.Subscribers, report.Size(int64(payload(c))))
	case "latency", "paced":
		return fmt.Sprintf("%d x %s at %.0f/s", c.Subscribers, report.Size(int64(payload(c))), c.Streams[0].Rate)
	}
	name := fmt.Sprintf("%d x %s", c.Subscribers, report.Size(int64(payload(c))))
	if read := b.reads[j.size()]; read > 0 {
		name += fmt.Sprintf(" (limit reads %s)", report.Size(int64(read)))
	}
	return name
}

// cell is the text for one load on one server, and the rate and cost it stands for.
func (b *bench) cell(outcomes []outcome, j *job, target string) (text string, rate, cost float64) {
	var results []*load.Result
	why, invalid := "", 0
	for _, o := range outcomes {
		switch {
		case o.job != j || o.target != target:
		case o.no != "":
			return "no", 0, 0
		case o.result == nil:
			why = o.broken
		default:
			results = append(results, o.result)
			if len(o.result.Invalid) > 0 {
				invalid++
			}
		}
	}
	if len(results) == 0 {
		why, _, _ = strings.Cut(why, "\n")
		return "failed: " + why, 0, 0
	}
	mid := func(f func(*load.Result) float64) float64 {
		var v []float64
		for _, r := range results {
			v = append(v, f(r))
		}
		return median(v)
	}
	rate = mid(func(r *load.Result) float64 { return r.Rate })
	cost = mid(func(r *load.Result) float64 { return r.Server.PerDelivery })
	nanos := func(f func(*load.Histogram) int64) string {
		return report.Nanos(mid(func(r *load.Result) float64 { return float64(f(r.Healthy().Latency)) }))
	}
	p99 := func(h *load.Histogram) int64 { return h.P99 }
	switch j.part {
	case "idle":
		text = report.Size(int64(mid(func(r *load.Result) float64 {
			return float64(r.Server.RSSIdle-r.Server.RSSBefore) / float64(r.Config.Subscribers)
		}))) + ", " + report.Nanos(mid(func(r *load.Result) float64 { return float64(r.Server.Connecting) / float64(r.Config.Subscribers) }))
	case "latency":
		text = nanos(func(h *load.Histogram) int64 { return h.P50 }) + " / " + nanos(p99) + " / " +
			nanos(func(h *load.Histogram) int64 { return h.P999 })
		if behind := mid(func(r *load.Result) float64 { return float64(r.Behind) }); behind > 0 {
			text += fmt.Sprintf(", %.0f messages not taken", behind)
		}
	case "paced":
		text = report.Nanos(cost) + ", " + nanos(func(h *load.Histogram) int64 { return h.P50 }) + " / " + nanos(p99)
	case "rooms":
		text = report.Nanos(cost) + ", " + nanos(p99)
	default:
		text = report.Count(rate) + "/s, " + report.Nanos(cost)
	}
	if j.part != "throughput" && slices.ContainsFunc(results, func(r *load.Result) bool { return r.Unfinished }) {
		text = "did not keep up (" + text + ")"
	}
	if len(results) < cli.Rounds {
		text += fmt.Sprintf(" (%d of %d rounds failed)", cli.Rounds-len(results), cli.Rounds)
	}
	if invalid > 0 {
		text += fmt.Sprintf(" (generator late in %d)", invalid)
	}
	return text, rate, cost
}

// against sets timedge beside the limit program and the best of the peers.
func against(rates, costs map[string]float64) string {
	best := 0.0
	for t, r := range rates {
		if !strings.HasPrefix(t, "timedge") && t != "limit" {
			best = max(best, r)
		}
	}
	text := "-"
	if costs["limit"] > 0 && costs["timedge"] > 0 {
		text = fmt.Sprintf("%.2fx", costs["timedge"]/costs["limit"])
	}
	if best > 0 && rates["timedge"] > 0 {
		return fmt.Sprintf("%s, %.1fx", text, rates["timedge"]/best)
	}
	return text + ", -"
}
