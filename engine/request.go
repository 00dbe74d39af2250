package engine

import (
	"errors"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// caller is on whose behalf a request is done, and where its answer goes: a client of this node, or a client of the node at the
// other end of a link.
type caller struct {
	s        *session
	account  string
	instance uint64
	req      uint32
	at       int64 // ns; when a client's request came
	renews   bool  // a publish by a node itself, see codec.As
	tries    uint8 // how often the request went astray between roles that changed meanwhile
}

func (s *session) self(req uint32) caller {
	return caller{s: s, account: s.account, instance: s.instance, req: req, at: s.loop.now}
}

// requestOf returns the room that a request is about and where it keeps its number.
func requestOf(m codec.Control) (id codec.RoomID, req *uint32) {
	switch m := m.(type) {
	case *codec.Publish:
		return m.Room, &m.Req
	case *codec.Subscribe:
		return m.Room, &m.Req
	case *codec.Unpublish:
		return m.Room, &m.Req
	case *codec.Grant:
		return m.Room, &m.Req
	case *codec.Revoke:
		return m.Room, &m.Req
	case *codec.Remove:
		return m.Room, &m.Req
	case *codec.Stat:
		return m.Room, &m.Req
	case *codec.Inbox:
		return m.Room, &m.Req
	}
	return 0, new(uint32)
}

// request does what somebody asks of a room: here if this node relays it, otherwise by way of the cluster. Loop only.
func (s *session) request(by caller, m codec.Control) {
	e := s.loop.eng
	id, _ := requestOf(m)
	r, err := e.rooms.Get(id)
	var answer codec.Control
	if err == nil {
		answer, err = s.perform(by, r, m)
	}
	if in, is := m.(*codec.Inbox); is && e.cluster == nil && errors.Is(err, room.ErrUnknown) {
		answer, err = s.makeInbox(by, in, r)
	}
	switch {
	case e.cluster != nil && (errors.Is(err, room.ErrUnknown) || errors.Is(err, room.ErrNotRelay)):
		e.cluster.ask(by, m)
	case errors.Is(err, room.ErrUnknown), errors.Is(err, room.ErrNotAccepted):
		e.absent(by, m)
	case err != nil:
		s.reply(e.refusal(by.req, err))
	case e.cluster != nil:
		e.cluster.performed(by, r, m, answer)
	default:
		s.reply(answer)
	}
}

// perform does a request at the room's relay and returns its answer.
func (s *session) perform(by caller, r *room.Room, m codec.Control) (codec.Control, error) {
	ok := &codec.OK{Req: by.req}
	if s.strange(by, r, m) {
		return nil, room.ErrNotAccepted
	}
	switch m := m.(type) {
	case *codec.Publish:
		pub := s.publisher(by, m.Room)
		publish := r.Publish
		if by.renews {
			publish = r.Renew
		}
		p, next, err := publish(pub, by.account, by.instance, m.Flags&codec.PubCount != 0)
		if err != nil {
			return nil, err
		}
		pub.p, pub.num = p, p.Num
		pub.unanswered = s.loop.eng.cluster != nil
		s.keep(by, pub)
		return &codec.Published{
			Req: by.req, Room: r.ID, Pub: p.Num, Policy: r.Settings().Policy, Window: uint32(p.Window()), Streams: next,
		}, nil
	case *codec.Unpublish:
		return ok, s.unpublish(by, m.Room)
	case *codec.Grant:
		return ok, r.Grant(by.account, m.Account)
	case *codec.Revoke:
		return ok, r.Revoke(by.account, m.Account, s.loop.now)
	case *codec.Remove:
		if r.IsMirror() {
			return nil, room.ErrNotRelay
		}
		return ok, s.loop.eng.rooms.Remove(m.Room, by.account)
	case *codec.Stat:
		if r.IsMirror() {
			return nil, room.ErrNotRelay
		}
		info := r.Info(s.loop.now)
		info.Req = by.req
		return &info, nil
	case *codec.Inbox:
		return ok, s.loop.eng.rooms.Open(r, by.account, m, s.loop.now)
	}
	return nil, room.ErrOption
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

// alters reports whether a request changes what a room's standbys have to know.
func alters(m codec.Control) bool {
	_, is := m.(*codec.Stat)
	return !is
}

// publisher returns the caller's publication in a room that this node relays, or a new one.
func (s *session) publisher(by caller, id codec.RoomID) *publication {
	pub := s.published(by, id)
	if pub != nil {
		if _, here := pub.p.(*room.Publisher); here {
			return pub
		}
		pub.p.Detach(pub, s.loop.now) // the room has come here since
		pub.end()
	}
	return &publication{s: s, room: id}
}

// published returns the caller's publication in a room, nil if there is none.
func (s *session) published(by caller, id codec.RoomID) *publication {
	if s.link != nil {
		return s.link.callers[identity{id, by.account, by.instance}]
	}
	return s.pubs()[id]
}

// keep notes a publication that has its number.
func (s *session) keep(by caller, pub *publication) {
	if s.link != nil {
		s.link.callers[identity{pub.room, by.account, by.instance}] = pub
		s.link.lanes[lane{pub.room, pub.num}] = pub
		return
	}
	if s.pushes().pubs == nil {
		s.pushing.pubs = make(map[codec.RoomID]*publication)
	}
	s.pushing.pubs[pub.room] = pub
	if sub := s.member(pub.room); sub != nil && sub.noEcho && sub.mute != pub.num {
		// Through the mailbox: frames under the session's last number may still be there.
		s.loop.post(item{kind: itemMute, outlet: sub.o, member: sub, id: uint64(pub.num)})
	}
}

// unpublish ends the caller's publication in a room that this node relays.
func (s *session) unpublish(by caller, id codec.RoomID) error {
	pub := s.published(by, id)
	if pub == nil {
		return room.ErrNotPublishing
	}
	p, here := pub.p.(*room.Publisher)
	if !here {
		return room.ErrNotRelay
	}
	p.Acks(pub, func(key codec.StreamKey, seq uint64) {
		s.reply(&codec.Ack{Room: id, StreamKey: key, Seq: seq})
	})
	err := p.Unpublish(pub, s.loop.now)
	if !errors.Is(err, room.ErrNotRelay) {
		pub.end()
	}
	return err
}

// publishedBy gives the caller's session its part in an outbound. Loop only.
func (s *session) publishedBy(by caller, o *outbound) {
	if s.closed || s.closing || s.doomed {
		return
	}
	pub := s.published(by, o.ID)
	if pub == nil || pub.p != room.Pusher(o.Outbound) {
		if pub != nil {
			pub.p.Detach(pub, s.loop.now)
			pub.end()
		}
		pub = &publication{s: s, room: o.ID}
	}
	m, ok := o.Hold(pub)
	if !ok { // it has ended since
		s.loop.eng.cluster.ask(by, &codec.Publish{Req: by.req, Room: o.ID, Flags: o.Flags, To: o.To})
		return
	}
	m.Req = by.req
	pub.p, pub.num = o.Outbound, m.Pub
	s.keep(by, pub)
	s.reply(m)
	pub.awaitAcks()
}

// answered lets a publication's acknowledgements go, now that the client knows its number.
func (p *publication) answered() {
	if p.unanswered {
		p.unanswered = false
		p.awaitAcks()
	}
}

// errMoved refuses what another node may do in a moment.
var errMoved = &room.Error{Code: codec.CodeMoved, Text: "the room is on its way to another node"}

// reply answers: together with all else that the session is told after its read, or, outside of a read, at the end of the drain.
func (s *session) reply(c codec.Control) {
	if s.loop.reading == s {
		s.send(c)
	} else {
		s.queueControl(c)
	}
}

// later replies from another goroutine.
func (s *session) later(c codec.Control) {
	s.loop.post(item{kind: itemDo, do: func() { s.reply(c) }})
}

// codeOf returns the code of a refusal.
func codeOf(err error) codec.Code {
	if re, ok := errors.AsType[*room.Error](err); ok {
		return re.Code
	}
	return codec.CodeOverloaded
}
