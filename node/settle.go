package node

import (
	"cmp"
	"slices"

	"github.com/timedge/timedge/codec"
)

// settle does for one room what its chain asks for: take it over, copy it to who needs it, attach to who has it. It is
// called after everything that happened, and does nothing the second time.
func (c *Core) settle(id codec.RoomID, e *entry) {
	var names [1 + Standbys]string
	chain := c.appendChain(names[:0], id)
	if e.state != nil {
		if !e.relay && len(chain) > 0 && chain[0] == c.me.name && (e.offered || !c.alive(writer(e.state))) {
			c.promote(e)
		}
		if e.relay {
			c.replicate(id, e, chain)
			c.tell(id, e)
		} else {
			c.giveBack(id, e, chain, c.tell(id, e))
		}
	}
	if e.edge && !e.relay {
		if to := c.aim(e, chain); to != e.target {
			e.target = to
			c.do.Attach(id, to.name)
		}
	}
	c.count(id, e)
	c.shelve(id, e, chain)
}

// promote begins a reign of this node: it is the first in the room's chain, and the relay that wrote the state is gone
// or asked for it.
func (c *Core) promote(e *entry) {
	if old := writer(e.state); c.alive(old) {
		p := e.peer(old)
		p.tell, p.acked = true, 0 // whatever it had, it was not this reign
	}
	st := *e.state
	st.Epoch, st.Relay, st.Birth = st.Epoch+1, c.me.name, c.me.birth
	c.write(e, &st)
	e.relay, e.offered, e.target, e.hint = true, false, place{}, place{}
	if st.Ended == 0 {
		c.do.Promote(&st)
	}
}

// replicate is the relay's part: everyone in the chain gets what has changed. If another is first in the chain it is
// asked to take over, and until it has, this node goes on.
func (c *Core) replicate(id codec.RoomID, e *entry, chain []string) {
	safe, complete := e.rev, true // the newest rev that all within reach have; whether all have all
	for i, name := range chain {
		if name == c.me.name {
			continue
		}
		p := e.peer(c.find(name))
		if complete = complete && p.acked == e.rev; c.away[name] {
			continue
		}
		if i == 0 && p.handed != e.rev {
			c.send(id, e, p, codec.StateHandover)
		} else if p.acked != e.rev && p.sent != e.rev && !c.waits(p) { // one at a time: what comes meanwhile goes together
			c.send(id, e, p, 0)
		}
		safe = min(safe, p.acked)
	}
	for len(e.waits) > 0 && e.waits[0].rev <= safe {
		w := e.waits[0]
		if e.waits = e.waits[1:]; len(e.waits) == 0 {
			e.waits = nil // or it would hold what was to be called
		}
		w.done(true)
	}
	if !complete {
		return
	}
	// Whoever is in the chain keeps its copy and is not answered until it is not.
	e.owed = slices.DeleteFunc(e.owed, func(d debt) bool {
		if slices.Contains(chain, d.to.name) {
			return false
		}
		if c.find(d.to.name) == d.to {
			c.do.Ack(d.to.name, d.req)
		}
		e.peers = slices.DeleteFunc(e.peers, func(p peer) bool { return p.name == d.to.name }) // it drops its copy now
		return true
	})
	if len(e.owed) == 0 {
		e.owed = nil
	}
}

// giveBack is the part of everyone else who has a copy. It sees to it that what it knows is known to the relay, or, if
// there is none, to the first in the chain, which will be: so a node that was restarted empty gets its rooms from its
// standbys. One who is not in the chain any more drops its copy as soon as it has heard that the relay and all its
// standbys have it (Acked), and has itself told everyone whom it must.
func (c *Core) giveBack(id codec.RoomID, e *entry, chain []string, told bool) {
	if c.placed(chain) {
		c.keep(e)
	}
	to, orphan := c.keeper(e, chain)
	if to == (place{}) || to == c.me || c.away[to.name] {
		return
	}
	switch p := e.peer(to); {
	case orphan && p.handed != e.rev:
		c.send(id, e, p, codec.StateHandover)
	case orphan:
	case !c.placed(chain) && told && p.returned != e.rev:
		c.send(id, e, p, codec.StateReturn)
	case p.acked != e.rev && p.sent != e.rev:
		c.send(id, e, p, 0)
	}
}

