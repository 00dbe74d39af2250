package engine

import (
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// A link is a connection with another node: a session like a client's, but for what this file and its two neighbours say. On a link
// that this node dialed it is the edge (uplink.go), on one that it accepted it is who was asked (downlink.go).
type link struct {
	c      *cluster
	peer   peerID
	dialed bool

	// The loop's.
	heardAt  int64
	pingedAt int64
	lanes    map[lane]*publication // the publishers that this link carries: at an edge those of its mirrors, at a relay those of the edge
	last     *publication          // of lanes, the one used last

	// Of a dialed link.
	feeds      map[codec.RoomID]*room.Room // mirrors that this link feeds
	outs       map[lane]*outbound
	wanted     map[codec.RoomID]uint32 // mirrors asked for, by the request
	publishing map[uint32]*outbound    // asked for and not answered, by the request

	// Of an accepted link.
	mirrors map[codec.RoomID]*member   // what the edge mirrors from here
	callers map[identity]*publication  // who publishes by this link
	through map[codec.RoomID]bool      // rooms that are served as an edge of their relay
	joining *codec.State               // the beginning of a state whose rest has not come
	digest  map[codec.RoomID]struct{}  // likewise
	heads   map[*member]codec.RoomHead // of those on their way in

	early []*codec.State // came before the node was in the view; the cluster goroutine's
}

// lane is a publisher on a link.
type lane struct {
	room codec.RoomID
	num  uint16
}

// identity is a client over its reconnections, in one room.
type identity struct {
	room     codec.RoomID
	account  string
	instance uint64
}

const (
	// linkPing is how long a link may be silent before it is asked for a sign of life, linkSilence before it counts as broken.
	linkPing    = 200 * time.Millisecond
	linkSilence = 800 * time.Millisecond
)

func newLink(c *cluster, p peerID, dialed bool) *link {
	k := &link{c: c, peer: p, dialed: dialed, lanes: make(map[lane]*publication)}
	if dialed {
		k.feeds, k.outs = make(map[codec.RoomID]*room.Room), make(map[lane]*outbound)
		k.wanted, k.publishing = make(map[codec.RoomID]uint32), make(map[uint32]*outbound)
	} else {
		k.mirrors, k.callers = make(map[codec.RoomID]*member), make(map[identity]*publication)
		k.through, k.heads = make(map[codec.RoomID]bool), make(map[*member]codec.RoomHead)
	}
	return k
}

// open starts the session of a link. Loop only.
func (k *link) open(s *session) {
	s.phase = phaseOpen
	k.heardAt = s.loop.now
	s.loop.links = append(s.loop.links, s)
	s.loop.eng.hot(s.loop)
	k.c.post(func() { k.c.linkUp(s) })
}

// leave ends what the session of a link carried. Loop only.
func (k *link) leave(s *session) {
	for _, p := range k.lanes {
		p.p.Detach(p, s.loop.now)
		p.ended = true
	}
	for _, o := range k.outs {
		o.Unlink(s)
	}
	clear(k.lanes)
	clear(k.outs)
	clear(k.feeds)
	clear(k.callers)
	clear(k.heads)
	k.last = nil
	k.c.post(func() { k.c.linkDown(s) })
}

// push routes a run of frames. A fault concerns the lane, never the link.
func (k *link) push(s *session, run room.Run) {
	pub := k.last
	if pub == nil || pub.room != run.Room || pub.num != run.Key.Pub {
		if pub = k.lanes[lane{run.Room, run.Key.Pub}]; pub == nil {
			k.stray(s, run.Room, run.Key.Pub, codec.CodeNotPublishing, run.Frames)
			return
		}
		k.last = pub
	}
	if _, err := pub.p.Push(pub, run, s.loop.now); err != nil {
		k.stray(s, run.Room, run.Key.Pub, codeOf(err), run.Frames)
		return
	}
	pub.awaitAcks()
}

// pushGap routes a gap likewise.
func (k *link) pushGap(s *session, g codec.Gap) {
	pub := k.lanes[lane{g.Room, g.Pub}]
	if pub == nil {
		k.stray(s, g.Room, g.Pub, codec.CodeNotPublishing, 1)
		return
	}
	if err := pub.p.PushGap(pub, g, s.loop.now); err != nil {
		k.stray(s, g.Room, g.Pub, codeOf(err), 1)
		return
	}
	pub.awaitAcks()
}

// stray is what becomes of frames that could not be taken. An edge is told, and has its client begin anew. What comes for a mirror that
// is no more, or that another link feeds now, is nothing to care for; anything else means that mirror and relay do not agree.
func (k *link) stray(s *session, id codec.RoomID, num uint16, code codec.Code, frames int) {
	if !k.dialed {
		s.refuse(id, num, code, frames)
		return
	}
	s.loop.stats.refused.Add(uint64(frames))
	switch code {
	case codec.CodeNotPublishing, codec.CodeSuperseded, codec.CodeRoomUnknown, codec.CodeMoved:
	default:
		k.c.log.Warn().Str("peer", k.peer.name).Stringer("room", id).Stringer("reason", code).Msg("a mirror does not fit its relay; mirrored anew")
		k.c.post(func() { k.c.resync(id, s) })
	}
}

// ended is what a publication of a link does when its publisher's part here has ended.
func (k *link) ended(p *publication, code codec.Code) {
	if !k.dialed {
		p.s.queueControl(&codec.Drop{Room: p.room, Pub: p.num, Code: code})
	}
}

// forget takes a publication off the link.
func (k *link) forget(p *publication) {
	if k.last == p {
		k.last = nil
	}
	if at := (lane{p.room, p.num}); k.lanes[at] == p {
		delete(k.lanes, at)
	}
	for who, q := range k.callers {
		if q == p {
			delete(k.callers, who)
			break
		}
	}
}

// tickLinks asks silent links for a sign of life and closes those that give none. Loop only.
func (l *loop) tickLinks() {
	kept := l.links[:0]
	for _, s := range l.links {
		if s.closed || s.doomed || s.closing {
			continue
		}
		kept = append(kept, s)
		k := s.link
		switch silent := l.now - k.heardAt; {
		case silent > int64(linkSilence):
			l.stats.silent.Add(1)
			k.c.log.Warn().Str("peer", k.peer.name).Msg("a node is silent; its link is closed")
			s.doom()
		case silent > int64(linkPing) && l.now-k.pingedAt > int64(linkPing):
			k.pingedAt = l.now
			s.queueControl(&codec.Ping{Echo: uint64(l.now)})
		}
	}
	clear(l.links[len(kept):])
	l.links = kept
	if len(kept) > 0 {
		l.eng.hot(l)
	}
}

// dispatch handles one control frame of a link. An error closes it.
func (k *link) dispatch(s *session, typ byte, frame []byte) error {
	err := k.handle(s, typ, frame)
	if err != nil {
		k.c.log.Error().Err(err).Str("peer", k.peer.name).Bool("dialed", k.dialed).Hex("frame", frame[:min(len(frame), 64)]).Msg("a node breaks the protocol; its link is closed")
	}
	return err
}

func (k *link) handle(s *session, typ byte, frame []byte) error {
	switch typ {
	case codec.TypePing:
		var m codec.Ping
		if err := m.Parse(frame); err != nil {
			return err
		}
		s.send(&codec.Pong{Echo: m.Echo})
		return nil
	case codec.TypePong:
		return nil
	case codec.TypeGap:
		var m codec.Gap
		if err := m.Parse(frame); err != nil {
			return err
		}
		k.pushGap(s, m)
		return nil
	}
	var m codec.Control
	var err error
	if codec.NewLink(typ) != nil {
		m, err = codec.ParseLink(frame)
	} else {
		m, err = codec.ParseControl(frame)
	}
	if err != nil {
		return err
	}
	if e, ok := m.(*codec.Error); ok {
		k.c.log.Warn().Str("peer", k.peer.name).Stringer("reason", e.Code).Str("detail", e.Text).Msg("the other node closes the link")
		s.doom()
		return nil
	}
	if k.dialed {
		return k.fromRelay(s, m)
	}
	return k.fromEdge(s, m)
}

var errLinkFrame = &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "a node does not send this frame on this side of a link"}
