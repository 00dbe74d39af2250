package carry

import (
	"cmp"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// edge is a room that this node does not relay and has clients of. Its mirror and its outbounds hang on one link, that
// to the target which the core has named.
type edge struct {
	id     codec.RoomID
	target string // the node to attach to; "" if there is none at the moment
	at     *link  // where it is attached; nil if it is not
	paused bool   // nothing is to be asked of the target before a timer says so
	pauses uint64 // of which this is the last
	tries  int    // attempts in a row that came to nothing

	phase  phase       // of the mirror, on the link
	ticket Ticket      // of the attempt, unless that is away
	wanted bool        // there are, or will be, subscribers
	owner  bool        // the account whose inbox the room is has asked for it
	mirror *room.Room  // nil before the first answer
	whole  bool        // it has had all that the relay had: clients may come
	reign  codec.Reign // the newest that was heard of

	waiting []*request // subscribers that wait for the mirror
	through []detour   // nodes that wait for it likewise
	least   least      // what these have
	seats   int        // of the clients who waited, how many have not taken their seats yet
	guests  []*link    // of the nodes, which have not
	told    uint64     // the tally

	asks []*request  // requests to be sent
	outs []*outbound // publishers

	idle   int64           // since when nobody is there; 0: somebody was at the last look
	lost   int64           // since when the link to the relay is broken; 0: it is not
	denied map[string]bool // who has said that there is no such room
	since  int64           // when the first of them did; 0: none
}

// phase is how far a mirror has come on the link that its edge is attached to.
type phase uint8

const (
	away    phase = iota // not asked for
	asked                // asked for: nothing has come
	filling              // mirrored has come, and what the relay had is coming
	fed                  // the relay has said that all of that is here
)

// detour is a node that wants a room by way of this one.
type detour struct {
	k   *link
	m   *codec.Mirror
	has *had
}

const (
	// unknownFor is how long an edge that has been attached, or cannot ask everybody, goes on looking for its room when
	// all others say that there is none.
	unknownFor = 3 * time.Second
	// idleFor is how long an edge that nobody needs is kept.
	idleFor = time.Second
	// retryMin and retryMax lie between two attempts.
	retryMin = 5 * time.Millisecond
	retryMax = 200 * time.Millisecond
)

// Tallies that are none.
const (
	untold  = ^uint64(0) // the relay has not been told yet
	unheard = untold - 1 // it would not listen: it has not answered the request for the mirror
)

// edge returns the edge of a room that this node does not relay, making it if need be.
func (n *Node) edge(id codec.RoomID) *edge {
	e := n.edges[id]
	if e == nil {
		e = &edge{id: id, denied: make(map[string]bool)}
		if len(n.edges) == 0 {
			n.digestAt = n.now + int64(digestEvery)
			n.after(upkeepEvery, n.upkeep)
		}
		n.edges[id], n.sweep = e, nil
		e.target = n.core.Edge(id, true)
	}
	return e
}

// drop forgets an edge.
func (n *Node) drop(e *edge) {
	delete(n.edges, e.id)
	n.sweep = nil
	n.core.Edge(e.id, false)
	n.part(e.id, func(*link, leave) bool { return true })
}

// leave is that of an edge that said nothing: until when the other node may count this one, which is as long as a link
// is waited for; and the newest reign that was heard of then.
type leave struct {
	until int64
	reign codec.Reign
}

// told reports whether that can be said when the edge is fed elsewhere, in a reign: from then on what arrives counts
// there. A relay in an older reign, which acknowledges by itself, must hear first that it is none, and who has the room
// from that must come to the newer one: see part and dismiss.
func (l leave) told(reign codec.Reign) bool { return !l.reign.Before(reign) }

// leaving returns the links by which edges have left without a word.
func (n *Node) leaving() (ks []*link) {
	for _, p := range n.peers {
		if p.up != nil && len(p.up.left) > 0 {
			ks = append(ks, p.up)
		}
	}
	slices.SortFunc(ks, func(a, b *link) int { return cmp.Compare(a.id, b.id) })
	return ks
}

// part tells the nodes that the edge of a room has left without a word, as far as that can be said now.
func (n *Node) part(id codec.RoomID, now func(k *link, l leave) bool) {
	for _, k := range n.leaving() {
		if l, is := k.left[id]; is && now(k, l) {
			delete(k.left, id)
			n.do.Send(k.id, unsubscribe(id))
		}
	}
}

// settled reports whether the relay feeds the mirror, and takes a publisher if nobody wants the mirror.
func (e *edge) settled() bool {
	if e.wanted {
		return e.phase == fed
	}
	return slices.ContainsFunc(e.outs, func(o *outbound) bool { return o.way == taker })
}

// regained follows what settles an edge whose relay was lost.
func (n *Node) regained(e *edge) {
	if e.lost != 0 {
		n.do.Regained(time.Duration(n.now - e.lost))
		e.lost = 0
	}
}

// needed reports whether somebody needs the edge.
func (e *edge) needed() bool {
	return len(e.waiting)+len(e.through)+len(e.asks)+len(e.outs) > 0 || e.mirror != nil && !e.mirror.Empty()
}

// aim moves an edge to another node. The same node again means: a little later.
func (n *Node) aim(id codec.RoomID, to string) {
	e := n.edges[id]
	if e == nil {
		return
	}
	if e.target == to {
		n.retry(e)
		return
	}
	n.unplug(e, moving)
	e.target, e.tries, e.paused = to, 0, false
	n.drive(e)
}

// retry takes an edge off its link, and drives it again when a moment has passed, a longer one each time.
func (n *Node) retry(e *edge) {
	n.unplug(e, moving)
	n.pause(e)
}

// pause has nothing more asked for an edge until a moment has passed, a longer one each time.
func (n *Node) pause(e *edge) {
	if e.paused {
		return
	}
	e.paused = true
	e.pauses++
	this := e.pauses
	wait := min(retryMin<<min(e.tries, 6), retryMax)
	e.tries++
	n.after(wait, func() {
		if n.edges[e.id] == e && e.pauses == this && e.paused {
			e.paused = false
			n.drive(e)
		}
	})
}

// parting is why an edge leaves the link that it is attached to.
type parting uint8

const (
	unneeded parting = iota // nobody wants anything of the room any more
	moving                  // it goes on at another node, or begins anew
	cut                     // there is no link any more
)

// unplug takes an edge off its link. While somebody needs the room the node there is not told: it may be an older
// relay, and what that takes must not count as arrived without this node until it hears that it is none. See leave.
func (n *Node) unplug(e *edge, why parting) {
	if e.at == nil {
		return
	}
	if why != cut {
		n.do.Tell(e.at.id, unfeed{room: e.id, quiet: why == moving})
	} else if e.lost == 0 && e.settled() {
		e.lost = n.now
	}
	if why == moving && e.phase != away {
		e.at.left[e.id] = leave{n.now + 2*int64(n.rooms.Config().Stall), e.reign}
	}
	n.uncall(e.ticket)
	e.at, e.phase, e.ticket = nil, away, 0
	for _, o := range e.outs {
		n.uncall(o.ticket)
		o.way, o.ticket = none, 0
	}
}

// drive does for an edge what can be done now: ask for the mirror, have the publishers taken, send the requests.
func (n *Node) drive(e *edge) {
	p := n.peers[e.target]
	if p == nil {
		if e.target == "" && len(n.core.Chain(e.id)) <= 1 {
			n.unknown(e, "")
		}
		return
	}
	if p.up == nil || e.paused {
		return
	}
	e.at = p.up
	if e.needed() && n.cutOffFromRelay(e) { // who serves this node as an edge of the relay does so with a mirror only
		e.wanted = true
	}
	if e.wanted && e.phase == away {
		n.askMirror(e)
	}
	for _, o := range slices.Clone(e.outs) {
		switch {
		case o.way != none || !o.wanted():
		case o.by != 0 && n.circular(e, n.links[o.by]):
			n.over(o, codec.CodeMoved)
		default:
			n.askPublish(e, o)
		}
	}
	qs := e.asks
	e.asks = nil
	for _, q := range qs {
		if q.Link != 0 && n.circular(e, n.links[q.Link]) {
			n.refuse(q, errMoved)
			continue
		}
		if _, opens := q.M.(*codec.Inbox); opens && n.opensHere(e.id) {
			n.later = append(n.later, func() { n.take(q) })
		} else {
			n.forward(e, q)
		}
	}
}

// circular reports whether what another node asks for by way of this one would go round in circles: this node would ask
// the other, or does not reach the relay either.
func (n *Node) circular(e *edge, by *link) bool {
	return by == nil || e.target == by.Name || n.cutOffFromRelay(e)
}

// cutOffFromRelay reports whether the target is not the room's relay, as far as this node knows, but somebody who can
// reach it.
func (n *Node) cutOffFromRelay(e *edge) bool {
	relay := n.core.Where(e.id)
	return relay != "" && relay != e.target && relay != n.self && n.core.Unreachable(relay)
}

// refusedBy follows a node's word that it does not relay the room.
func (n *Node) refusedBy(e *edge, from string, m *codec.Refused) {
	if m.Code == codec.CodeRoomUnknown {
		n.unknown(e, from)
		return
	}
	if m.Code == codec.CodeMoved {
		n.elsewhere(e, from, "")
	} else if n.edges[e.id] == e && e.target == from {
		n.retry(e)
	}
}

// tell follows a node's word who relays a room.
func (r moved) tell(n *Node, k *link) {
	delete(k.left, r.room)
	if e := n.edges[r.room]; e != nil && k.open && k.dialed && e.target == k.Name {
		n.movedFrom(e, k.Name, r.to)
	}
}

func (n *Node) movedFrom(e *edge, from, to string) {
	n.unplug(e, moving)
	n.elsewhere(e, from, to)
}

// elsewhere goes on where the core says after a node's word that it does not relay the room. An edge that was looking
// for its room (unknown) was not where the core thinks: it must not stay there because the core sees nothing new.
func (n *Node) elsewhere(e *edge, from, to string) {
	n.core.Moved(e.id, from, to)
	n.leave()
	if n.edges[e.id] == e && e.target == from {
		n.aim(e.id, n.core.Edge(e.id, true))
	}
}

// unknown follows a node's word that there is no such room: only if all who could know say so there is none.
func (n *Node) unknown(e *edge, from string) {
	if from != "" {
		e.denied[from] = true
	}
	if e.since == 0 {
		e.since = n.now
	}
	held := false
	if st := n.core.State(e.id); st != nil {
		held = st.Ended == 0
	}
	unheard := false // somebody may know who cannot be asked at the moment
	for _, name := range n.knowing(e.id) {
		switch p := n.peers[name]; {
		case p == nil || e.denied[name]:
		case p.up == nil:
			unheard = true
		default:
			n.unplug(e, moving)
			e.target = name
			n.drive(e)
			return
		}
	}
	attached := e.mirror != nil || slices.ContainsFunc(e.outs, func(o *outbound) bool {
		return o.until == 0 && o.out.Number() != 0
	})
	if held || (attached || unheard) && n.now-e.since < int64(unknownFor) {
		clear(e.denied)
		n.unplug(e, moving)
		e.target = n.core.Edge(e.id, true)
		n.retry(e)
		return
	}
	n.abandon(e)
}

// knowing returns the nodes that may know a room: its chain, and those that drain, which are in no chain and may not
// have handed over yet what they have.
func (n *Node) knowing(id codec.RoomID) []string {
	names := n.core.Chain(id)
	for _, name := range sorted(n.peers) {
		if n.peers[name].member.Draining && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// abandon gives an edge up: the room is gone.
func (n *Node) abandon(e *edge) {
	code := codec.CodeNodeLost
	if st := n.core.State(e.id); st != nil && st.Ended != 0 {
		code = st.Ended
	}
	n.unplug(e, unneeded)
	for _, o := range slices.Clone(e.outs) {
		n.over(o, code)
	}
	qs := append(e.waiting, e.asks...)
	e.waiting, e.asks = nil, nil
	for _, q := range qs {
		if _, opens := q.M.(*codec.Inbox); opens { // it is to be made
			n.later = append(n.later, func() { n.take(q) })
		} else {
			n.refuse(q, room.ErrUnknown)
		}
	}
	n.noThrough(e)
	if e.mirror != nil && e.mirror.IsMirror() {
		n.rooms.End(e.mirror, code)
	}
	n.drop(e)
}

// noThrough answers the nodes that wait for the room by way of this one: there is none.
func (n *Node) noThrough(e *edge) {
	for _, d := range e.through {
		n.do.Tell(d.k.id, deny{d.m, room.ErrUnknown})
	}
	e.through = nil
}

// tell follows the relay's word that the room has ended, or this node's part as a subscriber: what is published here
// goes on then.
func (r closed) tell(n *Node, _ *link) {
	e := n.fedBy(r.room, r.ticket)
	if e == nil {
		return
	}
	publishes := r.code == codec.CodeTooSlow
	if publishes {
		n.uncall(e.ticket)
		e.phase, e.ticket = away, 0
	} else {
		n.unplug(e, unneeded)
	}
	qs := e.waiting
	e.waiting, e.mirror, e.wanted, e.whole, e.least = nil, nil, false, false, least{}
	for _, q := range qs {
		n.refuse(q, room.ErrUnknown)
	}
	n.noThrough(e)
	for _, o := range slices.Clone(e.outs) {
		if !publishes {
			n.over(o, r.code)
		}
	}
	if len(e.asks)+len(e.outs) == 0 {
		n.unplug(e, unneeded)
		n.drop(e)
	} else {
		n.drive(e)
	}
}

// tell mirrors a room anew.
func (r strayed) tell(n *Node, k *link) {
	if e := n.fedBy(r.room, r.ticket); e != nil {
		why := "a mirror does not fit its relay (" + r.code.String() + "); mirrored anew"
		n.do.Note(Note{Text: why, Warn: true, Peer: k.Name, Room: r.room})
		n.retry(e)
	}
}

// hidden follows the relay's word that the room is an inbox, of none of those who wait for it here as far as they had
// said then.
func (n *Node) hidden(e *edge) {
	n.turnStrangersAway(e)
	e.through = slices.DeleteFunc(e.through, func(d detour) bool {
		strange := d.m.Flags&codec.MirrorInbox == 0
		if strange {
			n.do.Tell(d.k.id, deny{d.m, room.ErrNotAccepted})
		}
		return strange
	})
	e.wanted = e.mirror != nil || len(e.waiting)+len(e.through) > 0
	if e.wanted {
		n.retry(e)
		return
	}
	n.unused(e)
}

// turnStrangersAway answers those who wait for an inbox that is not theirs.
func (n *Node) turnStrangersAway(e *edge) {
	e.waiting = slices.DeleteFunc(e.waiting, func(q *request) bool {
		strange := e.id != codec.InboxOf(q.Account)
		if strange {
			n.refuse(q, room.ErrUnknown)
		}
		return strange
	})
}

// unused drops an edge that nobody is left on: what strangers ask leaves nothing behind.
func (n *Node) unused(e *edge) {
	if n.edges[e.id] == e && len(e.waiting)+len(e.through)+len(e.asks)+len(e.outs) == 0 && e.mirror == nil {
		n.unplug(e, unneeded)
		n.drop(e)
	}
}