// tell sends the state to those who showed that they know of an older reign only: one of them may think that it relays
// the room, or wait for an answer. It reports whether all have heard.
func (c *Core) tell(id codec.RoomID, e *entry) (done bool) {
	done = true
	for i := range e.peers {
		p := &e.peers[i]
		p.tell = p.tell && p.acked != e.rev && p.place != writer(e.state) && c.find(p.name) == p.place
		if !p.tell || !c.alive(p.place) {
			continue
		}
		done = false
		if p.sent != e.rev && !c.away[p.name] {
			c.send(id, e, p, 0)
		}
	}
	return done
}

// keeper returns who must know what a standby knows. An orphan is a state of a reign that this process itself began and
// has forgotten since, so that nobody would end it.
func (c *Core) keeper(e *entry, chain []string) (to place, orphan bool) {
	if relay := writer(e.state); c.alive(relay) {
		return relay, false
	}
	if len(chain) == 0 {
		return place{}, false
	}
	return c.find(chain[0]), writer(e.state) == c.me
}

// placed reports whether this node is in the chain, or there is none.
func (c *Core) placed(chain []string) bool {
	return len(chain) == 0 || slices.Contains(chain, c.me.name)
}

func (c *Core) send(id codec.RoomID, e *entry, p *peer, flags uint8) {
	c.req++
	c.asked[c.req] = question{id, p.name, e.rev, flags}
	p.sent, p.last = e.rev, c.req
	switch flags {
	case codec.StateHandover:
		p.handed = e.rev
	case codec.StateReturn:
		c.keep(e) // only the last one asked is to answer
		p.returned, p.req = e.rev, c.req
	}
	if ch := c.changeFor(e, p, flags); ch != nil {
		c.do.SendChange(p.name, ch)
		return
	}
	p.whole = false
	c.do.SendState(p.name, e.state, flags, c.req)
}

// changeFor returns what a peer's copy lacks, as a frame; nil if it is to get the whole state.
func (c *Core) changeFor(e *entry, p *peer, flags uint8) *codec.Change {
	if m, ok := c.view.Find(p.name); flags != 0 || !e.relay || p.whole || p.acked == 0 || !ok || m.Level < LevelChanges {
		return nil
	}
	d, ok := e.since(p.acked)
	if !ok {
		return nil
	}
	ch := &codec.Change{
		Req: c.req, Room: e.state.Room, Epoch: e.state.Epoch, Relay: e.state.Relay, Birth: e.state.Birth, From: p.acked, Version: e.state.Version,
		Ended: e.state.Ended, NextPub: e.state.NextPub, Grants: d.Grants, Left: d.Left,
	}
	for _, a := range d.Came {
		ch.Came = append(ch.Came, codec.Arrival{Num: a.Num, Account: a.Account, Instance: a.Instance, Life: a.Life})
	}
	if !ch.Fits() {
		return nil
	}
	return ch
}

// GotChange takes what has changed of a room's state from its relay. If this node has exactly what that goes out from,
// the answer is Ack; otherwise Decline.
func (c *Core) GotChange(from string, ch *codec.Change) {
	sender := c.find(from)
	if sender == (place{}) || sender == c.me {
		return
	}
	e := c.at(ch.Room)
	if e == nil || e.state == nil || e.relay || e.state.Reign() != (codec.Reign{Epoch: ch.Epoch, Relay: ch.Relay, Birth: ch.Birth}) ||
		writer(e.state) != sender || e.state.Version != ch.From {
		c.do.Decline(from, ch.Req)
		return
	}
	next := *e.state
	var came []codec.PublisherState
	for _, a := range ch.Came {
		came = append(came, codec.PublisherState{Num: a.Num, Account: a.Account, Instance: a.Instance, Life: a.Life})
		next.Seen = mergeSeen(next.Seen, []codec.Life{a.Life})
	}
	next.Grants = setGrants(next.Grants, ch.Grants)
	next.Publishers = setPublishers(next.Publishers, came, ch.Left)
	next.Version, next.Ended, next.NextPub = ch.Version, cmp.Or(ch.Ended, next.Ended), max(next.NextPub, ch.NextPub)
	alike := e.peer(sender).acked == e.rev // this copy may have more
	c.set(e, &next)
	c.do.Ack(from, ch.Req)
	if alike {
		e.peer(sender).acked = e.rev
	}
	c.settle(ch.Room, e)
}

