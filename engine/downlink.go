package engine

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// maxState bounds a state that comes in several frames, by its entries: more than a room can have.
const maxState = 1 << 18

// maxDigests bounds a digest that comes in several frames, by its rooms.
const maxDigests = 1 << 22

// fromEdge handles a frame of the node that has dialed this one: it has clients of rooms that this node relays, or holds copies of their state.
func (k *link) fromEdge(s *session, m codec.Control) error {
	switch m := m.(type) {
	case *codec.Ack:
		if sub := k.mirrors[m.Room]; sub != nil && sub.o.room.Ack(sub, m.StreamKey, m.Seq, s.loop.now) != nil {
			k.c.log.Warn().Str("peer", k.peer.name).Stringer("room", m.Room).Msg("a node acknowledges what it was not sent")
		}
	case *codec.As:
		return k.as(s, m)
	case *codec.Mirror:
		m.Have = append([]codec.Position(nil), m.Have...)
		if m.Flags&codec.MirrorThrough != 0 { // for the requests that follow, too
			k.through[m.Room] = true
		} else {
			delete(k.through, m.Room)
		}
		k.c.post(func() { k.c.serve(s, m) })
	case *codec.Unsubscribe:
		if sub := k.mirrors[m.Room]; sub != nil {
			sub.detach(false)
		}
		delete(k.through, m.Room)
	case *codec.State:
		return k.state(s, m)
	case *codec.Drop:
		if pub := k.lanes[lane{m.Room, m.Pub}]; pub != nil { // its client may come back, here or elsewhere
			pub.p.Detach(pub, s.loop.now)
			pub.end()
		}
	case *codec.Tally:
		if sub := k.mirrors[m.Room]; sub != nil {
			sub.o.room.Tally(sub, int(min(m.Subscribers, 1<<31)), s.loop.now)
		}
	case *codec.Digest:
		return k.compare(s, m)
	case *codec.Inspect:
		k.c.post(func() { s.later(&codec.Report{Req: m.Req, JSON: k.c.report(m.Room)}) })
	default:
		return errLinkFrame
	}
	return nil
}

// as does a client's request on behalf of the other node.
func (k *link) as(s *session, m *codec.As) error {
	inner, err := codec.ParseControl(m.Frame)
	if err != nil {
		return err
	}
	id, req := requestOf(inner)
	if _, is := inner.(*codec.Subscribe); is || id == 0 {
		return errLinkFrame
	}
	s.request(caller{s: s, account: m.Account, instance: m.Instance, req: *req, renews: m.Renew}, inner)
	return nil
}

// state collects a room's state and hands it to the core.
func (k *link) state(s *session, m *codec.State) error {
	if j := k.joining; j != nil {
		if !j.Join(m) {
			return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "the rest of a state does not fit its beginning"}
		}
		m = j
	}
	k.joining = nil
	if m.Flags&codec.StateMore != 0 {
		if len(m.Grants)+len(m.Publishers) > maxState {
			return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "a state of more entries than a room can have"}
		}
		k.joining = m
		return nil
	}
	k.c.post(func() { k.c.got(s, m) })
	return nil
}

// compare repairs interest that either side has lost.
func (k *link) compare(s *session, m *codec.Digest) error {
	if k.digest == nil {
		k.digest = make(map[codec.RoomID]struct{}, len(m.Rooms))
	}
	for _, id := range m.Rooms {
		k.digest[id] = struct{}{}
	}
	if m.Flags&codec.DigestMore != 0 {
		if len(k.digest) > maxDigests {
			return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "a digest of too many rooms"}
		}
		return nil
	}
	all := k.digest
	k.digest = nil
	for id, sub := range k.mirrors {
		if _, ok := all[id]; !ok {
			sub.detach(false)
		}
	}
	for id := range all {
		if k.mirrors[id] == nil {
			k.c.post(func() { s.later(&codec.Moved{Room: id, To: k.c.core.Where(id)}) })
		}
	}
	return nil
}

// serve answers a node that wants to mirror a room: as its relay, as an edge that can reach the relay, or by saying who does.
func (c *cluster) serve(s *session, m *codec.Mirror) {
	st := c.core.State(m.Room)
	r, err := c.e.rooms.Get(m.Room)
	here := err == nil && c.core.Relays(m.Room)
	refuse := func(why *room.Error) { s.later(c.e.refusal(m.Req, why)) }
	switch {
	case here && r.IsInbox() && m.Flags&codec.MirrorInbox == 0:
		refuse(room.ErrNotAccepted)
	case here:
		head := st.RoomHead
		c.admit(s, m, r, head)
	case st != nil && st.Ended != 0:
		refuse(room.ErrUnknown)
	case m.Flags&codec.MirrorThrough != 0:
		c.serveThrough(s, m)
	case st != nil:
		refuse(errMoved)
		if to := c.core.Where(m.Room); to != s.link.peer.name {
			s.later(&codec.Moved{Room: m.Room, To: to})
		}
	default:
		refuse(room.ErrUnknown)
	}
}

// serveThrough serves a room that another node relays: the asking node cannot reach that one.
func (c *cluster) serveThrough(s *session, m *codec.Mirror) {
	e := c.edge(m.Room)
	e.owner = e.owner || m.Flags&codec.MirrorInbox != 0
	if c.circular(e, s.link) {
		s.later(c.e.refusal(m.Req, errMoved))
		return
	}
	if e.room != nil && e.room.IsInbox() && m.Flags&codec.MirrorInbox == 0 {
		s.later(c.e.refusal(m.Req, room.ErrNotAccepted))
		return
	}
	if e.synced && e.room != nil {
		head := e.room.State().RoomHead
		head.Relay = e.target
		c.admit(s, m, e.room, head)
		return
	}
	e.mirror = true
	e.through = append(e.through, detour{s, m})
	c.drive(e)
}

// admit makes the link a member of the room.
func (c *cluster) admit(s *session, m *codec.Mirror, r *room.Room, head codec.RoomHead) {
	s.loop.post(item{kind: itemDo, do: func() {
		k := s.link
		if s.closed || s.closing || s.doomed {
			return
		}
		if old := k.mirrors[m.Room]; old != nil {
			old.detach(false)
		}
		sub := &member{s: s, req: m.Req, counts: true}
		k.mirrors[m.Room], k.heads[sub] = sub, head
		if err := sub.join(r, room.Join{Link: k.peer.name, Counts: true, Have: m.Have, New: m.Flags&codec.MirrorNew != 0}); err != nil {
			delete(k.heads, sub)
			delete(k.mirrors, m.Room)
			s.reply(s.loop.eng.refusal(m.Req, err))
		}
	}})
}

// admitted answers a node's request for a mirror: what the room is, then what there is of it, then ok.
func (k *link) admitted(m *member) {
	m.s.queueControl(&codec.Mirrored{Req: m.req, RoomHead: k.heads[m]})
	delete(k.heads, m)
}
