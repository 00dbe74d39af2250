package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Engine is a running server.
type Engine struct {
	cfg   Config                 // as Start was called with; see live
	lives atomic.Pointer[Config] // what live returns
	log   zerolog.Logger
	pool  room.Pool
	rooms *room.Table
	loops []*loop

	cluster *cluster // nil: a node on its own

	reactors  *gnet.Client // gnet's loops without a listener of gnet's own: see accept.go
	listeners []listener
	pages     *pageServer // nil: none
	accepts   sync.WaitGroup
	shakes    sync.WaitGroup  // connections in their handshakes
	gate      *gate           // for these
	enrolling chan struct{}   // as many values as connections are being handed to reactors
	ending    context.Context // done: no new connections; handshakes are given up
	end       context.CancelFunc
	ended     chan struct{} // closed: Shutdown is through
	result    error         // of Shutdown; fixed before ended is closed
	ticker    sync.WaitGroup
	stop      chan struct{} // closed: the ticker ends
	slow      atomic.Bool   // the ticker's: see tick
	rouse     chan struct{} // capacity 1: the ticker is to be fast again
	failed    chan error    // capacity 1: see Failed

	nextID   atomic.Uint64
	conns    atomic.Int64                       // connections, with those being adopted
	greeting atomic.Int64                       // of these, without a hello yet
	parting  atomic.Bool                        // Part was called, or Shutdown
	shutting atomic.Bool                        // Shutdown was
	leaving  atomic.Bool                        // it was, or Drain was; in a cluster rooms are being handed over
	draining atomic.Bool                        // clients are told to go
	drained  atomic.Pointer[context.CancelFunc] // ends what Drain has begun; nil: nothing
	sending  sync.WaitGroup                     // what that runs
	moving   moving                             // of a rebalance
	accepted atomic.Uint64
	turned   [turnedKinds]atomic.Uint64
	unshaken atomic.Uint64 // connections whose handshakes failed
	limits   limits
	refusals sieve // of the audit
	requests requests
	faults   faults
	behind   atomic.Int32 // loops that are: see behindAt; the collector likewise

	operations operations

	collector collector

	// The ticker's: see holdings.go.
	relief    reliefStep
	looks     int // since the last step
	balancing bool
}

// Start listens and serves. It returns when the server accepts connections, or with all that is wrong with the
// configuration, or with what failed.
func Start(cfg Config) (*Engine, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, log: cfg.Log, enrolling: make(chan struct{}, enrollAtOnce), ended: make(chan struct{}), stop: make(chan struct{}),
		failed: make(chan error, 1), rouse: make(chan struct{}, 1),
	}
	e.lives.Store(&e.cfg)
	e.collector.use, e.collector.begin = memoryInUse, collect
	e.ending, e.end = context.WithCancel(context.Background())
	e.gate = newGate(handshakeShare*float64(cfg.Loops), e.ending.Done())
	cfg.Rooms.Draw, cfg.Rooms.Clustered = e.drawRoom, cfg.Cluster != nil
	e.rooms = room.NewTable(cfg.Rooms, rand.Reader, &e.pool)
	e.limits.init(&cfg.Limits)
	if err := e.listen(); err != nil {
		e.closeListeners()
		return nil, err
	}
	if err := e.startLoops(); err != nil {
		e.closeListeners()
		return nil, err
	}
	if cfg.Cluster != nil {
		if err := e.startCluster(cfg.Cluster); err != nil {
			e.closeListeners()
			_ = e.stopLoops()
			return nil, err
		}
	}
	e.ticker.Add(1)
	e.startPages()
	e.rooms.OnFault(func(what any) { e.fault(inSweep, what, unit{}) })
	go e.tick()
	for _, ln := range e.listeners {
		e.accepts.Add(1)
		go e.accept(ln)
	}
	return e, nil
}

// startLoops starts the reactors and gives each its mailbox, by way of a socket pair that it reads.
func (e *Engine) startLoops() error {
	var err error
	e.reactors, err = gnet.NewClient(&handler{e: e},
		gnet.WithMulticore(true), gnet.WithNumEventLoop(e.cfg.Loops), gnet.WithReadBufferCap(e.cfg.ReadBuffer),
		gnet.WithLogger(gnetLog{e.log}), gnet.WithLogLevel(logging.WarnLevel))
	if err != nil {
		return fmt.Errorf("reactors: %w", err)
	}
	if err := e.reactors.Start(); err != nil {
		return fmt.Errorf("reactors: %w", err)
	}
	for i := range e.cfg.Loops {
		l := &loop{
			eng: e, idx: i, wakeFD: -1, poller: noPoller, outlets: make(map[*room.Room]*outlet), blocked: make(map[uint64]*session),
			lagging: make(map[*session]struct{}),
		}
		l.tell = l.sendAck
		if l.blocker, err = newBlocker(l); err == nil {
			e.loops = append(e.loops, l)
			err = l.connect()
		}
		if err != nil {
			_ = e.stopLoops()
			return fmt.Errorf("event loop: %w", err)
		}
	}
	return nil
}

