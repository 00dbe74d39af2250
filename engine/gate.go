package engine

import (
	"errors"
	"math"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/timedge/timedge/codec"
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
	spent   time.Duration // what handshakes have taken of late,
	begun   int           // and how many these were
}

// waiting is a goroutine that waits for a place.
type waiting struct {
	until  time.Time  // it is of no use to it any more
	answer chan error // capacity 1: nil, it has a place
}

// handshakeShare is the handshakes' share of each loop's processor.
const handshakeShare = 0.25

// gateDebt is how long handshakes may compute before they have to rest: naps shorter than that are not worth a timer.
const gateDebt = time.Millisecond

// maxGateWait is how long a client may be made to wait for places beside its time for the hello. When a node has died its
// clients come all at once. Who is to wait must not have given up before its turn, and come again: that would make the
// crowd no smaller. So it is as long as clients wait, but for the hello's time and what bytes take on their way. Who
// would have to wait for longer is told so by the end of the connection, which has it try elsewhere: as it comes, if that
// can be foretold, and in any case before anything is computed for it.
const maxGateWait = codec.AnswerWithin - helloTimeout - 3*time.Second

// lately is of how many handshakes the gate knows what they take.
const lately = 256

// errCrowd is a client whose turn does not come in time.
var errCrowd = errors.New("too many handshakes before this one")

func newGate(share float64, stop <-chan struct{}) *gate {
	return &gate{stop: stop, share: share, free: max(1, int(math.Ceil(share)))}
}

// enter waits for a place, for so long at most; served says that the caller has had one before. Until leave, which
// takes what is returned, the goroutine has its thread for itself. An error says that there is none: the server stops,
// or has too much to do.
func (g *gate) enter(served bool, most time.Duration) (from time.Duration, err error) {
	now := time.Now()
	g.mu.Lock()
	if g.open(served, now) {
		g.take(served)
		g.mu.Unlock()
	} else {
		w := &waiting{until: now.Add(most), answer: make(chan error, 1)}
		switch {
		case served:
			g.again = append(g.again, w)
		case g.ahead() > most:
			w.answer <- errCrowd
		default:
			g.first = append(g.first, w)
		}
		g.mu.Unlock()
		select {
		case err = <-w.answer:
		case <-g.stop: // nobody has a use for places any more
			err = net.ErrClosed
		}
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
	g.spent += took
	g.free++
	g.admit(time.Now())
}

// open reports whether there is a place for who comes now. g.mu is held.
func (g *gate) open(served bool, now time.Time) bool {
	return g.free > 0 && len(g.again) == 0 && (served || len(g.first) == 0 && !g.rests(now))
}

// take gives a place away. g.mu is held.
func (g *gate) take(served bool) {
	g.free--
	if served {
		return
	}
	if g.begun++; g.begun == lately {
		g.begun, g.spent = g.begun/2, g.spent/2
	}
}

// admit gives places to those that wait, as far as there are some. Only who has not been served is to wait until it has
// been rested: what comes after is little, and to wake somebody a second time costs as much. g.mu is held.
func (g *gate) admit(now time.Time) {
	for g.free > 0 {
		served := len(g.again) > 0
		from := &g.again
		if !served {
			if from = &g.first; len(g.first) == 0 || g.rests(now) {
				return
			}
		}
		w := (*from)[0]
		(*from)[0] = nil
		*from = (*from)[1:]
		if now.After(w.until) {
			w.answer <- errCrowd
			continue
		}
		g.take(served)
		w.answer <- nil
	}
}

// rests reports whether it is time to rest; when that is over those that wait are admitted. g.mu is held.
func (g *gate) rests(now time.Time) bool {
	if g.resting {
		return true
	}
	nap := g.nap(now)
	if nap == 0 {
		return false
	}
	g.resting = true
	time.AfterFunc(nap, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.resting = false
		g.admit(time.Now())
	})
	return true
}

// ahead returns how long it takes, at least, to serve those that wait for their first place. g.mu is held.
func (g *gate) ahead() time.Duration {
	if g.begun == 0 {
		return 0
	}
	each := g.spent / time.Duration(g.begun)
	return time.Duration(float64(g.debt+each*time.Duration(len(g.first))) / g.share)
}

// nap returns for how long nobody may begin. g.mu is held.
func (g *gate) nap(now time.Time) time.Duration {
	g.debt = max(0, g.debt-time.Duration(float64(now.Sub(g.at))*g.share))
	g.at = now
	if g.debt < gateDebt {
		return 0
	}
	return time.Duration(float64(g.debt) / g.share)
}
