package engine

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// Held returns the bytes of all frames in memory.
func (e *Engine) Held() int64 { return e.pool.Held() }

// Batches returns how many batches somebody refers to.
func (e *Engine) Batches() int64 {
	for e.pool.Tidy(1 << 20) {
	}
	return e.pool.Outstanding()
}

// AwaitPolicy waits until frames have been dropped for a subscriber that fell behind, or one has been cut off.
func (e *Engine) AwaitPolicy(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		n := uint64(0)
		for _, l := range e.loops {
			n += l.stats.cutOff.Load()
			for i := range l.stats.dropped {
				n += l.stats.dropped[i].Load()
			}
		}
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no policy acted")
		}
		time.Sleep(time.Millisecond) // between two looks; what is waited for is the policy
	}
}

// AwaitHeld waits until the frames in memory, beside those that rooms keep for late joiners, are no more than n bytes.
func (e *Engine) AwaitHeld(t testing.TB, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); e.Held()-e.rooms.CacheBytes() > n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes held, of which %d cached", e.Held(), e.rooms.CacheBytes())
		}
	}
}

// AwaitAccepted waits until n connections have been accepted and the time of hello runs for them.
func (e *Engine) AwaitAccepted(t testing.TB, n uint64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); e.accepted.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections accepted", e.accepted.Load())
		}
	}
}

// AwaitSessions waits until there are no more than n connections.
func (e *Engine) AwaitSessions(t testing.TB, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); e.conns.Load() > n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections", e.conns.Load())
		}
	}
}

// Descriptor returns the number of the descriptor that a client's session has on the server; -1 if there is no such
// session.
func (e *Engine) Descriptor(account string, instance uint64) int {
	fd := -1
	for _, l := range e.loops {
		l.onLoop(func() {
			for _, s := range l.sessions {
				if s.account() == account && s.instance == instance {
					fd = int(s.fd)
				}
			}
		})
	}
	return fd
}

// Edges returns how many rooms this node knows of that another relays.
func (e *Engine) Edges() (n int) {
	if e.cluster != nil {
		e.cluster.on(func() { n = e.cluster.node.Edges() })
	}
	return n
}

// RelayOf reports whether this node is the first in a room's chain.
func (e *Engine) RelayOf(id codec.RoomID) (is bool) {
	e.cluster.on(func() { is = e.cluster.node.Core().Chain(id)[0] == e.cluster.self })
	return is
}

// Relays reports whether this node relays a room.
func (e *Engine) Relays(id codec.RoomID) (is bool) {
	e.cluster.on(func() { is = e.cluster.node.Core().Relays(id) })
	return is
}

// Members returns how many nodes there are, as far as this one knows.
func (e *Engine) Members() (n int) {
	e.cluster.on(func() { n = len(e.cluster.node.Core().View().Members) })
	return n
}

// ForgetPollers has the loops read sessions whose turn is over, as they do where the kernel does not tell who watches them.
func (e *Engine) ForgetPollers() {
	for _, l := range e.loops {
		l.onLoop(func() { l.poller = noPoller })
	}
}

// Pollers reports whether all loops know by which epoll instance they are watched.
func (e *Engine) Pollers() (known bool) {
	known = true
	for _, l := range e.loops {
		l.onLoop(func() { known = known && l.poller != noPoller })
	}
	return known
}

// Waiting returns how many bytes wait for their session's turn, and the most that do of one session.
func (e *Engine) Waiting() (n, most int) {
	for i := range e.loops {
		a, b := e.WaitingOf(i)
		n, most = n+a, max(most, b)
	}
	return n, most
}

// WaitingOf is Waiting of one loop.
func (e *Engine) WaitingOf(loop int) (n, most int) {
	l := e.loops[loop]
	l.onLoop(func() {
		for _, s := range l.sessions {
			if s.paused {
				n, most = n+len(s.partial()), max(most, len(s.partial()))
			}
		}
	})
	return n, most
}

// LoopOf returns the number of the loop that has a session of the account, -1 if none has.
func (e *Engine) LoopOf(account string) int {
	for i, l := range e.loops {
		has := false
		l.onLoop(func() { has = slices.ContainsFunc(l.sessions, func(s *session) bool { return s.account() == account }) })
		if has {
			return i
		}
	}
	return -1
}

// LoopsOf returns the numbers of the loops that have sessions of the account. Of a link it is the other node's name.
func (e *Engine) LoopsOf(account string) (loops []int) {
	for i, l := range e.loops {
		l.onLoop(func() {
			if slices.ContainsFunc(l.sessions, func(s *session) bool { return s.account() == account }) {
				loops = append(loops, i)
			}
		})
	}
	return loops
}

// SilenceWaitingLinks has a loop look at its links as if nothing had been heard for far too long of those that wait for a
// turn. It returns how many these are, and how many of them are closed for it.
func (e *Engine) SilenceWaitingLinks(loop int) (waiting, closed int) {
	l := e.loops[loop]
	l.onLoop(func() {
		var all []*link
		for _, k := range l.links {
			if k.paused && !k.gone() {
				k.heard = false
				k.heardAt = l.now - 10*int64(linkSilence)
				k.wokenAt.Store(k.heardAt)
				all = append(all, k)
			}
		}
		l.linksAt = l.now
		l.tickLinks()
		for _, k := range all {
			if waiting++; k.doomed {
				closed++
			}
		}
	})
	return waiting, closed
}

// HeldSessions returns how many sessions are held until the next tick.
func (e *Engine) HeldSessions() (n int) {
	for _, l := range e.loops {
		l.onLoop(func() {
			for _, s := range l.sessions {
				if s.held {
					n++
				}
			}
		})
	}
	return n
}

// RefusedPerTick is how many requests over its rate a session is refused between two ticks.
const RefusedPerTick = refusedPerTick

// Stop stops a loop until the function that it returns is called.
func (e *Engine) Stop(loop int) (goOn func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	e.loops[loop].post(item{kind: itemDo, do: func() { close(stopped); <-done }})
	<-stopped
	return sync.OnceFunc(func() { close(done) })
}

// LookForSilence has a loop look so many times who has been silent, as it does a few times in a ping time.
func (e *Engine) LookForSilence(loop, times int) {
	for range times {
		e.loops[loop].onLoop(e.loops[loop].pings)
	}
}

// Behind returns how many items wait for a loop, and whether it counts as behind.
func (e *Engine) Behind(loop int) (items int, is bool) {
	return e.loops[loop].box.len(), e.behind.Load() > 0
}

// MostBehind bounds what clients make wait for a loop that does not come to it, with so many of them pushing.
func MostBehind(clients int) int { return behindAt + turnSteps + clients*leastSteps }

// Leaving reports whether Shutdown was called.
func (e *Engine) Leaving() bool { return e.leaving.Load() }

// Sealed returns the bytes that carriers keep for sockets that have not taken them.
func (e *Engine) Sealed() int64 { return e.sealed() }

// MaxPageConns is how many connections browsers have at once.
const MaxPageConns = maxPageConns

// Panics returns how many faults the server has met.
func (e *Engine) Panics() (n uint64) {
	for i := range e.faults.counts {
		n += e.faults.counts[i].Load()
	}
	return n
}
