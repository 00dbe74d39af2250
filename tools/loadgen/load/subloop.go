package load

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/tools/loadgen/over"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// The rhythms of a receiving loop.
const (
	tickEvery = 25 * time.Millisecond // of what wires want said from time to time
	slowEvery = 5 * time.Millisecond  // of those that read at half speed
)

// subLoop receives for many subscribers on one thread. Its fields belong to that thread, but for those said to be
// shared.
type subLoop struct {
	run       *run
	cfg       *Config
	poll      *poller
	rng       *rand.Rand
	buf       []byte // what one read gives, behind the tail of the read before
	raw       []byte // what one read gives that a carrier opens
	shaken    chan shaken
	conns     []*subscriber
	free      []int32
	begin     []*subscriber // to connect, next last
	joins     []*subscriber // late joiners, soonest last
	churn     []*subscriber // in the order in which they will leave
	churnRate float64       // of them, how many leave per second
	slow      []*subscriber // half
	due       int64         // when the next of churn leaves
	nextUp    int64         // when the next connection may begin, if their rate is limited
	dials     int           // being connected
	back      []*subscriber // to connect again, when their time comes
	away      int           // broke and are not back
	lookedAt  int64         // when silence was last looked for
	tickAt    int64
	slowAt    int64
	sinks     [classes]*verify.Sink

	connect  *hdrhistogram.Histogram // ns from connect to subscribed
	served   *hdrhistogram.Histogram // ns from connect to the first message, of those who join during the run
	longest  *hdrhistogram.Histogram // ns between two messages, of each stream of each healthy subscriber
	outage   *hdrhistogram.Histogram // ns from a broken connection to the subscription over another
	turns    *hdrhistogram.Histogram // ns of one turn of the loop, in the measured time
	errs     map[string]int          // of judged subscribers
	cut      map[string]int          // of the others
	joined   int                     // connections begun in all
	made     [classes]int            // subscribers, by class
	started  bool
	draining bool
	from, to mark // counts and thread time when the measured time began and ended

	// Shared with whoever drives the run.
	ready     atomic.Int64 // subscriptions made
	failed    atomic.Int64 // judged subscribers lost
	delivered atomic.Uint64
	drained   atomic.Bool
	first     atomic.Pointer[string] // the first judged subscriber's error
}

// firstError is why the first judged subscriber was lost. Any goroutine may ask.
func (l *subLoop) firstError() error {
	if text := l.first.Load(); text != nil {
		return errors.New(*text)
	}
	return nil
}

// mark is a reading of a loop's totals at a moment.
type mark struct {
	at       int64
	messages uint64
	bytes    uint64
	cpu      time.Duration
}

func newSubLoop(r *run, index int) (*subLoop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &subLoop{run: r, cfg: r.cfg, poll: p, rng: rand.New(rand.NewPCG(r.cfg.Seed, uint64(index))),
		buf: make([]byte, r.cfg.ReadSize+tailMax+over.Slack), raw: make([]byte, r.cfg.ReadSize), shaken: make(chan shaken, max(r.cfg.Connecting, r.cfg.Returning)), connect: verify.NewHistogram(),
		served: verify.NewHistogram(), longest: verify.NewHistogram(), outage: verify.NewHistogram(), turns: verify.NewHistogram(), errs: make(map[string]int), cut: make(map[string]int)}
	for c := range l.sinks {
		s := verify.NewSink()
		s.Every, s.Check = r.cfg.Mode == Open, r.cfg.Check
		l.sinks[c] = s
	}
	return l, nil
}

// tailMax bounds what a wire may leave untaken: a whole control frame.
const tailMax = 64 << 10

func (l *subLoop) newSubscriber(room int, c class, to route) *subscriber {
	t := verify.NewTracker(l.sinks[c])
	t.Strict = l.cfg.Strict || c != late && c != changing
	t.Window = l.run.window
	if c == late || c == changing {
		t.Since = math.MaxInt64 // until it has subscribed
	}
	l.made[c]++
	return &subscriber{route: to, room: room, class: c, track: t, wire: l.run.target.Subscriber(room, t), fd: -1}
}

