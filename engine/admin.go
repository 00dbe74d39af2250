package engine

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/timedge/timedge/codec"
)

// Handler serves the admin pages: /healthz (every loop turns; 503 with those that do not), /readyz (it accepts clients,
// and in a cluster who is missing, a line each; 503 with the reasons: draining, over limits), /metrics, and in a
// cluster /nodes and /rooms/ROOM (see NodeReport, RoomReport).
func (e *Engine) Handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(e, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler)))
	reg.MustRegister(e.cfg.Metrics...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if dead := e.deadLoops(r.Context()); len(dead) > 0 {
			http.Error(w, fmt.Sprintf("event loops that have not turned for %v: %v", loopDeadAfter, dead),
				http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, reasons := e.state(); len(reasons) > 0 {
			http.Error(w, strings.Join(reasons, "\n"), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
		if e.cluster != nil {
			for _, who := range e.cluster.member.Missing() {
				_, _ = fmt.Fprintln(w, "missing:", who)
			}
		}
	})
	e.serveCluster(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !e.try(inAdmin, func() { mux.ServeHTTP(w, r) }) {
			http.Error(w, "a fault of this server; its log says more", http.StatusInternalServerError)
		}
	})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("timedge_"+name, help, labels, nil)
}

var (
	descSessions = desc("sessions", "Connections that are open.")
	descGreeting = desc("sessions_greeting", "Connections that have not said hello yet.")
	descRooms    = desc("rooms", "Rooms that exist.")
	descCache    = desc("cache_bytes", "Bytes that the logs for late joiners and resuming subscribers hold.")
	descHeld     = desc("memory_bytes",
		"Bytes that clients make the server hold: frames, and all that is kept of rooms, streams, queues and sessions.")
	descQueued = desc("queued_bytes",
		"Bytes that wait for slow sockets, each counted for every subscriber it waits for.")
	descReads      = desc("reads_total", "Reads from clients' sockets.")
	descFramesIn   = desc("frames_in_total", "Stream frames that came from publishers.")
	descBytesIn    = desc("bytes_in_total", "Bytes of stream frames that came from publishers.")
	descDeliveries = desc("deliveries_total",
		"Stream frames given to subscribers' sockets or queues, without those for other nodes.")
	descWrites   = desc("writes_total", "Writes to clients' sockets.")
	descBytesOut = desc("bytes_out_total", "Bytes that clients' sockets took.")
	descCopied   = desc("copied_bytes_total",
		"Bytes copied from one buffer to another on the way of frames, but for TLS.")
	descWakes   = desc("wakes_total", "Wake-ups of event loops.")
	descBlocks  = desc("blocks_total", "Times that a socket took no more.")
	descDropped = desc("dropped_frames_total",
		"Frames that subscribers did not get because they were behind, by the room's policy.", "policy")
	descCutOff = desc("cut_off_total", "Subscriptions and sessions ended because they were behind.")
	descShed   = desc("shed_total",
		"Times that an account had to give up something because the process held too much.")
	descRefused  = desc("push_refused_frames_total", "Frames that were refused.")
	descFailed   = desc("session_errors_total", "Sessions closed because of a fault of the client.")
	descDenied   = desc("auth_denied_total", "Clients whose account and token did not fit, or do not any more.")
	descAccepted = desc("accepted_total", "Connections accepted.")
	descUnshaken = desc("handshakes_failed_total",
		"Connections whose TLS or WebSocket handshake, or PROXY header, failed or did not come in time.")
	descTurned    = desc("turned_away_total", "Connections turned away, by reason.", "reason")
	descReplays   = desc("replayed_frames_total", "Frames that a publisher sent again and the room had already.")
	descOverflows = desc("cache_overflows_total", "Logs emptied because a bound on caches was reached.")
	descLinkIn    = desc("link_frames_in_total", "Stream frames that came from other nodes.")
	descLinkInB   = desc("link_bytes_in_total", "Bytes of stream frames that came from other nodes.")
	descLinkOut   = desc("link_frames_out_total",
		"Stream frames given to the links to other nodes, each counted for every node that it goes to.")
	descLinkOutB  = desc("link_bytes_out_total", "Bytes of stream frames given to the links to other nodes.")
	descLinksLost = desc("links_lost_total", "Links to other nodes that broke.")
	descLeftOut   = desc("members_refused_total",
		"What was not taken from members, by what it was: gossip that means nothing, word of a process that is not there, another process under this node's name, a link that breaks the protocol.", "what")
	descPanics = desc("panics_total",
		"Faults of this server, each of which cost who was being served, by where they were met.", "where")
	descEnded     = desc("rooms_ended_total", "Rooms that ended, by reason.", "reason")
	descTakenOver = desc("rooms_taken_over_total", "Rooms that this node relays since another one does not: takeovers after a death, and what a drain hands over.")
	descMembers   = desc("members", "Nodes of the cluster as this one sees them, itself among them, by state.", "state")
	descMailboxes = desc("mailbox_items", "What waits in the mailboxes of event loops.")
	descDeciding  = desc("cluster_mailbox_items", "What waits for the goroutine that decides who relays which room.")
	descBehind    = desc("queued_sessions", "Sessions that something waits for because their sockets take no more.")
	descFanOut    = desc("fanout_duration_seconds",
		"From the arrival of frames at this node to when they are in the sockets or queues of a room's subscribers on an event loop; one in 8 is counted.")
	descTurns = desc("loop_turn_duration_seconds",
		"How long an event loop was at one thing, while others waited: what it read of one socket, or its mailbox.")
	descQueueing = desc("queue_duration_seconds",
		"How long the oldest of what is written from a subscriber's queue has waited there; one write in 8 is counted.")
	descTakeovers = desc("takeover_duration_seconds",
		"For rooms that this node has clients of: how long they had no relay, from the link to one broke until there was another.")
)

var turnedNames = [turnedKinds]string{"connections", "handshakes", "descriptors", "address", "proxy", "address_at_once"}

// Describe implements prometheus.Collector.
func (e *Engine) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(e, ch) }

