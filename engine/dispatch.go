package engine

import (
	"errors"
	"fmt"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// negotiate answers a client's preface.
func (s *session) negotiate(p codec.Preface) error {
	v := codec.Choose(p.A, p.B)
	s.loop.out = codec.AppendServerPreface(s.loop.out, v)
	s.phase = phaseHello
	if v == 0 {
		return &codec.ProtocolError{Code: codec.CodeVersion, Text: fmt.Sprintf(
			"this server speaks versions %d to %d, the client %d to %d", codec.VersionMin, codec.VersionMax, p.A, p.B)}
	}
	return nil
}

// dispatch handles one control frame. An error closes the session. Loop only.
func (s *session) dispatch(typ byte, frame []byte) error {
	if s.phase == phaseHello {
		if typ != codec.TypeHello {
			return &codec.ProtocolError{Code: codec.CodeHelloExpected, Text: "the first frame must be hello"}
		}
		return s.hello(frame)
	}
	switch typ {
	case codec.TypePing:
		var m codec.Ping
		if err := m.Parse(frame); err != nil {
			return err
		}
		s.send(&codec.Pong{Echo: m.Echo})
		return nil
	case codec.TypePong:
		var m codec.Pong
		return m.Parse(frame)
	case codec.TypeAck:
		var m codec.Ack
		if err := m.Parse(frame); err != nil {
			return err
		}
		sub := s.member(m.Room)
		if sub != nil && sub.o.room.Ack(sub, m.StreamKey, m.Seq, s.loop.now) != nil {
			return &codec.ProtocolError{Code: codec.CodeFlowViolation, Text: "an acknowledgement of what was never sent"}
		}
		return nil // without a subscription: the room has just ended
	case codec.TypeGap:
		var m codec.Gap
		if err := m.Parse(frame); err != nil {
			return err
		}
		return s.pushGap(m)
	}
	c, err := codec.ParseControl(frame)
	if err != nil {
		return err
	}
	if req, begins := beginning(c); begins && s.loop.eng.draining.Load() {
		s.answer(req, errGoingAway)
		return nil
	}
	switch m := c.(type) {
	case *codec.Register:
		s.register(m)
	case *codec.Remove:
		s.answer(m.Req, s.loop.eng.rooms.Remove(m.Room, s.account))
	case *codec.Grant:
		s.answer(m.Req, s.withRoom(m.Room, func(r *room.Room) error { return r.Grant(s.account, m.Account) }))
	case *codec.Revoke:
		s.answer(m.Req, s.withRoom(m.Room, func(r *room.Room) error { return r.Revoke(s.account, m.Account, s.loop.now) }))
	case *codec.Publish:
		s.publish(m)
	case *codec.Unpublish:
		s.answer(m.Req, s.unpublish(m.Room))
	case *codec.Subscribe:
		s.subscribe(m)
	case *codec.Unsubscribe:
		s.unsubscribe(m)
	case *codec.Stat:
		s.stat(m)
	case *codec.Error:
		s.doom()
	default:
		return &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "a client does not send this frame"}
	}
	return nil
}

// errGoingAway refuses what would begin anew on a node that drains.
var errGoingAway = &room.Error{Code: codec.CodeGoingAway, Text: "this node is shutting down"}

// beginning returns the request's number and whether it would begin something.
func beginning(c codec.Control) (req uint32, begins bool) {
	switch m := c.(type) {
	case *codec.Register:
		return m.Req, true
	case *codec.Publish:
		return m.Req, true
	case *codec.Subscribe:
		return m.Req, true
	}
	return 0, false
}

// hello opens the session.
func (s *session) hello(frame []byte) error {
	var m codec.Hello
	if err := m.Parse(frame); err != nil {
		return err
	}
	if err := s.authenticate(&m); err != nil {
		return err
	}
	e := s.loop.eng
	s.instance = m.Instance
	s.phase = phaseOpen
	s.loop.greeted(s)
	s.send(&codec.Welcome{
		Session: s.id, Node: e.cfg.Node, Caps: m.Caps & codec.CapNone,
		MaxPayload: uint64(e.rooms.Config().MaxPayload), PingMillis: uint32(e.cfg.Ping.Milliseconds()),
	})
	if e.draining.Load() {
		s.send(&codec.GoAway{Code: codec.CodeGoingAway, WithinMillis: uint32(e.cfg.DrainSpread.Milliseconds())})
	}
	return nil
}

// answer sends ok, or refused with the error's code.
func (s *session) answer(req uint32, err error) {
	if err == nil {
		s.send(&codec.OK{Req: req})
		return
	}
	s.send(s.loop.eng.refusal(req, err))
}

// refusal turns an error into its answer.
func (e *Engine) refusal(req uint32, err error) *codec.Refused {
	var re *room.Error
	if !errors.As(err, &re) {
		e.log.Error().Err(err).Msg("request failed")
		re = &room.Error{Code: codec.CodeOverloaded, Text: "the server could not do that now"}
	}
	return &codec.Refused{Req: req, Code: re.Code, Text: re.Text}
}

