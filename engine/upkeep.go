package engine

import (
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
)

// tick does what time brings to edges and tombstones.
func (c *cluster) tick() {
	now := c.e.now()
	c.ticks++
	linger := int64(c.e.rooms.Config().Linger)
	for _, e := range c.edges {
		if c.ticks%10 == 0 {
			for _, o := range e.outs {
				if o.since != 0 && now-o.since > linger {
					o.End(codec.CodeGone)
				}
				o.Forget(now)
			}
			c.prune(e)
		}
		c.interest(e)
	}
	if c.ticks%digestTicks == 0 {
		c.digests()
	}
	if c.ticks%100 == 0 {
		for id, since := range c.ended {
			if now-since > int64(tombstoneFor) {
				c.core.Forget(id)
				delete(c.ended, id)
			}
		}
	}
}

// interest tells the relay how many subscribers the mirror has, and lets go of what nobody needs.
func (c *cluster) interest(e *edge) {
	c.tally(e)
	if len(e.waiting)+len(e.asks)+len(e.outs) > 0 || e.room != nil && !e.room.Empty() {
		e.idle = 0
		return
	}
	if e.idle++; e.idle < 10 {
		return
	}
	if e.room != nil && !c.e.rooms.Forget(e.room) {
		return
	}
	c.unplug(e)
	c.drop(e)
}

// Tallies that are none.
const (
	untold  = ^uint64(0) // the relay has not been told yet
	unheard = untold - 1 // it would not listen: it has not answered the request for the mirror
)

// tally tells the relay how many subscribers the mirror has, if that has changed.
func (c *cluster) tally(e *edge) {
	if c.edges[e.id] != e || e.room == nil || !e.synced || e.at == nil || e.told == unheard {
		return
	}
	if n := uint64(e.room.Subscribers()); n != e.told {
		e.told = n
		e.at.later(&codec.Tally{Room: e.id, Subscribers: n})
	}
}

// digests tells every node which rooms are mirrored from it.
func (c *cluster) digests() {
	rooms := make(map[*session][]codec.RoomID)
	for _, p := range c.peers {
		if p.up != nil {
			rooms[p.up] = nil
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.edges)) {
		if e := c.edges[id]; e.at != nil && e.asked {
			rooms[e.at] = append(rooms[e.at], id)
		}
	}
	for s, ids := range rooms {
		for {
			n := min(len(ids), codec.MaxDigest)
			m := &codec.Digest{Rooms: ids[:n:n]}
			if ids = ids[n:]; len(ids) > 0 {
				m.Flags = codec.DigestMore
			}
			s.later(m)
			if len(ids) == 0 {
				break
			}
		}
	}
}
