package load

import (
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/tools/loadgen/over"
	"github.com/timedge/timedge/tools/loadgen/target"
)

// start begins the run proper: everybody is connected, publishers are about to begin.
func (l *subLoop) start(now int64) {
	l.started = true
	for _, s := range l.sinks {
		s.From, s.To = l.run.from.Load(), l.run.to.Load()
	}
	span := float64(l.run.to.Load() - now)
	if w := float64(l.cfg.LateWithin); w > 0 {
		span = min(span, w)
	}
	for _, s := range l.joins {
		s.joinAt = now + int64(l.rng.Float64()*span)
	}
	slices.SortFunc(l.joins, func(a, b *subscriber) int { return int(min(max(b.joinAt-a.joinAt, -1), 1)) })
	if len(l.churn) > 0 {
		l.due = now + int64(float64(time.Second)/l.churnRate)
	}
	for _, s := range l.conns {
		if s == nil {
			continue
		}
		switch s.class {
		case stalled:
			l.poll.remove(s.fd)
		case half:
			l.poll.remove(s.fd)
			s.budgetAt = now
			l.slow = append(l.slow, s)
		}
	}
}

// replace closes the changing subscriber that has been there longest and connects another.
func (l *subLoop) replace() {
	old := l.churn[0]
	l.churn = append(l.churn[:0], l.churn[1:]...)
	if old.lostAt > 0 && old.state != gone {
		l.away--
	}
	l.close(old)
	s := l.newSubscriber(old.room, changing, newRoute(old.addrs, old.at))
	l.churn = append(l.churn, s)
	l.begin = append(l.begin, s)
}

// connectMore begins connections, so many at once as the run allows.
func (l *subLoop) connectMore(now int64) {
	most := l.cfg.Connecting
	if l.started {
		most = l.cfg.Returning
	}
	for len(l.begin) > 0 && l.dials < most {
		if l.cfg.ConnRate > 0 {
			if l.nextUp > now {
				return
			}
			l.nextUp = max(l.nextUp, now-int64(time.Second)) + int64(float64(time.Second)*float64(l.cfg.Loops)/l.cfg.ConnRate)
		}
		s := l.begin[len(l.begin)-1]
		l.begin = l.begin[:len(l.begin)-1]
		if s.state == gone {
			continue // it has left while it waited
		}
		receive := l.cfg.Receive
		if s.class == stalled || s.class == half {
			receive = slowReceive
		}
		s.begun = Now()
		if l.cfg.Over != over.Plain {
			l.shake(s, receive)
			continue
		}
		fd, err := dial(s.addr(), receive)
		if err != nil {
			l.fail(s, err)
			continue
		}
		s.heard, s.pinged = s.begun, true // a frozen server's system still takes connections
		s.fd, s.state = fd, connecting
		l.place(s)
		l.dials++
		if err := l.poll.add(fd, s.slot, s.generation, unix.EPOLLIN|unix.EPOLLOUT); err != nil {
			l.fail(s, err)
		}
	}
}

// place gives a connection a slot.
func (l *subLoop) place(s *subscriber) {
	if n := len(l.free); n > 0 {
		s.slot = l.free[n-1]
		l.free = l.free[:n-1]
		l.conns[s.slot] = s
	} else {
		s.slot = int32(len(l.conns))
		l.conns = append(l.conns, s)
	}
	l.joined++
	s.generation = int32(l.joined)
}

// shaken is a connection whose carrier's handshakes are over, or have failed.
type shaken struct {
	s    *subscriber
	fd   int
	over *over.Conn
	rest []byte // of its first words, sealed
	err  error
}

// shake connects on a goroutine of its own, as handshakes block. The first words follow at once: a loop that has
// thousands of connections to make would keep the server waiting for them.
func (l *subLoop) shake(s *subscriber, receive int) {
	s.heard, s.pinged, s.state, s.sealed = s.begun, true, connecting, s.sealed[:0]
	l.dials++
	to, words := s.addr(), slices.Clone(s.wire.Open(s.out[:0]))
	go func() {
		fd, c, err := over.Dial(to, l.cfg.Over, receive, l.cfg.Target == "nats" && l.cfg.Over == over.TLS)
		var rest []byte
		if err == nil {
			if rest, err = c.Seal(nil, words); err == nil {
				rest, err = send(fd, rest)
			}
			if err != nil {
				_ = unix.Close(fd)
			}
		}
		l.shaken <- shaken{s, fd, c, rest, err}
		l.poll.wake()
	}()
}