// Declined takes the answer of a node that could not take a change: it gets the whole state.
func (c *Core) Declined(from string, req uint32) {
	q, ok := c.asked[req]
	if !ok || q.to != from {
		return
	}
	delete(c.asked, req)
	if e := c.at(q.room); e != nil && e.state != nil {
		p := e.peer(c.find(from))
		p.whole, p.sent, p.acked = true, 0, 0
		c.settle(q.room, e)
	}
}

// waits reports whether a peer has not answered yet what it was sent last.
func (c *Core) waits(p *peer) bool {
	_, open := c.asked[p.last]
	return open
}

// keep takes no answer to what was given back: the chain has come back to this node, or somebody else is asked.
func (c *Core) keep(e *entry) {
	for i := range e.peers {
		delete(c.asked, e.peers[i].req)
		e.peers[i].returned, e.peers[i].req = 0, 0
	}
}

// peer returns the entry of a process. It is valid until the next call.
func (e *entry) peer(at place) *peer {
	for i := range e.peers {
		if e.peers[i].place == at {
			return &e.peers[i]
		}
	}
	if n := len(e.peers); n == cap(e.peers) { // most have one, the writer of their copy, or the standbys
		room := 1
		if e.relay || n > 0 {
			room = max(Standbys, 2*n)
		}
		e.peers = append(make([]peer, 0, room), e.peers...)
	}
	e.peers = append(e.peers, peer{place: at})
	return &e.peers[len(e.peers)-1]
}

// aim returns where to attach: to who is said to relay the room, or to the first of the chain that this node can reach.
func (c *Core) aim(e *entry, chain []string) place {
	if c.alive(e.hint) && !c.away[e.hint.name] {
		return e.hint
	}
	if e.state != nil {
		if relay := writer(e.state); c.alive(relay) && !c.away[relay.name] {
			return relay
		}
	}
	for _, name := range chain {
		if name != c.me.name && !c.away[name] {
			return c.find(name)
		}
	}
	return place{}
}

// Got takes a room's state from another node: from its relay, from one that thinks it is, or from one that has a copy.
// flags are those of the frame. The answer is Ack: a copy that is given back is answered when it is safe, all others at
// once. The Core keeps the state, which must not change afterwards.
func (c *Core) Got(from string, st *codec.RoomState, flags uint8, req uint32) {
	sender := c.find(from)
	if sender == (place{}) || sender == c.me {
		return
	}
	in := sortedState(st)
	e := c.entry(st.Room)
	if flags&codec.StateReturn == 0 {
		c.do.Ack(from, req)
	}
	reigns := writer(in) == sender // or thinks so
	handover := reigns && flags&codec.StateHandover != 0
	if e.relay {
		c.gotAsRelay(e, in, reigns, handover)
	} else {
		c.gotAsStandby(e, in, handover)
	}
	if flags&codec.StateReturn != 0 { // noted only now: if this copy brings a newer reign, others must hear of it, its giver knows
		e.owed = slices.DeleteFunc(e.owed, func(d debt) bool { return d.to.name == from })
		e.owed = append(e.owed, debt{sender, req})
	}
	p := e.peer(sender)
	if reigns { // it counts on this copy, whatever it has answered before
		c.keep(e)
	}
	if equal(e.state, in) {
		p.acked = e.rev
	} else if reignOrder(e.state, in) > 0 && (reigns || !e.relay) {
		p.tell, p.sent, p.acked = true, 0, 0 // it may have had this reign, and dropped it
		e.owed = slices.DeleteFunc(e.owed, func(d debt) bool { return d.to.name == from && !e.relay })
	}
	c.settle(in.Room, e)
}

