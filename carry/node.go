package carry

import (
	"container/heap"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// Node decides what this node does for rooms that others relay, and executes what [node.Core] decides. After each call
// it has done all that follows, so far as it can be done at that moment.
type Node struct {
	self  string
	birth uint64
	rooms *room.Table
	pool  *room.Pool
	do    *parcels
	core  *node.Core

	now      int64
	timers   timers
	count    uint64   // of timers made, to break ties in time
	reviewAt int64    // when the core's review goes on; 0: none is pending
	ticket   Ticket   // the last one given
	later    []func() // for when the core has returned

	peers map[string]*peer // the other members
	links map[LinkID]*link
	edges map[codec.RoomID]*edge
	sweep []*edge // edges in order of their rooms; nil: to be made anew
	ways  map[*room.Outbound]*outbound
	given map[Ticket]*outbound // whether their sessions hold them is not known yet
	calls map[uint32]*call     // requests on links, by their numbers there
	asks  map[SessionID][]*request
	ended map[codec.RoomID]int64 // tombstones, and since when

	shown  map[codec.RoomID][]string // who was let into rooms that are here, and may still be there
	ceding []cession                 // rooms that others relay now: see cede
	gained tidings                   // for the log
	lost   tidings

	digestAt int64
}

const (
	// upkeepEvery is how often edges are looked at.
	upkeepEvery = 100 * time.Millisecond
	// digestEvery lies between two digests.
	digestEvery = 3 * time.Second
	// strangerFor is how long a link may wait for its node to be in the view: gossip and links come by different ways.
	strangerFor = 3 * time.Second
	// askFor is how long a request may look for its room; maxAsks is how many one session may have on their way.
	askFor  = 10 * time.Second
	maxAsks = 1024
	// tombstoneFor is how long a room that ended is remembered, so that it does not come back; buryEvery how often that is
	// looked at.
	tombstoneFor = 10 * time.Minute
	buryEvery    = 10 * time.Second
	// settleHold is how long a new relay acknowledges nothing, so that every edge has come back before anything is let go
	// of; contestedFor is how long it may be that while the relay before it cannot be told.
	settleHold   = 300 * time.Millisecond
	contestedFor = 2 * time.Second
)

// New returns the machine of a process that is alone as yet.
func New(self node.Member, rooms *room.Table, pool *room.Pool, do Effects) *Node {
	n := &Node{
		self: self.Name, birth: self.Birth, rooms: rooms, pool: pool,
		do:    &parcels{Effects: do, of: make(map[LinkID][]codec.Control)},
		peers: make(map[string]*peer), links: make(map[LinkID]*link), edges: make(map[codec.RoomID]*edge),
		ways: make(map[*room.Outbound]*outbound), given: make(map[Ticket]*outbound), calls: make(map[uint32]*call),
		asks: make(map[SessionID][]*request), ended: make(map[codec.RoomID]int64),
		shown: make(map[codec.RoomID][]string),
	}
	n.core = node.NewCore(self, (*relay)(n))
	return n
}

// Core returns the core, to be asked only.
func (n *Node) Core() *node.Core { return n.core }

// enter begins a call, leave ends it: what actions of the core have left for when that has returned is done.
func (n *Node) enter(now int64) {
	n.now = max(n.now, now)
}

func (n *Node) leave() {
	for n.cede(); len(n.later) > 0; n.cede() {
		n.settle()
	}
	n.do.flush()
	switch {
	case !n.core.Pending():
		n.reviewAt = 0
	case n.reviewAt == 0:
		n.reviewAt = n.now + int64(reviewFirst)
	}
}

// settle does what actions of the core have left for when that has returned.
func (n *Node) settle() {
	for len(n.later) > 0 {
		f := n.later[0]
		n.later = n.later[1:]
		f()
	}
	n.later = nil
}

// try calls f for the edge of a room. If that panics the room is given up here, as far as that can be done, and the
// panic goes on: the caller of the machine counts it, and may go on with the machine.
func (n *Node) try(id codec.RoomID, f func()) {
	done := false
	defer func() {
		if !done {
			n.fault(id)
		}
	}()
	f()
	done = true
}

// fault gives a room up after a panic.
func (n *Node) fault(id codec.RoomID) {
	e := n.edges[id]
	if e == nil {
		return
	}
	defer func() {
		if recover() != nil { // the edge is not in order: nobody has it from here on
			delete(n.edges, id)
			n.sweep = nil
		}
	}()
	if e.mirror != nil {
		n.rooms.Suspect(e.mirror)
	}
	n.abandon(e)
}

// next returns a new ticket.
func (n *Node) next() Ticket {
	n.ticket++
	return n.ticket
}

// timer is something that time brings.
type timer struct {
	at  int64
	seq uint64
	do  func()
}

type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].seq < t[j].seq
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = timer{}
	*t = (*t)[:len(*t)-1]
	return last
}

