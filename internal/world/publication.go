package world

import (
	"errors"
	"iter"
	"maps"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// publication is a session's right to push into a room. It implements room.Holder.
type publication struct {
	s       *session
	room    codec.RoomID
	num     uint16
	p       room.Pusher
	waiting bool // for a tick
	ended   bool
}

// Cut implements room.Holder.
func (p *publication) Cut(of room.Pusher, code codec.Code) {
	p.s.l.box.post(func() { p.cut(of, code) })
}

// AckNow implements room.Holder.
func (p *publication) AckNow(room.Pusher) { p.s.l.box.post(p.sendAcks) }

// Count implements room.Holder.
func (p *publication) Count(_ room.Pusher, c codec.Count) {
	p.s.l.box.post(func() {
		if !p.ended {
			p.s.send(&c)
		}
	})
}

func (p *publication) sendAcks() {
	if p.ended {
		return
	}
	p.p.Acks(p, func(key codec.StreamKey, seq uint64) {
		p.s.send(&codec.Ack{Room: p.room, StreamKey: key, Seq: seq})
	})
	p.await()
}

// await has the ticks look for acknowledgements until none is outstanding.
func (p *publication) await() {
	if l := p.s.l; !p.waiting && !p.ended && p.p.Pending() {
		p.waiting = true
		l.acking = append(l.acking, p)
		l.hot()
	}
}

func (p *publication) cut(of room.Pusher, code codec.Code) {
	if p.ended || p.p != of {
		return
	}
	if code != codec.CodeMoved {
		p.sendAcks()
	}
	p.end()
	p.s.send(&codec.Closed{Room: p.room, Code: code})
}

func (p *publication) end() {
	p.ended = true
	if p.s.pubs[p.room] == p {
		delete(p.s.pubs, p.room)
	}
}

// endsWith ends the session's publication before its room's last word, which serves for both.
func (s *session) endsWith(id codec.RoomID) {
	if p := s.pubs[id]; p != nil {
		p.sendAcks()
		p.end()
	}
}

func (s *session) push(run room.Run) error {
	p := s.pubs[run.Room]
	if p == nil || p.num != run.Key.Pub {
		s.refuse(run.Room, run.Key.Pub, codec.CodeNotPublishing, run.Frames)
		return nil
	}
	_, err := p.p.Push(p, run, s.l.p.clock())
	return s.pushed(p, err, run.Frames)
}

func (s *session) pushGap(g codec.Gap) error {
	p := s.pubs[g.Room]
	if p == nil || p.num != g.Pub {
		s.refuse(g.Room, g.Pub, codec.CodeNotPublishing, 1)
		return nil
	}
	return s.pushed(p, p.p.PushGap(p, g, s.l.p.clock()), 1)
}

func (s *session) pushed(p *publication, err error, frames int) error {
	var re *room.Error
	switch {
	case err == nil:
		p.await()
	case !errors.As(err, &re) || re.Code == codec.CodeFlowViolation:
		return err
	default:
		s.refuse(p.room, p.num, re.Code, frames)
	}
	return nil
}

func (s *session) refuse(id codec.RoomID, num uint16, code codec.Code, frames int) {
	s.send(&codec.PushRefused{Room: id, Pub: num, Code: code, Frames: uint64(frames)})
}

// request does what a client asks of a room.
func (s *session) request(m codec.Control) {
	id, req := requestOf(m)
	if req == nil {
		s.fail(&codec.ProtocolError{Code: codec.CodeUnexpected, Text: "a client does not send this frame"})
		return
	}
	r, err := s.l.p.rooms.Get(id)
	var answer codec.Control
	if err == nil {
		answer, err = s.perform(r, m, *req)
	}
	if err != nil {
		s.answer(*req, err)
		return
	}
	s.send(answer)
}

func requestOf(m codec.Control) (id codec.RoomID, req *uint32) {
	switch m := m.(type) {
	case *codec.Publish:
		return m.Room, &m.Req
	case *codec.Unpublish:
		return m.Room, &m.Req
	case *codec.Subscribe:
		return m.Room, &m.Req
	case *codec.Grant:
		return m.Room, &m.Req
	case *codec.Revoke:
		return m.Room, &m.Req
	case *codec.Remove:
		return m.Room, &m.Req
	case *codec.Stat:
		return m.Room, &m.Req
	}
	return 0, nil
}

func (s *session) perform(r *room.Room, m codec.Control, req uint32) (codec.Control, error) {
	ok, now := &codec.OK{Req: req}, s.l.p.clock()
	switch m := m.(type) {
	case *codec.Publish:
		pub := s.pubs[m.Room]
		if pub == nil {
			pub = &publication{s: s, room: m.Room}
		}
		p, next, err := r.Publish(pub, s.account, s.instance, m.Flags&codec.PubCount != 0)
		if err != nil {
			return nil, err
		}
		pub.p, pub.num = p, p.Num
		s.pubs[m.Room] = pub
		pub.await()
		return &codec.Published{Req: req, Room: r.ID, Pub: p.Num, Policy: r.Settings().Policy, Window: uint32(p.Window()), Streams: next}, nil
	case *codec.Unpublish:
		pub := s.pubs[m.Room]
		if pub == nil {
			return nil, room.ErrNotPublishing
		}
		pub.sendAcks()
		err := pub.p.(*room.Publisher).Unpublish(pub, now)
		pub.end()
		return ok, err
	case *codec.Grant:
		return ok, r.Grant(s.account, m.Account)
	case *codec.Revoke:
		return ok, r.Revoke(s.account, m.Account, now)
	case *codec.Remove:
		return ok, s.l.p.rooms.Remove(m.Room, s.account)
	case *codec.Stat:
		info := r.Info(now)
		info.Req = req
		return &info, nil
	}
	return nil, room.ErrOption
}
