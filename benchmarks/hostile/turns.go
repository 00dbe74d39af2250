package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// watched is the server process and the address of its metrics.
type watched struct {
	pid   int
	admin string
}

// What the server's metrics tell: how long a loop was at one thing, and how long what could run in it waited for one of
// its processors (Go's scheduler; what the system's makes them wait is not in it).
const (
	turnMetric = "timedge_loop_turn_duration_seconds"
	waitMetric = "go_sched_latencies_seconds"
)

// buckets are how many observations of a metric are up to so many seconds.
type buckets map[string]map[float64]uint64

// look reads the two metrics.
func (w watched) look(ctx context.Context) (all buckets, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	all = make(buckets)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, rest, is := strings.Cut(lines.Text(), `_bucket{le="`)
		if !is || name != turnMetric && name != waitMetric {
			continue
		}
		le, n, _ := strings.Cut(rest, `"} `)
		at, err := strconv.ParseFloat(le, 64)
		if err != nil {
			return nil, err
		}
		count, err := strconv.ParseFloat(n, 64)
		if err != nil {
			return nil, err
		}
		if all[name] == nil {
			all[name] = make(map[float64]uint64)
		}
		all[name][at] = uint64(count)
	}
	if len(all[turnMetric]) == 0 {
		return nil, fmt.Errorf("the server at %s tells nothing of its turns", w.admin)
	}
	return all, nil
}

// longest returns the longest observation of a metric since, in ms, rounded up to the end of its bucket.
func (now buckets) longest(metric string, since buckets) (ms float64) {
	all, longest := uint64(0), 0.0
	for at, n := range now[metric] {
		all = max(all, n-since[metric][at])
		longest = max(longest, at)
	}
	for at, n := range now[metric] {
		if n-since[metric][at] == all {
			longest = min(longest, at)
		}
	}
	return 1000 * longest
}