func (c *Core) gotAsRelay(e *entry, in *codec.RoomState, reigns, handover bool) {
	mine, both := e.state, *merge(e.state, in)
	m := &both // to be changed
	chain := c.Chain(in.Room)
	first := len(chain) > 0 && chain[0] == c.me.name
	// Nobody's idleness ends a room that lives here.
	revive := mine.Ended == 0 && in.Ended == codec.CodeIdle && reignOrder(mine, in) != 0
	stepDown := Newer(in, mine) && c.alive(writer(in)) && !(handover && first) && !revive
	if reignOrder(mine, in) != 0 && !stepDown {
		hi := mine
		if Newer(in, mine) {
			hi = in
		}
		m.Publishers = addPublishers(m.Publishers, mine.Publishers, hi.Seen)
		m.Publishers = addPublishers(m.Publishers, in.Publishers, hi.Seen)
	}
	switch {
	case !Newer(in, mine):
		if equal(m, mine) {
			if reigns && reignOrder(mine, in) != 0 && mine.Ended == 0 {
				c.do.Merge(mine)
			}
			return
		}
	case stepDown:
		c.stepDown(e, m)
		e.offered = handover // for when this node's view has it first too
		return
	default: // the other reign is over, or ends with this: go on above it
		m.Epoch, m.Relay, m.Birth = in.Epoch+1, c.me.name, c.me.birth
		if revive {
			m.Ended = 0
		}
	}
	c.write(e, m)
	switch {
	case mine.Ended == 0:
		c.do.Merge(m)
	case m.Ended == 0:
		c.do.Promote(m)
	}
}

// stepDown ends the reign of this node in favour of the one that m was written in.
func (c *Core) stepDown(e *entry, m *codec.RoomState) {
	ended := e.state.Ended != 0
	c.set(e, m)
	e.relay, e.hint = false, writer(m)
	switch {
	case ended:
	case m.Ended != 0:
		c.do.Merge(m)
	default:
		c.do.Demote(m.Room, m.Relay)
	}
	c.tellOwed(e)
	waits := e.waits
	e.waits = nil
	for _, w := range waits {
		w.done(false)
	}
}

func (c *Core) gotAsStandby(e *entry, in *codec.RoomState, handover bool) {
	if e.state == nil {
		c.set(e, in)
		e.offered = handover
		e.hint = writer(in)
		return
	}
	old, m := e.state, merge(e.state, in)
	if !equal(m, old) {
		c.set(e, m)
	}
	if reignOrder(in, m) == 0 && (handover || reignOrder(old, m) != 0 || Newer(in, old)) {
		e.offered = handover
		e.hint = writer(in)
	}
	if reignOrder(old, m) != 0 {
		c.tellOwed(e)
	}
}

// tellOwed has everyone who gave a copy back told of the newer reign instead of an answer: it goes there then.
func (c *Core) tellOwed(e *entry) {
	for _, d := range e.owed {
		if c.find(d.to.name) == d.to {
			e.peer(d.to).tell = true
		}
	}
	e.owed = nil
}

// Acked takes the answer to a state that was sent.
func (c *Core) Acked(from string, req uint32) {
	q, ok := c.asked[req]
	if !ok || q.to != from {
		return
	}
	delete(c.asked, req)
	e := c.at(q.room)
	if e == nil || e.state == nil {
		return
	}
	p := e.peer(c.find(from))
	if p.sent < q.rev {
		return // it gave its copy back since
	}
	p.acked = max(p.acked, q.rev)
	if q.flags == codec.StateReturn && !e.relay && q.rev == e.rev {
		if c.tell(q.room, e) {
			c.drop(q.room, e)
			return
		}
		c.keep(e) // it is given back again when all are told
	}
	c.settle(q.room, e)
}
