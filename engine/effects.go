package engine

import (
	"time"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// effects is the cluster as its machine sees it: carry.Effects. The cluster goroutine's.
type effects cluster

// asker is a session that waits for answers.
type asker struct {
	s    *session
	open int // how many
}

// hold notes that a session waits for an answer.
func (c *cluster) hold(s *session) {
	a := c.askers[carry.SessionID(s.id)]
	if a == nil {
		a = &asker{s: s}
		c.askers[carry.SessionID(s.id)] = a
	}
	a.open++
}

// release returns the session that an answer is for; nil if it has left.
func (c *cluster) release(id carry.SessionID) *session {
	a := c.askers[id]
	if a == nil {
		return nil
	}
	if a.open--; a.open == 0 {
		delete(c.askers, id)
	}
	return a.s
}

// Dial implements carry.Effects.
func (x *effects) Dial(m node.Member) {
	c := (*cluster)(x)
	c.done.Add(1)
	go c.dial(m)
}

// Hang implements carry.Effects.
func (x *effects) Hang(l carry.LinkID) {
	if k := x.links[l]; k != nil {
		k.loop.post(item{kind: itemDo, do: k.doom})
	}
}

// Send implements carry.Effects.
func (x *effects) Send(l carry.LinkID, m codec.Control) {
	k := x.links[l]
	if k == nil {
		return
	}
	b, err := x.e.pool.Encode(m, nil)
	if err != nil {
		k.loop.post(item{kind: itemDo, do: func() { k.unsendable(m, err) }})
		return
	}
	k.use(x.e.now())
	k.loop.post(item{kind: itemSend, sess: k.session, batch: b})
}

// Tell implements carry.Effects.
func (x *effects) Tell(l carry.LinkID, cmd carry.Cmd) {
	if k := x.links[l]; k != nil {
		k.use(x.e.now())
		k.loop.post(item{kind: itemDo, do: func() {
			if !k.gone() {
				k.port.Do(cmd, k.loop.now)
			}
		}})
	}
}

// Answer implements carry.Effects.
func (x *effects) Answer(a carry.Ask, m codec.Control) {
	c := (*cluster)(x)
	s := c.release(a.Session)
	if s == nil {
		return
	}
	if r, is := m.(*codec.Refused); is {
		if a.Link == 0 && (r.Code == codec.CodeRoomUnknown || r.Code == codec.CodeNotAccepted) {
			s.absent(a)
			return
		}
		x.e.limits.refused.add(r.Code)
	}
	s.loop.post(item{kind: itemDo, do: func() { s.answered(a, m) }})
}

// Here implements carry.Effects.
func (x *effects) Here(a carry.Ask) {
	c := (*cluster)(x)
	sub, is := a.M.(*codec.Subscribe)
	seated := func() {
		if is {
			c.decide(func(now int64) { c.node.Seated(sub.Room, now) })
		}
	}
	s := c.release(a.Session)
	if s == nil {
		seated()
		return
	}
	s.loop.post(item{kind: itemDo, do: func() {
		s.again(a)
		seated()
	}})
}

// Give implements carry.Effects.
func (x *effects) Give(a carry.Ask, o *room.Outbound, t carry.Ticket) {
	c := (*cluster)(x)
	given := func(held bool) { c.decide(func(now int64) { c.node.Given(t, held, now) }) }
	s := c.release(a.Session)
	if s == nil {
		given(false)
		return
	}
	s.loop.post(item{kind: itemDo, do: func() { given(s.given(a, o)) }})
}

// Detached implements carry.Effects. Any goroutine.
func (x *effects) Detached(o *room.Outbound) {
	c := (*cluster)(x)
	c.decide(func(now int64) { c.node.Detached(o, now) })
}

// Regained implements carry.Effects.
func (x *effects) Regained(after time.Duration) { x.takeovers.observe(int64(after)) }

// Note implements carry.Effects.
func (x *effects) Note(n carry.Note) {
	x.e.operations.happened(n, x.e.now())
	ev := x.log.Info()
	if n.Warn {
		ev = x.log.Warn()
	}
	if n.Peer != "" {
		ev.Str("peer", n.Peer)
	}
	if n.Room != 0 {
		ev.Stringer("room", n.Room)
	}
	if n.Epoch != 0 {
		ev.Uint32("epoch", n.Epoch)
	}
	if n.Count != 0 {
		ev.Int("members", n.Count)
	}
	if n.Rooms != 0 {
		ev.Int("rooms", n.Rooms)
	}
	ev.AnErr("error", n.Err).Msg(n.Text)
}

// ask hands a request to the machine. Loop only.
func (c *cluster) ask(s *session, a carry.Ask) {
	c.decide(func(now int64) {
		c.hold(s)
		c.node.Ask(a, now)
	})
}

// performed hands an answer to the machine. Loop only.
func (c *cluster) performed(s *session, a carry.Ask, r *room.Room, answer codec.Control) {
	c.decide(func(now int64) {
		c.hold(s)
		c.node.Performed(a, r, answer, now)
	})
}

// registered makes the cluster know a room that a client has registered here. Loop only.
func (c *cluster) registered(s *session, a carry.Ask, r *room.Room, answer *codec.Registered) {
	s.asked = true
	c.decide(func(now int64) {
		c.hold(s)
		c.node.Registered(a, r, answer, now)
	})
}

// sessionLeft says that a session has closed which may wait for answers. Loop only.
func (c *cluster) sessionLeft(s *session) {
	id := carry.SessionID(s.id)
	c.decide(func(now int64) {
		delete(c.askers, id)
		c.node.Left(id, now)
	})
}

// linked takes a link that a loop has begun to read. Loop only.
func (c *cluster) linked(k *link) {
	c.decide(func(now int64) {
		c.links[k.linkID()] = k
		c.node.Linked(k.linkID(), k.peer, k.dialed, now)
	})
}

// unlinked follows a link's end. Loop only.
func (c *cluster) unlinked(k *link) {
	c.decide(func(now int64) {
		if c.links[k.linkID()] == nil {
			return
		}
		if delete(c.links, k.linkID()); k.dialed {
			c.broken.Add(1)
		}
		delete(c.askers, carry.SessionID(k.id))
		c.node.Unlinked(k.linkID(), now)
	})
}
