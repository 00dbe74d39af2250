package world

import (
	"errors"
	"slices"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// session is one connection of a process: a client's, or a link to another node. It lives on one loop. To its Part, or
// Port, it is the host.
type session struct {
	l        *loop
	id       carry.SessionID
	end      *socketEnd
	in       framed
	account  string
	instance uint64
	greeted  bool
	closed   bool
	part     *carry.Part
	port     *carry.Port // of a link; its Part is part
	peer     string      // likewise: the node at the other end
	dialed   bool        // likewise

	q       *room.Queue
	dirty   bool
	lagging bool
	subs    []*subscription
}

// session makes a session of a connection, on the loop whose turn it is.
func (p *Process) session(end *socketEnd) *session {
	p.next++
	s := &session{l: p.loops[p.next%loops], id: carry.SessionID(p.next), end: end}
	end.reader = s
	p.sessions[s.id] = s
	return s
}

// accept takes a client's connection.
func (p *Process) accept(end *socketEnd) {
	s := p.session(end)
	s.part = carry.NewPart(s, p.rooms)
}

func (s *session) now() int64 { return s.l.p.clock() }

func (s *session) queue() *room.Queue {
	if s.q == nil {
		s.q = room.NewQueue(&s.l.p.pool, s.l.p.w.net.buffer)
	}
	return s.q
}

// Send implements carry.Host: it queues a control frame behind all that waits.
func (s *session) Send(m codec.Control) {
	if s.closed {
		return
	}
	w := s.l.p.w
	b, err := s.l.p.pool.Encode(m, nil)
	if err != nil {
		w.fail("I10", "%s cannot send %T: %v", s.l.p.name, m, err)
		return
	}
	w.legal(b.B)
	s.queue().Append(b, 0, len(b.B), s.now())
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
		s.q.Advance(n, s.now())
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
	slow := s.queue().Look(s.now())
	s.mark()
	if slow || s.end.full {
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
	p := s.l.p
	delete(p.sessions, s.id)
	for len(s.subs) > 0 {
		s.subs[len(s.subs)-1].detach(true)
	}
	if s.port != nil {
		s.port.Close(s.now())
		id := carry.LinkID(s.id)
		p.desk.post(func() { p.node.Unlinked(id, p.clock()) })
	} else {
		if !p.w.planted("a publisher that leaves is not detached", 2) {
			s.part.Close(s.now())
		}
		p.desk.post(func() { p.node.Left(s.id, p.clock()) })
	}
	if s.q != nil && !p.w.planted("what a closed session had queued is not let go of", 2) {
		s.q.Clear()
	}
	s.l.settle()
}

// fail closes the connection with a reason.
func (s *session) fail(err error) {
	var pe *codec.ProtocolError
	var re *room.Error
	switch {
	case s.port != nil:
		s.l.p.w.fail("I10", "%s ends its link with %s: %v", s.l.p.name, s.peer, err)
	case errors.As(err, &pe):
		s.Send(&codec.Error{Code: pe.Code, Text: pe.Text})
	case errors.As(err, &re):
		s.Send(&codec.Error{Code: re.Code, Text: re.Text})
	}
	s.flush()
	s.hang()
}

func (s *session) hang() {
	if !s.closed {
		s.end.close()
		s.broken()
	}
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
	if s.closed || s.port != nil && !s.port.Ready() {
		return 0, nil
	}
	frame, typ, err := codec.Next(b, codec.MaxFrame)
	switch {
	case err == codec.ErrIncomplete:
		return 0, nil
	case err != nil:
		return 0, err
	case typ&codec.TypeStream != 0:
		run, err := room.ScanRun(b)
		if err != nil {
			return 0, err
		}
		return len(run.Raw), s.push(run)
	case s.port != nil:
		m := s.l.p.w.legal(frame)
		if m == nil {
			return 0, errors.New("an illegal frame")
		}
		return len(frame), s.port.Frame(m, s.now())
	}
	m, err := codec.ParseControl(frame)
	if err != nil {
		return 0, err
	}
	return len(frame), s.dispatch(m)
}

// push takes frames.
func (s *session) push(run room.Run) error {
	if s.port != nil {
		s.port.Push(run, s.now())
		return nil
	}
	_, err := s.part.Push(run, s.now())
	return s.pushed(run.Room, run.Key.Pub, run.Frames, err)
}

// pushed tells a client of frames that were not taken. Only a broken window closes its connection.
func (s *session) pushed(id codec.RoomID, num uint16, frames int, err error) error {
	var re *room.Error
	switch {
	case err == nil:
	case !errors.As(err, &re) || re.Code == codec.CodeFlowViolation:
		return err
	default:
		s.Send(&codec.PushRefused{Room: id, Pub: num, Code: re.Code, Frames: uint64(frames)})
	}
	return nil
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
		s.Send(&codec.Welcome{
			Session: uint64(s.id), Node: s.l.p.name, MaxPayload: codec.DefaultMaxPayload, PingMillis: 15000,
		})
		return nil
	}
	if !s.greeted {
		return &codec.ProtocolError{Code: codec.CodeHelloExpected, Text: "the first frame must be hello"}
	}
	switch m := m.(type) {
	case *codec.Ping:
		s.Send(&codec.Pong{Echo: m.Echo})
	case *codec.Ack:
		if sub := s.member(m.Room); sub != nil && sub.o.room.Ack(sub, m.StreamKey, m.Seq, s.now()) != nil {
			return &codec.ProtocolError{Code: codec.CodeFlowViolation, Text: "an acknowledgement of what was never sent"}
		}
	case *codec.Gap:
		return s.pushed(m.Room, m.Pub, 1, s.part.Gap(*m, s.now()))
	case *codec.Register:
		s.register(m)
	case *codec.Subscribe:
		s.subscribe(m)
	case *codec.Unsubscribe:
		sub := s.member(m.Room)
		if sub == nil {
			s.refuse(m.Req, room.ErrNotSubscribed)
			return nil
		}
		s.l.box.post(func() { sub.o.flush(); sub.unsubscribe(m.Req) })
	default:
		_, req := requestOf(m)
		if req == nil {
			return &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "a client does not send this frame"}
		}
		if _, is := m.(*codec.Revoke); is && s.l.p.w.planted("a revocation is answered and not done", 1) {
			s.Send(&codec.OK{Req: *req})
			return nil
		}
		s.part.Request(s.ask(*req, m), s.now())
	}
	return nil
}

