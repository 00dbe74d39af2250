//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/heap"
	"github.com/timedge/timedge/room"
)

// Run serves until ctx ends, then drains. What could not go out in time is logged, and no failure.
func (c *serveCmd) Run(ctx context.Context, std *streams) error {
	// Neither the reader of the log that goes away nor the terminal that the server was started from is a reason to end.
	signal.Ignore(syscall.SIGPIPE)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if err := c.load(); err != nil {
		return mistaken(err, c.check(), errors.New("see timedge serve --help"))
	}
	out, err := c.openLogs(std)
	if err != nil {
		return mistaken(err)
	}
	log := out.log
	p, err := c.prepare(log)
	if err != nil {
		return err
	}
	who, cfg := p.who, p.engine
	defer who.Close()
	if auth.IsOpen(who) && c.Insecure {
		log.Warn().Strs("listen", c.Listen).Msg("anybody who reaches this server may be anyone (--auth open, forced)")
	}
	admin, err := c.listenAdmin()
	if err != nil {
		return err
	}
	cfg.Audit = out.audit
	cfg.Metrics = []prometheus.Collector{std.droppedLines(), buildInfo()}
	if p.certs != nil {
		cfg.Metrics = append(cfg.Metrics, p.certs.end())
	}
	gateway, err := c.openTim(log, cfg.TLS, &cfg)
	if err != nil {
		return errors.Join(err, closeIf(admin))
	}
	// A loop that waits in the kernel keeps its processor, in the runtime's sense, for up to 10 ms. One more lets
	// everything else go on meanwhile: links between nodes, TLS, gossip. See docs/decisions/processors.md.
	if cfg.Loops == 0 {
		cfg.Loops = runtime.GOMAXPROCS(0)
	}
	runtime.GOMAXPROCS(cfg.Loops + 1)
	boundHeap(int64(c.Memory))
	e, err := engine.Start(cfg)
	if err != nil {
		gateway.closeListeners()
		return errors.Join(explainListen(err), closeIf(admin))
	}
	gateway.serve(e)
	failed := make(chan error, 1)
	r := &reloader{now: &c.given, engine: e, plan: p, logs: out}
	r.token.text.Store(&p.token)
	pages := http.Server{Handler: adminPages(e, r), ReadHeaderTimeout: 10 * time.Second, ErrorLog: stdlog.New(log, "", 0)}
	if admin != nil {
		go func() { failed <- pages.Serve(admin) }()
	}
	go r.run(ctx, hup)
	go gatherHeap(ctx)
	c.greet(std, e, admin)
	gateway.greet(std)
	boss := supervised()
	tell := func(state ...string) {
		if err := boss.tell(state...); err != nil {
			log.Warn().Err(err).Msg("the supervisor does not hear of this server")
		}
	}
	tell("READY=1", "STATUS=serves on "+strings.Join(e.Servers(), ","))
	ended := make(chan struct{})
	defer close(ended)
	go boss.watchdog(func() bool { return e.Alive(context.Background()) }, ended)

	select {
	case <-ctx.Done():
		e.Part()
		tell("STOPPING=1", "STATUS=not ready any more; draining")
		if delay, _ := r.ending(); delay > 0 {
			log.Info().Dur("for", delay).Msg("not ready any more; draining when balancers have noticed")
			select {
			case <-time.After(delay):
			case err = <-e.Failed():
			}
		}
	case err = <-failed:
		log.Error().Err(err).Msg("the admin listener failed")
	case err = <-e.Failed(): // said at the end
	}
	_, limit := r.ending()
	log.Info().Dur("within", limit).Msg("draining")
	within, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	gone := gateway.shutdown(within)
	if unfinished := errors.Join(e.Shutdown(within), <-gone); unfinished != nil {
		log.Warn().Err(unfinished).Msg("not drained in time")
	}
	_ = pages.Close() // after the drain, which /readyz tells of
	log.Info().Msg("stopped")
	return err
}

// gatherHeap has the system hold the heap in large pages, so that when this process is killed its connections break at
// once: see docs/decisions/large-pages.md.
func gatherHeap(ctx context.Context) {
	const blocks = 64 // a second: some 30 ms of a processor while the heap grows, and next to nothing otherwise
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for g := new(heap.Gatherer); ; g.Step(blocks) {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// buildInfo is 1, with what the process was built of as labels.
func buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "timedge_build_info", Help: "1; the labels say what the process was built of.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// droppedLines counts what the sinks of std dropped.
func (s *streams) droppedLines() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "timedge_log_lines_dropped_total",
		Help: "Lines of the log that were not written because their reader had stopped or was gone.",
	}, func() float64 {
		n := s.outSink.Dropped() + s.errSink.Dropped()
		for _, sink := range s.fileSinks {
			n += sink.Dropped()
		}
		return float64(n)
	})
}

