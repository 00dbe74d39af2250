package node

import (
	"cmp"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/ring"
	"github.com/timedge/timedge/room"
)

// Standbys is how many nodes hold a copy of a room's state besides its relay.
const Standbys = 3

// Actions is what a Core has done. Its methods are called by the Core's methods and must not call back. A state is
// shared: whoever is given one may keep it and must not change it. The same holds for what Change and Create are given
// to call.
type Actions interface {
	// Promote makes this node the relay of the room.
	Promote(st *codec.RoomState)
	// Demote ends this node's part as relay; to relays the room now. If the node has sessions of the room, Attach follows.
	Demote(room codec.RoomID, to string)
	// Merge changes the room that this node relays into st: what another relay granted or revoked is in it, or why the
	// room ended. It is called for every other relay that this node meets, also if st brings nothing new: the edges of
	// that one will come.
	Merge(st *codec.RoomState)
	// SendState sends a room's state to a node, which answers with [Core.Acked] and the same req. Whatever is not answered
	// must sooner or later be followed by [Core.Away], [Core.Down] or a view without the node.
	// flags are those of the frame: codec.StateHandover, codec.StateReturn or none.
	SendState(to string, st *codec.RoomState, flags uint8, req uint32)
	// SendChange sends what a node's copy lacks, as SendState does; the answer may also be [Core.Declined].
	SendChange(to string, ch *codec.Change)
	// Decline answers a change that [Core.GotChange] could not take.
	Decline(to string, req uint32)
	// Ack answers a state that [Core.Got] took from the node.
	Ack(to string, req uint32)
	// Attach moves this node's mirror of a room, and what its sessions publish into it, to another node. "" means that
	// there is none at the moment. It names the same node again if that was restarted, or has answered that it does not
	// relay the room: try again a little later.
	Attach(room codec.RoomID, to string)
}

// Core decides who relays which room. It has no clock and no network: events go in, actions come out, in an order that
// depends on nothing else. It belongs to one goroutine.
//
// What it relies on: a node takes links only from members of its view and closes them when a member leaves the view;
// states that one node sends to another arrive in order, and none is lost without the sender being told (see
// Actions.SendState).
type Core struct {
	me    place
	view  *View
	ring  *ring.Ring              // of the view, less what is known to be down
	down  map[string]uint64       // members whose process refused a connection, by birth: dead before the cluster says so
	away  map[string]bool         // members that this node cannot reach, though the cluster counts them alive
	rooms map[codec.RoomID]*entry // by way of at
	backlog
	asked map[uint32]question // states that were sent and not answered yet, by req
	req   uint32              // the last one given
	rev   uint64              // the last one given: no two states of a room ever have the same, not even after it was forgotten
	do    Actions
}

// place is a process: a node's name may pass from one to the next.
type place struct {
	name  string
	birth uint64
}

// question is a state that was sent and waits for its answer.
type question struct {
	room  codec.RoomID
	to    string
	rev   uint64
	flags uint8
}

// entry is what a node knows of a room.
type entry struct {
	state *codec.RoomState // the newest it has; nil for a room that it only mirrors
	rev   uint64           // rises with every change of state
	peers []peer           // who has been sent the state, or sent it
	owed  []debt           // who returned a copy and waits to hear that it is safe
	waits []wait           // changes to be answered, in order
	log   []change         // how state came about, back to a rev that some peers have; only while this node relays the room

	on     []spot // the shelves that it is on
	heard  int    // so many losses it has heard of
	target place  // where this node's sessions are attached; none if it relays the room
	hint   place  // who relays it, by the last word of somebody who should know

	relay   bool // this node relays it, or keeps its tombstone
	offered bool // the relay has asked this node to take over
	edge    bool // this node has sessions of the room
	live    bool // somebody publishes into it, or this node has sessions of it
	relayed bool // it is counted in backlog.relayed
}

// peer is another process that may have a copy.
type peer struct {
	place
	sent     uint64 // the newest rev that was sent to it
	handed   uint64 // ... with the wish that it takes over
	returned uint64 // ... to give the copy back
	acked    uint64 // the newest rev that it is known to have
	req      uint32 // of what was given back
	last     uint32 // of what was sent last
	tell     bool   // it knows of an older reign only, and must hear of this one
	whole    bool   // it has declined a change: it gets the whole state next
}

