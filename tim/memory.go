package tim

import (
	"cmp"
	"slices"
	"time"
)

// lookEvery is how often the gateway looks at what its connections hold, while it has any.
const lookEvery = 250 * time.Millisecond

// holding is what a connection holds, in bytes: what waits to be written, what the SDK has for it, and the frame that
// is being read.
type holding struct {
	c     *conn
	now   int64
	stuck int64 // beyond what has gone through it since the look before: who reads holds much for a moment only
}

// holds returns what a connection holds. Any goroutine.
func (c *conn) holds() int64 {
	n := c.out.holds() + c.framed.Load()
	if sdk := c.engine.Load(); sdk != nil {
		s := sdk.Stats()
		n += int64(s.Waiting + s.Unfinished + s.Unacked)
	}
	return n
}

// look adds up what all connections hold, and cuts off those with whom most is stuck, until the rest is
// within the bound. watch calls it.
func (g *Gateway) look() {
	g.mu.Lock()
	all := make([]holding, 0, len(g.conns))
	for c := range g.conns {
		if !c.cutOff { // what it holds is going
			all = append(all, holding{c: c})
		}
	}
	g.mu.Unlock()
	total := int64(0)
	for i := range all {
		h := &all[i]
		h.now = h.c.holds()
		moved := h.c.moved.Load()
		h.stuck, h.c.seen = h.now-(moved-h.c.seen), moved
		total += h.now
	}
	g.stats.held.Store(total)
	if total <= int64(g.cfg.Memory) {
		return
	}
	slices.SortFunc(all, func(a, b holding) int { return cmp.Compare(b.stuck, a.stuck) })
	for _, h := range all {
		if total <= int64(g.cfg.Memory) || h.stuck <= 0 {
			return
		}
		total -= h.now
		g.stats.cutOff.Add(1)
		g.log.Warn().Uint64("tim_id", h.c.id).Stringer("remote", h.c.remote).Int64("held", h.now).
			Msg("the bound on memory is reached; the connection that holds most is cut off")
		h.c.cutOff = true
		h.c.cut()
	}
}

// watch looks every so often, until no connection is left.
func (g *Gateway) watch() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for range ticker.C {
		g.look()
		g.mu.Lock()
		g.watched = len(g.conns) > 0
		over := !g.watched
		g.mu.Unlock()
		if over {
			return
		}
	}
}
