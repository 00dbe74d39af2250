package node

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// This file is a cluster in memory: Cores, links between them that delay, break and refuse as connections do,
// membership that each node learns of in its own time, and a clock that jumps from event to event. All that is random
// comes from a seed, so a run repeats. sim_random_test.go makes random days out of it, scenario_test.go plays those of
// testdata.

type world struct {
	rng   *rand.Rand
	now   time.Duration
	queue eventQueue
	count uint64 // events made, to break ties in time; also births and rooms
	lives uint64 // publishers admitted

	procs   map[string]*proc // the living ones, by name
	group   map[string]int   // who is in the same part of a partitioned network; 0 unless said
	cut     map[[2]string]bool
	views   map[uint64]*View // by members: many nodes see the same
	killed  time.Duration    // when a process was last killed
	slices  bool             // Cores review in slices
	strike  bool             // the next relay that answers something is killed
	records ledger
	fault   string // the first invariant that was broken
	trace   func(format string, args ...any)
	debug   func(format string, args ...any) // what is only of interest to who looks for a fault
	written map[string]*codec.RoomState      // by room, reign and version: what relays wrote
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].seq, q[j].seq)) < 0
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// proc is one process: a Core, and what the engine would do for it.
type proc struct {
	w     *world
	me    Member
	dead  bool
	core  *Core
	links map[string]*link // that this process has dialed
	knows map[string]Member
	rooms map[codec.RoomID]*codec.RoomState // that it relays
	edges map[codec.RoomID]string           // that it has sessions of: the node that answered last that it relays it
	fed   map[codec.RoomID]map[string]*link // that it relays: the edges attached to it, by their links
	had   map[codec.RoomID]bool             // rooms that it had a state of before the current event
	steps bool                              // a Step is on its way
}

// link is a connection that from has dialed, or dials.
type link struct {
	from  *proc
	to    string
	birth uint64
	gen   int // rises when the connection ends: what is under way then gets lost
	state linkState
	queue []func(to *proc)
	there time.Duration // when the newest frame of either direction arrives: none overtakes another
	back  time.Duration
	holed [2]bool // something was lost there or back, so nothing may follow
}

type linkState int

const (
	idle linkState = iota
	dialing
	up
	broken
)

func newWorld(seed uint64) *world {
	return &world{
		rng: rand.New(rand.NewPCG(seed, 0x7d6e)), procs: map[string]*proc{}, group: map[string]int{}, cut: map[[2]string]bool{},
		views: map[uint64]*View{}, trace: func(string, ...any) {}, debug: func(string, ...any) {},
		written: map[string]*codec.RoomState{}, records: newLedger(),
	}
}

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.queue, event{w.now + d, w.count, do})
}

// between returns a random time.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

// run lets happen what is due until the time given, or until nothing is due at all if that is zero. It reports false if
// there is no end.
func (w *world) run(until time.Duration) bool {
	for n := 0; len(w.queue) > 0; n++ {
		if until > 0 && w.queue[0].at > until {
			w.now = until
			return true
		}
		if n > 2_000_000 {
			return false
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
		if w.fault != "" {
			return true
		}
	}
	return true
}

func (w *world) fail(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf("%v: ", w.now) + fmt.Sprintf(format, args...)
	}
}

func (w *world) alive() []*proc {
	var ps []*proc
	for _, name := range slices.Sorted(maps.Keys(w.procs)) {
		ps = append(ps, w.procs[name])
	}
	return ps
}

// ---- membership

func (w *world) start(name string) *proc {
	w.count++
	p := &proc{
		w: w, me: Member{Name: name, Addr: name, Birth: w.count, Level: 1 - uint8(w.count%4/3)}, links: map[string]*link{}, knows: map[string]Member{},
		rooms: map[codec.RoomID]*codec.RoomState{}, edges: map[codec.RoomID]string{}, fed: map[codec.RoomID]map[string]*link{},
		had: map[codec.RoomID]bool{},
	}
	p.core = NewCore(p.me, p)
	if w.slices { // for most of one room, to show what lies between them
		p.core.atOnce = []int{0, 1, reviewAtOnce}[w.count%3]
	}
	p.knows[name] = p.me
	w.procs[name] = p
	w.trace("%s starts", name)
	w.gossip(name, 5*time.Millisecond, 100*time.Millisecond)
	return p
}