// after has f called by the Tick that comes when a time is over.
func (n *Node) after(d time.Duration, f func()) {
	n.count++
	heap.Push(&n.timers, timer{n.now + int64(d), n.count, f})
}

// Due returns when Tick is to be called next, at the latest; 0 if there is nothing to wait for. It may be earlier after
// any other call.
func (n *Node) Due() int64 {
	switch {
	case n.reviewAt != 0 && (len(n.timers) == 0 || n.reviewAt < n.timers[0].at):
		return n.reviewAt
	case len(n.timers) == 0:
		return 0
	}
	return n.timers[0].at
}

const (
	// reviewSlice is how many rooms a Tick looks at of those that a change of the members concerns: about a millisecond's
	// worth, here and at those who are sent their states.
	reviewSlice = 128
	// reviewRest lies between two slices, in which streams have the processor; the first comes when they have moved.
	reviewRest  = 3 * time.Millisecond
	reviewFirst = 20 * time.Millisecond
)

// Tick does what time brings.
func (n *Node) Tick(now int64) {
	n.enter(now)
	for len(n.timers) > 0 && n.timers[0].at <= n.now {
		t := heap.Pop(&n.timers).(timer)
		t.do()
		n.leave()
	}
	if n.reviewAt != 0 && n.reviewAt <= n.now {
		n.reviewAt = n.now + int64(reviewRest)
		n.core.Step(reviewSlice)
	}
	n.leave()
}

// ordered returns the edges in order of their rooms. Edges may be made and dropped while the caller goes through them.
func (n *Node) ordered() []*edge {
	if n.sweep == nil {
		n.sweep = make([]*edge, 0, len(n.edges))
		for _, id := range sorted(n.edges) {
			n.sweep = append(n.sweep, n.edges[id])
		}
	}
	return n.sweep
}

// Report takes what a link's Port has to tell.
func (n *Node) Report(l LinkID, r Report, now int64) {
	n.enter(now)
	if k := n.links[l]; k != nil {
		r.tell(n, k)
	}
	n.leave()
}

// Performed takes the answer to a request that was done at a room here. Effects.Answer follows when the standbys know
// what has changed; if this node is not the relay any more, the request is as one of Ask.
func (n *Node) Performed(a Ask, r *room.Room, answer codec.Control, now int64) {
	n.enter(now)
	done := func(ok bool) {
		if ok {
			n.do.Answer(a, answer)
		} else {
			n.later = append(n.later, func() { n.ask(a) })
		}
	}
	switch a.M.(type) {
	case *codec.Stat: // changes nothing
		done(true)
	case *codec.Remove:
		n.end(r, codec.CodeRemoved, done)
	default:
		n.core.Change(r.ID, r.Changes(), done)
	}
	n.leave()
}

// Registered makes the cluster know a room that a client has registered here, and answers.
func (n *Node) Registered(a Ask, r *room.Room, answer *codec.Registered, now int64) {
	n.enter(now)
	done := func(ok bool) {
		if ok {
			n.do.Answer(a, answer)
		} else {
			n.do.Answer(a, refusal(a.Req, errMoved))
		}
	}
	r.Reigned(1, n.birth)
	if !n.core.Create(r.State(), done) {
		n.rooms.End(r, codec.CodeNodeLost)
		done(false)
	}
	n.leave()
}

