package carry

import (
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// relay is the Node as its core sees it: what is decided there, done here. It must not call the core.
type relay Node

func (a *relay) node() *Node { return (*Node)(a) }

// Promote implements node.Actions: the room is made of its state, or the mirror becomes the room. Who publishes by a
// link does so here now.
func (a *relay) Promote(st *codec.RoomState) {
	n := a.node()
	n.cede()
	r, err := n.rooms.Restore(st, n.now)
	if err != nil {
		n.do.Note(Note{Text: "a room could not be taken over", Warn: true, Room: st.Room, Err: err})
		return
	}
	n.hold(r, n.now+int64(contestedFor))
	n.note(&n.gained, Note{Text: "relay of a room", Room: st.Room, Epoch: st.Epoch})
	n.arrived(st.Room, st.Reign())
}

// arrived ends this node's part as an edge of a room that it relays now. Nodes that have the room by way of it begin
// anew: what they leave is no detour any more.
func (n *Node) arrived(id codec.RoomID, reign codec.Reign) {
	n.tellMembers(id)
	e := n.edges[id]
	if e == nil {
		return
	}
	delete(n.edges, id)
	n.sweep = nil
	n.regained(e)
	if e.at != nil {
		n.unplug(e, moving)
	}
	for len(e.outs) > 0 {
		n.over(e.outs[0], codec.CodeMoved)
	}
	for _, q := range append(e.waiting, e.asks...) {
		n.here(q)
	}
	// who has served this node as an edge is one of its own now, and is to wait for it no more
	n.part(id, func(_ *link, l leave) bool { return l.told(reign) })
	for _, d := range e.through { // who wanted the room by way of this node may have it at once
		n.later = append(n.later, func() { n.serve(d.k, d.m, d.has) })
	}
}

// Demote implements node.Actions. What follows comes with that of other rooms: see cede.
func (a *relay) Demote(id codec.RoomID, to string) {
	n := a.node()
	r, err := n.rooms.Get(id)
	if err != nil {
		return
	}
	n.note(&n.lost, Note{Text: "another node relays a room", Room: id, Peer: to})
	n.ceding = append(n.ceding, cession{r, to})
}

// cession is a room that another node relays now.
type cession struct {
	room *room.Room
	to   string
}

// cede does what follows of rooms that other nodes relay now. Each link is told of all those that it was let into, in
// as few frames as hold them, before any of them sends its members away.
func (n *Node) cede() {
	if len(n.ceding) == 0 {
		return
	}
	rooms := n.ceding
	n.ceding = nil
	for _, c := range rooms {
		for _, name := range n.shown[c.room.ID] {
			if p := n.peers[name]; p != nil && p.down != nil {
				n.about(p, p.down, &codec.Moved{Room: c.room.ID, To: c.to})
			}
		}
		delete(n.shown, c.room.ID)
	}
	n.do.flush()
	for _, c := range rooms {
		c.room.Demote(n.now)
		n.later = append(n.later, func() { n.ceded(c.room) })
	}
}

// ceded forgets a room that another node relays now, or has it go on as a mirror.
func (n *Node) ceded(r *room.Room) {
	if n.core.Relays(r.ID) {
		return // it has come back meanwhile
	}
	if !n.rooms.Forget(r) { // somebody is in it, or has come this moment
		e := n.edge(r.ID)
		e.mirror, e.whole, e.wanted = r, true, true
		if st := n.core.State(r.ID); st != nil && e.reign.Before(st.Reign()) {
			e.reign = st.Reign()
		}
		n.drive(e)
	} else if n.edges[r.ID] == nil {
		n.core.Edge(r.ID, false)
	}
}

// tellMembers tells the nodes that were let into a room, if they are still there, that this one relays it now.
func (n *Node) tellMembers(id codec.RoomID) {
	for _, name := range n.shown[id] {
		if p := n.peers[name]; p != nil && p.down != nil {
			n.do.Tell(p.down.id, relayed{id, n.self})
		}
	}
}

// dismiss sends the nodes away that have a room by way of this one, which goes on in a newer reign: what arrives there
// is not to wait for them here, nor what arrives with the relay before to go without them.
func (n *Node) dismiss(id codec.RoomID, to string) {
	for _, name := range n.shown[id] {
		if p := n.peers[name]; p != nil && p.down != nil {
			n.do.Tell(p.down.id, dismissed{id, to})
		}
	}
	delete(n.shown, id)
}

// Merge implements node.Actions.
func (a *relay) Merge(st *codec.RoomState) {
	n := a.node()
	n.cede()
	r, err := n.rooms.Get(st.Room)
	switch {
	case err != nil:
	case st.Ended != 0:
		n.rooms.End(r, st.Ended)
	default:
		r.Merge(st, n.now)
		n.hold(r, n.now+int64(contestedFor)) // as at a takeover
	}
}

// hold has a new relay acknowledge nothing until every edge can have come: for a moment, and for as long as the relay
// before it has not heard of it and keeps its edges, but not beyond a time.
func (n *Node) hold(r *room.Room, until int64) {
	r.Hold(n.now + int64(settleHold))
	n.after(settleHold/2, func() {
		if n.now < until && n.core.Contested(r.ID) {
			n.hold(r, until)
		}
	})
}

// SendState implements node.Actions.
func (a *relay) SendState(to string, st *codec.RoomState, flags uint8, req uint32) {
	n := a.node()
	p := n.peers[to]
	if p == nil || p.up == nil {
		return // the core has been told, or will be, that the node is away
	}
	m := codec.State{Req: req, Flags: flags, RoomState: *st}
	parts := m.Split()
	for i := range parts {
		n.about(p, p.up, &parts[i])
	}
}

// SendChange implements node.Actions.
func (a *relay) SendChange(to string, ch *codec.Change) {
	n := a.node()
	if p := n.peers[to]; p != nil && p.up != nil {
		n.about(p, p.up, ch)
	}
}

// Decline implements node.Actions.
func (a *relay) Decline(to string, req uint32) {
	n := a.node()
	if p := n.peers[to]; p != nil && p.down != nil {
		n.about(p, p.down, refusal(req, room.ErrSequence))
	}
}

// Ack implements node.Actions.
func (a *relay) Ack(to string, req uint32) {
	n := a.node()
	if p := n.peers[to]; p != nil && p.down != nil {
		n.about(p, p.down, &codec.OK{Req: req})
	}
}

// Attach implements node.Actions.
func (a *relay) Attach(id codec.RoomID, to string) {
	n := a.node()
	n.later = append(n.later, func() { n.aim(id, to) })
}

// noteEvery is how often what becomes of rooms is noted: one line for however many there were.
const noteEvery = 200 * time.Millisecond

// tidings are rooms of which something is to be noted: the first with all there is to say, of others how many there
// are.
type tidings struct {
	first Note
	rooms int
}

// note notes what became of a room, with all of which the same is to be said.
func (n *Node) note(t *tidings, first Note) {
	if t.rooms++; t.rooms > 1 {
		return
	}
	t.first = first
	n.after(noteEvery, func() {
		if t.rooms > 1 {
			t.first = Note{Text: t.first.Text, Rooms: t.rooms}
		}
		n.do.Note(t.first)
		*t = tidings{}
	})
}
