package node

import (
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
)

// When a member comes, dies or cannot be reached, every room is to be looked at once more, and there may be a million.
// So rooms that are live, those with publishers or with sessions here, come at once and first, and the rest in slices
// (Step), between which everything else goes on. A room that somebody asks for comes when it is asked for (Touch).
// Nothing is sorted or walked as a whole: rooms lie in a list, in the order in which they came.

// backlog is what is to be looked at.
type backlog struct {
	order   []codec.RoomID            // all rooms
	left    int                       // order[:left] are still to be settled
	live    map[codec.RoomID]struct{} // see entry.live
	relayed int                       // rooms that this node relays
	losses  []loss                    // that some rooms have not heard of: see entry.heard
	before  int                       // losses that were there before these, and that all have heard of
	atOnce  int                       // rooms that a review settles before it returns, besides those that are live
}

// loss is a process that this node has lost, and with gone the cluster too.
type loss struct {
	name string
	gone bool
}

// reviewAtOnce is how many rooms a review settles before it returns: some milliseconds' worth.
const reviewAtOnce = 256

// review does what the placement asks for: at once for rooms that are live, for the others by and by.
func (c *Core) review() {
	c.left = len(c.order)
	for _, id := range slices.Sorted(maps.Keys(c.live)) {
		if e := c.at(id); e != nil {
			c.settle(id, e)
		}
	}
	c.Step(c.atOnce)
}

// Step goes on with a review: it settles so many rooms, and reports whether there are more.
func (c *Core) Step(rooms int) (more bool) {
	for ; rooms > 0 && c.left > 0; rooms-- {
		c.left--
		id := c.order[c.left]
		c.settle(id, c.at(id))
	}
	if c.left == 0 { // all have heard
		c.before += len(c.losses)
		c.losses = c.losses[:0]
	}
	return c.left > 0
}

// Pending reports whether a review goes on: Step is to be called.
func (c *Core) Pending() bool { return c.left > 0 }

// Touch settles a room that somebody asks for, if that is still to be done.
func (c *Core) Touch(id codec.RoomID) {
	if e := c.at(id); e != nil && e.at < c.left {
		c.settle(id, e)
	}
}

// lose forgets what a process was sent and what it waits for; and if it is gone, what it must be told. Rooms hear of it
// when they are looked at.
func (c *Core) lose(name string, gone bool) {
	for req, q := range c.asked {
		if q.to == name {
			delete(c.asked, req)
		}
	}
	c.losses = append(c.losses, loss{name, gone})
}

// at returns what this node knows of a room, nil if nothing.
func (c *Core) at(id codec.RoomID) *entry {
	e := c.rooms[id]
	if e != nil {
		c.hear(e)
	}
	return e
}

// hear has a room hear of the losses since it was looked at last.
func (c *Core) hear(e *entry) {
	for _, l := range c.losses[e.heard-c.before:] {
		for i := range e.peers {
			if p := &e.peers[i]; p.name == l.name {
				*p = peer{place: p.place, tell: p.tell && !l.gone, whole: p.whole}
			}
		}
		e.peers = slices.DeleteFunc(e.peers, func(p peer) bool { return p.name == l.name && !p.tell })
		if l.gone { // else it may still wait: its own link need not have broken
			e.owed = slices.DeleteFunc(e.owed, func(d debt) bool { return d.to == l.name })
		}
	}
	e.heard = c.before + len(c.losses)
}

// entry returns what this node knows of a room, which may be nothing yet.
func (c *Core) entry(id codec.RoomID) *entry {
	e := c.at(id)
	if e == nil {
		e = &entry{at: len(c.order), heard: c.before + len(c.losses)}
		c.order = append(c.order, id)
		c.rooms[id] = e
	}
	return e
}

// count keeps the lists of rooms in order after a room has changed.
func (c *Core) count(id codec.RoomID, e *entry) {
	lives := e.state != nil && e.state.Ended == 0
	if relayed := e.relay && lives; relayed != e.relayed {
		if e.relayed = relayed; relayed {
			c.relayed++
		} else {
			c.relayed--
		}
	}
	if live := e.edge || lives && len(e.state.Publishers) > 0; live != e.live {
		if e.live = live; live {
			c.live[id] = struct{}{}
		} else {
			delete(c.live, id)
		}
	}
}

// tidy forgets a room that is no business of this node any more.
func (c *Core) tidy(id codec.RoomID, e *entry) {
	if c.count(id, e); e.state != nil || e.edge {
		return
	}
	delete(c.rooms, id)
	last := len(c.order) - 1 // takes its place, and may be looked at twice
	c.order[e.at] = c.order[last]
	if moved := c.rooms[c.order[e.at]]; moved != nil {
		moved.at = e.at
	}
	c.order = c.order[:last]
	c.left = min(c.left, last)
}