// kill ends a process without a word.
func (w *world) kill(name string) {
	p := w.procs[name]
	w.trace("%s is killed", name)
	delete(w.procs, name)
	p.dead, w.killed = true, w.now
	w.records.died(w)
	w.gossip(name, 350*time.Millisecond, 700*time.Millisecond)
	for _, q := range w.alive() {
		if l := q.links[name]; l != nil {
			l.doom(2*time.Millisecond, 20*time.Millisecond)
		}
	}
}

func (w *world) drain(name string) {
	p := w.procs[name]
	w.trace("%s drains", name)
	p.me.Draining = true
	w.gossip(name, 5*time.Millisecond, 50*time.Millisecond)
}

// split puts nodes into a part of the network of their own; 0 puts them back.
func (w *world) split(part int, names ...string) {
	for _, name := range names {
		w.group[name] = part
	}
	for _, name := range names {
		w.gossip(name, 350*time.Millisecond, 700*time.Millisecond)
	}
	w.doomCut()
}

// sever cuts one direction between two nodes, or joins it again. Membership does not see it: others still hear both.
func (w *world) sever(from, to string, is bool) {
	if is {
		w.cut[[2]string{from, to}] = true
	} else {
		delete(w.cut, [2]string{from, to})
	}
	w.doomCut()
}

func (w *world) blocked(from, to string) bool {
	return w.group[from] != w.group[to] || w.cut[[2]string{from, to}]
}

func (w *world) doomCut() {
	for _, p := range w.alive() {
		for _, name := range slices.Sorted(maps.Keys(p.links)) {
			l := p.links[name]
			there, back := w.blocked(p.me.Name, name), w.blocked(name, p.me.Name)
			if (there || back) && (l.state == up || l.state == dialing) {
				l.holed[0], l.holed[1] = l.holed[0] || there, l.holed[1] || back
				l.doom(100*time.Millisecond, 800*time.Millisecond)
			}
		}
	}
}

// gossip lets every node learn, in its own time, what is true of another then, and the other of them.
func (w *world) gossip(name string, low, high time.Duration) {
	for _, p := range w.alive() {
		w.after(w.between(low, high), func() { p.learn(name) })
		if q := w.procs[name]; q != nil && q != p {
			other := p.me.Name
			w.after(w.between(low, high), func() { q.learn(other) })
		}
	}
}

func (p *proc) learn(name string) {
	if p.dead {
		return
	}
	q := p.w.procs[name]
	was, had := p.knows[name]
	switch {
	case q != nil && p.w.group[name] == p.w.group[p.me.Name]:
		if had && was == q.me {
			return
		}
		p.knows[name] = q.me
	case !had:
		return
	default:
		delete(p.knows, name)
	}
	if l := p.links[name]; l != nil && (q == nil || l.birth != p.knows[name].Birth) {
		l.end()
		delete(p.links, name)
	}
	// A node that is gone from the view is not listened to any more.
	if q != nil && had && p.knows[name].Birth != was.Birth || q == nil {
		if other := p.w.procs[name]; other != nil {
			if l := other.links[p.me.Name]; l != nil && l.state == up {
				l.holed = [2]bool{true, true}
				l.doom(time.Millisecond, 50*time.Millisecond)
			}
		}
		for _, edges := range p.fed {
			delete(edges, name)
		}
	}
	p.w.debug("%s has a view %v", p.me.Name, slices.Sorted(maps.Keys(p.knows)))
	p.core.SetView(p.w.view(p.knows))
	p.touched()
}

func (w *world) view(knows map[string]Member) *View {
	var key uint64
	for _, m := range knows {
		key ^= xxhash.Sum64String(m.Name) ^ m.Birth*0x9e3779b97f4a7c15
		if m.Draining {
			key ^= m.Birth * 0xd6e8feb86659fd93
		}
	}
	v := w.views[key]
	if v == nil {
		v = NewView(slices.Collect(maps.Values(knows)))
		w.views[key] = v
	}
	return v
}

// ---- links

