package engine

import (
	"errors"
	"math"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/timedge/timedge/internal/clock"
)

// gate bounds what handshakes take of the processors: a handshake costs as much as thousands of frames. Few compute at
// a time, and after a burst nobody does for so long that handshakes together have their share and no more, however
// many clients want one. They wait for one another; streams go on.
//
// What is counted is processor time of the threads that compute. By the clock on the wall a handshake takes the longer
// the busier the machine is, and they would get the less of it the more there are to do.
//
// Who comes first is served first. Whoever has been served goes on before those that have not: a handshake that has
// begun ends soon, so that clients are through one after the other, and not all at the end.
type gate struct {
	stop  <-chan struct{}
	share float64 // processors

	mu      sync.Mutex
	free    int        // places: so many more may compute
	again   []*waiting // they have been served before
	first   []*waiting
	debt    time.Duration // computed and not yet rested for
	at      time.Time     // when debt was right
	resting bool          // a timer is set to admit
}

// waiting is a goroutine that waits for a place.
type waiting struct {
	since  time.Time
	answer chan error // capacity 1: nil, it has a place
}

// handshakeShare is the handshakes' share of each loop's processor.
const handshakeShare = 0.25

// gateDebt is how long handshakes may compute before they have to rest: naps shorter than that are not worth a timer.
const gateDebt = time.Millisecond

// maxGateWait is how long a client may be made to wait for a place beside its time for the hello. When a node has died
// its clients come all at once: those that this one cannot serve in that time would give up, come again, and make the
// crowd no smaller. They are cut off, which tells them to try elsewhere, before anything is computed for them.
const maxGateWait = 10 * time.Second

// errCrowd is a client that has waited for a place in vain.
var errCrowd = errors.New("too many handshakes before this one")

func newGate(share float64, stop <-chan struct{}) *gate {
	return &gate{stop: stop, share: share, free: max(1, int(math.Ceil(share)))}
}

// enter waits for a place; served says that the caller has had one before. Until leave, which takes what is returned,
// the goroutine has its thread for itself. An error says that there is none: the server stops, or has too much to do.
func (g *gate) enter(served bool) (from time.Duration, err error) {
	w := &waiting{since: time.Now(), answer: make(chan error, 1)}
	g.mu.Lock()
	if served {
		g.again = append(g.again, w)
	} else {
		g.first = append(g.first, w)
	}
	g.admit(w.since)
	g.mu.Unlock()
	select {
	case err = <-w.answer:
	case <-g.stop: // nobody has a use for places any more
		err = net.ErrClosed
	}
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread()
	return clock.Thread(), nil
}

// leave gives the place up.
func (g *gate) leave(from time.Duration) {
	took := clock.Thread() - from
	runtime.UnlockOSThread()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.debt += took
	g.free++
	g.admit(time.Now())
}

// admit gives places to those that wait, as far as there are some, and it is not time to rest. g.mu is held.
func (g *gate) admit(now time.Time) {
	for g.free > 0 && !g.resting && len(g.again)+len(g.first) > 0 {
		if nap := g.nap(now); nap > 0 {
			g.resting = true
			time.AfterFunc(nap, func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.resting = false
				g.admit(time.Now())
			})
			return
		}
		from := &g.again
		if len(g.again) == 0 {
			from = &g.first
		}
		w := (*from)[0]
		(*from)[0] = nil
		*from = (*from)[1:]
		if now.Sub(w.since) > maxGateWait {
			w.answer <- errCrowd
			continue
		}
		g.free--
		w.answer <- nil
	}
}

// nap returns for how long nobody may compute. g.mu is held.
func (g *gate) nap(now time.Time) time.Duration {
	g.debt = max(0, g.debt-time.Duration(float64(now.Sub(g.at))*g.share))
	g.at = now
	if g.debt < gateDebt {
		return 0
	}
	return time.Duration(float64(g.debt) / g.share)
}