// serve runs the loop until the run stops it. It keeps its thread, so that thread times are its own.
func (l *subLoop) serve() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.closeAll()
	for {
		now := Now()
		phase := phase(l.run.phase.Load())
		if phase == phaseStop {
			return
		}
		l.timers(now, phase)
		events, err := l.poll.wait(l.pause())
		if err != nil {
			l.note(err.Error())
			return
		}
		begun := Now()
		for i := range events {
			ev := &events[i]
			if ev.Fd == wakeSlot {
				l.poll.woken()
				l.adoptShaken()
				continue
			}
			// A connection that was closed in this turn may still have an event waiting, its slot another owner.
			if s := l.conns[ev.Fd]; s != nil && s.generation == ev.Pad {
				l.event(s, ev.Events)
			}
		}
		l.account(begun, Now(), len(events) > 0)
	}
}

// pause is how long, in ms, the loop may wait for events.
func (l *subLoop) pause() int {
	switch {
	case len(l.begin) > 0 && l.cfg.ConnRate > 0, len(l.back) > 0:
		return 1
	case len(l.slow) > 0:
		return int(slowEvery / time.Millisecond)
	case len(l.joins) > 0 || len(l.churn) > 0:
		return 2
	}
	return int(tickEvery / time.Millisecond)
}

// account keeps the totals that a run is measured by.
func (l *subLoop) account(begun, now int64, worked bool) {
	var m mark
	for _, s := range l.sinks {
		m.messages += s.Messages
		m.bytes += s.Bytes
	}
	l.delivered.Store(m.messages)
	if !l.started {
		return
	}
	if l.sinks[healthy].After == 0 && l.cfg.Mode == Open {
		after := l.run.killed.Load()
		if l.cfg.KillPID == 0 {
			after = l.run.from.Load()
		}
		l.sinks[healthy].After = after
	}
	from, to := l.run.from.Load(), l.run.to.Load()
	if now >= from && l.from.at == 0 {
		m.at, m.cpu = now, threadCPU()
		l.from = m
	}
	if now >= to && l.to.at == 0 {
		m.at, m.cpu = now, threadCPU()
		l.to = m
	}
	if worked && begun >= from && begun < to {
		_ = l.turns.RecordValue(now - begun)
	}
}

// timers does what is due at a time rather than at an event.
func (l *subLoop) timers(now int64, p phase) {
	l.comeBack(now)
	l.connectMore(now)
	if p == phaseConnect {
		return
	}
	if !l.started {
		l.start(now)
	}
	for len(l.joins) > 0 && l.joins[len(l.joins)-1].joinAt <= now {
		s := l.joins[len(l.joins)-1]
		l.joins = l.joins[:len(l.joins)-1]
		l.begin = append(l.begin, s)
	}
	for p == phaseRun && len(l.churn) > 0 && l.due <= now {
		l.due += int64(float64(time.Second) / l.churnRate)
		l.replace()
	}
	if len(l.slow) > 0 && now >= l.slowAt {
		l.slowAt = now + int64(slowEvery)
		for _, s := range slices.Clone(l.slow) {
			l.readHalf(s, now)
		}
	}
	if now >= l.tickAt {
		l.tickAt = now + int64(tickEvery)
		l.tick()
		l.listen(now)
		if p == phaseDrain {
			l.draining = true
		}
	}
	if l.draining && !l.drained.Load() {
		l.drained.Store(l.complete())
	}
}

// tick lets wires speak. Only lossless rooms need it.
func (l *subLoop) tick() {
	if !l.run.ticks {
		return
	}
	for _, s := range l.conns {
		if s != nil && s.state == receiving && s.class != stalled {
			s.out = s.wire.Tick(s.out)
			l.flush(s)
		}
	}
}