// say sends something to another node on the link that p dials for it.
func (p *proc) say(to string, do func(to *proc, l *link)) {
	l := p.links[to]
	if l == nil {
		l = &link{from: p, to: to, birth: p.knows[to].Birth}
		p.links[to] = l
	}
	frame := func(q *proc) { do(q, l) }
	switch l.state {
	case idle:
		l.queue = append(l.queue, frame)
		l.dial()
	case dialing:
		l.queue = append(l.queue, frame)
	case up:
		l.transmit(frame)
	}
}

func (l *link) dial() {
	l.state = dialing
	l.gen++
	gen, w, p := l.gen, l.from.w, l.from
	w.after(w.between(time.Millisecond, 20*time.Millisecond), func() {
		if p.dead || l.gen != gen {
			return
		}
		q := w.procs[l.to]
		reachable := w.group[p.me.Name] == w.group[l.to]
		if q == nil || q.me.Birth != l.birth || w.blocked(p.me.Name, l.to) || w.blocked(l.to, p.me.Name) || q.knows[p.me.Name].Birth != p.me.Birth {
			refused := q == nil && reachable
			l.fail()
			if refused && w.rng.IntN(3) > 0 {
				w.trace("%s finds %s's port closed", p.me.Name, l.to)
				p.core.Down(l.to)
			}
			p.touched()
			return
		}
		l.state, l.holed = up, [2]bool{}
		w.debug("%s reaches %s", p.me.Name, l.to)
		p.core.Away(l.to, false)
		queue := l.queue
		l.queue = nil
		for _, frame := range queue {
			l.transmit(frame)
		}
		p.touched()
	})
}

// transmit lets a frame arrive, after those before it, if the connection still is the same.
func (l *link) transmit(frame func(q *proc)) {
	w, gen := l.from.w, l.gen
	l.there = max(l.there, w.now+w.between(100*time.Microsecond, 10*time.Millisecond))
	w.after(l.there-w.now, func() {
		q := w.procs[l.to]
		if q == nil || q.me.Birth != l.birth || l.gen != gen || l.holed[0] {
			return
		}
		frame(q)
		q.touched()
	})
}

// reply lets an answer arrive at the node that dialed.
func (l *link) reply(frame func(p *proc)) {
	w, gen := l.from.w, l.gen
	l.back = max(l.back, w.now+w.between(100*time.Microsecond, 10*time.Millisecond))
	w.after(l.back-w.now, func() {
		if l.from.dead || l.gen != gen || l.holed[1] {
			return
		}
		frame(l.from)
		l.from.touched()
	})
}

// doom lets the node that dialed find out, some time later, that the connection is broken.
func (l *link) doom(low, high time.Duration) {
	gen, w := l.gen, l.from.w
	w.after(w.between(low, high), func() {
		if !l.from.dead && l.gen == gen && l.state == up {
			l.fail()
			l.from.touched()
		}
	})
}

// end closes the connection, and so at once for the other side too, as far as anyone looks.
func (l *link) end() {
	l.gen++
	l.state, l.queue = idle, nil
}

// fail is the end of a connection, or of an attempt at one; there will be another.
func (l *link) fail() {
	l.end()
	l.state = broken
	gen, w, p := l.gen, l.from.w, l.from
	w.debug("%s cannot reach %s", p.me.Name, l.to)
	p.core.Away(l.to, true)
	w.after(w.between(50*time.Millisecond, 200*time.Millisecond), func() {
		if !p.dead && l.gen == gen {
			l.dial()
		}
	})
}

// ---- what a Core has done

func (p *proc) Promote(st *codec.RoomState) {
	p.w.trace("%s relays %s in epoch %d", p.me.Name, p.w.records.label(st.Room), st.Epoch)
	if p.rooms[st.Room] != nil {
		p.w.fail("%s is promoted twice", p.me.Name)
	}
	p.rooms[st.Room] = st
	p.fed[st.Room] = map[string]*link{}
	p.wrote(st)
}

func (p *proc) Demote(room codec.RoomID, to string) {
	p.w.trace("%s does not relay %s any more: %s does", p.me.Name, p.w.records.label(room), to)
	if p.rooms[room] == nil {
		p.w.fail("%s is demoted and did not relay", p.me.Name)
	}
	delete(p.rooms, room)
	p.moved(room, to)
}

