package engine

import (
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// outlet is a room's members on one loop. The room posts to it under its mutex; everything else is the loop's.
type outlet struct {
	loop    *loop
	room    *room.Room
	members []*member
	links   int           // of members: links, by which other nodes get the room's frames
	seats   int           // members and those on their way in
	pending []*room.Batch // posted and not yet fanned out, in order
	counts  int           // how many of pending are count frames
}

// member is one subscription.
type member struct {
	sub     room.Sub
	s       *session
	o       *outlet
	at      int32 // place in o.members; -1: not there
	place   int32 // in s.members()
	req     uint32
	mute    uint16 // no-echo: the session's own publisher number in this room; 0 if it has none
	counts  bool
	noEcho  bool
	leaving bool // unsubscribe is on its way through the mailbox
	ended   bool // left, cut off, or its session is gone: the outlet must not use it
}

// Post implements room.Outlet.
func (o *outlet) Post(b *room.Batch) { o.loop.post(item{kind: itemBatch, outlet: o, batch: b}) }

// Admit implements room.Member.
func (m *member) Admit(rp *room.Replay) {
	m.o.loop.post(item{kind: itemAdmit, outlet: m.o, member: m, replay: rp})
}

// Cut implements room.Member.
func (m *member) Cut(code codec.Code) {
	m.o.loop.post(item{kind: itemCut, outlet: m.o, member: m, code: code})
}

// outlet returns the loop's outlet of a room, making it if need be.
func (l *loop) outlet(r *room.Room) *outlet {
	o := l.outlets[r]
	if o == nil {
		o = &outlet{loop: l, room: r}
		l.outlets[r] = o
	}
	return o
}

// add collects a batch for the fan-out at the end of the drain.
func (o *outlet) add(b *room.Batch) {
	if b.Kind == room.KindClosed {
		o.flush()
		o.endPublications()
	}
	if len(o.pending) == 0 {
		o.loop.touched = append(o.loop.touched, o)
	}
	o.pending = append(o.pending, b)
	if b.Kind == room.KindCount {
		o.counts++
	}
	if b.Kind == room.KindClosed {
		o.flush()
		o.dissolve()
	}
}

// endPublications ends those of the members' sessions before the room's last word, which serves for both.
func (o *outlet) endPublications() {
	for _, m := range o.members {
		if p := m.s.published(o.room.ID); p != nil {
			p.Closed()
		}
	}
}

// flush gives what is pending to every member: one vectored write each. A member whose socket has taken all so far, and
// that is in no other room, is written to straight from the vectors that all such members share; for any other the
// batches go by reference through its queue, which is written at the end of the drain. Loop only.
func (o *outlet) flush() {
	if len(o.pending) == 0 {
		return
	}
	l := o.loop
	iov, size, frames, bytes := l.iov[:0], 0, 0, 0
	for _, b := range o.pending {
		if b.Kind == room.KindCount {
			continue
		}
		iov = append(iov, vector(b.B))
		size += len(b.B)
		if b.Kind == room.KindStream {
			frames += int(b.Last - b.First + 1)
			bytes += len(b.B)
		}
	}
	l.iov = iov[:0]
	for _, m := range o.members {
		l.unit.s = m.s
		if m.s.q == nil && !m.s.paced() && m.s.only[0] != nil && !m.sub.Slow() && m.mute == 0 &&
			(o.counts == 0 || !m.counts) {
			m.write(iov, size)
		} else {
			m.enqueue()
		}
	}
	for i := range l.gathers {
		l.gathers[i].end()
	}
	l.stats.deliveries.Add(uint64(frames * (len(o.members) - o.links)))
	if at := o.pending[0].At; at != 0 && l.flushes.due() {
		l.stats.fanOut.observe(l.eng.now() - at)
	}
	if o.links > 0 {
		l.stats.linkFramesOut.Add(uint64(frames * o.links))
		l.stats.linkBytesOut.Add(uint64(bytes * o.links))
	}
	for i, b := range o.pending {
		b.Taken()
		b.Release()
		o.pending[i] = nil
	}
	o.pending, o.counts = o.pending[:0], 0
}

// write sends all that is pending to a member whose session has nothing queued.
func (m *member) write(iov []unix.Iovec, size int) {
	s := m.s
	if s.closed || s.doomed {
		return
	}
	var n int
	var err error
	if s.carrier == nil {
		n, err = s.loop.writev(int(s.fd), iov, size)
	} else {
		n, err = m.carry(iov, size)
	}
	if n == size {
		return
	}
	if err != nil && err != unix.EAGAIN {
		s.doom()
		return
	}
	q := s.needQueue()
	for _, b := range m.o.pending {
		if b.Kind == room.KindCount {
			continue
		}
		if n >= len(b.B) {
			n -= len(b.B)
			continue
		}
		if n > 0 {
			q.Rest(&m.sub, b, 0, n, len(b.B), s.loop.now)
			n = 0
			continue
		}
		m.Acted(q.Push(&m.sub, b, 0, len(b.B), s.loop.now))
	}
	s.block()
}

// carry sends all that is pending by the member's carrier. What it has gathered is there for the outlet's next member.
func (m *member) carry(iov []unix.Iovec, size int) (taken int, err error) {
	g := m.s.gathered()
	if !g.valid {
		g.start(iov, size)
	}
	return m.s.carry(g)
}

// enqueue gives what is pending to a member through its session's queue.
func (m *member) enqueue() {
	s := m.s
	if s.closed || s.doomed {
		return
	}
	q := s.needQueue()
	for _, b := range m.o.pending {
		if b.Kind == room.KindCount && !m.counts || m.mute != 0 && b.Key.Pub == m.mute && b.Kind != room.KindLeft {
			continue
		}
		m.Acted(q.Push(&m.sub, b, 0, len(b.B), s.loop.now))
	}
	s.mark()
}

// Acted implements room.Member: it does what a policy's outcome asks for.
func (m *member) Acted(out room.Outcome) {
	l := m.s.loop
	if out.Frames > 0 {
		l.stats.dropped[m.sub.Policy()].Add(uint64(out.Frames))
	}
	if out.CutOff && !m.ended {
		l.cuts = append(l.cuts, m)
	}
	if m.sub.Slow() {
		l.lagging[m.s] = struct{}{}
		l.eng.hot(l)
	}
}

// admit makes m a member, answers its request, and gives it the replay.
func (m *member) admit(rp *room.Replay) {
	if m.ended {
		rp.Release()
		return
	}
	m.at = int32(len(m.o.members))
	m.o.members = append(m.o.members, m)
	if rp.Mute != 0 {
		m.mute = rp.Mute
	}
	if m.sub.Policy() == codec.PolicyLatest && m.s.role.client() {
		m.s.pacedFrom(paceStart)
	}
	m.s.role.admit(m, rp)
}

// replay queues what a new member is to have before all that comes.
func (m *member) replay(rp *room.Replay) {
	s := m.s
	q := s.needQueue()
	_ = s.owe(len(rp.Items) / perStep)
	for _, it := range rp.Items {
		q.Replay(&m.sub, it, s.loop.now)
	}
	for _, mid := range rp.Midway {
		q.SkipTo(&m.sub, mid)
	}
	q.Fresh(&m.sub, rp.Fresh, rp.FreshUntil)
	rp.Release()
	s.mark()
}

// leave ends the membership at the subscriber's wish.
func (m *member) leave(req uint32) {
	defer m.s.left(m)
	if m.ended { // meanwhile: cut off, or asked for twice
		no := m.s.loop.eng.refusal(req, room.ErrNotSubscribed)
		m.s.countAnswer(askUnsubscribe, no)
		m.s.queueControl(no)
		return
	}
	if m.s.q != nil {
		m.s.q.Finish(&m.sub, m.s.loop.now)
	}
	m.detach(false)
	ok := &codec.OK{Req: req}
	m.s.countAnswer(askUnsubscribe, ok)
	m.s.queueControl(ok)
}

// cutPolicy is the code for members whose room's policy ends subscriptions that fall behind.
const cutPolicy = codec.CodeTooSlow

// cut ends the membership with a code; what it had not got is dropped.
func (m *member) cut(code codec.Code) {
	if m.ended {
		return
	}
	l := m.s.loop
	l.stats.cutOff.Add(1)
	if m.s.q != nil {
		m.s.q.Forget(&m.sub)
	}
	id := m.o.room.ID
	m.detach(false)
	m.s.queueControl(&codec.Closed{Room: id, Code: code})
}

// detach takes m out of its session, its outlet and its room. gone says that its connection broke.
func (m *member) detach(gone bool) {
	if m.ended {
		return
	}
	m.ended = true
	o, s := m.o, m.s
	s.forget(m)
	s.role.left(m)
	if m.at >= 0 {
		last := o.members[len(o.members)-1]
		o.members[m.at] = last
		last.at = m.at
		o.members[len(o.members)-1] = nil
		o.members = o.members[:len(o.members)-1]
		m.at = -1
	}
	if s.q != nil {
		s.q.Orphan(&m.sub)
	}
	o.seats--
	last := o.seats == 0
	if last && o.loop.outlets[o.room] == o {
		delete(o.loop.outlets, o.room)
	}
	o.room.Unsubscribe(o, m, m.counts, last, gone, o.loop.now)
}

// dissolve ends all memberships after the room's last word was delivered.
func (o *outlet) dissolve() {
	for len(o.members) > 0 {
		m := o.members[len(o.members)-1]
		m.detach(false)
	}
	if o.loop.outlets[o.room] == o {
		delete(o.loop.outlets, o.room)
	}
}
