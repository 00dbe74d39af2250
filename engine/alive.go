package engine

import (
	"context"
	"time"
)

// loopDeadAfter is how long a loop may take to turn before the process counts as dead: whoever asks for /healthz
// restarts it then. A turn takes milliseconds; a processor that is not there for so long is no use to anybody either.
const loopDeadAfter = 5 * time.Second

// Alive reports whether every loop turns within 5 s. It blocks until all have turned, or for that long.
func (e *Engine) Alive(ctx context.Context) bool { return len(e.deadLoops(ctx)) == 0 }

// deadLoops returns the numbers of the loops that do not turn within loopDeadAfter of now, and of those whose last turn
// is longer ago. It blocks until all have turned, or for that long. Every loop is asked to do nothing: a loop without
// work sleeps, and does not turn by itself.
func (e *Engine) deadLoops(ctx context.Context) (dead []int) {
	limit := time.NewTimer(loopDeadAfter)
	defer limit.Stop()
	turned := make([]chan struct{}, len(e.loops))
	for i, l := range e.loops {
		turned[i] = make(chan struct{})
		l.post(item{kind: itemDo, do: func() { close(turned[i]) }})
	}
	for i := range turned {
		select {
		case <-turned[i]: // whatever the time is: of two that are ready select takes any
			continue
		default:
		}
		select {
		case <-turned[i]:
		case <-limit.C:
			limit.Reset(0) // of the others only who has turned counts
			dead = append(dead, i)
		case <-ctx.Done():
			return dead
		}
	}
	return dead
}
