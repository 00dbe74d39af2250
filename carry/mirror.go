package carry

import (
	"cmp"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// The mirror of an edge: how it is asked for, filled, and opened to clients.

// askMirror subscribes this node at the relay, with the positions that it has or, at first, those of the client who
// waits.
func (n *Node) askMirror(e *edge) {
	// One that was never whole has nothing that a new one lacks, and may lack what those who wait for it need.
	if e.mirror != nil && !e.whole && n.rooms.Forget(e.mirror) {
		e.mirror = nil
	}
	t := n.next()
	m := &codec.Mirror{Req: t.wire(), Room: e.id}
	if n.cutOffFromRelay(e) {
		m.Flags = codec.MirrorThrough
	}
	if e.owner || e.mirror != nil && e.mirror.IsInbox() {
		m.Flags |= codec.MirrorInbox
	}
	var lives map[uint16]codec.Life
	if e.mirror != nil {
		m.Have, lives = e.mirror.Positions()
	} else {
		m.Flags |= codec.MirrorNew
		m.Have, m.Resumes = e.least.positions(), e.least.some
	}
	var frames []codec.Control
	if n.peers[e.target].member.Level >= node.LevelChanges {
		for _, h := range codec.HaveFrames(m.Req, e.id, m.Have[:min(len(m.Have), maxHave)], lives) {
			frames = append(frames, h)
		}
		m.Have, m.Reign = nil, e.reign
	} else { // what is not named begins where a late joiner's does; what is here already is no news then
		m.Have = m.Have[:min(len(m.Have), codec.MaxMirrorPositions)]
	}
	delete(e.at.left, e.id)
	e.phase, e.ticket, e.told = asked, t, unheard
	from := e.target
	n.call(e.at, t, func(answer codec.Control) {
		if e.ticket != t {
			return
		}
		switch m := answer.(type) {
		case *codec.OK: // all that the relay had is here
			n.filled(e)
		case *codec.Refused:
			e.phase, e.ticket = away, 0
			if m.Code == codec.CodeNotAccepted {
				n.hidden(e)
			} else {
				n.refusedBy(e, from, m)
			}
		}
	})
	n.do.Tell(e.at.id, feedRoom{t, e.id, e.reign, e.mirror == nil, append(frames, m)})
}

// least is the least that those have of each stream who wait for a mirror and were in the room before, of as many
// streams as one may name. Who joins late needs nothing.
type least struct {
	some bool // there is somebody
	at   map[codec.StreamKey]uint64
}

// with adds somebody who was in the room and has so much.
func (l *least) with(have []codec.Position) {
	if l.some = true; l.at == nil {
		l.at = make(map[codec.StreamKey]uint64, len(have))
	}
	for _, p := range have {
		if last, is := l.at[p.StreamKey]; is {
			l.at[p.StreamKey] = min(last, p.Last)
		} else if len(l.at) < codec.MaxPositions {
			l.at[p.StreamKey] = p.Last
		}
	}
}

// positions returns it in order of the streams.
func (l *least) positions() (have []codec.Position) {
	for key, last := range l.at {
		have = append(have, codec.Position{StreamKey: key, Last: last})
	}
	slices.SortFunc(have, func(a, b codec.Position) int {
		return cmp.Or(cmp.Compare(a.Pub, b.Pub), cmp.Compare(a.Dtype, b.Dtype))
	})
	return have
}

// freshen gives a mirror up that has let go of what somebody who comes to it may need.
func (n *Node) freshen(e *edge) {
	if e.mirror != nil && e.mirror.Stale() && n.rooms.Forget(e.mirror) {
		n.unplug(e, unneeded)
		e.mirror, e.whole = nil, false
	}
}

// await has a client's subscription wait for the mirror.
func (e *edge) await(q *request) {
	e.waiting, e.wanted = append(e.waiting, q), true
	if sub, is := q.M.(*codec.Subscribe); is && (sub.Resumes || len(sub.Have) > 0) {
		e.least.with(sub.Have)
	}
}

// awaitThrough has a node wait for it that wants the room by way of this one.
func (e *edge) awaitThrough(d detour) {
	e.through, e.wanted = append(e.through, d), true
	if d.has.resumes || len(d.has.have) > 0 || d.m.Flags&codec.MirrorNew == 0 {
		e.least.with(d.has.have)
	}
}

// fedBy returns the edge that a report is about; nil if the attempt that it tells of is over.
func (n *Node) fedBy(id codec.RoomID, t Ticket) *edge {
	if e := n.edges[id]; e != nil && t != 0 && e.ticket == t {
		return e
	}
	return nil
}

// tell takes the first answer: what the room is.
func (r mirrored) tell(n *Node, k *link) {
	e := n.edges[r.room.ID]
	if e == nil { // it was given up meanwhile
		if !r.room.IsMirror() || n.rooms.Forget(r.room) {
			return
		}
		e = n.edge(r.room.ID)
	}
	n.mirror(e, r.room)
	if e.ticket != r.ticket || e.mirror == nil {
		return
	}
	if e.reign.Before(r.reign) {
		n.dismiss(e.id, r.relay)
		e.reign = r.reign
	}
	e.phase, e.tries, e.since, e.told = filling, 0, 0, untold
	clear(e.denied)
	if e.mirror.IsInbox() {
		n.turnStrangersAway(e)
	}
	n.core.Attached(e.id, r.relay)
}

// mirror takes a mirror that is there, with clients in it maybe, whatever has become of the attempt that made it;
// unless it was given up meanwhile.
func (n *Node) mirror(e *edge, r *room.Room) {
	if e.mirror != r && r.IsMirror() && n.holds(r) {
		e.mirror, e.whole = r, r.IsWhole()
	}
}

// tell notes in which reign the node has the room that an edge has left meanwhile.
func (r admitted) tell(n *Node, k *link) {
	if l, is := k.left[r.room]; is {
		if l.reign.Before(r.reign) {
			l.reign = r.reign
		}
		k.left[r.room] = l
		if e := n.edges[r.room]; e != nil && e.phase == fed {
			n.leaveOthers(e)
		}
	}
}

// leaveOthers tells the nodes that an edge which is fed now has left before, as far as they may know.
func (n *Node) leaveOthers(e *edge) {
	n.part(e.id, func(k *link, l leave) bool { return k != e.at && l.told(e.reign) })
}

// tell asks again with what the mirror has.
func (r found) tell(n *Node, _ *link) {
	if e := n.edges[r.room.ID]; e != nil {
		n.mirror(e, r.room)
		if e.ticket == r.ticket {
			n.retry(e)
		}
	}
}

// holds reports whether a room is the one that is here under its number: it has not ended.
func (n *Node) holds(r *room.Room) bool {
	is, err := n.rooms.Get(r.ID)
	return err == nil && is == r
}

// tell follows the answer of a node that has not heard of the newest reign.
func (r outdated) tell(n *Node, k *link) {
	if e := n.fedBy(r.room, r.ticket); e != nil {
		n.movedFrom(e, k.Name, "")
	}
}

// filled admits who waited for the mirror.
func (n *Node) filled(e *edge) {
	if e.mirror == nil {
		return
	}
	e.phase, e.tries, e.whole = fed, 0, true
	n.leaveOthers(e)
	n.regained(e)
	qs := e.waiting
	e.waiting = nil
	e.seats += len(qs)
	for _, q := range qs {
		n.here(q)
	}
	through := e.through
	e.through, e.least = nil, least{}
	for _, d := range through {
		n.serve(d.k, d.m, d.has)
		if d.k.open {
			e.guests = append(e.guests, d.k)
			n.do.Tell(d.k.id, usher{e.id})
		}
	}
	n.seated(e)
}

// Seated says that a subscriber that was sent back (Effects.Here) has its seat in the mirror, or will not have one.
func (n *Node) Seated(id codec.RoomID, now int64) {
	n.enter(now)
	if e := n.edges[id]; e != nil && e.seats > 0 {
		e.seats--
		n.seated(e)
	}
	n.leave()
}

// seated has count what those have acknowledged who waited for a mirror, when all of them have their seats in it.
func (n *Node) seated(e *edge) {
	if e.mirror != nil && e.coming() == 0 {
		e.mirror.Unhold()
		n.tally(e)
	}
}

// coming returns how many are on their way to a seat in the mirror.
func (e *edge) coming() int { return e.seats + len(e.guests) }

// tell follows a node to its seat.
func (r ushered) tell(n *Node, k *link) {
	if e := n.edges[r.room]; e != nil {
		n.leaves(e, k)
	}
}

// leaves notes that a node is on its way to a seat no more.
func (n *Node) leaves(e *edge, k *link) {
	if i := slices.Index(e.guests, k); i >= 0 {
		e.guests = slices.Delete(e.guests, i, i+1)
		n.seated(e)
	}
}

// attends reports whether the relay of an inbox knows that somebody is here: who sends to it is not refused then, from
// wherever. A relay that has been asked for the mirror and has had no tally since takes it that somebody may be.
func (e *edge) attends() bool { return e.phase == fed && e.told != 0 && e.told < unheard }

// tally tells the relay how many subscribers the mirror has, and who they are if it drops nothing, as far as that has
// changed and nobody is on the way to a seat.
func (n *Node) tally(e *edge) {
	if e.mirror == nil || !e.whole || e.at == nil || e.phase == away || e.told == unheard || e.coming() > 0 {
		return
	}
	subs, moves := uint64(e.mirror.Subscribers()), e.mirror.Moves(e.told == untold)
	if subs != e.told || len(moves) > 0 {
		e.told = subs
		n.do.Tell(e.at.id, tally{e.mirror, subs, moves})
	}
}