// change is a step from one rev of a room's state to the next.
type change struct {
	from, rev uint64
	delta     room.Delta
}

// maxLog bounds the entries of a room's log. Who lacks more gets the whole state.
const maxLog = 1024

type debt struct {
	to  place
	req uint32
}

type wait struct {
	rev  uint64
	done func(ok bool)
}

// NewCore returns a core that knows only itself.
func NewCore(self Member, do Actions) *Core {
	c := &Core{
		me: place{self.Name, self.Birth}, do: do, down: make(map[string]uint64), away: make(map[string]bool),
		rooms:   make(map[codec.RoomID]*entry),
		backlog: backlog{of: make(map[string]*shelf), live: make(map[codec.RoomID]struct{}), atOnce: reviewAtOnce}, asked: make(map[uint32]question),
	}
	c.SetView(NewView([]Member{self}))
	return c
}

// Ring is a placement, of which its holder needs to know no more than that it draws numbers.
type Ring = ring.Ring

// Ring returns the placement that is in force here.
func (c *Core) Ring() *Ring { return c.ring }

// View returns the view that is in force here.
func (c *Core) View() *View { return c.view }

// Chain returns the room's relay and standbys by name. It is empty while all members drain.
func (c *Core) Chain(room codec.RoomID) []string {
	return c.appendChain(nil, room)
}

// appendChain is Chain for who has the memory.
func (c *Core) appendChain(names []string, room codec.RoomID) []string {
	var members [1 + Standbys]ring.Member
	for _, m := range c.ring.AppendChain(members[:0], uint64(room), 1+Standbys) {
		names = append(names, m.Name)
	}
	return names
}

// SetView takes a new view. Who is gone that was known to be down concerns nobody any more: rooms have been looked at
// when it went down.
func (c *Core) SetView(v *View) {
	old := c.view
	c.view = v
	var names []string
	everything := old == nil
	if old != nil {
		for _, was := range old.Members {
			m, ok := v.Find(was.Name)
			if ok && m.Birth == was.Birth {
				if m.Draining && !was.Draining {
					names = append(names, m.Name)
				}
				everything = everything || m.Draining != was.Draining && !m.Draining || m.Level != was.Level
				continue
			}
			delete(c.away, was.Name)
			c.lose(was.Name)
			if _, down := c.down[was.Name]; ok || !down {
				names = append(names, was.Name)
			}
		}
		for _, m := range v.Members {
			was, ok := old.Find(m.Name)
			everything = everything || !ok || was.Birth != m.Birth
		}
	}
	for name, birth := range c.down {
		if m, ok := v.Find(name); !ok || m.Birth != birth {
			delete(c.down, name)
		}
	}
	c.place()
	if everything || len(names) > 0 {
		c.review(everything, names...)
	}
}

// Down says that a member's process is gone: its port refuses connections.
func (c *Core) Down(name string) {
	m, ok := c.view.Find(name)
	if _, known := c.down[name]; !ok || known || name == c.me.name {
		return
	}
	c.down[name] = m.Birth
	c.lose(name)
	c.place()
	c.review(false, name)
}

// Away says whether this node can reach a member at the moment. When a link breaks, what was sent on it and not
// answered counts as not arrived; when there is one again it is sent again. Members count as within reach until the
// first word.
func (c *Core) Away(name string, away bool) {
	_, down := c.down[name]
	switch {
	case c.find(name) == place{} || name == c.me.name:
	case away:
		c.away[name] = true
		c.lose(name)
		c.review(false, name)
	case down:
		delete(c.away, name)
		delete(c.down, name)
		c.place()
		c.review(true)
	case c.away[name]:
		delete(c.away, name)
		c.review(false, name)
	}
}

func (c *Core) place() {
	c.ring = c.view.Ring
	if len(c.down) > 0 {
		ms := make([]ring.Member, 0, len(c.view.Members))
		for _, m := range c.view.Members {
			if _, dead := c.down[m.Name]; !dead {
				ms = append(ms, ring.Member{Name: m.Name, Draining: m.Draining})
			}
		}
		c.ring = ring.New(ms)
	}
}