// stopLoops ends the reactors, which closes every session, and what belongs to the loops.
func (e *Engine) stopLoops() error {
	err := e.reactors.Stop()
	for _, l := range e.loops {
		l.blocker.stop() // after the reactors, which use its descriptors
	}
	for _, l := range e.loops {
		if l.wakeFD >= 0 {
			_ = unix.Close(l.wakeFD)
		}
		for _, it := range l.box.take(nil) { // what came after the reactor's end
			if it.batch != nil {
				it.batch.Release()
			}
			if it.replay != nil {
				it.replay.Release()
			}
		}
	}
	return err
}

// handler receives gnet's callbacks.
type handler struct {
	gnet.BuiltinEventEngine
	e *Engine
}

func (h *handler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	if s, ok := c.Context().(*session); ok {
		for _, l := range h.e.loops {
			if l.reactor == c.EventLoop() && !l.try(inOpen, unit{}, func() { l.open(s, c); s.begin() }) {
				return nil, gnet.Close
			}
		}
	}
	return nil, gnet.None
}

func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	b, _ := c.Next(-1) // all of it: what gnet has just read, not copied, valid until the next read
	switch x := c.Context().(type) {
	case *session:
		x.onTraffic(b)
		x.loop.stats.turns.observe(x.loop.eng.now() - x.loop.now)
	case *loop:
		x.drain()
		x.stats.turns.observe(x.eng.now() - x.now)
	}
	return gnet.None
}

func (h *handler) OnClose(c gnet.Conn, _ error) gnet.Action {
	if s, ok := c.Context().(*session); ok && s.loop != nil {
		s.onClose()
	}
	return gnet.None
}

// open starts a session on its loop.
func (l *loop) open(s *session, c gnet.Conn) {
	l.now = l.eng.now()
	s.loop, s.conn, s.fd, s.heard = l, c, int32(c.Fd()), true
	if s.openedAt == 0 {
		s.openedAt = l.now
	}
	s.at = int32(len(l.sessions))
	l.sessions = append(l.sessions, s)
	l.stats.sessions.Add(1)
	if s.role.client() {
		l.stats.clients.Add(1)
	}
	s.enter()
	s.role.open(s)
}

// begin handles what the handshakes have read too far: no event tells of it.
func (s *session) begin() {
	c := s.carrier
	if c == nil {
		return
	}
	if c.early != nil || c.tls != nil {
		s.onTraffic(nil)
	}
	if c.tls == nil && c.ws == nil {
		s.carrier = nil
	}
}

// greeted takes a session off the list of those that have not said hello.
func (l *loop) greeted(s *session) {
	if i := slices.Index(l.greeting, s); i >= 0 {
		l.greeting = slices.Delete(l.greeting, i, i+1)
		l.eng.greeting.Add(-1)
	}
}

func (s *session) onTraffic(b []byte) {
	s.loop.now = s.loop.eng.now()
	if s.closing || s.doomed {
		s.overheard(len(b))
		return
	}
	s.turn(b)
	s.loop.settle()
}

// turn handles what was read, as far as a turn goes.
func (s *session) turn(b []byte) {
	l := s.loop
	l.unit = unit{s: s}
	defer l.rescue(inRead)
	l.stats.reads.Add(1)
	l.reading = s
	var err, end error
	if s.carrier != nil {
		s.heard = s.heard || len(b) > 0 // a record that comes slowly is a sign of life
		b, end = s.carrier.open(s, b)
	}
	if len(b) > 0 {
		err = s.feed(b)
	}
	l.reading = nil
	s.endTurn(err)
	if end != nil {
		s.carrier.over = end
		s.over()
	}
	s.heed()
}

// over closes the session at its carrier's end, once all that came before it is handled. Loop only.
func (s *session) over() {
	if c := s.carrier; c == nil || c.over == nil || s.paused || s.closing || s.doomed || s.closed {
		return
	}
	s.failErr(s.carrier.over)
	s.loop.out = s.loop.out[:0]
}

// Addrs returns the addresses that clients connect to: those of Config.Listen, ListenTLS, ListenWS, ListenWSS,
// ListenWeb and ListenWebTLS, in this order.
func (e *Engine) Addrs() []net.Addr {
	var as []net.Addr
	for _, ln := range e.listeners {
		as = append(as, ln.Addr())
	}
	return as
}

// Servers returns the same addresses, but those of pages, as clients name them: with the scheme of what is not plain
// TCP.
func (e *Engine) Servers() []string {
	var to []string
	for _, ln := range e.listeners {
		if ln.speaks.pages {
			continue
		}
		to = append(to, ln.speaks.scheme()+ln.Addr().String())
	}
	return to
}

// now returns the time: see clock.Clock. Any goroutine.
func (e *Engine) now() int64 { return e.cfg.Clock.Now() }

// Rooms returns the rooms of the server.
func (e *Engine) Rooms() *room.Table { return e.rooms }

