package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/target"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// phase is where a run is. It only rises.
type phase int32

const (
	phaseConnect phase = iota // everybody connects
	phaseRun                  // publishing, warm-up first
	phaseDrain                // publishing has ended; what is on its way arrives
	phaseStop
)

// run is what the loops of one run share.
type run struct {
	cfg    *Config
	target target.Target
	addr   netip.AddrPort

	phase           atomic.Int32
	begin, from, to atomic.Int64 // publishing begins; the measured time begins and ends

	pub     *pubLoop
	loops   []*subLoop
	sources []*source   // by stream number less cfg.First
	rooms   [][]*source // by room
	windows []*verify.Window

	roomBytes    float64 // payload and headers per second into one room, open loop
	churnPerLoop float64
	ticks        bool
	changed      chan struct{}
}

// Progress is the state of a run, for whoever watches it.
type Progress struct {
	Stage     string        // connecting, warming up, measuring, draining
	Ready     int           // subscriptions made
	Want      int           // and wanted
	Delivered uint64        // messages so far
	Elapsed   time.Duration // since publishing began
	Total     time.Duration // warm-up and measured time
}

// Hooks let a caller watch a run and hold it until others are ready too.
type Hooks struct {
	Progress func(Progress) // called about ten times a second, or nil
	// Gate is called when everybody is connected and returns when publishing is to begin, on the clock of Now. Nil begins
	// at once.
	Gate func(ctx context.Context) (begin int64, err error)
	// Sent is called when everything has been published, with the last sequence number of every stream, or nil.
	Sent func(seqs []uint64)
	// AwaitSent stands in for publishing in a process that only subscribes (Config.Listen): it returns what another
	// process's Sent was given.
	AwaitSent func(ctx context.Context) (seqs []uint64, err error)
}

// notify makes the driver look at the loops before its next tick.
func (r *run) notify() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *run) stream(number uint32) *source {
	if i := int(number) - r.cfg.First; i >= 0 && i < len(r.sources) {
		return r.sources[i]
	}
	return nil
}

func (r *run) window(number uint32) *verify.Window {
	if i := int(number) - r.cfg.First; i >= 0 && i < len(r.windows) {
		return r.windows[i]
	}
	return nil
}

// Prepare makes the rooms of a run that several processes share and returns their numbers for Config.RoomIDs.
func Prepare(ctx context.Context, cfg Config) ([]uint64, error) {
	cfg.SetDefaults()
	t, err := target.New(cfg.Target)
	if err != nil {
		return nil, err
	}
	if err := t.Prepare(ctx, cfg.plan()); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Target, err)
	}
	return t.IDs(), nil
}

func (c *Config) plan() target.Plan {
	policy, _ := codec.ParsePolicy(c.Policy)
	return target.Plan{Addr: c.Addr, Account: c.Account, Rooms: c.Rooms, First: c.FirstRoom, Policy: policy, QueueBytes: c.QueueBytes,
		QueueMillis: uint64(c.QueueAge / time.Millisecond), IDs: c.RoomIDs}
}

// ErrCannot wraps the reason why a server cannot run a scenario at all.
var ErrCannot = errors.New("the server cannot do this")

// Run runs one load and returns what it measured. An error means that there was no run; broken promises and a late
// generator are in the result. It blocks for the whole run.
func Run(ctx context.Context, cfg Config, hooks Hooks) (*Result, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r, err := newRun(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	// See poller.wait. What a run allocates once everybody is connected is next to nothing.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var wg sync.WaitGroup
	defer func() {
		r.setPhase(phaseStop)
		wg.Wait()
		<-r.pub.exited
		r.closePollers()
	}()
	res := newResult(&cfg)
	for _, l := range r.loops {
		wg.Go(l.serve)
	}
	go r.pub.serve()
	if err := r.waitReady(ctx, hooks); err != nil {
		return nil, err
	}
	res.server.idle()
	begin := Now() + int64(20*time.Millisecond)
	if hooks.Gate != nil {
		if begin, err = hooks.Gate(ctx); err != nil {
			return nil, err
		}
	}
	from := begin + int64(cfg.Warmup)
	r.begin.Store(begin)
	r.from.Store(from)
	r.to.Store(from + int64(cfg.Duration))
	r.setPhase(phaseRun)
	if err := r.measure(ctx, res, hooks); err != nil {
		return nil, err
	}
	r.setPhase(phaseStop)
	<-r.pub.exited
	wg.Wait()
	res.collect(r)
	return res, nil
}

func newRun(ctx context.Context, cfg *Config) (*run, error) {
	t, err := target.New(cfg.Target)
	if err != nil {
		return nil, err
	}
	plan := cfg.plan()
	if err := t.Caps().Can(plan, cfg.Publishers); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", cfg.Target, ErrCannot, err)
	}
	cfg.Strict = t.Caps().Announces
	r := &run{cfg: cfg, target: t, ticks: plan.Policy == codec.PolicyLossless, changed: make(chan struct{}, 1)}
	if r.addr, err = resolve(cfg.Addr); err != nil {
		return nil, err
	}
	if err := t.Prepare(ctx, plan); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Target, err)
	}
	if r.pub, err = newPubLoop(r); err != nil {
		return nil, err
	}
	for i := range cfg.Loops {
		l, err := newSubLoop(r, i)
		if err != nil {
			return nil, err
		}
		r.loops = append(r.loops, l)
	}
	r.layOutStreams()
	r.layOutSubscribers()
	return r, nil
}