// Create makes this node the relay of a new room. done is as with Change. It reports false, and does not call done, if
// the number is taken.
func (c *Core) Create(st *codec.RoomState, done func(ok bool)) bool {
	e := c.entry(st.Room)
	if e.state != nil {
		return false
	}
	next := *st
	next.Epoch, next.Relay, next.Birth = 1, c.me.name, c.me.birth
	next.Grants = sortGrants(st.Grants)
	c.write(e, &next)
	e.relay, e.target = true, place{}
	e.waits = append(e.waits, wait{e.rev, done})
	c.settle(st.Room, e)
	return true
}

// Change takes what has changed of a room that this node relays: grants, publishers, an end. It copies it to the
// standbys and calls done once, maybe before it returns: true when every standby within reach has the change and all
// before it, false if this node is not the room's relay, or was not any more before that. While a standby's answer is
// outstanding nothing more is sent to it: what comes meanwhile goes together.
func (c *Core) Change(id codec.RoomID, d room.Delta, done func(ok bool)) {
	e := c.at(id)
	if e == nil || !e.relay || e.state.Ended != 0 {
		done(false)
		return
	}
	if !d.Empty() {
		next := *e.state
		next.Grants = setGrants(next.Grants, d.Grants)
		next.Publishers = setPublishers(next.Publishers, d.Came, d.Left)
		next.NextPub = max(next.NextPub, d.NextPub)
		next.Ended = cmp.Or(d.Ended, next.Ended)
		for _, p := range d.Came {
			if p.Life.Epoch != 0 {
				next.Seen = mergeSeen(next.Seen, []codec.Life{p.Life})
			}
		}
		log, from := e.log, e.rev // before write, which begins a new one
		c.write(e, &next)
		e.log = append(log, change{from, e.rev, d})
		e.trim()
	}
	e.waits = append(e.waits, wait{e.rev, done})
	c.settle(id, e)
}

// trim keeps a room's log within its bound.
func (e *entry) trim() {
	size := 0
	for i := len(e.log) - 1; i >= 0; i-- {
		if size += e.log[i].delta.Len(); size > maxLog {
			e.log = slices.Clone(e.log[i+1:])
			return
		}
	}
}

// since returns what has changed since a rev; false if that is not known any more.
func (e *entry) since(rev uint64) (d room.Delta, ok bool) {
	i := slices.IndexFunc(e.log, func(ch change) bool { return ch.from == rev })
	if i < 0 {
		return d, false
	}
	for _, ch := range e.log[i:] {
		d.Add(ch.delta)
	}
	return d, true
}

// Heard says that somebody knows of a reign of a room that this node relays in an older one. If the process whose reign
// that is is gone and this node the first in the chain, it goes on above that; otherwise the two will meet.
func (c *Core) Heard(id codec.RoomID, reign codec.Reign) {
	e := c.at(id)
	if e == nil || !e.relay || e.state.Ended != 0 || !e.state.Reign().Before(reign) || c.alive(place{reign.Relay, reign.Birth}) {
		return
	}
	if chain := c.Chain(id); len(chain) == 0 || chain[0] != c.me.name {
		return
	}
	next := *e.state
	next.Epoch, next.Relay, next.Birth = reign.Epoch+1, c.me.name, c.me.birth
	c.write(e, &next)
	c.do.Merge(&next)
	c.settle(id, e)
}

// Revive makes a room live again whose tombstone this node keeps: an inbox that is opened again. It lives in a reign
// above the one that has ended, with the grants of both. done is as with Change. It reports false, and does not call
// done, if there is no such tombstone, or if the room has ended for good.
func (c *Core) Revive(st *codec.RoomState, done func(ok bool)) bool {
	if !c.Buried(st.Room) {
		return false
	}
	e := c.at(st.Room)
	old, next := e.state, *st
	next.Epoch, next.Relay, next.Birth, next.Ended = old.Epoch+1, c.me.name, c.me.birth, 0
	next.Grants = mergeGrants(sortGrants(st.Grants), old.Grants)
	c.write(e, &next)
	e.waits = append(e.waits, wait{e.rev, done})
	c.settle(st.Room, e)
	return true
}

// Buried reports whether this node keeps the tombstone of a room that may be revived.
func (c *Core) Buried(id codec.RoomID) bool {
	e := c.at(id)
	return e != nil && e.relay && e.state.Ended != 0 && !final(e.state.Ended)
}

func (c *Core) set(e *entry, st *codec.RoomState) {
	if !e.relay { // what was given back is not the newest any more and is given back again
		c.keep(e)
	}
	c.rev++
	e.state, e.rev, e.log = st, c.rev, nil
}

