package world

import (
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// loop is an event loop: the sessions that live on it, its outlets, and the mailbox by which everybody else reaches it.
type loop struct {
	p       *Process
	box     mailbox
	outlets map[*room.Room]*outlet

	touched []*outlet       // have something to fan out
	dirty   []*session      // have something to write
	cuts    []*subscription // their room's policy ends them
	acking  []awaited
	lagging []*session
	ticking bool
}

func newLoop(p *Process) *loop {
	l := &loop{p: p, outlets: make(map[*room.Room]*outlet)}
	l.box = mailbox{w: p.w, host: p, slow: 500 * time.Microsecond, done: l.settle}
	return l
}

// settle fans out, writes and cuts off, as at the end of a drain.
func (l *loop) settle() {
	for len(l.touched)+len(l.dirty)+len(l.cuts) > 0 {
		touched := l.touched
		l.touched = nil
		for _, o := range touched {
			o.flush()
		}
		cuts := l.cuts
		l.cuts = nil
		for _, m := range cuts {
			m.cut(codec.CodeTooSlow)
		}
		dirty := l.dirty
		l.dirty = nil
		for _, s := range dirty {
			s.dirty = false
			s.flush()
		}
	}
}

// hot has the loop tick, while something waits for that.
func (l *loop) hot() {
	if !l.ticking {
		l.ticking = true
		l.p.w.after(tickEvery-l.p.w.now%tickEvery, func() { l.p.run(l.tick) })
	}
}

// tick tells acknowledgements, and what slow subscribers miss.
func (l *loop) tick() {
	l.ticking = false
	acking := l.acking
	l.acking = nil
	for _, a := range acking {
		a.tick()
	}
	lagging := l.lagging
	l.lagging = nil
	for _, s := range lagging {
		s.lagging = false
		s.lag()
	}
	l.settle()
}

// outlet is a room's subscribers on one loop.
type outlet struct {
	l       *loop
	room    *room.Room
	members []*subscription
	seats   int // members and those on their way in
	pending []*room.Batch
}

// subscription is a member of a room, for a client or for a link.
type subscription struct {
	sub   room.Sub
	s     *session
	o     *outlet
	in    bool
	mute  uint16
	join  room.Join
	reply codec.Control // what is said when it is admitted, before the replay
	after codec.Control // likewise after the replay; nil: nothing
	ended bool
}

// Post implements room.Outlet.
func (o *outlet) Post(b *room.Batch) { o.l.box.post(func() { o.add(b) }) }

// Admit implements room.Member.
func (m *subscription) Admit(rp *room.Replay) {
	m.o.l.box.post(func() { m.o.flush(); m.admit(rp) })
}

// Elsewhere implements room.Member.
func (m *subscription) Elsewhere(marks []uint64) {
	m.o.l.box.post(func() {
		if !m.ended {
			m.s.Send(&codec.Elsewhere{Room: m.o.room.ID, Marks: marks})
		}
	})
}

// Cut implements room.Member.
func (m *subscription) Cut(code codec.Code) {
	m.o.l.box.post(func() { m.o.flush(); m.cut(code) })
}

func (o *outlet) add(b *room.Batch) {
	if len(o.pending) == 0 {
		o.l.touched = append(o.l.touched, o)
	}
	if b.Kind == room.KindClosed {
		o.flush()
		for _, m := range o.members {
			if m.s.port != nil {
				continue
			}
			if p := m.s.part.Of(o.room.ID, m.s.account, m.s.instance); p != nil { // the room's last word serves for both
				p.Closed()
			}
		}
	}
	o.pending = append(o.pending, b)
	if b.Kind == room.KindClosed {
		o.flush()
		for len(o.members) > 0 {
			o.members[len(o.members)-1].detach(false)
		}
		if o.l.outlets[o.room] == o {
			delete(o.l.outlets, o.room)
		}
	}
}

// flush gives what is pending to every member by way of its session's queue.
func (o *outlet) flush() {
	now := o.l.p.clock()
	for _, m := range o.members {
		for _, b := range o.pending {
			if b.Kind == room.KindCount && !m.join.Counts || m.mute != 0 && b.Key.Pub == m.mute && b.Kind != room.KindLeft {
				continue
			}
			if o.l.p.w.plant != "" && o.misbehaves(m, b) {
				continue
			}
			m.Acted(m.s.queue().Push(&m.sub, b, 0, len(b.B), now))
		}
		m.s.mark()
	}
	for i, b := range o.pending {
		b.Taken()
		b.Release()
		o.pending[i] = nil
	}
	o.pending = o.pending[:0]
}

// Acted implements room.Member: it does what a room's policy asks for.
func (m *subscription) Acted(out room.Outcome) {
	if out.CutOff && !m.ended {
		m.s.l.cuts = append(m.s.l.cuts, m)
	}
	if m.sub.Slow() {
		m.s.lags()
	}
}

// take puts it into its room's outlet on its session's loop.
func (m *subscription) take(r *room.Room) error {
	l := m.s.l
	o := l.outlets[r]
	if o == nil {
		o = &outlet{l: l, room: r}
		l.outlets[r] = o
	}
	m.o = o
	m.sub.Init(r, m)
	m.s.subs = append(m.s.subs, m)
	o.seats++
	m.join.Member = m
	err := r.Subscribe(o, m.join, l.p.clock())
	if err != nil {
		m.ended = true
		m.s.forget(m)
		if o.seats--; o.seats == 0 {
			delete(l.outlets, r)
		}
	}
	return err
}

func (m *subscription) admit(rp *room.Replay) {
	if m.ended {
		rp.Release()
		return
	}
	s, now := m.s, m.s.l.p.clock()
	m.in = true
	m.o.members = append(m.o.members, m)
	if rp.Mute != 0 {
		m.mute = rp.Mute
	}
	s.Send(m.reply)
	if m.after != nil {
		rp.Conclude(m.o.room, m.after)
	}
	q := s.queue()
	for _, it := range rp.Items {
		init := it.B.Kind == room.KindStream && codec.Flags(it.B.B[it.Off+2])&codec.FlagInit != 0
		if init && s.l.p.w.planted("init messages are left out of a replay", 1) {
			continue
		}
		q.Replay(&m.sub, it, now)
	}
	for _, mid := range rp.Midway {
		q.SkipTo(&m.sub, mid)
	}
	q.Fresh(&m.sub, rp.Fresh, rp.FreshUntil)
	rp.Release()
	if m.sub.Slow() {
		s.lags()
	}
	s.mark()
}

// cut ends the subscription with a code; what it had not got is dropped.
func (m *subscription) cut(code codec.Code) {
	if m.ended {
		return
	}
	m.s.queue().Forget(&m.sub)
	id := m.o.room.ID
	m.detach(false)
	m.s.Send(&codec.Closed{Room: id, Code: code})
}

// unsubscribe ends the subscription at the client's wish.
func (m *subscription) unsubscribe(req uint32) {
	if m.ended {
		m.s.refuse(req, room.ErrNotSubscribed)
		return
	}
	m.s.queue().Finish(&m.sub, m.s.now())
	m.detach(false)
	m.s.Send(&codec.OK{Req: req})
}

// detach takes m out of its session, its outlet and its room. gone says that its connection broke.
func (m *subscription) detach(gone bool) {
	if m.ended {
		return
	}
	m.ended = true
	o, s := m.o, m.s
	s.forget(m)
	if s.port != nil {
		s.port.Left(o.room.ID, m)
	}
	if m.in {
		i := slices.Index(o.members, m)
		o.members = slices.Delete(o.members, i, i+1)
	}
	if s.q != nil {
		s.q.Orphan(&m.sub)
	}
	o.seats--
	last := o.seats == 0
	if last && s.l.outlets[o.room] == o {
		delete(s.l.outlets, o.room)
	}
	o.room.Unsubscribe(o, m, m.join.Counts, last, gone, s.l.p.clock())
}

// misbehaves does what is planted to a batch for a member, and reports whether the member does not get it.
func (o *outlet) misbehaves(m *subscription, b *room.Batch) bool {
	w := o.l.p.w
	switch {
	case m.s.port != nil:
	case b.Kind == room.KindStream && w.planted("a batch is posted twice to a subscriber", 100):
		m.Acted(m.s.queue().Push(&m.sub, b, 0, len(b.B), o.l.p.clock()))
	case b.Kind == room.KindControl && b.First != 0 && w.planted("a gap is not told", 1):
		return true
	case b.Kind == room.KindLeft && w.planted("left is not told", 1):
		return true
	}
	return false
}
