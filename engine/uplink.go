package engine

import (
	"bytes"
	"time"

	"github.com/timedge/timedge/codec"
)

// fillHold bounds how long a fresh mirror waits for the subscriber it was made for to take its seat, before what comes counts as arrived.
const fillHold = 2 * time.Second

// fromRelay handles a frame of the node that this one has dialed: it relays rooms that have clients here, or is asked for them.
func (k *link) fromRelay(s *session, m codec.Control) error {
	switch m := m.(type) {
	case *codec.Ack:
		if o := k.outs[lane{m.Room, m.Pub}]; o != nil {
			o.Acked(s, m.Dtype, m.Seq, s.loop.now)
		}
	case *codec.Joined:
		k.joined(s, m)
	case *codec.Left:
		if r := k.feeds[m.Room]; r != nil {
			r.ToldLeft(m.Pub, m.Code, s.loop.now)
			if pub := k.lanes[lane{m.Room, m.Pub}]; pub != nil {
				pub.end()
			}
		}
	case *codec.Closed:
		k.closed(s, m)
	case *codec.Count:
		if r := k.feeds[m.Room]; r != nil {
			r.ToldCount(*m)
		}
		for at, o := range k.outs {
			if at.room == m.Room {
				o.Count(*m)
			}
		}
	case *codec.Mirrored:
		k.mirrored(s, m)
	case *codec.Published:
		if o := k.publishing[m.Req]; o != nil {
			delete(k.publishing, m.Req)
			if o.Attach(s, m) {
				k.outs[lane{m.Room, m.Pub}] = o
			} else { // under another number: the client begins anew
				o.End(codec.CodeMoved)
			}
		}
		k.c.post(func() { k.c.answer(s, m.Req, m) })
	case *codec.Refused:
		delete(k.publishing, m.Req)
		k.c.post(func() { k.c.answer(s, m.Req, m) })
	case *codec.OK:
		k.c.post(func() { k.c.answer(s, m.Req, m) })
	case *codec.Info:
		k.c.post(func() { k.c.answer(s, m.Req, m) })
	case *codec.Report:
		m.JSON = bytes.Clone(m.JSON)
		k.c.post(func() { k.c.answer(s, m.Req, m) })
	case *codec.Moved:
		k.c.post(func() { k.c.moved(m.Room, k.peer.name, m.To) })
	case *codec.Drop:
		k.dropped(s, lane{m.Room, m.Pub}, m.Code)
	case *codec.PushRefused:
		// The relay did not take what this node had taken: only the client can mend that, by publishing anew.
		k.drop(s, lane{m.Room, m.Pub})
	default:
		return errLinkFrame
	}
	return nil
}

// want notes the request that asks for a mirror: an answer to an older one is none.
func (k *link) want(id codec.RoomID, req uint32) { k.wanted[id] = req }

// mirrored makes the mirror, before the frames that follow.
func (k *link) mirrored(s *session, m *codec.Mirrored) {
	if k.wanted[m.Room] != m.Req {
		return
	}
	e := s.loop.eng
	if _, err := e.rooms.Get(m.Room); err != nil {
		k.c.filled.Store(m.Room, true)
	}
	r, err := e.rooms.Mirror(&m.RoomHead, s.loop.now)
	if err != nil { // this node relays it meanwhile
		k.c.filled.Delete(m.Room)
		return
	}
	if k.c.fills(r) {
		r.Hold(s.loop.now + int64(fillHold))
	}
	k.feeds[m.Room] = r
	relay := m.Relay
	k.c.post(func() { k.c.mirrored(s, r, relay) })
}

// joined makes this link the holder of a publisher of a mirror.
func (k *link) joined(s *session, m *codec.Joined) {
	r := k.feeds[m.Room]
	if r == nil {
		return
	}
	at := lane{m.Room, m.Pub}
	pub := k.lanes[at]
	if pub == nil {
		pub = &publication{s: s, room: m.Room, num: m.Pub}
	}
	p, err := r.Told(pub, m.Pub, m.Account)
	if err != nil {
		return // the mirror has ended
	}
	pub.p = p
	k.lanes[at] = pub
	pub.awaitAcks()
}

// closed follows the end of a room, or of this node's part in it.
func (k *link) closed(s *session, m *codec.Closed) {
	r := k.feeds[m.Room]
	switch m.Code {
	case codec.CodeMoved, codec.CodeGoingAway, codec.CodeNodeLost:
		k.unfeed(s, m.Room)
		k.c.post(func() { k.c.moved(m.Room, k.peer.name, "") })
		return
	}
	k.unfeed(s, m.Room)
	if r != nil && r.IsMirror() {
		s.loop.eng.rooms.End(r, m.Code)
	}
	k.c.post(func() { k.c.closed(s, m.Room, m.Code) })
}

// unfeed ends what this link does for a mirror, and tells the other node.
func (k *link) unfeed(s *session, id codec.RoomID) {
	asked := k.wanted[id] != 0
	delete(k.wanted, id)
	delete(k.feeds, id)
	for at, pub := range k.lanes {
		if at.room == id {
			pub.p.Detach(pub, s.loop.now)
			pub.end()
		}
	}
	for at, o := range k.outs {
		if at.room == id {
			o.Unlink(s)
			delete(k.outs, at)
			s.queueControl(&codec.Drop{Room: id, Pub: at.num, Code: codec.CodeGone})
		}
	}
	for req, o := range k.publishing {
		if o.ID == id { // the answer comes too late
			delete(k.publishing, req)
		}
	}
	if asked {
		m := &codec.Unsubscribe{}
		m.Req, m.Room = ownReq, id // nobody waits for the answer
		s.queueControl(m)
	}
}

// dropped follows the relay's word that a publisher's part on this link has ended.
func (k *link) dropped(s *session, at lane, code codec.Code) {
	o := k.outs[at]
	if o == nil {
		return
	}
	delete(k.outs, at)
	o.Unlink(s)
	k.c.post(func() { k.c.dropped(s, o, code) })
}

// drop ends an outbound whose client has to begin anew.
func (k *link) drop(s *session, at lane) {
	if o := k.outs[at]; o != nil {
		delete(k.outs, at)
		o.End(codec.CodeMoved)
		s.queueControl(&codec.Drop{Room: at.room, Pub: at.num, Code: codec.CodeGone})
		k.c.post(func() {
			if e := k.c.edges[at.room]; e != nil {
				k.c.prune(e)
			}
		})
	}
}
