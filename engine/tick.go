package engine

import (
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/codec"
)

const (
	// tickEvery is how long acknowledgements and refusals are collected.
	tickEvery = 25 * time.Millisecond
	// warmTicks is how many ticks lie between two looks at what cares less: the rooms, links to other nodes. While no loop
	// has anything pending the clock itself ticks so slowly.
	warmTicks = 4
	// idleTicks is how many ticks at most a loop without anything pending is left alone.
	idleTicks = 40
)

// tick is what makes time pass for the engine: it sweeps the rooms, and posts a tick to the loops that have something
// pending at every tick (hot), to those that have links in use at every fourth (warm), to the others once a second. An
// idle process costs what wakes it: while no loop is hot the clock ticks at every fourth only, until one rouses it.
func (e *Engine) tick() {
	defer e.ticker.Done()
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	idle := max(1, min(idleTicks, uint64(e.cfg.Ping/pingLooks/tickEvery)))
	step := uint64(1)
	for n := uint64(0); ; {
		select {
		case <-e.stop:
			return
		case <-e.rouse:
			if step != 1 {
				step = 1
				e.slow.Store(false)
				t.Reset(tickEvery)
			}
			continue
		case <-t.C:
		}
		n += step
		due := func(every uint64) bool { return n/every != (n-step)/every }
		hot := false
		for _, l := range e.loops {
			is := l.stats.hot.Swap(false)
			hot = hot || is
			if is || due(warmTicks) && l.stats.warm.Swap(false) || due(idle) {
				l.post(item{kind: itemTick})
			}
		}
		e.try(inSweep, e.watchMemory)
		e.try(inSweep, e.balance)
		if due(idleTicks) {
			e.try(inSweep, e.pool.Sweep)
			e.try(inSweep, func() { e.limits.sweep(e.now()) })
		}
		if due(warmTicks) {
			e.try(inSweep, func() { e.rooms.Sweep(e.now()) })
			e.mend()
		}
		if step == 1 && !hot && !e.balancing && due(warmTicks) {
			step = warmTicks
			e.slow.Store(true) // from here on who becomes hot rouses the clock ...
			t.Reset(warmTicks * tickEvery)
			for _, l := range e.loops {
				if l.stats.hot.Load() { // ... and who was before is seen here
					e.wakeClock()
				}
			}
		}
	}
}

// hot asks for the next tick. Loop only.
func (e *Engine) hot(l *loop) {
	if !l.stats.hot.Load() {
		l.stats.hot.Store(true)
		if e.slow.Load() {
			e.wakeClock()
		}
	}
}

// wakeClock ends the clock's slowness.
func (e *Engine) wakeClock() {
	select {
	case e.rouse <- struct{}{}:
	default:
	}
}

// warm asks for the tick at which links are looked at. Any goroutine.
func (l *loop) warm() {
	if !l.stats.warm.Load() {
		l.stats.warm.Store(true)
	}
}

// tick does what time brings to a loop's sessions. Loop only.
func (l *loop) tick() {
	l.acks()
	for _, s := range l.refusing {
		l.try(inTick, unit{s: s}, s.tellRefusals)
	}
	clear(l.refusing)
	l.refusing = l.refusing[:0]
	l.letGo()
	// After a panic these go on at their next look; who caused it is not there any more.
	l.try(inTick, unit{}, l.lag)
	if !l.expiring { // otherwise it goes on by itself
		l.try(inTick, unit{}, l.expire)
	}
	l.try(inTick, unit{}, l.identities)
	l.try(inTick, unit{}, l.tickLinks)
	if l.now-l.pingedAt >= int64(l.eng.cfg.Ping)/pingLooks {
		l.pingedAt = l.now
		l.try(inTick, unit{}, l.pings)
	}
}

// tellRefusals tells the session which of its frames were not taken.
func (s *session) tellRefusals() {
	if ps := s.pushing(); ps != nil { // otherwise it has left meanwhile
		for i := range ps.refusals {
			s.queueControl(&ps.refusals[i])
		}
		ps.refusals = ps.refusals[:0]
	}
}

// acks sends what the publishers wait for.
func (l *loop) acks() {
	kept := l.acking[:0]
	for _, a := range l.acking {
		if a.awaits() {
			kept = append(kept, a)
		}
	}
	clear(l.acking[len(kept):])
	l.acking = kept
	if len(kept) > 0 {
		l.eng.hot(l)
	}
}

// awaits sends what has arrived of a publication, and reports whether more is to come.
func (a acking) awaits() bool {
	a.s.loop.unit = unit{s: a.s}
	defer a.s.loop.rescue(inTick)
	a.s.ackDue(a.p)
	if a.p.Pending() {
		return true
	}
	a.p.Awaited = false
	return false
}

