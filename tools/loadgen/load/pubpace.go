package load

import (
	"container/heap"
	"time"

	"github.com/timedge/timedge/tools/loadgen/target"
)

// grid is the step on which streams begin. With very many streams several then fall due at one moment and are sent by
// one turn of the loop, instead of each waking it.
const grid = 250 * time.Microsecond

// start lays out the schedule. The streams' first messages are spread over one period, so that streams of the same rate
// do not all fall due at once.
func (l *pubLoop) start() {
	l.begin, l.end = l.run.begin.Load(), l.run.to.Load()
	for i, s := range l.all {
		if l.cfg.Mode == Open {
			s.phase = l.begin + int64(time.Duration(float64(i)/float64(len(l.all))*float64(time.Second)/s.spec.Rate).Truncate(grid))
			s.due = s.phase
			l.due = append(l.due, s)
		}
	}
	heap.Init(&l.due)
}

func (l *pubLoop) finished(now int64) bool {
	if now < l.end {
		return false
	}
	// A message begun is finished: half of one would be a violation of the generator's own.
	for _, c := range l.conns {
		if (c.sent < len(c.out) || c.state != receiving) && now < l.end+int64(l.cfg.Drain) {
			return false
		}
	}
	for _, s := range l.all {
		if s.partial && now < l.end+int64(l.cfg.Drain) {
			return false
		}
	}
	for _, s := range l.all {
		if l.cfg.Mode == Open && s.due < l.end {
			l.behind += uint64(float64(l.end-s.due) * s.spec.Rate / float64(time.Second))
		}
	}
	return true
}

func (l *pubLoop) account(now int64) {
	for i, at := range [2]int64{l.run.from.Load(), l.run.to.Load()} {
		if !l.marked[i] && at > 0 && now >= at {
			l.marked[i], l.cpu[i] = true, threadCPU()
		}
	}
}

// publish sends all that is due, or all that the windows allow.
func (l *pubLoop) publish(now int64) {
	if l.cfg.Mode == Closed {
		for _, s := range l.all {
			for !s.parked && s.room() && (now < l.end || s.partial) && l.push(s, Now()) {
			}
		}
	} else {
		for len(l.due) > 0 && l.due[0].due <= now && l.due[0].due < l.end {
			s := l.due[0]
			if !l.push(s, now) {
				heap.Pop(&l.due) // it is parked, and comes back with its due time as it was
				continue
			}
			s.due = s.phase + int64(float64(s.n)*float64(time.Second)/s.spec.Rate)
			heap.Fix(&l.due, 0)
		}
	}
	for _, c := range l.dirty {
		c.dirty = false
		if c.sent < len(c.out) && !c.blocked && c.fd >= 0 {
			if err := l.flush(c); err != nil {
				l.broke(c, err)
			}
		}
	}
	l.dirty = l.dirty[:0]
}

func (s *source) room() bool {
	return s.window == nil || s.partial || s.window.Credit(s.Seq) >= s.frames
}

// mayPublish reports whether any stream of a closed loop could go on.
func (l *pubLoop) mayPublish() bool {
	for _, s := range l.all {
		if !s.parked && s.room() {
			return true
		}
	}
	return false
}

// push appends the source's next message to its connection. It returns false if the connection takes no more at
// present; the source is then parked until it does.
func (l *pubLoop) push(s *source, now int64) bool {
	c := s.conn
	if c.state != receiving {
		l.park(s)
		return false
	}
	if len(c.out)-c.sent >= maxBacklog {
		if err := l.flush(c); err != nil {
			l.broke(c, err)
			l.park(s)
			return false
		}
		if len(c.out)-c.sent >= maxBacklog {
			l.park(s)
			return false
		}
	}
	if !s.partial {
		due := s.due
		if l.cfg.Mode == Closed {
			due = now
		}
		size, flags := s.spec.size(s.n)
		s.msg = target.Message{Stream: &s.Stream, Due: due, Flags: flags, Size: size}
		s.partial = true
	}
	if !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
	var done bool
	c.out, done = c.wire.Append(c.out, &s.msg)
	if !done {
		l.park(s)
		return false
	}
	s.partial = false
	s.n++
	l.messages.Add(1)
	if due := s.msg.Due; due >= l.run.from.Load() && due < l.end {
		l.measured++
		if l.cfg.Mode == Open {
			_ = l.lag.RecordValue(max(now-max(due, s.held), 0))
			if s.held > due {
				l.held++
			}
		}
	}
	return true
}

func (l *pubLoop) park(s *source) {
	s.parked = true
	s.conn.parked = append(s.conn.parked, s)
}

// unpark lets a connection's waiting sources go on.
func (l *pubLoop) unpark(c *publisher) {
	now := Now()
	for _, s := range c.parked {
		s.parked, s.held = false, now
		if l.cfg.Mode == Open {
			heap.Push(&l.due, s)
		}
	}
	c.parked = c.parked[:0]
}

// dueHeap orders sources by when their next message is due.
type dueHeap []*source

func (h dueHeap) Len() int { return len(h) }

func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }

func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *dueHeap) Push(x any) { *h = append(*h, x.(*source)) }

func (h *dueHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	*h = old[:len(old)-1]
	return s
}
