package carry

import (
	"bytes"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What other nodes want of this one.

// tell takes a room's state from another node.
func (r tells) tell(n *Node, k *link) {
	if p := n.peers[k.Name]; p == nil || p.down != k { // an older link of it, whose last words these are
		return
	}
	n.core.Got(k.Name, &r.m.RoomState, r.m.Flags, r.m.Req)
	n.bury(r.m.Room)
}

// tell takes what has changed of a room's state.
func (r changes) tell(n *Node, k *link) {
	if p := n.peers[k.Name]; p == nil || p.down != k {
		return
	}
	n.core.GotChange(k.Name, r.m)
	n.bury(r.m.Room)
}

// tell answers a node that wants to mirror a room.
func (r wants) tell(n *Node, k *link) {
	n.serve(k, r.m, r.has)
}

// tell tells a node where rooms are that it thinks it mirrors from here.
func (r lost) tell(n *Node, k *link) {
	for _, id := range r.rooms {
		n.core.Touch(id)
		n.do.Send(k.id, &codec.Moved{Room: id, To: n.core.Where(id)})
	}
}

// tell tells what this node knows of a room.
func (r inspects) tell(n *Node, k *link) {
	n.do.Send(k.id, &codec.Report{Req: r.m.Req, JSON: n.report(r.m.Room)})
}

// tell hands on what an operator wants.
func (r operates) tell(n *Node, k *link) {
	if k.open {
		n.do.Operate(k.id, r.m.Req, bytes.Clone(r.m.JSON))
	}
}

// serve answers a node that wants to mirror a room: as its relay, as an edge that can reach the relay, or by saying who
// does.
func (n *Node) serve(k *link, m *codec.Mirror, has *had) {
	if !k.open {
		return
	}
	n.core.Touch(m.Room)
	if n.core.Relays(m.Room) && n.core.State(m.Room).Reign().Before(m.Reign) {
		n.core.Heard(m.Room, m.Reign)
	}
	st := n.core.State(m.Room)
	r, err := n.rooms.Get(m.Room)
	here := err == nil && n.core.Relays(m.Room)
	refuse := func(why *room.Error) { n.do.Tell(k.id, deny{m, why}) }
	switch {
	case here && st.Reign().Before(m.Reign): // another relays it, or did: the two will meet
		refuse(errMoved)
	case here && r.IsInbox() && m.Flags&codec.MirrorInbox == 0:
		refuse(room.ErrNotAccepted)
	case here:
		n.admit(k, admit{m, has, r, st.RoomHead})
	case n.core.Relays(m.Room), st != nil && st.Ended != 0: // it has just ended, or the core knows that it has
		refuse(room.ErrUnknown)
	case m.Flags&codec.MirrorThrough != 0:
		n.serveThrough(k, m, has)
	case st != nil:
		if to := n.core.Where(m.Room); to != k.Name {
			n.do.Send(k.id, &codec.Moved{Room: m.Room, To: to})
		}
		refuse(errMoved)
	default:
		refuse(room.ErrUnknown)
	}
}

// admit lets a node into a room, and notes that it may be there.
func (n *Node) admit(k *link, c admit) {
	if id := c.m.Room; !slices.Contains(n.shown[id], k.Name) {
		n.shown[id] = append(n.shown[id], k.Name)
	}
	n.do.Tell(k.id, c)
}

// serveThrough serves a room that another node relays: the asking node cannot reach that one.
func (n *Node) serveThrough(k *link, m *codec.Mirror, has *had) {
	e := n.edge(m.Room)
	e.owner = e.owner || m.Flags&codec.MirrorInbox != 0
	n.freshen(e)
	switch {
	case n.circular(e, k):
		n.do.Tell(k.id, deny{m, errMoved})
	case e.mirror != nil && e.mirror.IsInbox() && m.Flags&codec.MirrorInbox == 0:
		n.do.Tell(k.id, deny{m, room.ErrNotAccepted})
	case e.whole:
		head := e.mirror.State().RoomHead
		if head.Epoch, head.Relay, head.Birth = e.reign.Epoch, e.reign.Relay, e.reign.Birth; head.Relay == "" {
			head.Relay = e.target
		}
		n.admit(k, admit{m, has, e.mirror, head})
	default:
		e.forgo(k)
		e.awaitThrough(detour{k, m, has})
		n.drive(e)
	}
}

// forgo forgets that another node waits for the room by way of this one.
func (e *edge) forgo(k *link) {
	e.through = slices.DeleteFunc(e.through, func(d detour) bool { return d.k == k })
}

// tell takes another node's word that it does not wait for a room by way of this one any more.
func (r forgoes) tell(n *Node, k *link) {
	if e := n.edges[r.room]; e != nil {
		e.forgo(k)
	}
}
