package node

import (
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
)

// When a member comes, dies or cannot be reached, the rooms that it concerns are to be looked at once more, and there may
// be a million. So rooms that are live, those with publishers or with sessions here, come at once and first, and the rest
// in slices (Step), between which everything else goes on. A room that somebody asks for comes when it is asked for
// (Touch). Nothing is sorted or walked as a whole: each member has a shelf with the rooms that it concerns, and only one
// that is new concerns all.

// backlog is what is to be looked at.
type backlog struct {
	all     shelf
	of      map[string]*shelf         // the rooms whose chain or entry names a process, by its name
	open    []*shelf                  // those on which something is left; the last is worked on
	live    map[codec.RoomID]struct{} // see entry.live
	relayed int                       // rooms that this node relays
	losses  []string                  // processes lost, by name, of which some rooms have not heard: see entry.heard
	before  int                       // losses that were there before these, and that all have heard of
	atOnce  int                       // rooms that a review settles before it returns, besides those that are live
}

// shelf is a list of rooms, in the order in which they came.
type shelf struct {
	name  string // of the process; "": it is that of all rooms
	rooms []codec.RoomID
	left  int // rooms[:left] are still to be settled
}

// spot is a room's place on a shelf.
type spot struct {
	*shelf
	at int
}

// reviewAtOnce is how many rooms a review settles before it returns: less than a millisecond's worth.
const reviewAtOnce = 64

// review does what the placement asks for: at once for rooms that are live, for the others that the processes concern by
// and by; for all others with everything set.
func (c *Core) review(everything bool, names ...string) {
	if everything {
		c.reopen(&c.all)
	} else {
		for _, name := range names {
			c.reopen(c.of[name])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.live)) {
		if e := c.at(id); e != nil {
			c.settle(id, e)
		}
	}
	c.Step(c.atOnce)
}

// reopen has all rooms on a shelf looked at.
func (c *Core) reopen(s *shelf) {
	if s == nil || len(s.rooms) == 0 {
		return
	}
	if s.left == 0 {
		c.open = append(c.open, s)
	}
	s.left = len(s.rooms)
}

// Step goes on with a review: it settles so many rooms, and reports whether there are more.
func (c *Core) Step(rooms int) (more bool) {
	for len(c.open) > 0 {
		s := c.open[len(c.open)-1]
		if s.left == 0 {
			c.open = c.open[:len(c.open)-1]
			continue
		}
		if rooms--; rooms < 0 {
			return true
		}
		s.left--
		id := s.rooms[s.left]
		c.settle(id, c.at(id))
	}
	c.before += len(c.losses) // all that they concern have heard
	c.losses = c.losses[:0]
	return false
}

// Pending reports whether a review goes on: Step is to be called.
func (c *Core) Pending() bool { return len(c.open) > 0 }

// Touch settles a room that somebody asks for, if that is still to be done.
func (c *Core) Touch(id codec.RoomID) {
	e := c.at(id)
	if e != nil && slices.ContainsFunc(e.on, func(at spot) bool { return at.at < at.left }) {
		c.settle(id, e)
	}
}

// lose forgets what a process was sent. Rooms hear of it when they are looked at.
func (c *Core) lose(name string) {
	for req, q := range c.asked {
		if q.to == name {
			delete(c.asked, req)
		}
	}
	c.losses = append(c.losses, name)
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
	for _, name := range c.losses[max(0, e.heard-c.before):] {
		e.peers = slices.DeleteFunc(e.peers, func(p peer) bool { return p.name == name && c.find(name) != p.place })
		for i := range e.peers {
			if p := &e.peers[i]; p.name == name { // the process has what it has answered
				*p = peer{place: p.place, tell: p.tell, whole: p.whole, acked: p.acked}
			}
		}
	}
	e.heard = c.before + len(c.losses)
}

// entry returns what this node knows of a room, which may be nothing yet.
func (c *Core) entry(id codec.RoomID) *entry {
	e := c.at(id)
	if e == nil {
		e = &entry{heard: c.before + len(c.losses), on: make([]spot, 0, 1+1+Standbys)}
		c.rooms[id] = e
		e.put(id, &c.all)
	}
	return e
}

// put puts a room on a shelf.
func (e *entry) put(id codec.RoomID, s *shelf) {
	e.on = append(e.on, spot{s, len(s.rooms)})
	s.rooms = append(s.rooms, id)
}

// take takes a room from the k-th shelf that it is on.
func (c *Core) take(e *entry, k int) {
	s, at := e.on[k].shelf, e.on[k].at
	e.on = slices.Delete(e.on, k, k+1)
	last := len(s.rooms) - 1
	if at != last { // which takes its place, and may be looked at twice
		s.rooms[at] = s.rooms[last]
		moved := c.rooms[s.rooms[at]]
		moved.on[slices.IndexFunc(moved.on, func(o spot) bool { return o.shelf == s })].at = at
	}
	s.rooms = s.rooms[:last]
	s.left = min(s.left, last)
	if last == 0 && s != &c.all {
		delete(c.of, s.name)
	}
}

// shelve puts a room on the shelves of all processes that it concerns, and takes it from those of others.
func (c *Core) shelve(id codec.RoomID, e *entry, chain []string) {
	var room [12]string
	names := append(room[:0], chain...)
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if e.state != nil {
		add(e.state.Relay)
	}
	add(e.target.name)
	add(e.hint.name)
	for i := range e.peers {
		add(e.peers[i].name)
	}
	for i := range e.owed {
		add(e.owed[i].to.name)
	}
	for k := len(e.on) - 1; k >= 0; k-- {
		if name := e.on[k].name; name != "" && !slices.Contains(names, name) {
			c.take(e, k)
		}
	}
	if len(e.on) > len(names) { // of each one shelf, and that of all
		return
	}
	for _, name := range names {
		if slices.ContainsFunc(e.on, func(o spot) bool { return o.name == name }) {
			continue
		}
		s := c.of[name]
		if s == nil {
			s = &shelf{name: name}
			c.of[name] = s
		}
		e.put(id, s)
	}
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
	for len(e.on) > 0 {
		c.take(e, len(e.on)-1)
	}
	delete(c.rooms, id)
}
