package engine

import (
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// edge is a room that this node does not relay and has clients of. Its mirror and its outbounds hang on one link, that to the target
// which the core has named. The cluster goroutine's.
type edge struct {
	id     codec.RoomID
	target string   // the node to attach to; "" if there is none at the moment
	at     *session // the link on which it is attached; nil if it is not
	tries  int      // attempts in a row that came to nothing
	retry  bool     // a timer will drive it

	mirror  bool       // there are, or will be, subscribers
	owner   bool       // the account whose inbox the room is has asked for it
	asked   bool       // the mirror was asked for on the link
	synced  bool       // the mirror had all that the relay had
	room    *room.Room // the mirror; nil before the first answer
	waiting []ask      // subscribers who wait for that
	through []detour   // nodes that wait for it likewise
	told    uint64     // the tally
	idle    int        // looks in a row at which nobody was there

	asks []ask       // requests to be sent
	outs []*outbound // publishers

	denied map[string]bool // who has said that there is no such room
	since  int64           // when the first of them did; 0: none
}

// detour is a node that wants a room by way of this one.
type detour struct {
	s *session
	m *codec.Mirror
}

// unknownFor is how long an edge that has been attached goes on looking for its room when everybody says that there is none.
const unknownFor = 3 * time.Second

// ask takes up a request for a room that this node does not relay. Loop only.
func (c *cluster) ask(by caller, m codec.Control) {
	id, _ := requestOf(m)
	by.tries++
	switch {
	case id == 0:
		by.s.reply(c.e.refusal(by.req, room.ErrMalformed))
	case by.tries > 20:
		by.s.reply(c.e.refusal(by.req, errMoved))
	case by.s.link != nil && !by.s.link.through[id]:
		c.post(func() { c.disown(ask{by, m}) })
	default:
		c.post(func() { c.take(ask{by, m}) })
	}
}

// again sends requests back to their loops, where the room is now.
func (c *cluster) again(asks []ask) {
	for _, a := range asks {
		s := a.by.s
		s.loop.post(item{kind: itemDo, do: func() {
			if s.closed || s.closing || s.doomed {
				return
			}
			if m, is := a.m.(*codec.Subscribe); is {
				s.subscribe(m)
			} else {
				s.request(a.by, a.m)
			}
		}})
	}
}

func (c *cluster) refuse(asks []ask, why *room.Error) {
	for _, a := range asks {
		if why == room.ErrUnknown && a.by.s.link == nil {
			c.e.absent(a.by, a.m)
		} else {
			a.by.s.later(c.e.refusal(a.by.req, why))
		}
	}
}

// disown answers a node that asks for a room which this one does not relay.
func (c *cluster) disown(a ask) {
	id, _ := requestOf(a.m)
	if m, is := a.m.(*codec.Inbox); is && c.opensHere(id) {
		c.openInbox(a, m)
	} else if st := c.core.State(id); is || st != nil && st.Ended == 0 {
		c.refuse([]ask{a}, errMoved)
	} else {
		c.refuse([]ask{a}, room.ErrUnknown)
	}
}

// take does what ask has posted.
func (c *cluster) take(a ask) {
	id, _ := requestOf(a.m)
	m, opens := a.m.(*codec.Inbox)
	if opens && c.opensHere(id) {
		c.openInbox(a, m)
		return
	}
	if st := c.core.State(id); st != nil && st.Ended != 0 && !opens {
		c.refuse([]ask{a}, room.ErrUnknown)
		return
	}
	if c.core.Relays(id) {
		if _, err := c.e.rooms.Get(id); err != nil { // it has just ended
			c.refuse([]ask{a}, room.ErrUnknown)
			return
		}
		c.again([]ask{a})
		return
	}
	e := c.edge(id)
	if _, is := a.m.(*codec.Subscribe); is {
		e.owner = e.owner || id == codec.InboxOf(a.by.account)
		if e.room != nil && e.room.Stale() && c.e.rooms.Forget(e.room) {
			c.unplug(e)
			e.room, e.synced = nil, false
		}
		if e.synced && e.room != nil {
			c.again([]ask{a})
			return
		}
		e.waiting, e.mirror = append(e.waiting, a), true
	} else {
		e.asks = append(e.asks, a)
	}
	c.drive(e)
}

// edge returns the edge of a room, making it if need be.
func (c *cluster) edge(id codec.RoomID) *edge {
	e := c.edges[id]
	if e == nil {
		e = &edge{id: id, denied: make(map[string]bool)}
		c.edges[id] = e
		e.target = c.core.Edge(id, true)
	}
	return e
}

// aim moves an edge to another node. The same node again means: a little later.
func (c *cluster) aim(id codec.RoomID, to string) {
	e := c.edges[id]
	if e == nil {
		return
	}
	if e.target == to {
		c.retryLater(e)
		return
	}
	c.unplug(e)
	e.target, e.tries = to, 0
	c.drive(e)
}

// retryLater drives an edge again when a moment has passed, a longer one each time.
func (c *cluster) retryLater(e *edge) {
	c.unplug(e)
	if e.retry {
		return
	}
	e.retry = true
	wait := min(5*time.Millisecond<<min(e.tries, 6), 200*time.Millisecond)
	e.tries++
	time.AfterFunc(wait, func() {
		c.post(func() {
			e.retry = false
			if c.edges[e.id] == e {
				c.drive(e)
			}
		})
	})
}

// unplug takes an edge off its link.
func (c *cluster) unplug(e *edge) {
	if e.at == nil {
		return
	}
	s, id := e.at, e.id
	e.at, e.asked = nil, false
	for _, o := range e.outs {
		o.Unlink(s)
		o.asked = nil
	}
	s.loop.post(item{kind: itemDo, do: func() { s.link.unfeed(s, id) }})
}

// drive does for an edge what can be done now: ask for the mirror, have the publishers taken, send the requests.
func (c *cluster) drive(e *edge) {
	p := c.peers[e.target]
	if p == nil {
		if e.target == "" && len(c.core.Chain(e.id)) <= 1 {
			c.unknown(e, "")
		}
		return
	}
	if p.up == nil || e.retry {
		return
	}
	e.at = p.up
	if c.cutOffFromRelay(e) { // who serves this node as an edge of the relay does so with a mirror only
		e.mirror = true
	}
	if e.mirror && !e.asked {
		e.asked = true
		c.askMirror(e, p)
	}
	for _, o := range e.outs {
		if o.via != nil && c.circular(e, o.via) {
			o.End(codec.CodeMoved)
		} else if o.asked == nil && o.Number() != 0 { // otherwise its client still asks
			c.askPublish(e, p, o)
		}
	}
	c.prune(e)
	asks := e.asks
	e.asks = nil
	for _, a := range asks {
		if a.by.s.link != nil && c.circular(e, a.by.s.link) {
			c.refuse([]ask{a}, errMoved)
			continue
		}
		if _, opens := a.m.(*codec.Inbox); opens && c.opensHere(e.id) {
			c.later = append(c.later, func() { c.take(a) })
		} else {
			c.forward(e, p, a)
		}
	}
}

// circular reports whether what another node asks for by way of this one would go round in circles: this node would ask the other, or does not
// reach the relay either.
func (c *cluster) circular(e *edge, by *link) bool {
	return e.target == by.peer.name || c.cutOffFromRelay(e)
}

// askMirror subscribes this node at the relay, with the positions that it has or, at first, those of the client who waits.
func (c *cluster) askMirror(e *edge, p *peer) {
	m := &codec.Mirror{Room: e.id}
	if c.cutOffFromRelay(e) {
		m.Flags = codec.MirrorThrough
	}
	if e.owner || e.room != nil && e.room.IsInbox() {
		m.Flags |= codec.MirrorInbox
	}
	if e.room != nil {
		m.Have = e.room.Positions()
	} else {
		m.Flags |= codec.MirrorNew
		if len(e.waiting) > 0 {
			if sub, is := e.waiting[0].m.(*codec.Subscribe); is {
				m.Have = sub.Have
			}
		}
	}
	// What is not named begins where a late joiner's does; what is here already is no news then.
	m.Have = m.Have[:min(len(m.Have), codec.MaxMirrorPositions)]
	at := e.at
	e.told = unheard
	c.callVia(p, func(req uint32) codec.Control { m.Req = req; return m }, func(s *session, req uint32) { s.link.want(e.id, req) },
		func(answer codec.Control) {
			if c.edges[e.id] != e || e.at != at {
				return
			}
			switch m := answer.(type) {
			case *codec.OK: // all that the relay had is here
				c.sync(e)
			case *codec.Refused:
				e.asked = false
				if m.Code == codec.CodeNotAccepted {
					c.hidden(e)
				} else {
					c.refusedBy(e, p.name, m)
				}
			}
		})
}

// cutOffFromRelay reports whether the target is not the room's relay, as far as this node knows, but somebody who can reach it.
func (c *cluster) cutOffFromRelay(e *edge) bool {
	relay := c.core.Where(e.id)
	return relay != "" && relay != e.target && relay != c.self && c.core.Unreachable(relay)
}

// callVia sends a request on the link to p, which there is; done gets the answer, or nil when the link breaks. before runs on the link's
// loop right before the request is sent. build returns nil for a request that fits into no frame.
func (c *cluster) callVia(p *peer, build func(req uint32) codec.Control, before func(*session, uint32), done func(codec.Control)) {
	c.req = (c.req + 1) &^ ownReq
	req, s := c.req|ownReq, p.up
	m := build(req)
	if m == nil {
		c.log.Error().Str("peer", p.name).Msg("a request does not fit into a frame")
		c.post(func() {
			done(&codec.Refused{Req: req, Code: codec.CodeInternal, Text: "the request does not fit into a frame"})
		})
		return
	}
	c.calls[req] = &call{p, done}
	s.loop.post(item{kind: itemDo, do: func() {
		if before != nil {
			before(s, req)
		}
		s.queueControl(m)
	}})
}

// mirrored takes the first answer: what the room is.
func (c *cluster) mirrored(s *session, r *room.Room, relay string) {
	e := c.edges[r.ID]
	if e == nil || e.at != s {
		return
	}
	e.room, e.tries, e.since, e.told = r, 0, 0, untold
	clear(e.denied)
	if r.IsInbox() {
		c.turnStrangersAway(e)
	}
	c.core.Attached(r.ID, relay)
}

// sync admits who waited for the mirror.
func (c *cluster) sync(e *edge) {
	e.tries = 0
	if e.room == nil {
		return
	}
	e.synced = true
	c.filled.Delete(e.id)
	c.again(e.waiting)
	loops := make(map[*loop]bool)
	for _, a := range e.waiting {
		loops[a.by.s.loop] = true
	}
	e.waiting = nil
	through := e.through
	e.through = nil
	for _, d := range through {
		c.serve(d.s, d.m)
	}
	// When all who waited have their seats, what they have acknowledged counts.
	r := e.room
	left := len(loops)
	if left == 0 {
		r.Unhold()
	}
	for l := range loops {
		l.post(item{kind: itemDo, do: func() {
			c.post(func() {
				if left--; left == 0 {
					r.Unhold()
					c.tally(e)
				}
			})
		}})
	}
}

// fills reports whether a room is a mirror that does not hold yet what the relay has.
func (c *cluster) fills(r *room.Room) bool {
	if !r.IsMirror() {
		return false
	}
	_, is := c.filled.Load(r.ID)
	return is
}

// refusedBy follows a node's word that it does not relay the room.
func (c *cluster) refusedBy(e *edge, from string, m *codec.Refused) {
	if m.Code == codec.CodeRoomUnknown {
		c.unknown(e, from)
		return
	}
	if m.Code == codec.CodeMoved {
		c.core.Moved(e.id, from, "")
		c.settle()
	}
	if c.edges[e.id] == e && e.target == from {
		c.retryLater(e)
	}
}

// moved follows a node's word who relays a room.
func (c *cluster) moved(id codec.RoomID, from, to string) {
	e := c.edges[id]
	if e == nil || e.target != from {
		return
	}
	c.unplug(e)
	c.core.Moved(id, from, to)
	c.settle()
	if c.edges[id] == e && e.target == from {
		c.retryLater(e)
	}
}

// unknown follows a node's word that there is no such room: only if all who could know say so there is none.
func (c *cluster) unknown(e *edge, from string) {
	if from != "" {
		e.denied[from] = true
	}
	now := c.e.now()
	if e.since == 0 {
		e.since = now
	}
	held := false
	if st := c.core.State(e.id); st != nil {
		held = st.Ended == 0
	}
	for _, name := range c.core.Chain(e.id) {
		if p := c.peers[name]; p != nil && p.up != nil && !e.denied[name] {
			c.unplug(e)
			e.target = name
			c.drive(e)
			return
		}
	}
	attached := e.room != nil || slices.ContainsFunc(e.outs, func(o *outbound) bool { return o.since == 0 && o.Number() != 0 })
	if held || attached && now-e.since < int64(unknownFor) {
		clear(e.denied)
		c.unplug(e)
		e.target = c.core.Edge(e.id, true)
		c.retryLater(e)
		return
	}
	c.abandon(e)
}

// abandon gives an edge up: the room is gone.
func (c *cluster) abandon(e *edge) {
	code := codec.CodeNodeLost
	if st := c.core.State(e.id); st != nil && st.Ended != 0 {
		code = st.Ended
	}
	c.unplug(e)
	for _, a := range append(e.waiting, e.asks...) {
		if _, opens := a.m.(*codec.Inbox); opens { // it is to be made
			c.later = append(c.later, func() { c.take(a) })
		} else {
			c.refuse([]ask{a}, room.ErrUnknown)
		}
	}
	c.noThrough(e)
	for _, o := range e.outs {
		o.End(code)
	}
	if e.room != nil && e.room.IsMirror() {
		c.e.rooms.End(e.room, code)
	}
	c.drop(e)
}

// noThrough answers the nodes that wait for the room by way of this one: there is none.
func (c *cluster) noThrough(e *edge) {
	for _, d := range e.through {
		d.s.later(c.e.refusal(d.m.Req, room.ErrUnknown))
	}
	e.through = nil
}

// drop forgets an edge.
func (c *cluster) drop(e *edge) {
	delete(c.edges, e.id)
	c.filled.Delete(e.id)
	c.core.Edge(e.id, false)
}

// closed follows the relay's word that the room has ended.
func (c *cluster) closed(s *session, id codec.RoomID, code codec.Code) {
	e := c.edges[id]
	if e == nil || e.at != s {
		return
	}
	c.unplug(e)
	c.refuse(e.waiting, room.ErrUnknown)
	c.noThrough(e)
	e.waiting, e.room, e.mirror, e.synced = nil, nil, false, false
	c.filled.Delete(id)
	for _, o := range e.outs {
		o.End(code)
	}
	c.prune(e)
	if len(e.asks) == 0 {
		c.drop(e)
	} else {
		c.drive(e)
	}
}

// dropped follows the relay's word that a publisher's part has ended.
func (c *cluster) dropped(s *session, o *outbound, code codec.Code) {
	e := c.edges[o.ID]
	if e == nil {
		return
	}
	if code == codec.CodeMoved {
		if e.at == s {
			c.moved(e.id, s.link.peer.name, "")
		}
		return
	}
	o.End(code)
	c.prune(e)
}

// resync mirrors a room anew.
func (c *cluster) resync(id codec.RoomID, s *session) {
	if e := c.edges[id]; e != nil && e.at == s {
		c.retryLater(e)
	}
}
