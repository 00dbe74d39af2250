package node

import (
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/ring"
)

// Standbys is how many nodes hold a copy of a room's state besides its relay.
const Standbys = 3

// Actions is what a Core has done. Its methods are called by the Core's methods and must not call back.
type Actions interface {
	// Promote makes this node the relay of the room, in the given epoch.
	Promote(st *codec.RoomState, epoch uint32)
	// Demote ends this node's part as relay; to relays the room now.
	Demote(room codec.RoomID, to string)
	// SendState copies a room's state to a node; handover asks it to become the relay.
	SendState(to string, st *codec.RoomState, handover bool)
	// Attach moves this node's mirror of a room, and what its sessions publish into it, to another relay. "" means that there
	// is none at the moment.
	Attach(room codec.RoomID, to string)
	// Merge takes over what another relay of the same room granted or revoked.
	Merge(room codec.RoomID, st *codec.RoomState)
}

// Core decides who relays which room. It has no clock and no network: events go in, actions come out, in an order that
// depends on nothing else. It belongs to one goroutine.
type Core struct {
	self  string
	view  *View
	ring  *ring.Ring        // of the view, less what is known to be down
	down  map[string]uint64 // members whose process refused a connection, by birth: dead before the cluster says so
	away  map[string]bool   // members that this node cannot reach, though the cluster counts them alive
	rooms map[codec.RoomID]*entry
	do    Actions
}

// entry is what a node knows of a room.
type entry struct {
	state    *codec.RoomState // the newest it has; nil for a room that it only mirrors
	relay    bool             // this node relays it
	handing  string           // the node that is being asked to take it over
	standbys []string         // who has been sent the state in this reign
	edge     bool             // this node mirrors it or publishes into it
	target   string           // the node that it is attached to
}

// NewCore returns a core that knows only itself.
func NewCore(self string, do Actions) *Core {
	c := &Core{self: self, do: do, down: make(map[string]uint64), away: make(map[string]bool), rooms: make(map[codec.RoomID]*entry)}
	c.SetView(NewView([]Member{{Name: self}}))
	return c
}

// Ring returns the placement that is in force here.
func (c *Core) Ring() *ring.Ring { return c.ring }

// View returns the view that is in force here.
func (c *Core) View() *View { return c.view }

// Chain returns the room's relay and standbys by name.
func (c *Core) Chain(room codec.RoomID) []string {
	var names []string
	for _, m := range c.ring.Chain(uint64(room), 1+Standbys) {
		names = append(names, m.Name)
	}
	return names
}

// SetView takes a new view.
func (c *Core) SetView(v *View) {
	c.view = v
	for name, birth := range c.down {
		if m, ok := v.Find(name); !ok || m.Birth != birth {
			delete(c.down, name)
		}
	}
	for name := range c.away {
		if _, ok := v.Find(name); !ok {
			delete(c.away, name)
		}
	}
	c.place()
}

// Down says that a member's process is gone: its port refuses connections.
func (c *Core) Down(name string) {
	if m, ok := c.view.Find(name); ok && name != c.self {
		c.down[name] = m.Birth
		c.place()
	}
}

// Away says whether this node can reach a member at the moment.
func (c *Core) Away(name string, away bool) {
	if c.away[name] == away {
		return
	}
	if away {
		c.away[name] = true
	} else {
		delete(c.away, name)
	}
	c.review()
}

func (c *Core) place() {
	ms := make([]ring.Member, 0, len(c.view.Members))
	for _, m := range c.view.Members {
		if _, dead := c.down[m.Name]; !dead {
			ms = append(ms, ring.Member{Name: m.Name, Draining: m.Draining})
		}
	}
	c.ring = ring.New(ms)
	c.review()
}

// review does for every room what the placement asks for.
func (c *Core) review() {
	for _, id := range slices.Sorted(maps.Keys(c.rooms)) {
		c.reviewRoom(id, c.rooms[id])
	}
}

func (c *Core) reviewRoom(id codec.RoomID, e *entry) {
	chain := c.Chain(id)
	if len(chain) == 0 { // all drain: everything stays where it is
		return
	}
	switch {
	case e.relay && chain[0] == c.self:
		e.handing = ""
		c.replicate(e, chain)
	case e.relay && e.state.Ended == 0:
		if e.handing != chain[0] && !c.away[chain[0]] {
			e.handing = chain[0]
			c.do.SendState(chain[0], e.state, true)
		}
	case e.state != nil && e.state.Ended == 0 && chain[0] == c.self:
		c.promote(id, e, chain)
	case e.edge:
		c.attach(id, e, chain)
	case e.state != nil && e.state.Ended == 0 && !slices.Contains(chain, c.self):
		delete(c.rooms, id) // no longer this node's business
	}
}

