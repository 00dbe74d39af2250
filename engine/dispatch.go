package engine

import (
	"errors"
	"fmt"

	"github.com/timedge/timedge/carry"
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
	l := s.loop
	l.answers = requestOf(typ)
	defer func() { l.answers = noRequest }()
	return s.role.dispatch(s, typ, frame)
}

func (client) dispatch(s *session, typ byte, frame []byte) error {
	if s.waitsForLeave(typ, frame) {
		return errHeld
	}
	if refused, err := s.throttle(typ, frame); refused || err != nil {
		return err
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
		if sub == nil {
			return nil // the room has just ended
		}
		if sub.o.room.Ack(sub, m.StreamKey, m.Seq, s.loop.now) != nil {
			return &codec.ProtocolError{Code: codec.CodeFlowViolation, Text: "an acknowledgement of what was never sent"}
		}
		return s.owe(sub.o.room.Crowd() / crowdPerStep)
	case codec.TypeGap:
		var m codec.Gap
		if err := m.Parse(frame); err != nil {
			return err
		}
		return s.pushGap(m, len(frame))
	}
	c, err := codec.ParseControl(frame)
	if err != nil {
		return err
	}
	if err := s.owe(extraSteps(c)); err != nil { // whatever is said to it: it has been read
		return err
	}
	if e := s.loop.eng; e.leaving.Load() {
		// While rooms are handed over those who are in them may take them up again at their new places.
		if req, begins := beginning(c); begins && (e.draining.Load() || c.Type() == codec.TypeRegister) {
			s.answer(req, errGoingAway)
			return nil
		}
	}
	if s.guest() {
		if req, refused := refusedToGuests(c); refused {
			s.answer(req, room.ErrNotAllowed)
			return nil
		}
	}
	if req, begins := beginning(c); begins && s.share.Over() {
		s.answer(req, room.ErrOverloaded)
		return nil
	}
	s.noteChange(c)
	switch m := c.(type) {
	case *codec.Register:
		s.register(m)
	case *codec.Subscribe:
		s.subscribe(s.ask(m.Req, m), m)
	case *codec.Unsubscribe:
		s.unsubscribe(m)
	case *codec.Publish:
		if s.mayPublish(m) {
			s.oweFor(m.Room)
			s.request(m.Req, m)
		}
	case *codec.Remove:
		s.request(m.Req, m)
	case *codec.Grant:
		s.request(m.Req, m)
	case *codec.Revoke:
		s.request(m.Req, m)
	case *codec.Unpublish:
		s.oweFor(m.Room)
		s.request(m.Req, m)
	case *codec.Stat:
		s.request(m.Req, m)
	case *codec.Inbox:
		if err := s.checkInbox(m); err != nil {
			s.answer(m.Req, err)
		} else {
			s.request(m.Req, m)
		}
	case *codec.Token:
		return s.token(m)
	case *codec.Error:
		s.doom()
	default:
		return &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "a client does not send this frame"}
	}
	return nil
}

// errGoingAway refuses what would begin anew on a node that drains.
var errGoingAway = &room.Error{Code: codec.CodeGoingAway, Text: "this node is shutting down"}

// extraSteps returns what a request takes of a turn beside requestSteps, as far as that can be told from its frame.
func extraSteps(c codec.Control) int {
	switch m := c.(type) {
	case *codec.Subscribe:
		return len(m.Have)
	case *codec.Inbox:
		return (len(m.Accept) + len(m.Block)) / namesPerStep
	case *codec.Token:
		return tokenSteps
	}
	return 0
}

// oweFor counts what it takes to find a publisher among all that a room knows.
func (s *session) oweFor(id codec.RoomID) {
	if r, err := s.loop.eng.rooms.Get(id); err == nil {
		_ = s.owe(r.Known() / knownPerStep) // who owes too much is closed for the next frame
	}
}

