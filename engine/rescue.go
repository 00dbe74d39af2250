package engine

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// A panic is a fault of this server's. It costs the session and the room that were being handled; it is logged with its
// stack and counted, and everything else goes on. What runs on a loop notes in loop.unit whom it is for. A panic that
// passes a room's mutex makes the room suspect by itself (room/guard.go). Every goroutine that the engine starts, and
// every callback that others call, has a rescue at its entry.

// place says where a panic was met: the label of timedge_panics_total.
type place uint8

const (
	inOpen      place = iota // a connection that a loop has adopted
	inRead                   // what a session sent
	inClose                  // a session's end
	inMailbox                // an item of a loop's mailbox
	inFanOut                 // frames to a room's members
	inWrite                  // what waits for a session
	inTick                   // what time brings to a loop
	inSweep                  // what time brings to rooms and limits
	inCluster                // what the cluster decides
	inHandshake              // connections before they are adopted, of clients and of nodes
	inAccept                 // accepting
	inAdmin                  // a page of the admin address
	inPages                  // a page for browsers
	inGossip                 // what the membership tells
	inWatch                  // waiting for sockets that were full
	places
)

var placeNames = [places]string{
	"open", "read", "close", "mailbox", "fan_out", "write", "tick", "sweep", "cluster", "handshake", "accept", "admin",
	"pages", "gossip", "watch",
}

func (p place) String() string { return placeNames[p] }

// faultEvery is how often a place's panics are logged at most; all are counted.
const faultEvery = 10 * time.Second

// faults counts panics.
type faults struct {
	counts [places]atomic.Uint64

	mu     sync.Mutex
	logged [places]int64 // when one was the last time; 0: never
}

// unit is whom the loop is at work for: who pays for a panic.
type unit struct {
	s *session
	r *room.Room
}

// fault counts and logs a panic. Any goroutine, in the deferred call that has recovered it.
func (e *Engine) fault(where place, what any, u unit) {
	e.faults.counts[where].Add(1)
	if now := e.now(); !e.faults.due(where, now) {
		return
	}
	ev := e.log.Error().Stringer("where", where).Interface("panic", what).Bytes("stack", debug.Stack())
	if u.s != nil {
		ev = ev.Uint64("conn_id", u.s.id).Str("account", u.s.account())
	}
	if u.r != nil {
		ev = ev.Stringer("room", u.r.ID)
	}
	ev.Msg("a fault of this server; who was being served is cut off, everything else goes on")
}

func (f *faults) due(where place, now int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.logged[where]; last != 0 && now-last < int64(faultEvery) {
		return false
	}
	f.logged[where] = now
	return true
}

// mend ends the rooms that a panic has left half done.
func (e *Engine) mend() {
	if n := e.rooms.Mend(); n > 0 {
		e.log.Error().Int("rooms", n).Msg("rooms ended after a fault of this server")
	}
}

// rescue ends a panic outside of loops. Defer it itself.
func (e *Engine) rescue(where place) {
	if what := recover(); what != nil {
		e.fault(where, what, unit{})
		e.mend()
	}
}

// try calls f, and reports whether it came back without a panic. Any goroutine but a loop's.
func (e *Engine) try(where place, f func()) (ok bool) {
	defer e.rescue(where)
	f()
	return true
}

// rescue ends a panic on a loop, at the cost of l.unit. Defer it itself. Loop only.
func (l *loop) rescue(where place) {
	what := recover()
	if what == nil {
		return
	}
	u := l.unit
	l.unit = unit{}
	l.eng.fault(where, what, u)
	l.reading, l.out = nil, l.out[:0]
	for i := range l.gathers {
		l.gathers[i].end()
	}
	if u.r != nil {
		l.eng.rooms.Suspect(u.r)
		if o := l.outlets[u.r]; o != nil {
			l.try(where, unit{}, o.drop)
		}
	}
	if u.s != nil && !u.s.closed {
		torn := where == inFanOut || where == inWrite // a frame may have gone out in half
		if torn || !l.try(where, unit{}, u.s.apologise) {
			u.s.doom()
		}
	}
	l.eng.mend()
}

// try calls f for u, and reports whether it came back without a panic. Loop only.
func (l *loop) try(where place, u unit, f func()) (ok bool) {
	l.unit = u
	defer l.rescue(where)
	f()
	return true
}

// apologise closes a session that this server has failed.
func (s *session) apologise() {
	if !s.closing && !s.doomed {
		s.fail(codec.CodeInternal, "the server has found a fault of its own")
	}
}

// drop lets go of what is pending, after a panic on the way to the members.
func (o *outlet) drop() {
	pending := o.pending
	o.pending, o.counts = nil, 0
	for _, b := range pending {
		if b != nil {
			b.Release()
		}
	}
}
