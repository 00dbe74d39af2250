package engine

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// link is the role of a session that is a connection with another node: its bytes, its silence, its memberships. What
// its frames mean is for its port. It is that port's host, too.
type link struct {
	*session
	c      *cluster
	peer   node.Peer
	dialed bool
	port   *carry.Port
	proof  *node.Link // by which keys it was proved

	usedAt  atomic.Int64 // when something else than a sign of life went either way
	wokenAt atomic.Int64 // when it was used after a rest

	// The loop's.
	heardAt  int64
	pingedAt int64
	heads    map[*member]codec.RoomHead // of those on their way in
}

const (
	// linkPing is how long a link may be silent before it is asked for a sign of life, linkSilence before it counts as
	// broken.
	linkPing    = 200 * time.Millisecond
	linkSilence = 800 * time.Millisecond
	// linkRest is how long after its last use a link that carries nothing rests: whether the node lives is membership's to
	// say. It is longer than linkSilence, so that whoever uses a dead link finds out as if it had not rested.
	linkRest = 2 * time.Second
	// maxHeld bounds what comes by a link before its node is a member.
	maxHeld = 16 << 20
)

// linkID returns the link's name for the cluster goroutine.
func (k *link) linkID() carry.LinkID { return carry.LinkID(k.id) }

func (k *link) client() bool { return false }

func (k *link) payer() string { return k.peer.Name }

func (k *link) open(s *session) {
	l := s.loop
	s.phase = phaseOpen
	if !k.port.Ready() {
		s.phase = phaseHeld
	}
	k.heardAt = l.now
	l.links = append(l.links, k)
	k.use(l.now)
	k.c.linked(k)
}

// Resume implements carry.LinkHost: what has come meanwhile is handled.
func (k *link) Resume() {
	s, l := k.session, k.loop
	b := s.partial()
	s.phase = phaseOpen
	s.setPartial(nil)
	l.reading = s
	err := s.feed(b)
	l.reading = nil
	s.endTurn(err)
	s.heed()
}

func (k *link) dispatch(s *session, typ byte, frame []byte) error {
	err := k.handle(s, typ, frame)
	if err != nil {
		err = fmt.Errorf("%w; the frame begins with %x", err, frame[:min(len(frame), 64)])
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
	}
	k.use(s.loop.now)
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
		k.c.log.Warn().Str("peer", k.peer.Name).Stringer("reason", e.Code).Str("detail", e.Text).
			Msg("the other node closes the link")
		s.doom()
		return nil
	}
	return k.port.Frame(m, s.loop.now)
}

func (k *link) fault(err error) { k.c.member.Breach(k.peer, k.dialed, err) }

func (k *link) push(s *session, run room.Run) error {
	l := s.loop
	l.stats.linkFramesIn.Add(uint64(run.Frames))
	l.stats.linkBytesIn.Add(uint64(len(run.Raw)))
	k.use(l.now)
	k.port.Push(run, l.now)
	return nil
}

// Stray implements carry.LinkHost.
func (k *link) Stray(id codec.RoomID, num uint16, code codec.Code, frames int) {
	if k.dialed {
		k.loop.stats.refused.Add(uint64(frames))
	} else {
		_ = k.refuse(id, num, code, frames)
	}
}

func (k *link) part(*session) *carry.Part { return &k.port.Part }

// Forward implements room.Way. Any goroutine.
func (k *link) Forward(b *room.Batch, first, last uint64) {
	if b.Kind == room.KindStream {
		k.loop.stats.linkFramesOut.Add(last - first + 1)
		k.loop.stats.linkBytesOut.Add(uint64(len(b.B)))
	}
	k.loop.post(item{kind: itemSend, sess: k.session, batch: b.Retain()})
}

// Report implements carry.LinkHost.
func (k *link) Report(r carry.Report) {
	k.c.decide(func(now int64) { k.c.node.Report(k.linkID(), r, now) })
}

// Admit implements carry.LinkHost.
func (k *link) Admit(req uint32, r *room.Room, j room.Join, head codec.RoomHead) (carry.Member, error) {
	sub := &member{s: k.session, req: req, counts: j.Counts}
	k.heads[sub] = head
	if err := sub.join(r, j); err != nil {
		delete(k.heads, sub)
		return nil, err
	}
	return sub, nil
}

// admit answers a node's request for a mirror: what the room is, then what there is of it, then ok.
func (k *link) admit(m *member, rp *room.Replay) {
	m.o.links++
	k.queueControl(&codec.Mirrored{Req: m.req, RoomHead: k.heads[m]})
	delete(k.heads, m)
	rp.Conclude(m.o.room, &codec.OK{Req: m.req})
	m.replay(rp)
}

func (k *link) left(m *member) {
	if m.at >= 0 {
		m.o.links--
	}
	delete(k.heads, m)
	k.port.Left(m.o.room.ID, m)
}

// Ack implements carry.Member.
func (m *member) Ack(key codec.StreamKey, seq uint64, now int64) {
	_ = m.o.room.Ack(m, key, seq, now) // a node may have had more of another relay
}

// Tally implements carry.Member.
func (m *member) Tally(subs int, clients []codec.ClientMove, now int64) {
	m.o.room.Tally(m, subs, clients, now)
}

// Elsewhere implements room.Member.
func (m *member) Elsewhere(marks []uint64) {
	m.o.loop.post(item{kind: itemDo, do: func() {
		if !m.ended {
			m.s.queueControl(&codec.Elsewhere{Room: m.o.room.ID, Marks: marks})
		}
	}})
}

// Leave implements carry.Member.
func (m *member) Leave(followed bool) { m.detach(followed) }

func (k *link) close(s *session) {
	k.port.Close(s.loop.now)
	clear(k.heads)
	k.c.unlinked(k)
}

// use notes that a link is used: from now on a node that does not answer is found out. Any goroutine.
func (k *link) use(now int64) {
	if now-k.usedAt.Load() > int64(linkRest) {
		k.wokenAt.Store(now)
	}
	k.usedAt.Store(now)
	k.loop.warm()
}

// rests reports whether a link carries nothing, and has carried nothing for a while. Loop only.
func (k *link) rests(now int64) bool {
	return k.phase == phaseOpen && !k.port.Carries() && k.pingedAt <= k.heardAt && now-k.usedAt.Load() > int64(linkRest)
}

// tickLinks asks silent links that are in use for a sign of life and closes those that give none. Loop only.
func (l *loop) tickLinks() {
	suspended := l.now-l.linksAt > int64(linkSilence)/2 // then the silence may be this node's own
	l.linksAt = l.now
	kept := l.links[:0]
	for _, k := range l.links {
		if k.gone() {
			continue
		}
		kept = append(kept, k)
		if k.heard || k.paused { // while it waits for a turn it is not read
			k.heard, k.heardAt = false, l.now
		}
		if suspended {
			k.wokenAt.Store(l.now)
		}
		if k.rests(l.now) {
			continue
		}
		l.warm()
		switch silent := l.now - max(k.heardAt, k.wokenAt.Load()); {
		case silent > int64(linkSilence):
			l.stats.silent.Add(1)
			k.c.log.Warn().Str("peer", k.peer.Name).Msg("a node is silent; its link is closed")
			k.doom()
		// who is not answered yet, or not read, hears so that we live
		case l.now-k.pingedAt > int64(linkPing) && (silent > int64(linkPing) || k.phase == phaseHeld || k.paused):
			k.pingedAt = l.now
			k.queueControl(&codec.Ping{Echo: uint64(l.now)})
		}
	}
	clear(l.links[len(kept):])
	l.links = kept
}