// engineConfig is what the engine is told.
func (c *given) engineConfig(log zerolog.Logger, who auth.Authenticator, secure *tls.Config) engine.Config {
	return engine.Config{
		Auth: who, InsecureOpen: c.Insecure, Guests: c.Guests == "subscribe", ListenTLS: c.ListenTLS, TLS: secure,
		ListenWS: c.ListenWS, ListenWSS: c.ListenWSS, ProxyFrom: prefixes(c.ProxyFrom), Origins: c.Origins,
		ListenWeb: c.web(), WebIfFree: c.webIfFree(), ListenWebTLS: c.WebTLS, Pages: c.pages(who),
		Listen: c.Listen, Node: c.Node, Loops: c.Loops, Log: log,
		MaxConns: c.Conns, Ping: c.Ping, MemoryBound: int64(c.Memory), TokenWarning: c.TokenWarning,
		HelloTimeout: c.Limits.Hello, MaxHandshakes: c.Limits.Handshakes, QueueSession: int(c.Limits.SessionQueue),
		MaxSubsPer: c.Limits.Subs, MaxPubsPer: c.Limits.Pubs, Limits: c.Limits.rates(),
		Rooms: room.Config{
			Idle: c.Idle, MaxPayload: int(c.Payload), QueueBytes: int(c.Queue), QueueAge: c.QueueAge, Stall: c.Stall,
			MaxRooms: c.Limits.Rooms, MaxRoomsPerAccount: c.Limits.AccountRooms,
			MaxPublishersPerAccount: c.Limits.AccountPubs, MaxStreamsPerAccount: c.Limits.AccountStreams, MaxGrants: c.Limits.Grants,
		},
	}
}

// heapMargin is what Go's runtime may take beside what clients may make the server hold: the server's own, and an
// eighth for what waits to be collected.
const heapMargin = 24 << 20

// boundHeap has the runtime collect garbage more often when it comes near the bound on memory, rather than let it grow
// to twice what is in use. A limit that the environment sets (GOMEMLIMIT) is left alone if it is lower.
func boundHeap(memory int64) {
	debug.SetMemoryLimit(min(memory+memory/8+heapMargin, heapLimit()))
}

// heapLimit returns the limit that the environment has set.
var heapLimit = sync.OnceValue(func() int64 { return debug.SetMemoryLimit(-1) })

// listenAdmin returns nil if there is to be no admin listener.
func (c *serveCmd) listenAdmin() (net.Listener, error) {
	if c.Admin == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", c.Admin)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", explainListen(err))
	}
	return ln, nil
}

func closeIf(ln net.Listener) error {
	if ln == nil {
		return nil
	}
	return ln.Close()
}

// greet says where to connect, and what to type next. The first line is for programs, too.
func (c *serveCmd) greet(std *streams, e *engine.Engine, admin net.Listener) {
	to := e.Servers()
	say := func(format string, args ...any) { _ = std.say(format, args...) } // nobody need read it
	say("timedge serves on %s", strings.Join(to, ","))
	if admin != nil {
		say("health and metrics are on http://%s (/healthz /readyz /metrics)", admin.Addr())
	}
	if at := e.ClusterAddr(); at != "" {
		say("node %s of a cluster; more nodes: %s serve --cluster HOST:PORT --join %s --cluster-key-file %s", c.Node, os.Args[0], at, c.KeyFile)
	}
	if admin != nil {
		say("the console is on http://%s/console/", admin.Addr())
	}
	for _, page := range e.PageAddrs() {
		say("pages for browsers (live video, meetings, boards, files) are on %s", page)
	}
	server := ""
	if to[0] != client.DefaultServer {
		server = " --server " + to[0]
	}
	say("")
	say("In a second terminal, push a file (a video, or anything); it prints the room's number:")
	say("  %s push%s --realtime --wait 1 FILE", os.Args[0], server)
	say("In a third, receive it; a video plays with \"| ffplay -\" behind:")
	say("  %s sub%s ROOM > copy", os.Args[0], server)
	say("Ctrl-C ends the server.")
}
