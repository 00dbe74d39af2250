package carry

import (
	"fmt"
	"slices"

	"github.com/timedge/timedge/codec"
)

// Audit returns the first broken invariant that can be seen in the Node, for tests to call after every event: each
// outbound has an owner, each request a place and no two, what hangs on a link hangs on one that is open, and a mirror
// is whole or admits nobody.
func (n *Node) Audit() error {
	place := make(map[*request]string)
	put := func(q *request, where string) error {
		if was := place[q]; was != "" {
			return fmt.Errorf("request %d of session %d is in two places: %s and %s", q.Req, q.Session, was, where)
		}
		if q.over {
			return fmt.Errorf("request %d of session %d is answered and still in %s", q.Req, q.Session, where)
		}
		place[q] = where
		return nil
	}
	for _, id := range sorted(n.edges) {
		if err := n.auditEdge(n.edges[id], put); err != nil {
			return fmt.Errorf("room %v: %w", id, err)
		}
	}
	if err := n.auditBounds(place); err != nil {
		return err
	}
	for t, o := range n.given {
		if o.given == 0 {
			return fmt.Errorf("ticket %d was given for an outbound that waits for nobody", t)
		}
	}
	for req, c := range n.calls {
		if !c.link.open {
			return fmt.Errorf("request %d waits on a link that is not open", req)
		}
	}
	for name, p := range n.peers {
		for _, k := range []*link{p.up, p.down} {
			if k != nil && (!k.open || k.Peer != p.Peer) {
				return fmt.Errorf("the link of %s is not open, or another's", name)
			}
		}
	}
	return nil
}

// Holdings is what a Node keeps because of clients.
type Holdings struct{ Edges, Outbounds, Given, Asks int }

// Holds returns what the Node keeps, for tests: nothing of it when nobody is there any more.
func (n *Node) Holds() Holdings {
	return Holdings{len(n.edges), len(n.ways), len(n.given), len(n.asks)}
}

// auditBounds holds that whatever a Node keeps is somebody's, and bounded by that: requests by their sessions, links by
// processes, calls by what waits for their answers.
func (n *Node) auditBounds(place map[*request]string) error {
	open := 0
	for id, qs := range n.asks {
		switch {
		case len(qs) == 0:
			return fmt.Errorf("a list of no requests is kept for session %d", id)
		case n.links[LinkID(id)] == nil && len(qs) > maxAsks:
			return fmt.Errorf("session %d has %d requests open", id, len(qs))
		}
		open += len(qs)
	}
	if len(place) > open {
		return fmt.Errorf("%d requests wait, and sessions have asked for %d", len(place), open)
	}
	outs := 0
	for _, e := range n.edges {
		outs += len(e.outs)
		if len(e.denied) > len(n.peers)+1 && len(n.peers) > 0 {
			return fmt.Errorf("%d nodes have denied a room, and there are %d", len(e.denied), len(n.peers))
		}
	}
	if outs != len(n.ways) {
		return fmt.Errorf("%d outbounds are kept, and edges have %d", len(n.ways), outs)
	}
	return nil
}

func (n *Node) auditEdge(e *edge, put func(*request, string) error) error {
	p := n.peers[e.target]
	switch {
	case e.at != nil && (p == nil || p.up != e.at):
		return fmt.Errorf("attached to %s, aimed at %q", e.at.Name, e.target)
	case e.at == nil && e.phase != away:
		return fmt.Errorf("phase %d without a link", e.phase)
	case (e.phase == away) != (e.ticket == 0):
		return fmt.Errorf("phase %d with ticket %d", e.phase, e.ticket)
	case e.phase >= filling && e.mirror == nil:
		return fmt.Errorf("phase %d without a mirror", e.phase)
	case e.mirror != nil && e.whole && !e.mirror.IsWhole():
		return fmt.Errorf("a mirror that is part admits clients")
	case n.core.Relays(e.id):
		return fmt.Errorf("an edge of a room that is relayed here")
	}
	for i, d := range e.through {
		if n.links[d.k.id] != d.k || slices.ContainsFunc(e.through[:i], func(o detour) bool { return o.k == d.k }) {
			return fmt.Errorf("%s waits for a detour twice, or has gone", d.k.Name)
		}
	}
	for _, q := range e.waiting {
		if err := put(q, "waiting"); err != nil {
			return err
		}
		if _, is := q.M.(*codec.Subscribe); !is {
			return fmt.Errorf("%T waits for the mirror", q.M)
		}
	}
	for _, q := range e.asks {
		if err := put(q, "asks"); err != nil {
			return err
		}
	}
	for _, o := range e.outs {
		if err := o.out.Audit(); err != nil {
			return err
		}
		for _, q := range o.claims {
			if err := put(q, "claims"); err != nil {
				return err
			}
			if q.out != o {
				return fmt.Errorf("request %d claims another outbound", q.Req)
			}
		}
		switch {
		case n.ways[o.out] != o || o.e != e:
			return fmt.Errorf("an outbound of %s that is not this edge's", o.out.Account)
		case o.way != none && e.at == nil:
			return fmt.Errorf("an outbound of %s has a way without a link", o.out.Account)
		case (o.way == none) != (o.ticket == 0):
			return fmt.Errorf("an outbound of %s with way %d and ticket %d", o.out.Account, o.way, o.ticket)
		}
	}
	return nil
}
