package room

import (
	"slices"
	"sync/atomic"

	"github.com/timedge/timedge/codec"
)

// Outlet is where a room's batches go: the members of the room on one event loop.
type Outlet interface {
	// Post hands over one reference to b. When the batch is in every subscriber's socket or queue the outlet calls Taken,
	// then Release. It is called under the room's mutex and only appends to a mailbox.
	Post(b *Batch)
}

// Member is one subscription: of a client, or of a link to a node with subscribers of its own. The room compares
// members by identity. Admit and Cut are called under the room's mutex and append to the mailbox that the member's
// outlet is posted to, so that every member sees the room's events in the room's order.
type Member interface {
	// Admit makes it a member of its outlet from here on: it gets the replay, which it takes over, then all batches posted
	// later.
	Admit(replay *Replay)
	// Cut ends the membership after all that was posted before.
	Cut(code codec.Code)
	// Elsewhere has the node of a link told that clients of its have come to other nodes, under the room's mutex. The
	// marks are the callee's.
	Elsewhere(marks []uint64)
	// Acted does what the outcome of the room's policy asks for. Its loop calls it, without the room's mutex.
	Acted(out Outcome)
}

// Room is one virtual room.
type Room struct {
	ID    codec.RoomID
	Owner string
	kind  kind

	table    *Table
	share    *Share // the owner's
	set      Settings
	created  int64
	lastPush atomic.Int64

	listed  int // place in its stripe's list; that stripe's lock
	watched int // place among the watched; that list's lock

	mu       guard
	ended    codec.Code // why the room ended; 0 while it lives
	nextPub  uint16
	lost     bool // it was given up after a panic: see guard.go
	vacant   bool // an inbox's: none is there now, and what comes does not arrive; see parted
	recount  bool // the count changed since it was last told
	marked   bool // the table's next sweep will tell it
	settling bool // the logs keep everything, until keeps
	counted  bool // for the owner's and the table's number of rooms
	part     bool // a mirror's: it does not hold yet what the relay has, and nobody is admitted
	grants   map[string]grant
	granted  int          // of these, granted
	grantRev uint64       // the highest version of a grant
	pubs     []*Publisher // with those that left a short while ago, for who resumes
	outlets  []Outlet
	subs     int
	// an inbox's: since when none of the owner's sessions is there; 0: one is. With Settings.Occupied: when somebody was
	// there last
	gone     int64
	watchers int            // subscribers and publishers that asked for counts
	links    map[Member]int // of members that are links, what they tally; untold at first
	tallied  int            // all of it
	seats    *seating       // nil while nobody has a seat
	settles  int64          // a room that has come from another node settles until then
	keeps    int64          // settling ends then
	held     int64          // until when the room is held if somebody comes before; 0: it is not: see deserted
	holds    int            // what the owner's share counts for it
	delta    Delta          // what has changed since Changes was called last; see noted
	epoch    uint32         // of this node's reign; 0: it has none
	birth    uint64         // likewise

	crowd atomic.Int32 // how many have a seat; read without the mutex

	// A mirror's, fed by a link to the room's relay.
	feed       uint64 // the newest that feeds it, see Feed
	total      int32  // subscribers, by the relay's word
	toldOf     int32  // how many of them were this node's
	totalPubs  uint64
	cacheBytes int
	frames     uint64
	bytes      uint64
}

// Settings returns what the room was registered with. The caller must not change it.
func (r *Room) Settings() *Settings { return &r.set }

// hold counts n bytes more for the room's owner. Room's mutex.
func (r *Room) hold(n int) {
	r.holds += n
	r.share.Hold(n)
}

// toOutlets hands a batch to every outlet. Room's mutex.
func (r *Room) toOutlets(b *Batch) {
	n := len(r.outlets)
	if b.stream != nil {
		if b.aloft = r.kind.flies(r.seats != nil); b.aloft {
			b.stream.flight.add(aloft{b.Last, len(b.B), r.lastPush.Load()})
		}
		if r.seats != nil {
			r.seats.posted(b.stream)
		}
		if n == 0 {
			r.kind.taken(b.stream, b)
		}
	}
	b.outlets.Store(int32(n))
	for _, o := range r.outlets {
		o.Post(b.Retain())
	}
}

// postControl hands a frame about the room to every outlet. Room's mutex.
func (r *Room) postControl(kind BatchKind, c codec.Control) {
	b := r.table.pool.encodeOwn(c, nil)
	b.Kind = kind
	r.toOutlets(b)
	b.Release()
}

// Crowd returns how many places of subscribers acknowledgements wait for: what an acknowledgement costs grows with it.
func (r *Room) Crowd() int { return int(r.crowd.Load()) }

// Known returns how many publishers the room knows, with those that left a short while ago: who comes is told of them.
func (r *Room) Known() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pubs)
}

