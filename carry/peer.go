package carry

import (
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// peer is another member: a process. This node dials it and keeps the link up; the other dials this one for its part.
type peer struct {
	node.Peer
	member node.Member
	up     *link         // the link that this node dialed; nil while there is none
	since  int64         // when that was
	down   *link         // the link that the other dialed
	pause  time.Duration // until the next attempt to dial, if this one is in vain, or the link soon ends
}

// packs reports whether it takes several frames in one.
func (p *peer) packs() bool { return p.member.Level >= node.LevelChanges }

// link is a connection with another node.
type link struct {
	node.Peer
	id       LinkID
	dialed   bool
	open     bool                   // the peer is a member, and this its link; not a stranger's, or one to be closed
	digested bool                   // the last digest named rooms
	left     map[codec.RoomID]leave // rooms whose edges have gone elsewhere
}

const (
	dialAgainMin = time.Millisecond // a process that is killed closes its links first, and its port a moment later
	dialAgainMax = 500 * time.Millisecond
	// steadyFor is how long a link lasts that is no vain attempt: one with a node that makes no sense ends at once, each
	// time.
	steadyFor = time.Second
)

// call is a request on a link that waits for its answer.
type call struct {
	link *link
	done func(answer codec.Control) // nil: the link broke
}

// call notes that a request is being sent on a link under a ticket's number.
func (n *Node) call(k *link, t Ticket, done func(answer codec.Control)) {
	n.calls[t.wire()] = &call{k, done}
}

// uncall forgets the request of a ticket, if one was sent: nobody waits for its answer any more, if there is to be one.
func (n *Node) uncall(t Ticket) { delete(n.calls, t.wire()) }

// View takes a new view of the cluster.
func (n *Node) View(v *node.View, now int64) {
	n.enter(now)
	for _, name := range sorted(n.peers) {
		if m, ok := v.Find(name); !ok || m.Birth != n.peers[name].Birth {
			n.expel(n.peers[name])
		}
	}
	var fresh []*peer
	for _, m := range v.Members {
		if m.Name == n.self {
			continue
		}
		if p := n.peers[m.Name]; p != nil {
			p.member = m
			continue
		}
		p := &peer{Peer: node.Peer{Name: m.Name, Birth: m.Birth}, member: m, pause: dialAgainMin}
		n.peers[m.Name] = p
		fresh = append(fresh, p)
	}
	n.core.SetView(v)
	n.leave()
	for _, p := range fresh {
		n.core.Away(p.Name, true) // until there is a link
		n.do.Dial(p.member)
	}
	for _, l := range sorted(n.links) { // strangers that are none any more
		if k := n.links[l]; !k.open && !k.dialed && n.peers[k.Name] != nil && n.peers[k.Name].Peer == k.Peer {
			n.accept(n.peers[k.Name], k)
		}
	}
	n.leave()
	for _, e := range n.ordered() {
		if n.edges[e.id] == e {
			clear(e.denied)
			n.drive(e)
			n.leave()
		}
	}
	n.do.Note(Note{Text: "the cluster has changed", Count: len(v.Members)})
}

// expel ends what there is with a process that is a member no more.
func (n *Node) expel(p *peer) {
	delete(n.peers, p.Name)
	for _, k := range []*link{p.up, p.down} {
		if k != nil {
			n.hang(k)
		}
	}
	if p.up != nil {
		n.cutOff(p)
	}
	n.rooms.Vacate(p.Name)
}

func (n *Node) hang(k *link) {
	k.open = false
	n.do.Hang(k.id)
}

// Linked says that there is a link with a process: one that Dial opened, or one that the other opened.
func (n *Node) Linked(l LinkID, at node.Peer, dialed bool, now int64) {
	n.enter(now)
	k := &link{Peer: at, id: l, dialed: dialed, left: make(map[codec.RoomID]leave)}
	n.links[l] = k
	p := n.peers[at.Name]
	member := p != nil && p.Peer == at
	switch {
	case dialed && member:
		n.reach(p, k)
	case dialed:
		n.hang(k)
	case member:
		n.accept(p, k)
	default:
		n.after(strangerFor, func() {
			if n.links[l] == k && !k.open {
				n.do.Note(Note{Text: "a link of a node that is no member is closed", Warn: true, Peer: at.Name})
				n.hang(k)
			}
		})
	}
	n.leave()
}

// reach takes the link that this node has dialed. There is one: an older one is closed.
func (n *Node) reach(p *peer, k *link) {
	if p.up != nil {
		n.hang(p.up)
		n.cutOff(p)
		n.core.Away(p.Name, true) // what the older was asked is not answered any more
	}
	p.up, p.since, k.open = k, n.now, true
	n.do.Note(Note{Text: "linked", Peer: p.Name})
	n.core.Away(p.Name, false)
	n.leave()
	for _, e := range n.ordered() {
		if n.edges[e.id] == e && e.target == p.Name {
			n.drive(e)
			n.leave()
		}
	}
}

// accept takes the link that the other has dialed, and lets its frames come.
func (n *Node) accept(p *peer, k *link) {
	if p.down != nil {
		n.hang(p.down)
	}
	p.down, k.open = k, true
	n.do.Tell(k.id, open{})
}

// Unlinked says that a link has ended. Nothing comes of it afterwards.
func (n *Node) Unlinked(l LinkID, now int64) {
	n.enter(now)
	k := n.links[l]
	if k == nil {
		return
	}
	delete(n.links, l)
	n.forsake(SessionID(l))
	for _, e := range n.ordered() {
		if n.edges[e.id] == e {
			e.forgo(k)
			n.leaves(e, k)
		}
	}
	p := n.peers[k.Name]
	switch {
	case p == nil || p.Peer != k.Peer: // its seats were not given up yet when the process left the view
		n.rooms.Vacate(k.Name)
	case p.up == k:
		n.do.Note(Note{Text: "link lost", Peer: p.Name})
		n.cutOff(p)
		n.core.Away(p.Name, true)
		if n.now-p.since < int64(steadyFor) {
			n.dialAgain(p)
			break
		}
		p.pause = dialAgainMin
		n.do.Dial(p.member) // at once: whether the port refuses tells whether the process is gone
	case p.down == k:
		p.down = nil
	}
	n.leave()
}

// cutOff ends what was on the link that this node had dialed.
func (n *Node) cutOff(p *peer) {
	up := p.up
	p.up, up.open = nil, false
	for _, e := range n.ordered() {
		if e.at == up {
			n.unplug(e, cut)
		}
	}
	for _, req := range sorted(n.calls) {
		if c := n.calls[req]; c != nil && c.link == up {
			delete(n.calls, req)
			c.done(nil)
		}
	}
}

// Unreached says that Dial was in vain; refused, that the member's port refuses connections: the process is gone.
func (n *Node) Unreached(m node.Member, refused bool, now int64) {
	n.enter(now)
	p := n.peers[m.Name]
	if p == nil || p.Birth != m.Birth {
		return
	}
	if refused {
		n.core.Down(p.Name)
		n.rooms.Vacate(p.Name)
	}
	n.dialAgain(p)
	n.leave()
}

// dialAgain dials a member after a pause, the longer the more often it was in vain.
func (n *Node) dialAgain(p *peer) {
	n.after(p.pause, func() {
		if n.peers[p.Name] == p && p.up == nil {
			n.do.Dial(p.member)
		}
	})
	p.pause = min(2*p.pause, dialAgainMax)
}

// tell takes the answer to a request, or to a state that the core has sent.
func (r answered) tell(n *Node, k *link) {
	if !k.open {
		return
	}
	if r.req&ownReq == 0 {
		switch r.m.(type) {
		case *codec.OK:
			n.core.Acked(k.Name, r.req)
		case *codec.Refused:
			n.core.Declined(k.Name, r.req)
		}
		return
	}
	if c := n.calls[r.req]; c != nil && c.link == k {
		delete(n.calls, r.req)
		c.done(r.m)
	}
}
