package carry

import "github.com/timedge/timedge/codec"

// parcels gathers frames about rooms that one call of the Node brings, by link, and sends them together (codec.Pack).
// Whatever else goes to a link goes behind what was gathered for it, so all stays in order.
type parcels struct {
	Effects
	links []LinkID // in the order in which they came
	of    map[LinkID][]codec.Control
}

// gather keeps a frame for a link until the call is over.
func (x *parcels) gather(l LinkID, m codec.Control) {
	if len(x.of[l]) == 0 {
		x.links = append(x.links, l)
	}
	x.of[l] = append(x.of[l], m)
}

// put sends what was gathered for a link.
func (x *parcels) put(l LinkID) {
	if ms := x.of[l]; len(ms) > 0 {
		delete(x.of, l)
		for _, m := range codec.Packed(ms) {
			x.Effects.Send(l, m)
		}
	}
}

// flush sends all that was gathered.
func (x *parcels) flush() {
	for _, l := range x.links {
		x.put(l)
	}
	x.links = x.links[:0]
}

// Send implements Effects.
func (x *parcels) Send(l LinkID, m codec.Control) {
	x.put(l)
	x.Effects.Send(l, m)
}

// Tell implements Effects.
func (x *parcels) Tell(l LinkID, c Cmd) {
	x.put(l)
	x.Effects.Tell(l, c)
}

// Hang implements Effects.
func (x *parcels) Hang(l LinkID) {
	x.put(l)
	x.Effects.Hang(l)
}

// about sends a member a frame about a room, together with others if it understands that.
func (n *Node) about(p *peer, k *link, m codec.Control) {
	if p.packs() {
		n.do.gather(k.id, m)
	} else {
		n.do.Send(k.id, m)
	}
}

// tell tells all, in order.
func (r *many) tell(n *Node, k *link) {
	for _, one := range r.reports {
		one.tell(n, k)
		n.settle()
	}
}