// Publish makes h the holder of a publisher number for (account, instance). Publishing again, from the same session or
// another, takes the number and its streams over, and asks h at once to acknowledge what has arrived. It returns the
// streams that the room knows of it.
func (r *Room) Publish(h Holder, account string, instance uint64, counts bool) (*Publisher, []codec.StreamNext, error) {
	return r.publish(h, account, instance, counts, false)
}

// Renew is Publish by a node that has carried the publisher before. It takes nothing over from another holder: ErrHeld.
func (r *Room) Renew(h Holder, account string, instance uint64, counts bool) (*Publisher, []codec.StreamNext, error) {
	return r.publish(h, account, instance, counts, true)
}

func (r *Room) publish(h Holder, account string, instance uint64, counts, renew bool) (*Publisher, []codec.StreamNext,
	error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended != 0:
		return nil, nil, ErrUnknown
	case !r.kind.decides():
		return nil, nil, ErrNotRelay
	case !r.takes(account) && r.settling && !r.kind.inbox: // of an inbox strangers are not to learn that it is there
		return nil, nil, ErrUnsettled
	case !r.takes(account):
		return nil, nil, r.kind.refusal()
	}
	w := who{account, instance}
	var p *Publisher
	live := 0
	for _, q := range r.pubs {
		if q.ended != 0 {
			continue
		}
		live++
		if q.who == w {
			p = q
		}
	}
	if p == nil {
		if r.kind.inbox && !r.attended() {
			return nil, nil, ErrAway
		}
		if live >= r.table.conf().MaxPublishers {
			return nil, nil, ErrPublishers
		}
		if share := r.table.pool.Share(account); share.pubs.Load() >= int64(r.table.conf().MaxPublishersPerAccount) {
			return nil, nil, ErrManyPubs
		} else if share.Over() {
			return nil, nil, ErrOverloaded
		}
		if len(r.pubs) >= 2*r.table.conf().MaxPublishers {
			r.forgetOldest()
		}
		p = r.add(r.freeNum(), w, r.newLife(), codec.ClientMark(r.ID, account, instance))
		r.recount = true
	} else if old := p.holder.Load(); old != nil && *old != h {
		if renew {
			return nil, nil, ErrHeld
		}
		(*old).Cut(p, codec.CodeSuperseded)
	}
	p.holder.Store(&h)
	p.since = 0
	p.nudging.Store(false)
	r.watch(&p.counts, counts)
	var next []codec.StreamNext
	for _, s := range p.streams {
		if !s.fresh {
			next = append(next, codec.StreamNext{Dtype: s.key.Dtype, Next: min(s.next, codec.MaxSeq)})
		}
		s.told = 0
	}
	if len(next) > 0 { // what arrived while the client was away it has not been told
		p.told.Store(-1)
		p.nudging.Store(true)
		h.AckNow(p)
	}
	return p, next, nil
}

// add makes a publisher under a number that is free, and announces it. Room's mutex.
func (r *Room) add(num uint16, w who, life codec.Life, mark uint64) *Publisher {
	r.rouse()
	p := &Publisher{Num: num, Room: r, room: r, who: w, life: life, mark: mark, share: r.table.pool.Share(w.account)}
	p.admit()
	p.nudgeAt.Store(r.kind.nudge(r.table.conf().Window))
	r.pubs = append(r.pubs, p)
	r.postControl(KindControl, p.joined())
	if r.noted() {
		r.delta.Came = append(r.delta.Came, p.state())
	}
	return p
}

// watch notes whether somebody wants counts, and makes the next sweep tell them.
func (r *Room) watch(is *bool, want bool) {
	if *is != want {
		if want {
			r.watchers++
		} else {
			r.watchers--
		}
		*is = want
	}
	if want {
		r.recount = true
	}
	r.changed()
}

// changed makes the next sweep tell the count, if it changed and somebody wants it.
func (r *Room) changed() {
	if r.recount && r.watchers > 0 && !r.marked {
		r.marked = true
		r.table.markCount(r)
	}
}

// freeNum returns a publisher number that nobody has; numbers are not used again before all others were.
func (r *Room) freeNum() uint16 {
	for {
		r.nextPub++
		if r.nextPub == 0 {
			continue
		}
		used := false
		for _, p := range r.pubs {
			used = used || p.Num == r.nextPub
		}
		if !used {
			return r.nextPub
		}
	}
}

// forgetOldest lets go of the publisher that ended first, before its linger time is over: clients that come and go
// quickly must not use up numbers and memory. Room's mutex.
func (r *Room) forgetOldest() {
	oldest := -1
	for i, p := range r.pubs {
		if p.ended != 0 && (oldest < 0 || p.since < r.pubs[oldest].since) {
			oldest = i
		}
	}
	if oldest >= 0 {
		r.pubs[oldest].release()
		r.pubs = slices.Delete(r.pubs, oldest, oldest+1)
	}
}