// write is set for what this node writes as the relay. No process gives a version twice, so that if it comes back to a
// reign that it had forgotten, what it writes then is newer than what it wrote before.
func (c *Core) write(e *entry, st *codec.RoomState) {
	c.set(e, st)
	st.Version = c.rev
}

// Forget drops the tombstone of an ended room.
func (c *Core) Forget(id codec.RoomID) {
	if e := c.at(id); e != nil && e.state != nil && e.state.Ended != 0 {
		c.drop(id, e)
	}
}

func (c *Core) drop(id codec.RoomID, e *entry) {
	c.keep(e)
	*e = entry{on: e.on, heard: e.heard, live: e.live, relayed: e.relayed, edge: e.edge, target: e.target, hint: e.hint}
	c.tidy(id, e)
}

// State returns the state that this node has of a room, nil if it has none. It may be that of a room that has ended.
func (c *Core) State(id codec.RoomID) *codec.RoomState {
	if e := c.at(id); e != nil {
		return e.state
	}
	return nil
}

// Relays reports whether this node relays the room.
func (c *Core) Relays(id codec.RoomID) bool {
	e := c.at(id)
	return e != nil && e.relay && e.state.Ended == 0
}

// Relayed returns how many rooms this node relays: a draining node may go when there are none left.
func (c *Core) Relayed() int { return c.relayed }

// Edge says whether this node has sessions of a room that another relays. It returns the node to attach to; "" if there
// is none, or this node relays the room itself. Attach is not called for it.
func (c *Core) Edge(id codec.RoomID, is bool) (target string) {
	e := c.entry(id)
	e.edge = is
	c.count(id, e)
	if !is {
		e.target, e.hint = place{}, place{}
		c.tidy(id, e)
		return ""
	}
	chain := c.Chain(id)
	if !e.relay {
		e.target = c.aim(e, chain)
	}
	c.shelve(id, e, chain)
	return e.target.name
}

// Attached says who relays the room, by the answer of the node that this one is attached to.
func (c *Core) Attached(id codec.RoomID, relay string) {
	if e := c.at(id); e != nil && e.edge {
		e.hint = c.find(relay)
		c.settle(id, e)
	}
}

// Moved says that a node does not relay the room; to does, as far as that node knows.
func (c *Core) Moved(id codec.RoomID, from, to string) {
	e := c.at(id)
	if e == nil || !e.edge {
		return
	}
	if e.target.name == from {
		e.target = place{}
	}
	if hint := c.find(to); hint != (place{}) && hint != c.me {
		e.hint = hint
	} else if e.hint.name == from {
		e.hint = place{}
	}
	c.settle(id, e)
}

// Where returns who relays a room, as far as this node knows: what it tells an edge that asks it in vain. "" if it does
// not know.
func (c *Core) Where(id codec.RoomID) string {
	e := c.at(id)
	switch {
	case e != nil && e.relay:
		return c.me.name
	case e != nil && c.alive(e.hint): // a state that was not heard of may be newer than the one that is here
		return e.hint.name
	case e != nil && e.state != nil && c.alive(writer(e.state)):
		return e.state.Relay
	}
	if chain := c.Chain(id); len(chain) > 0 && chain[0] != c.me.name {
		return chain[0]
	}
	return ""
}

// find returns the process that has a name at the moment, or none.
func (c *Core) find(name string) place {
	if m, ok := c.view.Find(name); ok {
		return place{m.Name, m.Birth}
	}
	return place{}
}

// alive reports whether another process is a member and not known to be down.
func (c *Core) alive(p place) bool {
	_, down := c.down[p.name]
	return p.name != "" && p != c.me && !down && c.find(p.name) == p
}

// writer returns the process in whose reign a state was written.
func writer(st *codec.RoomState) place { return place{st.Relay, st.Birth} }

// Contested reports whether another process within the view may think that it relays a room which this node relays: it
// has not answered yet when it was told of this reign. Its edges are still with it.
func (c *Core) Contested(id codec.RoomID) bool {
	e := c.at(id)
	return e != nil && e.relay && slices.ContainsFunc(e.peers, func(p peer) bool { return p.tell && p.acked == 0 && c.alive(p.place) })
}

// Unreachable reports whether a member cannot be reached from here, though the cluster counts it alive.
func (c *Core) Unreachable(name string) bool { return c.away[name] && c.find(name) != place{} }
