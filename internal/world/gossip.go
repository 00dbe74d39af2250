package world

import (
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/node"
)

// Membership: every node learns in its own time what is true of another, as gossip has it. Nobody is told of what did
// not last.

// suspicion is how long a node may be silent before another takes it for dead.
const suspicion = 300 * time.Millisecond

// gossip lets every node learn what is true of one then, and that one of them.
func (w *World) gossip(name string, low, high time.Duration) {
	for _, other := range w.names {
		p := w.nodes[other]
		if p.dead {
			continue
		}
		w.after(w.between(low, high), func() { p.run(func() { p.learn(name) }) })
		if q := w.nodes[name]; q != nil && q != p && !q.dead {
			w.after(w.between(low, high), func() { q.run(func() { q.learn(other) }) })
		}
	}
}

// hears reports whether p takes another for a member at the moment.
func (p *Process) hears(q *Process) bool {
	return q != nil && !q.dead && p.w.net.part[p.name] == p.w.net.part[q.name] &&
		!(q.frozen && p.w.now-q.froze > suspicion)
}

// learn takes up what is true of another.
func (p *Process) learn(name string) {
	q := p.w.nodes[name]
	was, had := p.knows[name]
	switch {
	case p.hears(q):
		if had && was == q.member() {
			return
		}
		p.knows[name] = q.member()
	case !had || name == p.name:
		return
	default:
		delete(p.knows, name)
	}
	v := p.w.view(p.knows)
	p.desk.post(func() { p.node.View(v, p.clock()) })
}

// view returns the view of members; many nodes see the same.
func (w *World) view(knows map[string]node.Member) *node.View {
	var key uint64
	for _, m := range knows {
		one := mix(xxhash.Sum64String(m.Name) ^ m.Birth*0x9e3779b97f4a7c15)
		if m.Draining {
			one = mix(one + 1)
		}
		one = mix(one + uint64(m.Level)<<8)
		key ^= one
	}
	v := w.views[key]
	if v == nil {
		ms := make([]node.Member, 0, len(knows))
		for _, name := range sortedKeys(knows) {
			ms = append(ms, knows[name])
		}
		v = node.NewView(ms)
		w.views[key] = v
	}
	return v
}

// silence has the peers of a node that says nothing give its links up, each in its own time; and on what it cannot
// reach it gives up itself.
func (w *World) silence(e *socketEnd, still func() bool) {
	w.after(w.between(600*time.Millisecond, 1100*time.Millisecond), func() {
		if !e.closed && still() {
			e.host.run(func() {
				if !e.closed {
					e.close()
					e.reader.broken()
				}
			})
		}
	})
}

// links returns the ends at a node of its links to other nodes.
func (w *World) links(name string) (ends []*socketEnd) {
	for _, e := range w.net.conns[name] {
		if e.peer.host != nil {
			ends = append(ends, e)
		}
	}
	return ends
}

// stoodStill has everybody notice that a node stands still.
func (w *World) stoodStill(p *Process) {
	w.gossip(p.name, 350*time.Millisecond, 700*time.Millisecond)
	for _, e := range w.links(p.name) {
		w.silence(e.peer, func() bool { return p.frozen && !p.dead })
	}
}

// blackout has the ends of links over which nothing comes give up.
func (w *World) blackout() {
	for _, name := range w.names {
		for _, e := range w.links(name) {
			if w.net.blocked(e.peer.place, e.place) {
				w.silence(e, func() bool { return w.net.blocked(e.peer.place, e.place) })
			}
		}
	}
}
