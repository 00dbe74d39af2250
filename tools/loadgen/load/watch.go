package load

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// watch follows a run from its beginning to the last delivery. It belongs to the goroutine that called Run.
type watch struct {
	run   *run
	res   *Result
	hooks Hooks

	stage     string
	published <-chan struct{} // closed when everything has been published; nil once that is known
	last      uint64          // deliveries at the tick before
	moved     int64           // when something was last delivered
	drainFrom int64
}

const watchEvery = 100 * time.Millisecond

// closedStuck is how long a closed loop may stand still.
const closedStuck = 10 * time.Second

// DrainLimit is how many times Config.Drain the end of a run may take while something still arrives.
const DrainLimit = 3

// heard is what another process said that it had sent.
type heard struct {
	seqs []uint64
	err  error
}

// measure blocks until the run is over.
func (r *run) measure(ctx context.Context, res *Result, hooks Hooks) error {
	w := &watch{run: r, res: res, hooks: hooks, stage: "warming up", published: r.pub.done, moved: r.begin.Load()}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	from := time.NewTimer(time.Duration(r.from.Load() - Now()))
	defer from.Stop()
	to := time.NewTimer(time.Duration(r.to.Load() - Now()))
	defer to.Stop()
	var kill <-chan time.Time
	if r.cfg.KillPID > 0 {
		t := time.NewTimer(time.Duration(r.from.Load()-Now()) + r.cfg.KillAfter)
		defer t.Stop()
		kill = t.C
	}
	var listened chan heard
	if r.cfg.Listen {
		listened, w.published = make(chan heard, 1), nil
		go func() {
			seqs, err := hooks.AwaitSent(ctx)
			listened <- heard{seqs, err}
		}()
	}
	for {
		select {
		case <-from.C:
			w.stage = "measuring"
			res.server.begin()
			res.process.begin()
		case <-to.C:
			res.server.end()
			res.process.end()
		case <-kill:
			r.killed.Store(Now())
			if err := unix.Kill(r.cfg.KillPID, signals[r.cfg.Signal]); err != nil {
				return fmt.Errorf("killing process %d: %w", r.cfg.KillPID, err)
			}
		case h := <-listened:
			if h.err != nil {
				return fmt.Errorf("waiting for the publishing process: %w", h.err)
			}
			for i, seq := range h.seqs[:min(len(h.seqs), len(r.sources))] {
				r.sources[i].Seq = seq // the loops read it once they see the phase
			}
			w.drain()
		case <-w.published:
			if hooks.Sent != nil {
				hooks.Sent(r.sent())
			}
			w.drain()
		case <-r.changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if over, err := w.tick(); over || err != nil {
				return err
			}
		}
		if err := w.broken(); err != nil {
			return err
		}
		if w.draining() && r.allDrained() {
			return nil
		}
	}
}

func (w *watch) draining() bool { return w.drainFrom != 0 }

func (w *watch) drain() {
	w.published, w.stage = nil, "draining"
	w.drainFrom = Now()
	w.moved = w.drainFrom
	w.run.setPhase(phaseDrain)
}

// tick looks at how the run is getting on. It reports whether the run is over.
func (w *watch) tick() (over bool, err error) {
	r, now, delivered := w.run, Now(), w.run.delivered()
	w.res.server.sample()
	if w.hooks.Progress != nil {
		w.hooks.Progress(Progress{Stage: w.stage, Delivered: delivered, Elapsed: time.Duration(now - r.begin.Load()),
			Total: r.cfg.Warmup + r.cfg.Duration})
	}
	if delivered != w.last || now < r.begin.Load() {
		w.last, w.moved = delivered, now
	}
	idle := time.Duration(now - w.moved)
	if !w.draining() {
		if r.cfg.Mode == Closed && !r.cfg.Idle && idle > closedStuck {
			return true, fmt.Errorf("closed loop: nothing was delivered for %v; a subscriber misses frames, or the server stands still%s",
				closedStuck, r.diagnosis())
		}
		return false, nil
	}
	// What is on its way is waited for while something arrives, but not for ever: a server that has fallen far behind is
	// not a server that loses frames.
	if now-w.drainFrom > DrainLimit*int64(r.cfg.Drain) && idle < r.cfg.Drain {
		w.res.Unfinished = true
		return true, nil
	}
	return idle > r.cfg.Drain, nil
}

// broken says what ended a run before its time.
func (w *watch) broken() error {
	r := w.run
	if r.pub.failed.Load() {
		return fmt.Errorf("%s: %w", r.cfg.Target, r.pub.err)
	}
	if r.cfg.Mode == Open {
		return nil // lost subscribers are in the result
	}
	for _, l := range r.loops {
		if l.failed.Load() > 0 {
			r.setPhase(phaseStop)
			return fmt.Errorf("%s: a subscriber of a closed loop was lost: %w", r.cfg.Target, l.firstError())
		}
	}
	return nil
}

// sent returns the last sequence number of every stream, once nothing is published any more.
func (r *run) sent() []uint64 {
	seqs := make([]uint64, len(r.sources))
	for i, s := range r.sources {
		seqs[i] = s.Seq
	}
	return seqs
}

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