// closed tells the edges that the room has ended.
func (p *proc) closed(room codec.RoomID) {
	fed := p.fed[room]
	delete(p.fed, room)
	delete(p.rooms, room)
	for _, name := range slices.Sorted(maps.Keys(fed)) {
		fed[name].reply(func(edge *proc) { edge.core.Edge(room, false) })
	}
}

// moved tells the edges.
func (p *proc) moved(room codec.RoomID, to string) {
	fed := p.fed[room]
	delete(p.fed, room)
	for _, name := range slices.Sorted(maps.Keys(fed)) {
		l := fed[name]
		l.reply(func(edge *proc) { edge.core.Moved(room, p.me.Name, to) })
	}
}

func (p *proc) Merge(st *codec.RoomState) {
	if p.rooms[st.Room] == nil {
		p.w.fail("%s merges and does not relay", p.me.Name)
	}
	if st.Ended != 0 {
		p.w.trace("%s hears that %s has ended: %s", p.me.Name, p.w.records.label(st.Room), st.Ended)
		p.closed(st.Room)
		return
	}
	p.w.trace("%s merges %s, epoch %d", p.me.Name, p.w.records.label(st.Room), st.Epoch)
	p.rooms[st.Room] = st
	p.wrote(st)
}

// wrote holds relays to it that nothing is written twice under one reign and version.
func (p *proc) wrote(st *codec.RoomState) {
	key := fmt.Sprint(st.Room, st.Epoch, st.Relay, st.Birth, st.Version)
	if old := p.w.written[key]; old != nil && !equal(old, st) {
		p.w.fail("%s wrote epoch %d version %d of %s twice", st.Relay, st.Epoch, st.Version, p.w.records.label(st.Room))
	}
	p.w.written[key] = st
}

// SendState sends it as bytes, as a link does.
func (p *proc) SendState(to string, st *codec.RoomState, flags uint8, req uint32) {
	p.w.debug("%s sends %s %s epoch %d version %d req %d flags %d", p.me.Name, to, p.w.records.label(st.Room), st.Epoch, st.Version, req, flags)
	if flags == codec.StateHandover {
		p.w.trace("%s asks %s to take %s over", p.me.Name, to, p.w.records.label(st.Room))
	}
	m := codec.State{Req: req, Flags: flags, RoomState: *st}
	b := enc(m.Append(nil))
	from := p.me.Name
	p.say(to, func(q *proc, _ *link) {
		var m codec.State
		if err := m.Parse(b); err != nil {
			q.w.fail("%v", err)
			return
		}
		q.w.debug("%s gets from %s req %d: %s epoch %d version %d flags %d", q.me.Name, from, req, q.w.records.label(st.Room), m.Epoch, m.Version, flags)
		q.core.Got(from, &m.RoomState, m.Flags, m.Req)
	})
}

func (p *proc) SendChange(to string, ch *codec.Change) {
	p.w.debug("%s sends %s %s epoch %d version %d to %d req %d", p.me.Name, to, p.w.records.label(ch.Room), ch.Epoch, ch.From, ch.Version, ch.Req)
	if m := p.knows[to]; m.Level < LevelChanges {
		p.w.fail("%s sends %s a change, which that does not understand", p.me.Name, to)
	}
	b, from := enc(ch.Append(nil)), p.me.Name
	p.say(to, func(q *proc, _ *link) {
		var m codec.Change
		if err := m.Parse(b); err != nil {
			q.w.fail("%v", err)
			return
		}
		q.core.GotChange(from, &m)
	})
}

func (p *proc) Decline(to string, req uint32) {
	p.w.debug("%s declines what %s sent: req %d", p.me.Name, to, req)
	if q := p.w.procs[to]; q != nil && q.links[p.me.Name] != nil && q.links[p.me.Name].state == up {
		q.links[p.me.Name].reply(func(q *proc) { q.core.Declined(p.me.Name, req) })
	}
}