// ask is a request of the session's client.
func (s *session) ask(req uint32, m codec.Control) carry.Ask {
	return carry.Ask{Session: s.id, Account: s.account, Instance: s.instance, Req: req, At: s.now(), M: m}
}

func (s *session) refuse(req uint32, err error) {
	re := &room.Error{Code: codec.CodeOverloaded}
	errors.As(err, &re)
	s.Send(&codec.Refused{Req: req, Code: re.Code, Text: re.Text})
}

func (s *session) register(m *codec.Register) {
	p := s.l.p
	r, err := p.rooms.Register(s.account, m, s.now())
	if err != nil {
		s.refuse(m.Req, err)
		return
	}
	a := &codec.Registered{}
	a.Req, a.Room = m.Req, r.ID
	ask := s.ask(m.Req, m)
	p.desk.post(func() { p.node.Registered(ask, r, a, p.clock()) })
}

// subscribe makes the session a member of a room, if that is here and has all that its relay had; otherwise the Node is
// asked.
func (s *session) subscribe(m *codec.Subscribe) {
	if s.member(m.Room) != nil {
		s.refuse(m.Req, room.ErrSubscribed)
		return
	}
	r, err := s.l.p.rooms.Get(m.Room)
	switch {
	case err == nil && r.IsWhole() && !r.Stale():
		err = s.join(r, m)
	case err == nil:
		err = room.ErrUnknown // as yet
	}
	switch {
	case errors.Is(err, room.ErrUnknown):
		s.Ask(s.ask(m.Req, m))
	case err != nil:
		s.refuse(m.Req, err)
	}
}

// join makes the session a member of a room; the answer follows when it is admitted.
func (s *session) join(r *room.Room, m *codec.Subscribe) error {
	sub := &subscription{s: s, join: room.Join{
		Account: s.account, Instance: s.instance, Counts: m.Flags&codec.SubCount != 0, NoEcho: m.Flags&codec.SubNoEcho != 0,
		Have: m.Have, Gapped: m.Gapped, Resumes: m.Resumes,
	}}
	if p := s.part.Of(m.Room, s.account, s.instance); p != nil && sub.join.NoEcho {
		sub.mute = p.Num
	}
	sub.join.Mute = sub.mute
	a := &codec.Subscribed{Req: m.Req, Room: r.ID, Policy: r.Settings().Policy}
	if a.Policy == codec.PolicyLossless {
		a.Window = uint32(s.l.p.rooms.Config().Window)
	}
	sub.reply = a
	return sub.take(r)
}