func (e *Engine) closeListeners() {
	for _, ln := range e.listeners {
		_ = ln.Close()
	}
}

// onLoop runs f on a loop and waits for it.
func (l *loop) onLoop(f func()) {
	done := make(chan struct{})
	l.post(item{kind: itemDo, do: func() { defer close(done); f() }})
	<-done
}

// Part makes the node not ready, so that a balancer sends new clients elsewhere, and changes nothing else: a Shutdown is
// to follow, when the balancer has noticed.
func (e *Engine) Part() { e.parting.Store(true) }

// Shutdown drains: it stops accepting, tells every client to go, ends the rooms, lets what is queued go out until ctx
// is done, and closes. It returns ctx's error if something was still queued then. A second call waits for the first,
// and returns what that did.
func (e *Engine) Shutdown(ctx context.Context) error {
	if !e.shutting.CompareAndSwap(false, true) {
		select {
		case <-e.ended:
			return e.result
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.parting.Store(true)
	e.leaving.Store(true)
	e.result = e.shutdown(ctx)
	close(e.ended)
	return e.result
}

func (e *Engine) shutdown(ctx context.Context) error {
	e.end()
	e.closeListeners()
	e.accepts.Wait()
	e.sending.Wait()
	e.moving.halt()
	e.shakes.Wait() // given up: while the reactors run, as who waits for one of these would wait for ever
	e.stopPages()
	alone := e.cluster == nil || !e.cluster.handOver(ctx)
	e.draining.Store(true)
	return errors.Join(e.sendAway(ctx, alone), e.close())
}

// sendAway tells every client to go and closes their sessions, spread over DrainSpread; what is queued goes out until
// ctx is done. alone says that nobody takes the rooms over, which end once everybody is told. It returns ctx's error if
// something was queued when that was done.
func (e *Engine) sendAway(ctx context.Context, alone bool) error {
	within := uint32(e.cfg.DrainSpread.Milliseconds())
	told := make([]int, len(e.loops)) // sessions of each loop
	for i, l := range e.loops {
		l.onLoop(func() {
			told[i] = len(l.sessions) - len(l.links)
			for _, s := range l.sessions {
				if s.phase == phaseOpen && s.role.client() {
					s.queueControl(&codec.GoAway{Code: codec.CodeGoingAway, WithinMillis: within})
				}
			}
			l.settle()
		})
	}
	if alone { // nobody takes the rooms over
		e.rooms.EndAll(codec.CodeGoingAway)
	}
	// Clients close by themselves when they are told to go and have what they need; the rest is cut off spread over time,
	// so that they do not all reconnect elsewhere at once.
	start := time.Now()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	var err error
	for {
		left, queued := 0, 0
		share := max(0, 1-float64(time.Since(start))/float64(e.cfg.DrainSpread)) // that may still be here
		for i, l := range e.loops {
			l.onLoop(func() {
				n, q := l.closeDownTo(int(math.Ceil(share * float64(told[i]))))
				left, queued = left+n, queued+q
			})
		}
		if left == 0 {
			break
		}
		select {
		case <-ctx.Done():
			if queued > 0 {
				err = fmt.Errorf("%d sessions had frames queued: %w", queued, ctx.Err())
			}
		case <-poll.C:
			continue
		}
		break
	}
	return err
}

// closeDownTo ends sessions that have nothing queued until only keep are left that it has not ended. It returns how
// many connections there are still, and how many of these have something queued. Loop only.
func (l *loop) closeDownTo(keep int) (left, queued int) {
	excess := -keep
	for _, s := range l.sessions {
		if !s.closing && s.role.client() {
			excess++
		}
	}
	for _, s := range l.sessions {
		switch {
		case !s.role.client(): // links go last
		case s.waits():
			queued++
		case excess > 0 && !s.closing:
			s.finish()
			excess--
		}
	}
	l.settle()
	return len(l.sessions) - len(l.links), queued
}

// close ends everything.
func (e *Engine) close() error {
	if e.cluster != nil {
		e.cluster.leave()
	}
	close(e.stop)
	e.ticker.Wait()
	e.collector.done.Wait()
	return e.stopLoops()
}

// gnetLog hands gnet's own messages on. What it warns of is a connection that closed while an event for it was on its
// way: that is no news when many hang up at once.
type gnetLog struct{ log zerolog.Logger }

func (g gnetLog) Debugf(format string, args ...any) {
	g.log.Debug().Str("from", "gnet").Msgf(format, args...)
}
func (g gnetLog) Infof(format string, args ...any) {
	g.log.Debug().Str("from", "gnet").Msgf(format, args...)
}
func (g gnetLog) Warnf(format string, args ...any) {
	g.log.Debug().Str("from", "gnet").Msgf(format, args...)
}
func (g gnetLog) Errorf(format string, args ...any) {
	g.log.Error().Str("from", "gnet").Msgf(format, args...)
}
func (g gnetLog) Fatalf(format string, args ...any) {
	g.log.Error().Str("from", "gnet").Msgf(format, args...)
}