// Detach says that the session h is gone. The publisher keeps its place for the linger time.
func (p *Publisher) Detach(h Holder, now int64) {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if cur := p.holder.Load(); cur == nil || *cur != h || p.ended != 0 {
		return
	}
	p.holder.Store(nil)
	p.since = now
	r.watch(&p.counts, false)
}

// Unpublish ends a publisher at its own wish.
func (p *Publisher) Unpublish(h Holder, now int64) error {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := p.mayPush(h); err != nil {
		return err
	}
	r.endPublisher(p, codec.CodeLeft, now)
	return nil
}

// endPublisher announces that a publisher is gone. It stays in the list for the linger time, so that a subscriber that
// resumes can still get its last frames. Room's mutex.
func (r *Room) endPublisher(p *Publisher, code codec.Code, now int64) {
	p.ended, p.since = code, now
	r.watch(&p.counts, false)
	p.holder.Store(nil)
	if r.noted() {
		if len(r.delta.Left) == 0 {
			r.table.markLeft(r)
		}
		r.delta.left(p.Num)
	}
	b := r.table.pool.encodeOwn(&codec.Left{Room: r.ID, Pub: p.Num, Code: code}, p.share)
	b.Kind, b.Key.Pub = KindLeft, p.Num
	r.toOutlets(b)
	b.Release()
	r.recount = true
	r.changed()
}

// end closes the room, which lives: everybody in it is told, and what it kept is released. The table forgets it
// afterwards. Room's mutex.
func (r *Room) end(code codec.Code) {
	r.ended = code
	r.postControl(KindClosed, &codec.Closed{Room: r.ID, Code: code})
	for _, p := range r.pubs {
		if h := p.holder.Load(); h != nil {
			(*h).Cut(p, code)
		}
		p.release()
	}
	r.seats.dissolve()
	r.outlets, r.pubs, r.seats = nil, nil, nil
}

// empty lets go of all that the publisher has sent. Room's mutex.
func (p *Publisher) empty() {
	for _, s := range p.streams {
		s.clearLog()
		s.clearInits()
	}
	p.tellCached()
	if p.room.seats != nil {
		p.room.seats.released(p)
	}
}

// release is empty for a publisher that is gone for good and will be forgotten. Room's mutex.
func (p *Publisher) release() {
	p.empty()
	p.dismiss()
}

// sweep does what time brings: publishers whose linger time is over leave, and the room itself ends, with the code
// returned; 0 if it goes on.
func (r *Room) sweep(now int64) (end codec.Code) {
	cfg := r.table.conf()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return 0
	}
	if r.kind.attends() {
		r.attend(now)
	}
	r.calm(now)
	r.occupy(now)
	r.outlived(now)
	if end = r.kind.expired(r, now); end != 0 {
		r.end(end)
		return end
	}
	kept := r.pubs[:0]
	for _, p := range r.pubs {
		if p.since != 0 && now-p.since > int64(cfg.Linger) {
			switch {
			case r.kind.lingers(p):
			case p.ended == 0:
				r.endPublisher(p, codec.CodeGone, now)
			default:
				p.release()
				continue
			}
		}
		kept = append(kept, p)
	}
	clear(r.pubs[len(kept):])
	r.pubs = kept
	return 0
}

// tellCount sends the count to those who asked for it.
func (r *Room) tellCount() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marked = false
	if !r.recount || r.watchers == 0 || r.ended != 0 {
		return
	}
	r.recount = false
	c := r.count()
	for _, p := range r.pubs {
		if h := p.holder.Load(); h != nil && p.counts {
			(*h).Count(p, c)
		}
	}
	r.postControl(KindCount, &c)
}

func (r *Room) count() codec.Count {
	if !r.kind.decides() {
		subs := max(0, r.kind.elsewhere(r.total, r.toldOf)+r.subs+r.tallied)
		return codec.Count{Room: r.ID, Subscribers: uint64(subs), Publishers: r.totalPubs}
	}
	c := codec.Count{Room: r.ID, Subscribers: uint64(r.subs + r.tallied)}
	for _, p := range r.pubs {
		if p.ended == 0 {
			c.Publishers++
		}
	}
	return c
}

// Info returns what there is to know of the room.
func (r *Room) Info(now int64) codec.Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.count()
	return codec.Info{
		Room: r.ID, Policy: r.set.Policy, Owner: r.Owner, Subscribers: c.Subscribers, Publishers: c.Publishers,
		Frames: r.frames, Bytes: r.bytes,
		AgeMillis: uint64(max(0, now-r.created)) / 1e6, IdleMillis: uint64(max(0, now-r.lastPush.Load())) / 1e6,
	}
}
