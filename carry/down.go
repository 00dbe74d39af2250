package carry

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// A link that the other node has dialed: it has clients of rooms that this one relays, or holds copies of their state.

// maxState bounds a state that comes in several frames, by its entries: more than a room can have.
const maxState = 1 << 18

// maxHave bounds what a node tells of what it has of a room, by streams.
const maxHave = 1 << 18

// maxDigest bounds a digest that comes in several frames, by its rooms.
const maxDigest = 1 << 22

// fromEdge handles a frame of the node that has dialed this one.
func (p *Port) fromEdge(m codec.Control, now int64) error {
	switch m := m.(type) {
	case *codec.Ack:
		if sub := p.members[m.Room]; sub != nil {
			sub.Ack(m.StreamKey, m.Seq, now)
		}
	case *codec.As:
		return p.as(m, now)
	case *codec.Have:
		return p.had(m)
	case *codec.Mirror:
		has := &had{have: m.Have}
		if h := p.have; h != nil && h.room == m.Room && h.req == m.Req {
			has = h
		}
		has.resumes = m.Resumes
		p.have = nil
		p.wanted[m.Room] = m.Req
		if m.Flags&codec.MirrorThrough != 0 { // for the requests that follow, too
			p.through[m.Room] = true
		} else {
			delete(p.through, m.Room)
		}
		p.report(wants{m, has})
	case *codec.Unsubscribe:
		p.leave(m.Room, false)
		if p.through[m.Room] && p.wanted[m.Room] != 0 {
			p.report(forgoes{m.Room})
		}
		delete(p.wanted, m.Room)
		delete(p.through, m.Room)
	case *codec.State:
		return p.state(m)
	case *codec.Change:
		p.report(changes{m})
	case *codec.Drop:
		if pub := p.lanes[lane{m.Room, m.Pub}]; pub != nil { // its client may come back, here or elsewhere
			pub.leave(now)
		}
	case *codec.Tally:
		if sub := p.members[m.Room]; sub != nil {
			sub.Tally(int(min(m.Subscribers, 1<<31)), m.Clients, now)
		}
	case *codec.Digest:
		return p.compare(m)
	case *codec.Inspect:
		p.report(inspects{m})
	case *codec.Operate:
		p.report(operates{m})
	default:
		return errFrame
	}
	return nil
}

// had is what the other node has of a room.
type had struct {
	req   uint32
	room  codec.RoomID
	have  []codec.Position
	lives map[uint16]codec.Life

	resumes bool // of its subscribers some were in the room before the streams that are not named
}

// had collects that.
func (p *Port) had(m *codec.Have) error {
	h := p.have
	if h == nil || h.req != m.Req || h.room != m.Room {
		h = &had{req: m.Req, room: m.Room, lives: make(map[uint16]codec.Life)}
		p.have = h
	}
	for _, pub := range m.Pubs {
		h.lives[pub.Num] = pub.Life
		for _, s := range pub.Streams {
			h.have = append(h.have, codec.Position{StreamKey: codec.StreamKey{Pub: pub.Num, Dtype: s.Dtype}, Last: s.Last})
		}
	}
	if len(h.have) > maxHave {
		return &codec.ProtocolError{Code: codec.CodeListTooLong, Text: "more positions than a node may tell of"}
	}
	return nil
}

// as does a client's request on behalf of the other node.
func (p *Port) as(m *codec.As, now int64) error {
	inner, err := codec.ParseControl(m.Frame)
	if err != nil {
		return err
	}
	id, req := requestOf(inner)
	if _, is := inner.(*codec.Subscribe); is || id == 0 {
		return errFrame
	}
	p.Request(Ask{
		Session: SessionID(p.link), Link: p.link, Through: p.through[id], Account: m.Account, Instance: m.Instance,
		Req: *req, At: now, Renew: m.Renew, M: inner,
	}, now)
	return nil
}

// do makes the other node a member of a room, unless it has changed its mind.
func (c admit) do(p *Port, _ int64) {
	if p.wanted[c.m.Room] != c.m.Req {
		return
	}
	delete(p.wanted, c.m.Room)
	p.leave(c.m.Room, true)
	sub, err := p.lh.Admit(c.m.Req, c.room, room.Join{
		Link: p.peer, Counts: true, Have: c.has.have, Lives: c.has.lives, New: c.m.Flags&codec.MirrorNew != 0,
		Resumes: c.has.resumes,
	}, c.head)
	if err != nil {
		p.lh.Refuse(Ask{Session: SessionID(p.link), Link: p.link, Req: c.m.Req}, err)
		return
	}
	p.members[c.m.Room] = sub
}

func (c usher) do(p *Port, _ int64) { p.report(ushered(c)) }

func (c deny) do(p *Port, _ int64) {
	if p.wanted[c.m.Room] == c.m.Req {
		delete(p.wanted, c.m.Room)
	}
	p.lh.Refuse(Ask{Session: SessionID(p.link), Link: p.link, Req: c.m.Req}, c.why)
}

func (p *Port) leave(id codec.RoomID, followed bool) {
	if sub := p.members[id]; sub != nil {
		delete(p.members, id)
		sub.Leave(followed)
	}
}

// Left says that the room, or its policy, has ended the link's membership.
func (p *Port) Left(id codec.RoomID, m Member) {
	if p.members[id] == m {
		delete(p.members, id)
	}
}

func (c relayed) do(p *Port, _ int64) {
	if p.members[c.room] != nil {
		p.lh.Send(&codec.Moved{Room: c.room, To: c.by})
	}
}

func (c dismissed) do(p *Port, _ int64) {
	if p.members[c.room] != nil {
		p.leave(c.room, false)
		p.lh.Send(&codec.Moved{Room: c.room, To: c.to})
	}
}

// state collects a room's state.
func (p *Port) state(m *codec.State) error {
	if j := p.early; j != nil {
		if !j.Join(m) {
			return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "the rest of a state does not fit its beginning"}
		}
		m = j
	}
	p.early = nil
	if m.Flags&codec.StateMore != 0 {
		if len(m.Grants)+len(m.Publishers) > maxState {
			return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "a state of more entries than a room can have"}
		}
		p.early = m
		return nil
	}
	p.report(tells{m})
	return nil
}

// compare repairs interest that either side has lost.
func (p *Port) compare(m *codec.Digest) error {
	if p.digest == nil {
		p.digest = make(map[codec.RoomID]struct{}, len(m.Rooms))
	}
	for _, id := range m.Rooms {
		p.digest[id] = struct{}{}
	}
	if m.Flags&codec.DigestMore != 0 {
		if len(p.digest) > maxDigest {
			return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "a digest of too many rooms"}
		}
		return nil
	}
	all := p.digest
	p.digest = nil
	for _, id := range sorted(p.members) {
		if _, ok := all[id]; !ok {
			p.leave(id, false)
		}
	}
	var none []codec.RoomID
	for _, id := range sorted(all) {
		if p.members[id] == nil && p.wanted[id] == 0 {
			none = append(none, id)
		}
	}
	if len(none) > 0 {
		p.report(lost{none})
	}
	return nil
}