func (c *Core) promote(id codec.RoomID, e *entry, chain []string) {
	st := *e.state
	st.Epoch, st.Version, st.Relay = st.Epoch+1, 0, c.self
	e.state, e.relay, e.standbys, e.target, e.edge = &st, true, nil, "", false
	c.do.Promote(e.state, st.Epoch)
	c.replicate(e, chain)
}

// replicate sends the state to standbys that have not had it in this reign.
func (c *Core) replicate(e *entry, chain []string) {
	for _, name := range chain[1:] {
		if !slices.Contains(e.standbys, name) {
			c.do.SendState(name, e.state, false)
		}
	}
	e.standbys = slices.Clone(chain[1:])
}

// attach picks the first of the chain that this node can reach.
func (c *Core) attach(id codec.RoomID, e *entry, chain []string) {
	target := ""
	for _, name := range chain {
		if name != c.self && !c.away[name] {
			target = name
			break
		}
	}
	if e.target != target {
		e.target = target
		c.do.Attach(id, target)
	}
}

func (c *Core) entry(id codec.RoomID) *entry {
	e := c.rooms[id]
	if e == nil {
		e = &entry{}
		c.rooms[id] = e
	}
	return e
}

// Changed takes the state of a room that this node relays, after a change, and copies it to the standbys.
func (c *Core) Changed(st codec.RoomState) {
	st.Relay = c.self
	e := c.entry(st.Room)
	e.state, e.relay, e.standbys = &st, st.Ended == 0, nil
	if chain := c.Chain(st.Room); len(chain) > 0 {
		if chain[0] != c.self { // being handed over: the new relay hears of it too
			chain = append([]string{c.self}, chain...)
		}
		c.replicate(e, chain)
	}
}

// Forget drops the tombstone of an ended room.
func (c *Core) Forget(id codec.RoomID) {
	if e := c.rooms[id]; e != nil && e.state != nil && e.state.Ended != 0 && !e.edge {
		delete(c.rooms, id)
	}
}

// Ended reports whether the room is known to have ended.
func (c *Core) Ended(id codec.RoomID) bool {
	e := c.rooms[id]
	return e != nil && e.state != nil && e.state.Ended != 0
}

// Relays reports whether this node relays the room.
func (c *Core) Relays(id codec.RoomID) bool {
	e := c.rooms[id]
	return e != nil && e.relay
}

// Got takes a room's state from another node.
func (c *Core) Got(from string, st *codec.RoomState, handover bool) {
	e := c.entry(st.Room)
	switch {
	case e.relay && !st.Newer(e.state):
		// The other thinks that it relays the room, in an older reign: it will step down when it hears of this one.
		c.do.Merge(st.Room, st)
		if st.Relay == from {
			c.do.SendState(from, e.state, false)
		}
		return
	case e.relay:
		mine := e.state
		e.state, e.relay, e.handing = st, false, ""
		c.do.SendState(from, mine, false) // so that what was granted and revoked here is merged there
		c.do.Demote(st.Room, from)
	case e.state == nil || st.Newer(e.state):
		e.state = st
	}
	if handover && !e.relay && e.state.Ended == 0 {
		c.promote(st.Room, e, c.chainFrom(st.Room))
		return
	}
	c.reviewRoom(st.Room, e)
}

// chainFrom returns the chain with this node in front.
func (c *Core) chainFrom(id codec.RoomID) []string {
	chain := slices.DeleteFunc(c.Chain(id), func(n string) bool { return n == c.self })
	return append([]string{c.self}, chain...)
}

// HandedOver says that a node has taken over a room.
func (c *Core) HandedOver(id codec.RoomID, to string, ok bool) {
	e := c.rooms[id]
	if e == nil || !e.relay || e.handing != to {
		return
	}
	e.handing = ""
	if !ok {
		return // the next view tries again
	}
	e.relay = false
	c.do.Demote(id, to)
}

// Edge says whether this node has subscribers or publishers of a room that another relays. It returns the node to attach to;
// "" if there is none. Attach is not called for it.
func (c *Core) Edge(id codec.RoomID, is bool) (target string) {
	e := c.entry(id)
	e.edge = is
	if !is {
		e.target = ""
		if e.state == nil {
			delete(c.rooms, id)
		}
		return ""
	}
	if e.target == "" {
		for _, name := range c.Chain(id) {
			if name != c.self && !c.away[name] {
				e.target = name
				break
			}
		}
	}
	return e.target
}