// adoptShaken takes up the connections that have shaken hands.
func (l *subLoop) adoptShaken() {
	for {
		select {
		case c := <-l.shaken:
			s := c.s
			if c.err != nil {
				l.dials--
				l.fail(s, c.err)
				continue
			}
			if s.state == gone {
				l.dials--
				_ = unix.Close(c.fd)
				continue
			}
			s.fd, s.over, s.state = c.fd, c.over, greeting
			l.place(s)
			if s.sealed = append(s.sealed, c.rest...); !l.flush(s) {
				continue
			}
			if err := l.poll.add(s.fd, s.slot, s.generation, unix.EPOLLIN); err != nil {
				l.fail(s, err)
			}
		default:
			return
		}
	}
}

// fail closes a connection that broke, and has it made again where that is of use.
func (l *subLoop) fail(s *subscriber, err error) {
	l.close(s)
	wire, resumes := s.wire.(target.Resumer)
	if l.run.resumes && resumes && s.class.judged() && l.started && breaks(err) {
		now := Now()
		if s.lostAt == 0 {
			l.away++
		}
		if s.lost(now) {
			wire.Lost()
			s.state, s.out = waiting, s.out[:0]
			l.back = append(l.back, s)
			return
		}
		l.away--
	}
	l.lost(s, err)
}

// comeBack has those connected again whose time has come.
func (l *subLoop) comeBack(now int64) {
	l.back = slices.DeleteFunc(l.back, func(s *subscriber) bool {
		due := s.next <= now
		if due {
			l.begin = append(l.begin, s)
		}
		return due
	})
}

// listen looks for connections over which nothing is heard. What this loop itself has slept through does not count.
func (l *subLoop) listen(now int64) {
	if !l.run.resumes || now-l.lookedAt < int64(l.cfg.Silence)/16 {
		return
	}
	slept := now-l.lookedAt > int64(l.cfg.Silence)/4
	l.lookedAt = now
	for _, s := range l.conns {
		if s == nil || !s.class.judged() {
			continue
		}
		wire, resumes := s.wire.(target.Resumer)
		if !resumes {
			continue
		}
		if slept {
			s.heard = now
		}
		ping, over := s.quiet(now, l.cfg.Silence)
		switch {
		case over:
			l.fail(s, errSilent)
		case ping && s.state == receiving:
			s.out = wire.Ping(s.out)
			l.flush(s)
		}
	}
}

func (l *subLoop) lost(s *subscriber, err error) {
	text := err.Error()
	if err == io.EOF {
		text = "connection closed by the server"
	}
	if !s.class.judged() {
		l.cut[text]++
		return
	}
	l.note(text)
}

// note keeps an error that fails the run, and tells whoever drives it.
func (l *subLoop) note(text string) {
	l.errs[text]++
	l.first.CompareAndSwap(nil, &text)
	l.failed.Add(1)
	l.run.notify()
}

func (l *subLoop) close(s *subscriber) {
	if s.fd < 0 {
		s.state = gone
		return
	}
	if s.state == connecting || s.state == greeting {
		l.dials--
	}
	_ = unix.Close(s.fd)
	s.fd, s.state, s.tail = -1, gone, nil
	l.conns[s.slot] = nil
	l.free = append(l.free, s.slot)
	l.slow = slices.DeleteFunc(l.slow, func(o *subscriber) bool { return o == s })
}

func (l *subLoop) closeAll() {
	l.unfinished()
	for _, s := range l.conns {
		if s != nil {
			if s.class == healthy && l.started && l.cfg.Mode == Open {
				s.track.Longest(func(ns int64) { _ = l.longest.RecordValue(ns) })
			}
			l.close(s)
		}
	}
	for range l.away {
		l.note("away from a broken connection to the end of the run")
	}
}