func (s *session) withRoom(id codec.RoomID, f func(*room.Room) error) error {
	r, err := s.loop.eng.rooms.Get(id)
	if err != nil {
		return err
	}
	return f(r)
}

func (s *session) register(m *codec.Register) {
	if s.identity != nil && !s.identity.MayRegister() {
		s.answer(m.Req, room.ErrNotAllowed)
		return
	}
	r, err := s.loop.eng.rooms.Register(s.account, m, s.loop.now)
	if err != nil {
		s.answer(m.Req, err)
		return
	}
	a := &codec.Registered{}
	a.Req, a.Room = m.Req, r.ID
	s.send(a)
}

func (s *session) publish(m *codec.Publish) {
	if s.identity != nil && !s.identity.MayPush(m.Room) {
		s.answer(m.Req, room.ErrNotAllowed)
		return
	}
	if s.pubs()[m.Room] == nil && len(s.pubs()) >= s.loop.eng.cfg.MaxPubsPer {
		s.answer(m.Req, room.ErrOption.With("the session publishes into as many rooms as it may"))
		return
	}
	s.answer2(m.Req, s.withRoom(m.Room, func(r *room.Room) error {
		pub := s.pubs()[m.Room]
		if pub == nil {
			pub = &publication{s: s}
		}
		p, next, err := r.Publish(pub, s.account, s.instance, m.Flags&codec.PubCount != 0)
		if err != nil {
			return err
		}
		pub.p = p
		if s.pushes().pubs == nil {
			s.pushing.pubs = make(map[codec.RoomID]*publication)
		}
		s.pushing.pubs[m.Room] = pub
		if sub := s.member(m.Room); sub != nil && sub.noEcho && sub.mute != p.Num {
			// Through the mailbox: frames under the session's last number may still be there.
			s.loop.post(item{kind: itemMute, outlet: sub.o, member: sub, id: uint64(p.Num)})
		}
		s.send(&codec.Published{
			Req: m.Req, Room: r.ID, Pub: p.Num, Policy: r.Settings().Policy, Window: uint32(p.Window()), Streams: next,
		})
		return nil
	}))
}

// answer2 sends only refusals: success has been answered already.
func (s *session) answer2(req uint32, err error) {
	if err != nil {
		s.answer(req, err)
	}
}

func (s *session) unpublish(id codec.RoomID) error {
	if id == 0 {
		return room.ErrMalformed
	}
	pub := s.pubs()[id]
	if pub == nil {
		return room.ErrNotPublishing
	}
	pub.p.Acks(func(key codec.StreamKey, seq uint64) {
		s.send(&codec.Ack{Room: id, StreamKey: key, Seq: seq})
	})
	err := pub.p.Unpublish(pub, s.loop.now)
	pub.end()
	return err
}

func (s *session) subscribe(m *codec.Subscribe) {
	if s.identity != nil && !s.identity.MaySubscribe(m.Room) {
		s.answer(m.Req, room.ErrNotAllowed)
		return
	}
	if len(s.members) >= s.loop.eng.cfg.MaxSubsPer {
		s.answer(m.Req, room.ErrOption.With("the session has as many subscriptions as it may have"))
		return
	}
	if s.member(m.Room) != nil {
		s.answer(m.Req, room.ErrSubscribed)
		return
	}
	s.answer2(m.Req, s.withRoom(m.Room, func(r *room.Room) error {
		l := s.loop
		o := l.outlet(r)
		sub := &member{s: s, o: o, at: -1, req: m.Req, counts: m.Flags&codec.SubCount != 0, noEcho: m.Flags&codec.SubNoEcho != 0}
		sub.sub.Init(r)
		if pub := s.pubs()[m.Room]; pub != nil && sub.noEcho {
			sub.mute = pub.p.Num
		}
		s.members = append(s.members, sub)
		o.seats++
		err := r.Subscribe(o, room.Join{
			Member: sub, Account: s.account, Instance: s.instance, Counts: sub.counts, NoEcho: sub.noEcho, Have: m.Have, Gapped: m.Gapped,
		}, l.now)
		if err != nil { // the room does not know of it: undo by hand
			sub.ended = true
			s.forget(sub)
			if o.seats--; o.seats == 0 {
				delete(l.outlets, r)
			}
		}
		return err
	}))
}

func (s *session) unsubscribe(m *codec.Unsubscribe) {
	sub := s.member(m.Room)
	if sub == nil {
		err := error(room.ErrNotSubscribed)
		if m.Room == 0 {
			err = room.ErrMalformed
		}
		s.answer(m.Req, err)
		return
	}
	// Through the mailbox, so that the answer comes after all that was posted before.
	s.loop.post(item{kind: itemLeave, outlet: sub.o, member: sub, id: uint64(m.Req)})
}

func (s *session) stat(m *codec.Stat) {
	s.answer2(m.Req, s.withRoom(m.Room, func(r *room.Room) error {
		info := r.Info(s.loop.now)
		info.Req = m.Req
		s.send(&info)
		return nil
	}))
}
