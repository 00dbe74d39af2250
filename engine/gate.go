package engine

import (
	"sync"
	"time"
)

// gate bounds what handshakes take of the processors. One computes at a time, and after it nobody does for so long
// that handshakes together have their share and no more, however many clients want one: a handshake costs as much as
// thousands of frames. Those that wait, wait for the others of their kind; streams go on.
type gate struct {
	place chan struct{} // holds a value while somebody computes
	stop  <-chan struct{}
	share float64 // of one processor

	mu   sync.Mutex
	debt time.Duration // computed and not yet rested for
	at   time.Time     // when debt was right
}

// handshakeShare is the handshakes' share of each loop's processor.
const handshakeShare = 0.25

// gateDebt is how long handshakes may compute before they have to rest: naps shorter than that are not worth a timer.
const gateDebt = 2 * time.Millisecond

func newGate(share float64, stop <-chan struct{}) *gate {
	return &gate{place: make(chan struct{}, 1), stop: stop, share: share}
}

// enter waits for the place. It returns false if the server stops meanwhile.
func (g *gate) enter() bool {
	select {
	case g.place <- struct{}{}:
	case <-g.stop:
		return false
	}
	if nap := g.nap(); nap > 0 {
		t := time.NewTimer(nap)
		defer t.Stop()
		select {
		case <-t.C:
		case <-g.stop:
			<-g.place
			return false
		}
	}
	return true
}

// nap returns how long whoever has the place must wait.
func (g *gate) nap() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.debt -= time.Duration(float64(now.Sub(g.at)) * g.share); g.debt < 0 {
		g.debt = 0
	}
	g.at = now
	if g.debt < gateDebt {
		return 0
	}
	return time.Duration(float64(g.debt) / g.share)
}

// leave gives the place up after so long a time.
func (g *gate) leave(took time.Duration) {
	g.mu.Lock()
	g.debt += took
	g.mu.Unlock()
	<-g.place
}
