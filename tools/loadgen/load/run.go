package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
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
	addrs  []netip.AddrPort // of the nodes, which connections are spread over
	subs   []netip.AddrPort // where subscribers connect: addrs, unless they have a carrier

	phase           atomic.Int32
	begin, from, to atomic.Int64 // publishing begins; the measured time begins and ends
	killed          atomic.Int64 // when the node was killed; 0: not yet, or none
	resumes         bool         // connections that break are made again

	pub     *pubLoop
	loops   []*subLoop
	sources []*source   // by stream number less cfg.First
	rooms   [][]*source // by room
	windows []*verify.Window

	roomBytes float64 // payload and headers per second into one room, open loop
	want      int     // subscribers that connect before publishing begins
	ticks     bool
	changed   chan struct{}
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
	first, _, _ := strings.Cut(c.Addr, ",")
	if c.Register != "" {
		first = c.Register
	}
	return target.Plan{Addr: first, Account: c.Account, Rooms: c.Rooms, First: c.FirstRoom, Policy: policy, QueueBytes: c.QueueBytes,
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
	if r.addrs, err = resolveAll(cfg.Addr); err != nil {
		return nil, err
	}
	if r.subs = r.addrs; cfg.OverAddr != "" {
		if r.subs, err = resolveAll(cfg.OverAddr); err != nil {
			return nil, err
		}
	}
	r.resumes = len(r.addrs) > 1 || len(r.subs) > 1 || cfg.KillPID > 0
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

// resolveAll returns the addresses of a list, separated by commas.
func resolveAll(list string) (all []netip.AddrPort, err error) {
	for a := range strings.SplitSeq(list, ",") {
		addr, err := resolve(a)
		if err != nil {
			return nil, err
		}
		all = append(all, addr)
	}
	return all, nil
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

// connectTimeout bounds the time until everybody is connected, beside what a rate of connections takes. A
// server that accepts and says nothing is not waited for.
const connectTimeout = time.Minute

// waitReady waits until all publishers and all subscribers but the late ones are in.
func (r *run) waitReady(ctx context.Context, hooks Hooks) error {
	limit := connectTimeout
	if r.cfg.ConnRate > 0 {
		limit += time.Duration(float64(r.want) / r.cfg.ConnRate * float64(time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
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
			hooks.Progress(Progress{Stage: "connecting", Ready: ready, Want: r.want, Total: r.cfg.Warmup + r.cfg.Duration})
		}
		if ready >= r.want && up == nil {
			return nil
		}
		select {
		case <-up:
			up = nil
		case <-tick.C:
		case <-r.changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d subscribers connected: %w", ready, r.want, ctx.Err())
		}
	}
}
