package engine

import (
	"github.com/timedge/timedge/codec"
)

// actions is the cluster as the core sees it.
type actions cluster

func (a *actions) cluster() *cluster { return (*cluster)(a) }

// Promote implements node.Actions: the room is made of its state, or the mirror becomes the room. Who publishes by a link does so here now.
func (a *actions) Promote(st *codec.RoomState) {
	c := a.cluster()
	now := c.e.now()
	r, err := c.e.rooms.Restore(st, now)
	if err != nil {
		c.log.Error().Err(err).Stringer("room", st.Room).Msg("a room could not be taken over")
		return
	}
	r.Hold(now + int64(settleHold))
	c.filled.Delete(st.Room)
	c.log.Info().Stringer("room", st.Room).Uint32("epoch", st.Epoch).Msg("relay of a room")
	c.arrived(st.Room)
}

// arrived ends this node's part as an edge of a room that it relays now.
func (c *cluster) arrived(id codec.RoomID) {
	if e := c.edges[id]; e != nil {
		delete(c.edges, id)
		if s := e.at; s != nil {
			// No word of this part's end: until the old relay knows of the new one, what it takes must not arrive without this node.
			s.loop.post(item{kind: itemDo, do: func() { delete(s.link.wanted, id) }})
		}
		c.unplug(e)
		for _, o := range e.outs {
			o.End(codec.CodeMoved)
		}
		c.again(append(e.waiting, e.asks...))
		for _, d := range e.through { // who wanted the room by way of this node may have it at once
			c.later = append(c.later, func() { c.serve(d.s, d.m) })
		}
	}
}

// Demote implements node.Actions.
func (a *actions) Demote(id codec.RoomID, to string) {
	c := a.cluster()
	r, err := c.e.rooms.Get(id)
	if err != nil {
		return
	}
	c.log.Info().Stringer("room", id).Str("relay", to).Msg("another node relays a room")
	for _, p := range c.peers {
		if p.down != nil {
			p.down.later(&codec.Moved{Room: id, To: to})
		}
	}
	r.Demote(c.e.now())
	c.later = append(c.later, func() {
		if !r.Empty() {
			e := c.edge(id)
			e.room, e.mirror = r, true
			c.drive(e)
		} else {
			c.e.rooms.Forget(r)
			if c.edges[id] == nil {
				c.core.Edge(id, false)
			}
		}
	})
}

// Merge implements node.Actions.
func (a *actions) Merge(st *codec.RoomState) {
	c := a.cluster()
	r, err := c.e.rooms.Get(st.Room)
	switch {
	case err != nil:
	case st.Ended != 0:
		c.e.rooms.End(r, st.Ended)
	default:
		now := c.e.now()
		r.Merge(st, now)
		r.Hold(now + int64(settleHold)) // as at a takeover
	}
}

// SendState implements node.Actions.
func (a *actions) SendState(to string, st *codec.RoomState, flags uint8, req uint32) {
	c := a.cluster()
	p := c.peers[to]
	if p == nil || p.up == nil {
		return // the core has been told, or will be, that the node is away
	}
	m := codec.State{Req: req, Flags: flags, RoomState: *st}
	for _, part := range m.Split() {
		b, err := c.e.pool.Encode(&part)
		if err != nil {
			c.log.Error().Err(err).Stringer("room", st.Room).Msg("a room's state cannot be sent")
			return
		}
		p.up.post(b)
	}
}

// Ack implements node.Actions.
func (a *actions) Ack(to string, req uint32) {
	if p := a.cluster().peers[to]; p != nil && p.down != nil {
		p.down.later(&codec.OK{Req: req})
	}
}

// Attach implements node.Actions.
func (a *actions) Attach(id codec.RoomID, to string) {
	c := a.cluster()
	c.later = append(c.later, func() { c.aim(id, to) })
}
