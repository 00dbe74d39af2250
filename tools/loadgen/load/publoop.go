package load

import (
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/tools/loadgen/target"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// source is one stream and its schedule. It belongs to the publishing loop.
type source struct {
	target.Stream
	spec   *Stream
	conn   *publisher
	window *verify.Window // closed loop
	frames int            // of one message

	n       uint64 // messages begun
	due     int64  // open loop: when message n is due
	phase   int64  // when message 0 was
	held    int64  // until when the server or the socket did not take more
	msg     target.Message
	partial bool // msg is not all sent
	parked  bool // waits for the connection
}

// publisher is one publishing connection.
type publisher struct {
	route
	slot    int32
	life    int32 // counts its connections, to tell their events apart
	fd      int
	wire    target.Publisher
	sources []*source
	out     []byte // to be sent, from sent on
	sent    int
	tail    []byte
	blocked bool // waits until the socket takes more
	dirty   bool // stands in pubLoop.dirty
	parked  []*source
	state   state
}

// The publishing loop hands a socket large pieces, but never holds much more than one: what waits here is late.
const (
	chunk      = 256 << 10
	maxBacklog = 2 * chunk
)

// pubLoop publishes all streams from one thread.
type pubLoop struct {
	run    *run
	cfg    *Config
	poll   *poller
	timer  int
	conns  []*publisher
	dirty  []*publisher // with something to send since the last flush
	due    dueHeap      // open loop
	all    []*source
	buf    []byte
	ready  int
	begin  int64
	end    int64
	lag    *hdrhistogram.Histogram // ns that the generator itself was late, in the measured time
	niced  bool
	cpu    [2]time.Duration
	marked [2]bool
	err    error

	sleeping atomic.Bool             // waits, and wants to be woken when a window opens
	messages atomic.Uint64           // published
	measured uint64                  // due (open) or sent (closed) in the measured time
	behind   uint64                  // messages due in the run and never sent, since the server did not take them
	back     []*publisher            // to connect again, when their time comes
	outage   *hdrhistogram.Histogram // ns from a broken connection to the last answer over another
	lookedAt int64                   // when silence was last looked for
	held     uint64                  // messages that were late because the server or its socket did not take more
	up       chan struct{}           // closed when all publishers are ready
	done     chan struct{}           // closed when everything has been published
	failed   atomic.Bool
	exited   chan struct{}
}

func newPubLoop(r *run) (*pubLoop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	l := &pubLoop{run: r, cfg: r.cfg, poll: p, timer: timer, buf: make([]byte, defaultReadSize), lag: verify.NewHistogram(), outage: verify.NewHistogram(),
		up: make(chan struct{}), done: make(chan struct{}), exited: make(chan struct{})}
	return l, p.add(timer, timerSlot, 0, unix.EPOLLIN)
}

// wakeUp is called by receiving loops when a window opens.
func (l *pubLoop) wakeUp() {
	if l.sleeping.CompareAndSwap(true, false) {
		l.poll.wake()
	}
}

// prioritise gives the calling thread real-time priority, or, where the system does not allow that, a better nice
// value. In an open loop the publishing thread does little, but must do it on time beside a busy server. It reports
// success.
func prioritise() bool {
	fifo := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	return unix.SchedSetAttr(0, &fifo, 0) == nil || unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10) == nil
}

// serve connects, publishes from run.begin to run.to, and keeps its connections until the run stops.
func (l *pubLoop) serve() {
	runtime.LockOSThread() // and never unlocked: the thread's priority ends with it
	l.niced = l.cfg.Mode == Open && prioritise()
	defer close(l.exited)
	defer l.closeAll()
	if err := l.connect(); err != nil {
		l.fail(err)
		return
	}
	running, finished := false, false
	for {
		p := phase(l.run.phase.Load())
		if p == phaseStop {
			return
		}
		now := Now()
		if !running && p == phaseRun {
			running = true
			l.start()
		}
		if running && !finished {
			l.publish(now)
			finished = l.finished(now)
			if finished {
				close(l.done)
			}
		}
		events, err := l.wait(running && !finished)
		if err != nil {
			l.fail(err)
			return
		}
		for i := range events {
			switch ev := &events[i]; ev.Fd {
			case wakeSlot:
				l.poll.woken()
			case timerSlot:
				var b [8]byte
				_, _ = unix.Read(l.timer, b[:])
			default:
				c := l.conns[ev.Fd]
				if ev.Pad != c.life || c.fd < 0 {
					continue // of a connection that is closed
				}
				if err := l.event(c, ev.Events); err != nil {
					l.broke(c, err)
				}
			}
		}
		l.comeBack(Now(), p)
		l.listen(Now(), p)
		if l.failed.Load() {
			return
		}
		l.account(Now())
	}
}

func (l *pubLoop) fail(err error) {
	l.err = err
	l.failed.Store(true)
	l.run.notify()
}

// wait sleeps until the next message is due, a window opens or a socket has something.
func (l *pubLoop) wait(publishing bool) ([]unix.EpollEvent, error) {
	if !publishing {
		return l.poll.wait(20)
	}
	if l.cfg.Mode == Closed {
		l.sleeping.Store(true)
		defer l.sleeping.Store(false)
		if l.mayPublish() {
			return l.poll.wait(0)
		}
		return l.poll.wait(int(tickEvery / time.Millisecond))
	}
	next := l.end
	if len(l.due) > 0 {
		next = min(next, l.due[0].due)
	}
	now := Now()
	if next <= now {
		return l.poll.wait(0)
	}
	ts := unix.ItimerSpec{Value: unix.NsecToTimespec(next)}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &ts, nil); err != nil {
		return nil, fmt.Errorf("timerfd_settime: %w", err)
	}
	return l.poll.wait(20)
}