func (p *proc) Ack(to string, req uint32) {
	p.w.debug("%s answers %s: req %d", p.me.Name, to, req)
	if q := p.w.procs[to]; q != nil && q.links[p.me.Name] != nil && q.links[p.me.Name].state == up {
		q.links[p.me.Name].reply(func(q *proc) { q.core.Acked(p.me.Name, req) })
	}
}

// Attach asks a node for a room until one has it or it is sure that none has.
func (p *proc) Attach(room codec.RoomID, to string) {
	p.w.debug("%s attaches to %q for %s", p.me.Name, to, p.w.records.label(room))
	delete(p.edges, room)
	if to == "" {
		return
	}
	p.say(to, func(q *proc, l *link) {
		switch {
		case q.rooms[room] != nil:
			q.fed[room][p.me.Name] = l
			l.reply(func(p *proc) {
				p.w.debug("%s is attached to %s for %s", p.me.Name, q.me.Name, q.w.records.label(room))
				p.edges[room] = q.me.Name
				p.core.Attached(room, q.me.Name)
			})
		case q.w.records.over(q.w, room):
			l.reply(func(p *proc) { p.core.Edge(room, false) })
		default:
			where := q.core.Where(room)
			l.reply(func(p *proc) {
				pause := time.Duration(0)
				if where == "" || where == q.me.Name {
					pause = 50 * time.Millisecond
				}
				p.w.after(pause, func() {
					if !p.dead {
						p.core.Moved(room, q.me.Name, where)
						p.touched()
					}
				})
			})
		}
	})
}

// ---- what owners and sessions do

func (p *proc) create() codec.RoomID {
	id, ok := p.core.Ring().Draw(p.w.rng.Uint64, p.me.Name)
	if !ok {
		return 0
	}
	room := codec.RoomID(id)
	st := &codec.RoomState{RoomHead: codec.RoomHead{Room: room, Owner: "alice", NextPub: 1}}
	p.w.records.add(room)
	p.w.trace("%s registers %s", p.me.Name, p.w.records.label(room))
	p.rooms[room], p.fed[room] = st, map[string]*link{}
	if !p.core.Create(st, func(ok bool) {
		if ok {
			p.w.records.answered(p.w, item{room: room})
		}
	}) {
		p.w.fail("a new room is taken")
	}
	p.synced(room)
	return room
}

// delta is what changes of a room.
type delta = room.Delta

// change has the relay's room changed.
func (p *proc) change(room codec.RoomID, what item, d delta) {
	what.room = room
	p.core.Change(room, d, func(ok bool) {
		if ok {
			p.w.trace("%s answers: %s", p.me.Name, p.w.records.text(what))
			p.w.records.answered(p.w, what)
			if p.w.strike {
				p.w.after(0, func() { p.w.struck(room, p) })
			}
		}
	})
	p.synced(room)
}

// synced takes over the head that the Core has given a change.
func (p *proc) synced(room codec.RoomID) {
	st := p.core.State(room)
	p.wrote(st)
	p.rooms[room] = st
	if st.Ended != 0 {
		p.closed(room)
	}
	p.touched()
}

func (p *proc) grant(room codec.RoomID, account string, granted bool) {
	gs := SetGrant(p.rooms[room].Grants, account, granted)
	version := uint64(0)
	for _, g := range gs {
		version = max(version, g.Version)
	}
	p.change(room, item{account: account, version: version, granted: granted}, delta{Grants: []codec.GrantState{{Account: account, Version: version, Granted: granted}}})
}

func (p *proc) publish(room codec.RoomID, account string) {
	st := p.rooms[room]
	p.w.lives++
	came := codec.PublisherState{Num: st.NextPub, Account: account, Instance: p.w.rng.Uint64(), Life: codec.Life{Epoch: st.Epoch, Birth: st.Birth, Version: p.w.lives}}
	p.change(room, item{}, delta{Came: []codec.PublisherState{came}, NextPub: st.NextPub + 1})
}

func (p *proc) finish(room codec.RoomID, code codec.Code) {
	p.w.records.ending(room)
	p.change(room, item{removed: final(code)}, delta{Ended: code})
}

// visit gives a node sessions of a room.
func (p *proc) visit(room codec.RoomID) {
	if to := p.core.Edge(room, true); to != "" {
		p.Attach(room, to)
	}
	p.touched()
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
