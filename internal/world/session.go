package world

import (
	"errors"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// session is one connection of a process: a client's, or a link to another node. It lives on one loop.
type session struct {
	l        *loop
	id       uint64
	end      *socketEnd
	in       framed
	account  string
	instance uint64
	greeted  bool
	closed   bool

	q       *room.Queue
	dirty   bool
	lagging bool
	subs    []*subscription
	pubs    map[codec.RoomID]*publication
	refused []codec.PushRefused
}

// accept takes a client's connection.
func (p *Process) accept(end *socketEnd) {
	p.next++
	s := &session{l: p.loops[p.next%loops], id: p.next, end: end, pubs: make(map[codec.RoomID]*publication)}
	end.reader = s
}

func (s *session) queue() *room.Queue {
	if s.q == nil {
		s.q = room.NewQueue(&s.l.p.pool, socketBuffer)
	}
	return s.q
}

// send queues a control frame behind all that waits.
func (s *session) send(m codec.Control) {
	if s.closed {
		return
	}
	w := s.l.p.w
	b, err := s.l.p.pool.Encode(m)
	if err != nil {
		w.fail("I10", "%s cannot send %T: %v", s.l.p.name, m, err)
		return
	}
	w.legal(b.B)
	s.queue().Append(b, 0, len(b.B), s.l.p.clock())
	b.Release()
	s.mark()
}

// mark has the loop write what is queued.
func (s *session) mark() {
	if !s.dirty && !s.closed {
		s.dirty = true
		s.l.dirty = append(s.l.dirty, s)
	}
}

// flush writes what the connection takes.
func (s *session) flush() {
	if s.closed || s.q == nil {
		return
	}
	for space := s.end.space(); space > 0 && !s.q.Empty(); {
		n := 0
		var head [16][]byte
		for _, b := range s.q.Head(head[:0], len(head)) {
			b = b[:min(len(b), space-n)]
			s.end.write(b)
			n += len(b)
		}
		s.q.Advance(n, s.l.p.clock())
		space -= n
	}
	if !s.q.Empty() {
		s.end.full = true
		s.lags()
	}
}

// lags has the loop look at the session at every tick.
func (s *session) lags() {
	if !s.lagging && !s.closed {
		s.lagging = true
		s.l.lagging = append(s.l.lagging, s)
		s.l.hot()
	}
}

// lag applies the bound on age, and tells what was missed.
func (s *session) lag() {
	if s.closed {
		return
	}
	now, slow := s.l.p.clock(), s.end.full
	for _, m := range slices.Clone(s.subs) {
		m.policy(s.queue().Check(&m.sub, now))
		if m.sub.Slow() {
			slow = true
			s.queue().Tell(&m.sub, now)
		}
	}
	s.mark()
	if slow {
		s.lags()
	}
}

func (s *session) writable() {
	s.mark()
	s.l.settle()
}

// broken is the end of the connection.
func (s *session) broken() {
	if s.closed {
		return
	}
	s.closed = true
	s.leave()
	s.l.settle()
}

// leave ends what the session took part in: its connection is gone.
func (s *session) leave() {
	for len(s.subs) > 0 {
		s.subs[len(s.subs)-1].detach(true)
	}
	now := s.l.p.clock()
	for _, id := range slices.Sorted(keys(s.pubs)) {
		p := s.pubs[id]
		p.p.Detach(p, now)
		p.ended = true
	}
	s.pubs = nil
	if s.q != nil {
		s.q.Clear()
	}
}

// fail closes the connection with a reason.
func (s *session) fail(err error) {
	var pe *codec.ProtocolError
	var re *room.Error
	switch {
	case errors.As(err, &pe):
		s.send(&codec.Error{Code: pe.Code, Text: pe.Text})
	case errors.As(err, &re):
		s.send(&codec.Error{Code: re.Code, Text: re.Text})
	}
	s.flush()
	s.end.close()
	s.broken()
}

// readable takes what was read.
func (s *session) readable(b []byte) {
	if s.closed {
		return
	}
	if err := s.in.read(s.l.p.w, b, s.step); err != nil {
		s.fail(err)
	}
	s.l.settle()
}

// step handles the frame, or the run of frames, that b starts with.
func (s *session) step(b []byte) (n int, err error) {
	frame, typ, err := codec.Next(b, codec.MaxFrame)
	switch {
	case err == codec.ErrIncomplete || s.closed:
		return 0, nil
	case err != nil:
		return 0, err
	case typ&codec.TypeStream != 0:
		run, err := room.ScanRun(b)
		if err != nil {
			return 0, err
		}
		return len(run.Raw), s.push(run)
	}
	m, err := codec.ParseControl(frame)
	if err != nil {
		return 0, err
	}
	return len(frame), s.dispatch(m)
}

func (s *session) member(id codec.RoomID) *subscription {
	for _, m := range s.subs {
		if m.o.room.ID == id {
			return m
		}
	}
	return nil
}

func (s *session) forget(m *subscription) {
	if i := slices.Index(s.subs, m); i >= 0 {
		s.subs = slices.Delete(s.subs, i, i+1)
	}
}

// dispatch does what a client asks for.
func (s *session) dispatch(m codec.Control) error {
	if h, is := m.(*codec.Hello); is {
		s.account, s.instance, s.greeted = h.Account, h.Instance, true
		s.send(&codec.Welcome{Session: s.id, Node: s.l.p.name, MaxPayload: codec.DefaultMaxPayload, PingMillis: 15000})
		return nil
	}
	if !s.greeted {
		return &codec.ProtocolError{Code: codec.CodeHelloExpected, Text: "the first frame must be hello"}
	}
	switch m := m.(type) {
	case *codec.Ping:
		s.send(&codec.Pong{Echo: m.Echo})
	case *codec.Ack:
		if sub := s.member(m.Room); sub != nil && sub.o.room.Ack(sub, m.StreamKey, m.Seq, s.l.p.clock()) != nil {
			return &codec.ProtocolError{Code: codec.CodeFlowViolation, Text: "an acknowledgement of what was never sent"}
		}
	case *codec.Gap:
		return s.pushGap(*m)
	case *codec.Register:
		s.register(m)
	case *codec.Subscribe:
		s.subscribe(m)
	case *codec.Unsubscribe:
		sub := s.member(m.Room)
		if sub == nil {
			s.answer(m.Req, room.ErrNotSubscribed)
			return nil
		}
		s.l.box.post(func() { sub.o.flush(); sub.leave(m.Req) })
	default:
		s.request(m)
	}
	return nil
}

// leave ends the subscription at the client's wish.
func (m *subscription) leave(req uint32) {
	if m.ended {
		m.s.answer(req, room.ErrNotSubscribed)
		return
	}
	m.s.queue().Finish(&m.sub, m.s.l.p.clock())
	m.detach(false)
	m.s.send(&codec.OK{Req: req})
}

func (s *session) answer(req uint32, err error) {
	if err == nil {
		s.send(&codec.OK{Req: req})
		return
	}
	re := &room.Error{Code: codec.CodeOverloaded}
	errors.As(err, &re)
	s.send(&codec.Refused{Req: req, Code: re.Code, Text: re.Text})
}

func (s *session) register(m *codec.Register) {
	r, err := s.l.p.rooms.Register(s.account, m, s.l.p.clock())
	if err != nil {
		s.answer(m.Req, err)
		return
	}
	a := &codec.Registered{}
	a.Req, a.Room = m.Req, r.ID
	s.send(a)
}

func (s *session) subscribe(m *codec.Subscribe) {
	if s.member(m.Room) != nil {
		s.answer(m.Req, room.ErrSubscribed)
		return
	}
	r, err := s.l.p.rooms.Get(m.Room)
	if err == nil {
		err = s.join(r, m)
	}
	if err != nil {
		s.answer(m.Req, err)
	}
}

// join makes the session a member of a room; the answer follows when it is admitted.
func (s *session) join(r *room.Room, m *codec.Subscribe) error {
	sub := &subscription{s: s, join: room.Join{
		Account: s.account, Instance: s.instance, Counts: m.Flags&codec.SubCount != 0, NoEcho: m.Flags&codec.SubNoEcho != 0,
		Have: m.Have, Gapped: m.Gapped,
	}}
	if p := s.pubs[m.Room]; p != nil && sub.join.NoEcho {
		sub.mute = p.num
	}
	sub.join.Mute = sub.mute
	sub.reply = func(*room.Replay) {
		a := &codec.Subscribed{Req: m.Req, Room: r.ID, Policy: sub.sub.Policy()}
		if a.Policy == codec.PolicyLossless {
			a.Window = uint32(s.l.p.rooms.Config().Window)
		}
		s.send(a)
	}
	return sub.take(r)
}
