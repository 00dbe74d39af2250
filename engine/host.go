package engine

import (
	"errors"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// A session as its part in rooms sees it: carry.Host.

// ask returns a request of the session's own client.
func (s *session) ask(req uint32, m codec.Control) carry.Ask {
	return carry.Ask{Session: carry.SessionID(s.id), Account: s.account(), Instance: s.instance, Req: req, At: s.loop.now, M: m}
}

// request does what the session's client asks of a room.
func (s *session) request(req uint32, m codec.Control) {
	s.pushes().part.Request(s.ask(req, m), s.loop.now)
}

// gone reports whether the session takes no answers any more.
func (s *session) gone() bool { return s.closed || s.closing || s.doomed }

// Send implements carry.Host.
func (s *session) Send(m codec.Control) { s.reply(m) }

// Acks implements carry.Host.
func (s *session) Acks(p *carry.Publication) {
	l := s.loop
	l.told, l.teller = p, s
	p.Acks(l.tell) // not a new function each time: there are many
}

// acking is a publication whose acknowledgements the ticks look for.
type acking struct {
	s *session
	p *carry.Publication
}

// Await implements carry.Host.
func (s *session) Await(p *carry.Publication) {
	if l := s.loop; !p.Awaited {
		p.Awaited = true
		l.acking = append(l.acking, acking{s, p})
		l.eng.hot(l)
	}
}

// Numbered implements carry.Host. A subscription that wants no echoes is muted through the mailbox: frames under the
// session's last number may still be there.
func (s *session) Numbered(p *carry.Publication) {
	if sub := s.member(p.Room); sub != nil && sub.noEcho && sub.mute != p.Num {
		s.loop.post(item{kind: itemMute, outlet: sub.o, member: sub, id: uint64(p.Num)})
	}
}

// Refuse implements carry.Host.
func (s *session) Refuse(a carry.Ask, err error) {
	if errors.Is(err, room.ErrNotAccepted) {
		s.absent(a)
	} else {
		s.reply(s.loop.eng.refusal(a.Req, err))
	}
}

// Ask implements carry.Host. On a node that is alone what is not here is nowhere, but an inbox is made where it is
// asked for.
func (s *session) Ask(a carry.Ask) {
	e := s.loop.eng
	if e.cluster != nil {
		s.asked = true
		e.cluster.ask(s, a)
		return
	}
	in, is := a.M.(*codec.Inbox)
	if !is {
		s.absent(a)
	} else if _, err := e.rooms.NewInbox(a.Account, in, nil, s.loop.now); err != nil {
		s.Refuse(a, err)
	} else {
		s.reply(&codec.OK{Req: a.Req})
	}
}

// Performed implements carry.Host.
func (s *session) Performed(a carry.Ask, r *room.Room, answer codec.Control) {
	if c := s.loop.eng.cluster; c != nil {
		s.asked = true
		c.performed(s, a, r, answer)
		return
	}
	s.answered(a, answer)
}

// answered gives a request's answer. Loop only.
func (s *session) answered(a carry.Ask, m codec.Control) {
	if s.gone() {
		return
	}
	s.answering(requestOf(a.M.Type()), func() {
		if p := s.role.part(s); p != nil {
			p.Answered(a, m, s.loop.now)
		} else {
			s.reply(m)
		}
	})
}

// given gives the session an outbound, and reports whether it holds it. Loop only.
func (s *session) given(a carry.Ask, o *room.Outbound) (held bool) {
	if !s.gone() {
		s.answering(requestOf(a.M.Type()), func() { held = s.role.part(s).Given(a, o, s.loop.now) })
	}
	return held
}

// again does a request anew, where the room is now. Loop only.
func (s *session) again(a carry.Ask) {
	if s.gone() {
		return
	}
	s.answering(requestOf(a.M.Type()), func() {
		if m, is := a.M.(*codec.Subscribe); is {
			s.subscribe(a, m)
		} else {
			s.role.part(s).Request(a, s.loop.now)
		}
	})
}

// PostCut implements carry.Host. Any goroutine.
func (s *session) PostCut(p *carry.Publication, of room.Pusher, code codec.Code) {
	s.loop.post(item{kind: itemPubCut, pub: p, of: of, code: code})
}

// PostAcks implements carry.Host. Any goroutine.
func (s *session) PostAcks(p *carry.Publication) {
	s.loop.post(item{kind: itemAck, sess: s, pub: p})
}

// PostCount implements carry.Host. Any goroutine.
func (s *session) PostCount(p *carry.Publication, c codec.Count) {
	s.loop.post(item{kind: itemPubCount, pub: p, count: c})
}

// reply answers: together with all else that the session is told after its read, or, outside of a read, at the end of
// the drain.
func (s *session) reply(c codec.Control) {
	s.auditAnswer(c)
	s.countAnswer(s.loop.answers, c)
	if s.loop.reading == s {
		s.send(c)
	} else {
		s.queueControl(c)
	}
}

// answerOf returns the number of the request that a frame answers.
func answerOf(m codec.Control) (req uint32, is bool) {
	switch m := m.(type) {
	case *codec.Registered:
		return m.Req, true
	case *codec.Published:
		return m.Req, true
	case *codec.Subscribed:
		return m.Req, true
	case *codec.Info:
		return m.Req, true
	case *codec.OK:
		return m.Req, true
	case *codec.Mirrored:
		return m.Req, true
	case *codec.Report:
		return m.Req, true
	}
	return 0, false
}