func (l *pubLoop) connect() error {
	for i, c := range l.conns {
		c.slot, c.fd = int32(i), -1
		if err := l.dial(c); err != nil {
			return err
		}
	}
	if len(l.conns) == 0 {
		close(l.up)
	}
	return nil
}

func (l *pubLoop) dial(c *publisher) error {
	fd, err := dial(c.addr(), 0)
	if err != nil {
		return err
	}
	c.fd, c.state = fd, connecting
	c.life++
	c.heard, c.pinged = Now(), true // a frozen server's system still takes connections
	return l.poll.add(fd, c.slot, c.life, unix.EPOLLIN|unix.EPOLLOUT)
}

// broke closes a connection that broke, and has it made again where that is of use; otherwise the run ends.
func (l *pubLoop) broke(c *publisher, err error) {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
	c.fd, c.state = -1, gone
	wire, resumes := c.wire.(target.Resumer)
	if !l.run.resumes || !resumes || phase(l.run.phase.Load()) == phaseConnect || !breaks(err) || !c.lost(Now()) {
		l.fail(fmt.Errorf("publisher: %w", err))
		return
	}
	wire.Lost()
	c.state, c.blocked = waiting, false
	c.out, c.sent, c.tail = c.out[:0], 0, c.tail[:0]
	l.back = append(l.back, c)
}

// comeBack connects those again whose time has come.
func (l *pubLoop) comeBack(now int64, p phase) {
	if len(l.back) == 0 || p == phaseStop {
		return
	}
	waiting := l.back
	l.back = nil
	for _, c := range waiting {
		if c.next > now {
			l.back = append(l.back, c)
		} else if err := l.dial(c); err != nil {
			l.broke(c, err)
		}
	}
}

// listen looks for connections over which nothing is heard. What this loop itself has slept through does not count.
func (l *pubLoop) listen(now int64, p phase) {
	if !l.run.resumes || p == phaseConnect || now-l.lookedAt < int64(l.cfg.Silence)/16 {
		return
	}
	slept := now-l.lookedAt > int64(l.cfg.Silence)/4
	l.lookedAt = now
	for _, c := range l.conns {
		wire, resumes := c.wire.(target.Resumer)
		if !resumes || c.fd < 0 {
			continue
		}
		if slept {
			c.heard = now
		}
		ping, over := c.quiet(now, l.cfg.Silence)
		switch {
		case over:
			l.broke(c, errSilent)
		case ping && c.state == receiving:
			c.out = wire.Ping(c.out)
			if !c.blocked {
				if err := l.flush(c); err != nil {
					l.broke(c, err)
				}
			}
		}
	}
}

func (l *pubLoop) flush(c *publisher) error {
	rest, err := send(c.fd, c.out[c.sent:])
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		c.out, c.sent = c.out[:0], 0
		if c.blocked {
			c.blocked = false
			return l.poll.modify(c.fd, c.slot, c.life, unix.EPOLLIN)
		}
		return nil
	}
	c.sent = len(c.out) - len(rest)
	if c.sent >= maxBacklog {
		c.out, c.sent = c.out[:copy(c.out, rest)], 0
	}
	if !c.blocked {
		c.blocked = true
		return l.poll.modify(c.fd, c.slot, c.life, unix.EPOLLIN|unix.EPOLLOUT)
	}
	return nil
}

func (l *pubLoop) event(c *publisher, events uint32) error {
	if c.state == connecting {
		if err := connected(c.fd); err != nil {
			return err
		}
		c.state, c.blocked = greeting, true
		c.out = c.wire.Open(c.out)
	}
	if events&unix.EPOLLIN != 0 {
		if err := l.read(c); err != nil {
			return err
		}
	} else if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		return io.EOF
	}
	if events&unix.EPOLLOUT != 0 {
		if err := l.flush(c); err != nil {
			return err
		}
	}
	if len(c.out)-c.sent < chunk && c.state == receiving {
		l.unpark(c)
	}
	return nil
}

func (l *pubLoop) read(c *publisher) error {
	had := copy(l.buf, c.tail)
	n, err := read(c.fd, l.buf[had:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return io.EOF
	}
	b := l.buf[:had+n]
	c.heard, c.pinged = Now(), false
	pending := len(c.out) - c.sent
	used, out, err := c.wire.Scan(b, c.out)
	c.out = out
	if err != nil {
		return err
	}
	c.tail = append(c.tail[:0], b[used:]...)
	if c.state == greeting && c.wire.Ready() {
		c.state = receiving
		if c.lostAt > 0 {
			_ = l.outage.RecordValue(Now() - c.lostAt)
		} else if l.ready++; l.ready == len(l.conns) {
			close(l.up)
		}
		c.stands(Now())
	}
	if len(c.out)-c.sent > pending && !c.blocked {
		return l.flush(c)
	}
	return nil
}

func (l *pubLoop) closeAll() {
	for _, c := range l.conns {
		if c.fd >= 0 {
			_ = unix.Close(c.fd)
		}
	}
	_ = unix.Close(l.timer)
}