// beginning returns the request's number and whether it would begin something.
func beginning(c codec.Control) (req uint32, begins bool) {
	switch m := c.(type) {
	case *codec.Register:
		return m.Req, true
	case *codec.Publish:
		return m.Req, true
	case *codec.Subscribe:
		return m.Req, true
	case *codec.Inbox:
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
	account, err := s.authenticate(&m)
	if err != nil {
		return err
	}
	e := s.loop.eng
	if err := s.settleIn(account); err != nil {
		return err
	}
	s.instance = m.Instance
	s.phase = phaseOpen
	s.loop.greeted(s)
	s.send(&codec.Welcome{
		Session: s.id, Node: e.cfg.Node, Caps: s.caps(),
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
		s.reply(&codec.OK{Req: req})
		return
	}
	s.reply(s.loop.eng.refusal(req, err))
}

// refusal turns an error into its answer.
func (e *Engine) refusal(req uint32, err error) *codec.Refused {
	var re *room.Error
	if !errors.As(err, &re) {
		e.log.Error().Err(err).Msg("request failed")
		re = &room.Error{Code: codec.CodeOverloaded, Text: "the server could not do that now"}
	}
	e.limits.refused.add(re.Code)
	return &codec.Refused{Req: req, Code: re.Code, Text: re.Text}
}

func (s *session) register(m *codec.Register) {
	if s.identity != nil && !s.identity.MayRegister() {
		s.answer(m.Req, room.ErrNotAllowed)
		return
	}
	e := s.loop.eng
	r, err := e.rooms.Register(s.account(), m, s.loop.now)
	if err != nil {
		s.answer(m.Req, err)
		return
	}
	a := &codec.Registered{}
	a.Req, a.Room = m.Req, r.ID
	if e.cluster != nil {
		e.cluster.registered(s, s.ask(m.Req, m), r, a)
		return
	}
	s.reply(a)
}

// mayPublish checks what the session's node alone can check, and refuses.
func (s *session) mayPublish(m *codec.Publish) bool {
	switch {
	case m.To != "" && !s.checkRecipient(m):
		s.absent(s.ask(m.Req, m))
	case s.identity != nil && !s.mayPushInto(m):
		s.answer(m.Req, room.ErrNotAllowed)
	case s.published(m.Room) == nil && s.pushes().part.Len() >= s.loop.eng.live().MaxPubsPer:
		s.answer(m.Req, errSessionFull)
	case !s.mayBegin():
		s.answer(m.Req, errTooFast)
	default:
		return true
	}
	return false
}

func (s *session) subscribe(a carry.Ask, m *codec.Subscribe) {
	if s.identity != nil && !s.identity.MaySubscribe(m.Room) && m.Room != codec.InboxOf(s.account()) {
		s.answer(m.Req, room.ErrNotAllowed)
		return
	}
	if len(s.members()) >= s.loop.eng.live().MaxSubsPer {
		s.answer(m.Req, errSessionFull)
		return
	}
	if sub := s.member(m.Room); sub != nil && sub.leaving { // and the cluster has answered meanwhile: once it has left
		s.loop.post(item{kind: itemDo, do: func() {
			if !s.gone() {
				s.answering(askSubscribe, func() { s.subscribe(a, m) })
			}
		}})
		return
	} else if sub != nil {
		s.answer(m.Req, room.ErrSubscribed)
		return
	}
	e := s.loop.eng
	r, err := e.rooms.Get(m.Room)
	switch {
	case err != nil:
	case r.Stale(), r.IsInbox() && r.IsMirror() && a.Tries == 0: // the relay is to know first that somebody comes
		err = room.ErrUnknown // as yet
	default:
		err = s.join(r, m)
	}
	switch {
	case errors.Is(err, room.ErrUnknown), errors.Is(err, room.ErrNotRelay):
		s.Ask(a)
	case err != nil:
		s.Refuse(a, err)
	}
}

// join makes the session a member of a room; the answer follows when it is admitted.
func (s *session) join(r *room.Room, m *codec.Subscribe) error {
	sub := &member{s: s, req: m.Req, counts: m.Flags&codec.SubCount != 0, noEcho: m.Flags&codec.SubNoEcho != 0}
	if pub := s.published(m.Room); pub != nil && sub.noEcho {
		sub.mute = pub.Num
	}
	return sub.join(r, room.Join{
		Account: s.account(), Instance: s.instance, Counts: sub.counts, NoEcho: sub.noEcho, Mute: sub.mute, Have: m.Have,
		Gapped: m.Gapped, Resumes: m.Resumes,
	})
}

// join puts m into the room's outlet on its loop.
func (m *member) join(r *room.Room, j room.Join) error {
	l := m.s.loop
	m.o, m.at = l.outlet(r), -1
	m.sub.Init(r, m)
	m.s.enlist(m)
	m.o.seats++
	j.Member = m
	_ = m.s.owe(r.Crowd()/crowdPerStep + r.Known()) // who owes too much is closed for the next frame
	err := r.Subscribe(m.o, j, l.now)
	if err != nil { // the room does not know of it: undo by hand
		m.ended = true
		m.s.forget(m)
		if m.o.seats--; m.o.seats == 0 {
			delete(l.outlets, r)
		}
	}
	return err
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
	sub.leaving = true
	_ = s.owe(sub.o.room.Crowd() / crowdPerStep)
	s.loop.post(item{kind: itemLeave, outlet: sub.o, member: sub, id: uint64(m.Req)})
}

// waitsForLeave has the session wait with a request that is about a room which it is leaving, and with all that comes
// behind, until it has left (left): the next round of its loop. So a client that comes and goes as fast as it can sends
// has one such request on its way, and not as many as its rate lets it.
func (s *session) waitsForLeave(typ byte, frame []byte) bool {
	if typ != codec.TypeSubscribe && typ != codec.TypeUnsubscribe || len(s.members()) == 0 {
		return false
	}
	id, ok := codec.RoomOfRequest(frame)
	if !ok {
		return false // whoever parses it says what is wrong
	}
	m := s.member(id)
	if m == nil || !m.leaving {
		return false
	}
	s.paused, s.held, s.rarely().leaves = true, true, m
	return true
}

// left gives the session another turn if it waits for m to have left. Loop only.
func (s *session) left(m *member) {
	if s.rare == nil || s.rare.leaves != m {
		return
	}
	s.rare.leaves = nil
	if s.held && !s.gone() { // otherwise a tick has given it one
		s.held = false
		s.loop.turns.add(s)
	}
}