// Collect implements prometheus.Collector. It sums the loops' counters without stopping them.
func (e *Engine) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	sum := func(f func(*loopStats) uint64) (n uint64) {
		for _, l := range e.loops {
			n += f(&l.stats)
		}
		return n
	}
	var sessions, queued int64
	for _, l := range e.loops {
		sessions += l.stats.sessions.Load()
		queued += l.stats.queued.Load()
	}
	gauge(descSessions, sessions)
	gauge(descGreeting, e.greeting.Load())
	gauge(descRooms, int64(e.rooms.Len()))
	gauge(descCache, e.rooms.CacheBytes())
	gauge(descHeld, e.pool.Held())
	gauge(descQueued, queued)
	counter(descReads, sum(func(s *loopStats) uint64 { return s.reads.Load() }))
	counter(descFramesIn, sum(func(s *loopStats) uint64 { return s.framesIn.Load() }))
	counter(descBytesIn, sum(func(s *loopStats) uint64 { return s.bytesIn.Load() }))
	counter(descDeliveries, sum(func(s *loopStats) uint64 { return s.deliveries.Load() }))
	counter(descWrites, sum(func(s *loopStats) uint64 { return s.writes.Load() }))
	counter(descBytesOut, sum(func(s *loopStats) uint64 { return s.bytesOut.Load() }))
	counter(descLinkIn, sum(func(s *loopStats) uint64 { return s.linkFramesIn.Load() }))
	counter(descLinkInB, sum(func(s *loopStats) uint64 { return s.linkBytesIn.Load() }))
	counter(descLinkOut, sum(func(s *loopStats) uint64 { return s.linkFramesOut.Load() }))
	counter(descLinkOutB, sum(func(s *loopStats) uint64 { return s.linkBytesOut.Load() }))
	if e.cluster != nil {
		counter(descLinksLost, e.cluster.broken.Load())
		r := e.cluster.member.Rumors()
		counter(descLeftOut, r.Nonsense, "gossip")
		counter(descLeftOut, r.Stale, "stale")
		counter(descLeftOut, r.Rivals, "name")
		counter(descLeftOut, r.Breaches, "link")
	}
	counter(descCopied, sum(func(s *loopStats) uint64 { return s.copied.Load() })+e.pool.Copied())
	counter(descWakes, sum(func(s *loopStats) uint64 { return s.wakes.Load() }))
	counter(descBlocks, sum(func(s *loopStats) uint64 { return s.blocks.Load() }))
	for p := codec.PolicyLive; p.Valid(); p++ {
		counter(descDropped, sum(func(s *loopStats) uint64 { return s.dropped[p].Load() }), p.String())
	}
	counter(descCutOff, sum(func(s *loopStats) uint64 { return s.cutOff.Load() })+e.rooms.Stats().CutOff.Load())
	counter(descShed, sum(func(s *loopStats) uint64 { return s.shed.Load() }))
	counter(descRefused, sum(func(s *loopStats) uint64 { return s.refused.Load() }))
	counter(descFailed, sum(func(s *loopStats) uint64 { return s.failed.Load() }))
	counter(descDenied, sum(func(s *loopStats) uint64 { return s.denied.Load() }))
	counter(descAccepted, e.accepted.Load())
	counter(descUnshaken, e.unshaken.Load())
	for i := range e.turned {
		counter(descTurned, e.turned[i].Load(), turnedNames[i])
	}
	for i := range placeNames {
		counter(descPanics, e.faults.counts[i].Load(), placeNames[i])
	}
	e.limits.collect(counter)
	e.requests.collect(counter)
	waiting, behind := 0, int64(0)
	var fanOut, queueing, turns []*histogram
	for _, l := range e.loops {
		waiting += l.box.len()
		behind += l.stats.behind.Load()
		fanOut, queueing = append(fanOut, &l.stats.fanOut), append(queueing, &l.stats.queueing)
		turns = append(turns, &l.stats.turns)
	}
	gauge(descMailboxes, int64(waiting))
	gauge(descBehind, behind)
	ch <- sumOf(descFanOut, fanOut...)
	ch <- sumOf(descQueueing, queueing...)
	ch <- sumOf(descTurns, turns...)
	if e.cluster != nil {
		gauge(descDeciding, int64(e.cluster.waiting()))
		ch <- sumOf(descTakeovers, &e.cluster.takeovers)
	}
	members := map[string]int64{"ready": 0, "draining": 0, "leaving": 0, "over_limits": 0, "linked": 0, "out_of_reach": 0}
	for _, n := range e.Nodes() {
		members[n.State]++
	}
	for state, n := range members {
		ch <- prometheus.MustNewConstMetric(descMembers, prometheus.GaugeValue, float64(n), state)
	}
	counter(descTakenOver, e.rooms.Stats().TakenOver.Load())
	st := e.rooms.Stats()
	counter(descReplays, st.Replays.Load())
	counter(descOverflows, st.CacheOverflows.Load())
	for i, code := range []codec.Code{codec.CodeRemoved, codec.CodeIdle, codec.CodeExpired} {
		counter(descEnded, st.Ended[i].Load(), code.String())
	}
}