// layOutStreams numbers the streams and gives them connections: publisher p of every room goes on connections of its own,
// because a connection is one publisher of a room at most.
func (r *run) layOutStreams() {
	c := r.cfg
	r.rooms = make([][]*source, c.Rooms)
	for _, s := range c.Streams {
		r.roomBytes += float64(c.Publishers) * (s.bytesPerSecond() + s.Rate*codec.StreamHeaderSize)
	}
	if c.Idle {
		return
	}
	perPub := max(c.PubConns/c.Publishers, 1)
	for p := range c.Publishers {
		conns := make([]*publisher, min(perPub, c.Rooms))
		for i := range conns {
			conns[i] = new(publisher)
		}
		for room := range c.Rooms {
			conn := conns[room%len(conns)]
			for i := range c.Streams {
				spec := &c.Streams[i]
				s := &source{spec: spec, conn: conn, frames: r.frames(spec.Payload)}
				s.Number, s.Room, s.Pub, s.Dtype = uint32(c.First+len(r.sources)), room, p, spec.Dtype
				if c.Mode == Closed {
					s.window = verify.NewWindow(r.windowFrames(spec), c.Subscribers, r.pub.wakeUp)
					r.windows = append(r.windows, s.window)
				}
				conn.sources = append(conn.sources, s)
				r.sources, r.rooms[room] = append(r.sources, s), append(r.rooms[room], s)
			}
		}
		r.pub.conns = append(r.pub.conns, conns...)
	}
	if c.Listen {
		r.pub.conns = nil
		return
	}
	for _, conn := range r.pub.conns {
		streams := make([]*target.Stream, len(conn.sources))
		for i, s := range conn.sources {
			streams[i] = &s.Stream
		}
		conn.wire = r.target.Publisher(streams)
	}
	r.pub.all = r.sources
}

// frames is the number of frames that a payload takes.
func (r *run) frames(payload int) int {
	if piece := r.target.Caps().Piece; piece > 0 {
		return (payload + piece - 1) / piece
	}
	return 1
}

func (r *run) windowFrames(s *Stream) uint64 {
	messages := max(r.cfg.Window/(s.Payload+codec.StreamHeaderSize), minWindow)
	return uint64(messages * r.frames(s.Payload))
}

// layOutSubscribers deals the subscribers of every room out to the loops, and draws who is slow, late or changing.
func (r *run) layOutSubscribers() {
	c := r.cfg
	total := c.Rooms * c.Subscribers
	draw := make([]class, total)
	next := 0
	put := func(cl class, n int) {
		for ; n > 0 && next < total; n, next = n-1, next+1 {
			draw[next] = cl
		}
	}
	put(stalled, int(c.Stalled*float64(total)+0.5))
	put(half, int(c.Half*float64(total)+0.5))
	put(late, int(c.Late*float64(total)+0.5))
	if c.Churn > 0 {
		// Each changing subscriber stays for about a second at least, and no more than half of all change.
		put(changing, min(int(c.Churn+1), total/2+1))
		r.churnPerLoop = c.Churn / float64(c.Loops)
	}
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	rng.Shuffle(total, func(i, j int) { draw[i], draw[j] = draw[j], draw[i] })
	for i, cl := range draw {
		l := r.loops[i%len(r.loops)]
		s := l.newSubscriber(i%c.Rooms, cl)
		switch cl {
		case late:
			l.joins = append(l.joins, s)
			continue
		case changing:
			l.churn = append(l.churn, s)
		}
		l.begin = append(l.begin, s)
	}
}

// closePollers ends what the loops were woken by, once no loop is left to wake another.
func (r *run) closePollers() {
	for _, l := range r.loops {
		l.poll.close()
	}
	r.pub.poll.close()
}

func (r *run) setPhase(p phase) {
	if r.phase.Swap(int32(p)) == int32(p) {
		return
	}
	for _, l := range r.loops {
		l.poll.wake()
	}
	r.pub.poll.wake()
}

