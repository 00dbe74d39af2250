package engine

import (
	"errors"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// publication is a session's right to push into a room. It implements room.Holder. The sessions of links have one for each
// publisher that they carry.
type publication struct {
	s      *session
	room   codec.RoomID
	num    uint16
	p      room.Pusher
	acking bool // on the loop's list of publications that wait for acknowledgements
	ended  bool

	unanswered bool // the client does not know its number yet: acknowledgements wait
	withheld   int  // bytes pushed since acknowledgements are held back
}

// Cut implements room.Holder. Any goroutine.
func (p *publication) Cut(of room.Pusher, code codec.Code) {
	p.s.loop.post(item{kind: itemPubCut, pub: p, of: of, code: code})
}

// AckNow implements room.Holder.
func (p *publication) AckNow(room.Pusher) { p.s.loop.post(item{kind: itemAck, pub: p}) }

// Count implements room.Holder.
func (p *publication) Count(_ room.Pusher, c codec.Count) {
	p.s.loop.post(item{kind: itemPubCount, pub: p, count: c})
}

// push routes a run of frames to its room. An error closes the session.
func (s *session) push(run room.Run) error {
	l := s.loop
	if s.link != nil {
		l.stats.linkFramesIn.Add(uint64(run.Frames))
		l.stats.linkBytesIn.Add(uint64(len(run.Raw)))
		s.link.push(s, run)
		return nil
	}
	l.stats.framesIn.Add(uint64(run.Frames))
	l.stats.bytesIn.Add(uint64(len(run.Raw)))
	ps := s.pushes()
	pub := ps.last
	if pub == nil || pub.room != run.Room {
		if pub = ps.pubs[run.Room]; pub == nil {
			return s.refuse(run.Room, run.Key.Pub, codec.CodeNotPublishing, run.Frames)
		}
		ps.last = pub
	}
	if run.Key.Pub != pub.num {
		return s.refuse(run.Room, run.Key.Pub, codec.CodeNotPublishing, run.Frames)
	}
	s.charge(ps, run.Frames, len(run.Raw))
	_, err := pub.p.Push(pub, run, l.now)
	if err != nil {
		return s.refused(err, run.Room, run.Key.Pub, run.Frames)
	}
	pub.awaitAcks()
	return pub.withhold(len(run.Raw))
}

// awaitAcks has the ticks look for acknowledgements until none is outstanding.
func (p *publication) awaitAcks() {
	if l := p.s.loop; !p.acking {
		p.acking = true
		l.acking = append(l.acking, p)
		l.eng.hot(l)
	}
}

// pushGap routes a publisher's gap.
func (s *session) pushGap(g codec.Gap) error {
	if s.link != nil {
		s.link.pushGap(s, g)
		return nil
	}
	pub := s.pubs()[g.Room]
	if pub == nil || g.Pub != pub.num {
		return s.refuse(g.Room, g.Pub, codec.CodeNotPublishing, 1)
	}
	if err := pub.p.PushGap(pub, g, s.loop.now); err != nil {
		return s.refused(err, g.Room, g.Pub, 1)
	}
	pub.awaitAcks()
	return nil
}

// refused tells the publisher of frames that were not taken; only a broken window closes the connection.
func (s *session) refused(err error, id codec.RoomID, pub uint16, frames int) error {
	var re *room.Error
	if !errors.As(err, &re) || re.Code == codec.CodeFlowViolation {
		return err
	}
	return s.refuse(id, pub, re.Code, frames)
}

// maxRefusals bounds the refusals of one session that wait for the tick: one for each room, publisher number and reason.
const maxRefusals = 64

// refuse counts frames that were not taken. The next tick tells the publisher; the connection stays open, unless that happens too often.
func (s *session) refuse(id codec.RoomID, pub uint16, code codec.Code, frames int) error {
	l, ps := s.loop, s.pushes()
	l.stats.refused.Add(uint64(frames))
	for i := range ps.refusals {
		if r := &ps.refusals[i]; r.Room == id && r.Pub == pub && r.Code == code {
			r.Frames += uint64(frames)
			return s.spend(costOther)
		}
	}
	if len(ps.refusals) == maxRefusals {
		ps.refusals[maxRefusals-1].Frames += uint64(frames)
		return s.spend(costOther)
	}
	if len(ps.refusals) == 0 {
		l.refusing = append(l.refusing, s)
		l.eng.hot(l)
	}
	ps.refusals = append(ps.refusals, codec.PushRefused{Room: id, Pub: pub, Code: code, Frames: uint64(frames)})
	return s.spend(costOther)
}

// sendAcks acknowledges what has arrived. Loop only.
func (p *publication) sendAcks() {
	if p.ended || p.unanswered {
		return
	}
	l := p.s.loop
	l.told = p
	p.p.Acks(p, l.tell)   // not a new function each time: there are many
	if p.p.Pending() { // also of a client that came back and has nothing to push
		p.awaitAcks()
	}
}

func (p *publication) sendCount(c codec.Count) {
	if !p.ended {
		p.s.queueControl(&c)
	}
}

// cut ends the publication: what is still pushed is refused from now on. If the room itself ended and the session
// subscribes to it too, the outlet has ended the publication already.
func (p *publication) cut(of room.Pusher, code codec.Code) {
	if p.ended || p.p != of {
		return // the session has published anew since
	}
	if code != codec.CodeMoved { // then what has arrived is for the next relay to say
		p.sendAcks()
	}
	p.end()
	if p.s.link != nil {
		p.s.link.ended(p, code)
		return
	}
	p.s.queueControl(&codec.Closed{Room: p.room, Code: code})
}

// end takes the publication off its session.
func (p *publication) end() {
	p.ended = true
	if p.s.link != nil {
		p.s.link.forget(p)
		return
	}
	ps := p.s.pushing
	if ps.last == p {
		ps.last = nil
	}
	if ps.pubs[p.room] == p {
		delete(ps.pubs, p.room)
	}
}