// lag applies the bounds on age, and tells what was missed, for all sessions that are behind.
func (l *loop) lag() {
	for _, s := range l.blocked {
		l.lagging[s] = struct{}{}
	}
	queued, behind := 0, 0
	for s := range l.lagging {
		l.unit.s = s
		slow := s.blocked
		if s.q != nil {
			slow = s.q.Look(l.now) || slow
			queued += s.q.Bytes()
			behind++
			if s.q.Bytes() > l.eng.live().QueueSession && s.role.client() && s.q.Overdue(l.now) > l.eng.live().QueueSession {
				// A link's is the sum of its rooms', each with a bound of its own.
				l.stats.cutOff.Add(1)
				s.doom()
			}
			s.mark()
		}
		if !slow {
			delete(l.lagging, s)
		}
	}
	l.stats.queued.Store(int64(queued))
	l.stats.behind.Store(int64(behind))
	if len(l.lagging) > 0 {
		l.eng.hot(l)
	}
}

// expiresAtOnce is how many connections are closed in a round of a drain because they have run out of time. After
// drainRounds the loop reads its sockets, so that some thousands that were opened together do not hold up the others.
const expiresAtOnce = 4

// expire closes connections that have had their time: those that say no hello, and those whose peers do not close.
func (l *loop) expire() {
	due := l.handshakes(expiresAtOnce)
	due = l.closings(expiresAtOnce) || due
	if l.expiring = due; due {
		l.post(item{kind: itemExpire})
	}
	if len(l.greeting)+len(l.closing) > 0 {
		l.eng.hot(l)
	}
}

// handshakes cuts off connections that do not say hello in time, n at most, and reports whether there are more. The
// list is in order of time.
func (l *loop) handshakes(n int) (more bool) {
	limit := l.now - int64(l.eng.live().HelloTimeout)
	for ; len(l.greeting) > 0 && l.greeting[0].openedAt <= limit; n-- {
		if n == 0 {
			return true
		}
		l.unit.s = l.greeting[0]
		l.greeting[0].fail(codec.CodeHelloTimeout, "no hello in time") // takes it off the list
	}
	return false
}

// closeWithin is how long a peer has to take the last words and to close its half of the connection.
const closeWithin = 2 * time.Second

// closings closes connections whose peers do not, n at most, and reports whether there are more. The list is in order
// of time.
func (l *loop) closings(n int) (more bool) {
	limit := l.now - int64(closeWithin)
	for ; len(l.closing) > 0 && (l.closing[0].closed || l.closing[0].openedAt <= limit); l.closing = l.closing[1:] {
		if !l.closing[0].closed {
			if n == 0 {
				return true
			}
			n--
			l.closing[0].doom()
		}
		l.closing[0] = nil
	}
	return false
}

// pingLooks is how often in a ping time a loop looks who has been silent.
const pingLooks = 4

// pings asks silent clients whether they are there, and closes those that do not answer.
func (l *loop) pings() {
	for _, s := range l.sessions {
		l.unit.s = s
		switch {
		case s.phase != phaseOpen || s.closing || !s.role.client():
		case s.heard, s.paused && !s.deaf(): // who waits for a turn is not read: what it says waits, too
			s.heard, s.silent = false, 0
		default:
			switch s.silent++; {
			case s.silent == pingLooks:
				s.queueControl(&codec.Ping{Echo: uint64(l.now)})
			case s.silent >= 2*pingLooks:
				l.stats.silent.Add(1)
				s.fail(codec.CodeSilent, "nothing heard for too long")
			}
		}
	}
}

// loopStats are read by the metrics while the loop runs.
type loopStats struct {
	hot        atomic.Bool // wants the next tick
	warm       atomic.Bool // wants one of the next warmTicks
	sessions   atomic.Int64
	clients    atomic.Int64 // sessions that are no links
	queued     atomic.Int64
	sealed     atomic.Int64 // bytes that carriers keep for sockets that have not taken them
	reads      atomic.Uint64
	framesIn   atomic.Uint64
	bytesIn    atomic.Uint64
	deliveries atomic.Uint64
	writes     atomic.Uint64
	bytesOut   atomic.Uint64
	copied     atomic.Uint64
	wakes      atomic.Uint64
	blocks     atomic.Uint64
	dropped    [8]atomic.Uint64 // by policy
	cutOff     atomic.Uint64
	shed       atomic.Uint64
	refused    atomic.Uint64
	failed     atomic.Uint64
	denied     atomic.Uint64
	silent     atomic.Uint64
	behind     atomic.Int64 // sessions that something is queued for, at the last look
	fanOut     histogram    // from a frame's arrival to the sockets or queues of the loop's subscribers
	queueing   histogram    // in a subscriber's queue
	turns      histogram    // how long each callback of the reactor took

	// Stream frames between nodes.
	linkFramesIn, linkBytesIn, linkFramesOut, linkBytesOut atomic.Uint64
}