func (l *subLoop) event(s *subscriber, events uint32) {
	if s.state == connecting {
		if err := connected(s.fd); err != nil {
			l.fail(s, err)
			return
		}
		s.state = greeting
		s.out = s.wire.Open(s.out)
		if !l.flush(s) {
			return
		}
		if err := l.poll.modify(s.fd, s.slot, s.generation, unix.EPOLLIN); err != nil {
			l.fail(s, err)
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		l.read(s, l.cfg.ReadSize)
	}
}

// read takes one read of at most limit bytes from the socket and hands it to the wire. It returns the bytes read.
func (l *subLoop) read(s *subscriber, limit int) int {
	had := copy(l.buf, s.tail)
	into := l.buf[had : had+limit]
	if s.over != nil {
		into = l.raw[:limit]
	}
	n, err := read(s.fd, into)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0
	case err != nil:
		l.fail(s, fmt.Errorf("read: %w", err))
		return 0
	case n == 0:
		l.fail(s, io.EOF)
		return 0
	}
	b := l.buf[:had+n]
	if s.over != nil {
		if b, err = s.over.Open(l.buf[:had], l.raw[:n]); err != nil {
			l.fail(s, err)
			return n
		}
	}
	s.track.Begin(Now())
	s.heard, s.pinged = s.track.Now, false
	used, out, err := s.wire.Scan(b, s.out)
	s.out = out
	if err != nil {
		l.fail(s, err)
		return n
	}
	if len(b)-used > tailMax {
		l.fail(s, errors.New("a unit of the protocol is larger than the generator's buffer"))
		return n
	}
	s.tail = append(s.tail[:0], b[used:]...)
	if !s.served && s.track.Received() {
		s.served = true
		if s.class == late || s.class == changing && l.started {
			_ = l.served.RecordValue(s.track.Now - s.begun)
		}
	}
	if s.state == greeting && s.wire.Ready() {
		s.state = receiving
		acknowledgeReads(s.fd)
		l.dials--
		now := Now()
		if s.lostAt > 0 {
			_ = l.outage.RecordValue(now - s.lostAt)
			l.away--
		}
		s.stands(now)
		if !s.ready {
			s.ready = true
			_ = l.connect.RecordValue(now - s.begun)
			if s.class == late || s.class == changing {
				s.track.Since = now
			}
			l.ready.Add(1)
		}
	}
	if len(s.out) > 0 {
		l.flush(s)
	}
	return n
}

// readHalf lets a slow reader read what its rate allows since the last time.
func (l *subLoop) readHalf(s *subscriber, now int64) {
	rate := l.run.roomBytes / 2
	if l.cfg.Link > 0 {
		rate = l.cfg.Link
	}
	s.budget += rate * float64(now-s.budgetAt) / float64(time.Second)
	s.budgetAt = now
	for s.budget >= 1 && s.state == receiving {
		n := l.read(s, min(int(s.budget), l.cfg.ReadSize))
		if n == 0 {
			return
		}
		s.budget -= float64(n)
	}
}

// flush sends what a connection has to say; it reports whether the connection still lives. These are few bytes,
// requests and acknowledgements: what the socket does not take waits for the next time.
func (l *subLoop) flush(s *subscriber) bool {
	if s.over != nil {
		return l.flushSealed(s)
	}
	rest, err := send(s.fd, s.out)
	if err != nil {
		l.fail(s, err)
		return false
	}
	s.out = append(s.out[:0], rest...)
	return true
}

// flushSealed is flush over a carrier.
func (l *subLoop) flushSealed(s *subscriber) bool {
	var err error
	if len(s.out) > 0 {
		s.sealed, err = s.over.Seal(s.sealed, s.out)
		s.out = s.out[:0]
	}
	var rest []byte
	if err == nil {
		rest, err = send(s.fd, s.sealed)
	}
	if err != nil {
		l.fail(s, err)
		return false
	}
	s.sealed = append(s.sealed[:0], rest...)
	return true
}

// complete reports whether every judged subscriber has all that was sent to its room.
func (l *subLoop) complete() bool {
	if l.away > 0 {
		return false
	}
	for _, s := range l.conns {
		if s != nil && s.class.judged() && l.missing(s) > 0 {
			return false
		}
	}
	return true
}

// missing is the number of frames that were sent to a subscriber's room and have neither come nor been announced as
// missing. Those who were not there from the beginning are asked only about streams they have seen.
func (l *subLoop) missing(s *subscriber) uint64 {
	var frames, seen uint64
	s.track.Streams(func(k verify.Key, number uint32, next uint64) {
		if st := l.run.stream(number); st != nil {
			seen++
			frames += st.Seq + 1 - min(next, st.Seq+1)
		}
	})
	if s.class == healthy && seen < uint64(len(l.run.rooms[s.room])) {
		frames = 0
		for _, st := range l.run.rooms[s.room] {
			frames += st.Seq
		}
		s.track.Streams(func(_ verify.Key, number uint32, next uint64) {
			if l.run.stream(number) != nil && next > 0 {
				frames -= min(next-1, frames)
			}
		})
	}
	return frames
}

func (l *subLoop) unfinished() {
	if !l.draining {
		return
	}
	for _, s := range l.conns {
		if s != nil && s.class.judged() && s.state == receiving {
			l.sinks[s.class].Unfinished += l.missing(s)
		}
	}
}