// waitReady waits until all publishers and all subscribers but the late ones are in.
func (r *run) waitReady(ctx context.Context, hooks Hooks) error {
	want := r.cfg.Rooms*r.cfg.Subscribers - int(r.cfg.Late*float64(r.cfg.Rooms*r.cfg.Subscribers)+0.5)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	up := r.pub.up
	for {
		ready := 0
		for _, l := range r.loops {
			ready += int(l.ready.Load())
			if l.failed.Load() > 0 {
				r.setPhase(phaseStop)
				return fmt.Errorf("%s: connecting subscribers: %w", r.cfg.Target, l.firstError())
			}
		}
		if r.pub.failed.Load() {
			return fmt.Errorf("%s: connecting publishers: %w", r.cfg.Target, r.pub.err)
		}
		if hooks.Progress != nil {
			hooks.Progress(Progress{Stage: "connecting", Ready: ready, Want: want, Total: r.cfg.Warmup + r.cfg.Duration})
		}
		if ready >= want && up == nil {
			return nil
		}
		select {
		case <-up:
			up = nil
		case <-tick.C:
		case <-r.changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d subscribers connected: %w", ready, want, ctx.Err())
		}
	}
}

// measure follows a run from its beginning to the last delivery.
func (r *run) measure(ctx context.Context, res *Result, hooks Hooks) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	from := time.NewTimer(time.Duration(r.from.Load() - Now()))
	to := time.NewTimer(time.Duration(r.to.Load() - Now()))
	defer from.Stop()
	defer to.Stop()
	var done <-chan struct{} = r.pub.done
	ended := make(chan struct{})
	listened := make(chan heard, 1)
	if r.cfg.Listen {
		done = ended
		go func() {
			seqs, err := hooks.AwaitSent(ctx)
			listened <- heard{seqs, err}
		}()
	}
	stage, last := "warming up", uint64(0)
	var moved, drainFrom int64 // when something was last delivered; when draining began
	stuck := 0
	for {
		select {
		case <-from.C:
			stage = "measuring"
			res.server.begin()
			res.process.begin()
		case <-to.C:
			res.server.end()
			res.process.end()
		case heard := <-listened:
			if heard.err != nil {
				return fmt.Errorf("waiting for the publishing process: %w", heard.err)
			}
			for i, seq := range heard.seqs[:min(len(heard.seqs), len(r.sources))] {
				r.sources[i].Seq = seq // the loops read it once they see the phase
			}
			close(ended)
		case <-done:
			if hooks.Sent != nil {
				hooks.Sent(r.sent())
			}
			done, stage = nil, "draining"
			drainFrom = Now()
			moved = drainFrom
			r.setPhase(phaseDrain)
		case <-r.changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			delivered := r.delivered()
			res.server.sample()
			if hooks.Progress != nil {
				hooks.Progress(Progress{Stage: stage, Delivered: delivered, Elapsed: time.Duration(Now() - r.begin.Load()),
					Total: r.cfg.Warmup + r.cfg.Duration})
			}
			if delivered != last {
				stuck, last, moved = 0, delivered, Now()
			}
			// What is on its way is waited for while something arrives, but not for ever: a server that has fallen far
			// behind is not a server that loses frames.
			if done == nil && Now()-moved > int64(r.cfg.Drain) {
				return nil
			}
			if done == nil && Now()-drainFrom > DrainLimit*int64(r.cfg.Drain) {
				res.Unfinished = true
				return nil
			}
			if r.cfg.Mode == Closed && done != nil && Now() > r.begin.Load() {
				if stuck++; stuck == closedStuck {
					return errors.New("closed loop: nothing was delivered for 10 s; a subscriber misses frames, or the server stands still" +
						r.diagnosis())
				}
			}
		}
		if r.pub.failed.Load() {
			return fmt.Errorf("%s: %w", r.cfg.Target, r.pub.err)
		}
		if r.cfg.Mode == Closed {
			for _, l := range r.loops {
				if l.failed.Load() > 0 {
					r.setPhase(phaseStop)
					return fmt.Errorf("%s: a subscriber of a closed loop was lost: %w", r.cfg.Target, l.firstError())
				}
			}
		}
		if done == nil && r.allDrained() {
			return nil
		}
	}
}

// heard is what another process said that it had sent.
type heard struct {
	seqs []uint64
	err  error
}

// sent returns the last sequence number of every stream, once nothing is published any more.
func (r *run) sent() []uint64 {
	seqs := make([]uint64, len(r.sources))
	for i, s := range r.sources {
		seqs[i] = s.Seq
	}
	return seqs
}

// DrainLimit is how many times Config.Drain the end of a run may take while something still arrives.
const DrainLimit = 3

// closedStuck is how many ticks of measure a closed loop may stand still.
const closedStuck = 100

func (r *run) delivered() (n uint64) {
	for _, l := range r.loops {
		n += l.delivered.Load()
	}
	return n
}

func (r *run) allDrained() bool {
	for _, l := range r.loops {
		if !l.drained.Load() {
			return false
		}
	}
	return true
}

// diagnosis says what the windows of a closed loop wait for.
func (r *run) diagnosis() string {
	for _, s := range r.sources {
		if s.window != nil && s.window.Credit(s.Seq) < s.frames {
			return fmt.Sprintf(" (stream %d: frame %d sent, everybody has %d)", s.Number, s.Seq, s.window.Floor())
		}
	}
	return " (every window is open: the server does not take or acknowledge what is published)"
}