// Changed makes the cluster know that a room which this node relays has ended by itself, or, with code 0, that
// publishers have left it: for Table.OnChange. Of one that its owner has removed Performed tells.
func (n *Node) Changed(r *room.Room, ended codec.Code, now int64) {
	n.enter(now)
	if ended != codec.CodeRemoved {
		n.end(r, ended, func(bool) {})
	}
	n.leave()
}

func (n *Node) end(r *room.Room, code codec.Code, done func(ok bool)) {
	d := r.Changes()
	d.Ended = code
	n.core.Change(r.ID, d, done)
	n.bury(r.ID)
}

// bury notes when a room's tombstone came, to forget it in time.
func (n *Node) bury(id codec.RoomID) {
	st := n.core.State(id)
	if st == nil || st.Ended == 0 { // or it lives again
		delete(n.ended, id)
		return
	}
	delete(n.shown, id)
	if _, known := n.ended[id]; known {
		return
	}
	if len(n.ended) == 0 {
		n.after(buryEvery, n.exhume)
	}
	n.ended[id] = n.now
}

// exhume forgets the tombstones that have had their time.
func (n *Node) exhume() {
	for _, id := range sorted(n.ended) {
		if n.now-n.ended[id] > int64(tombstoneFor) {
			n.core.Forget(id)
			delete(n.ended, id)
		}
	}
	if len(n.ended) > 0 {
		n.after(buryEvery, n.exhume)
	}
}

// refusal is the answer to a request that is refused.
func refusal(req uint32, why *room.Error) *codec.Refused {
	return &codec.Refused{Req: req, Code: why.Code, Text: why.Text}
}

// errMoved refuses what another node may do in a moment.
var errMoved = &room.Error{Code: codec.CodeMoved, Text: "the room is on its way to another node"}

// errAsks refuses what a session asks of rooms elsewhere while too much of that is on its way.
var errAsks = &room.Error{Code: codec.CodeOverloaded, Text: "too many requests for rooms of other nodes at once"}

// upkeep does what time brings to edges, as long as there are any.
func (n *Node) upkeep() {
	defer func() { // whatever happens
		if len(n.edges) > 0 {
			n.after(upkeepEvery, n.upkeep)
		}
	}()
	for _, e := range n.ordered() {
		if n.edges[e.id] == e {
			n.try(e.id, func() { n.look(e) })
			n.leave()
		}
	}
	for _, k := range n.leaving() {
		for _, id := range sorted(k.left) {
			if n.now >= k.left[id].until {
				delete(k.left, id)
				n.do.Send(k.id, unsubscribe(id))
			}
		}
	}
	if n.now >= n.digestAt {
		n.digestAt = n.now + int64(digestEvery)
		n.digests()
	}
}

// look tells the relay how many subscribers an edge has, and lets go of what nobody needs.
func (n *Node) look(e *edge) {
	for _, o := range slices.Clone(e.outs) {
		o.out.Forget(n.now)
		if o.until != 0 && n.now >= o.until || o.out.Over() {
			n.over(o, codec.CodeGone)
		}
	}
	n.tally(e)
	if e.needed() {
		e.idle = 0
	} else if e.idle == 0 {
		e.idle = n.now
	} else if n.now-e.idle >= int64(idleFor) && (e.mirror == nil || n.rooms.Forget(e.mirror)) {
		n.unplug(e, unneeded)
		n.drop(e)
	}
}

// digests tells every node which rooms are mirrored from it, so that interest that either side has lost is repaired.
func (n *Node) digests() {
	rooms := make(map[LinkID][]codec.RoomID)
	for _, e := range n.ordered() {
		if e.at != nil && e.phase != away {
			rooms[e.at.id] = append(rooms[e.at.id], e.id)
		}
	}
	for _, name := range sorted(n.peers) {
		k := n.peers[name].up
		if k == nil {
			continue
		}
		ids := append(rooms[k.id], sorted(k.left)...)
		if len(ids) == 0 && !k.digested {
			continue
		}
		k.digested = len(ids) > 0
		for {
			some := min(len(ids), codec.MaxDigest)
			m := &codec.Digest{Rooms: ids[:some:some]}
			if ids = ids[some:]; len(ids) > 0 {
				m.Flags = codec.DigestMore
			}
			n.do.Send(k.id, m)
			if len(ids) == 0 {
				break
			}
		}
	}
}
