package room

import "github.com/timedge/timedge/codec"

// Queue holds what one session's socket has not taken yet, of all rooms it subscribes to, in order and by reference. It
// belongs to the session's loop. The zero value is an empty queue.
type Queue struct {
	pool   *Pool
	share  *Share // whose it is; nil: nobody's
	holds  int    // what the share counts for it
	chunk  int
	segs   []seg // segs[head:] wait
	head   int
	bytes  int
	replay int // of these, bytes of replays
	own    int // and of answers and the like, which no policy touches
	pace   pace

	active    []*Sub // subscriptions that have something queued, or are slow; maybe more
	forgotten []*Sub // subscriptions that have ended, of which nothing more is to go out

	// A pass over the queue costs as much as the queue is long, so that it waits until the queue has grown by a part.
	passed   int   // segments at the last pass ...
	added    int   // and since then
	passedAt int64 // when that was

	sheds []shedding        // scratch of a pass
	views []view            // likewise
	byKey map[viewKey]int32 // likewise: places in views, when they are many
	kept  []seg             // likewise
}

// seg is a part of a batch that holds whole frames, waiting for the socket.
type seg struct {
	b             *Batch
	beg, pos, end int32 // pos moves from beg to end as the socket takes the bytes
	replay        bool  // of sub's replay
	at            int64 // when it was queued, ns
	sub           *Sub  // nil: answers and the like, which no policy touches
}

// newSeg returns a part of b, with a reference of its own.
func newSeg(b *Batch, beg, pos, end int, at int64, s *Sub) seg {
	return seg{b: b.Retain(), beg: int32(beg), pos: int32(pos), end: int32(end), at: at, sub: s}
}

func (g *seg) left() int { return int(g.end - g.pos) }

// Sub is one subscription's account in its session's queue, and what it has missed. Embed it in the loop's member.
type Sub struct {
	room   *Room // its settings are fixed
	queued int   // bytes in the queue
	slow   *slow
	member Member
	replay int32 // of queued, bytes of its replay, which the bounds leave out: the room's log has its own
	ripe   int32 // policy latest: over so many bytes a look for old messages pays
	active int32 // place in the queue's list of active subscriptions, and one; 0: not there
	shed   int32 // likewise in sheds; isStale in between: scratch of Look
}

// isStale marks a subscription, of which no pass is going on, as one whose oldest bytes have waited for too long.
const isStale = -1

// Init prepares the account of a subscription of m to r.
func (s *Sub) Init(r *Room, m Member) { s.room, s.member = r, m }

// Slow reports whether the subscription waits for a point to resume at, so that what it gets must pass its Queue.
func (s *Sub) Slow() bool { return s.slow != nil }

// Policy returns the room's policy.
func (s *Sub) Policy() codec.Policy { return s.room.set.Policy }

// live returns how many bytes wait that count against the room's bound.
func (s *Sub) live() int { return s.queued - int(s.replay) }

// NewQueue returns an empty queue whose notices come from pool. chunk is how many bytes its socket takes at once when
// it takes some, after taking none for a while: with a slow path that is all one sees of its pace.
func NewQueue(pool *Pool, chunk int) *Queue { return &Queue{pool: pool, chunk: chunk} }

// SetChunk says how many bytes the socket takes at once from now on.
func (q *Queue) SetChunk(n int) { q.chunk = n }

// Bytes returns how much waits.
func (q *Queue) Bytes() int { return q.bytes }

// Answers returns how much waits that belongs to no subscription: answers to what the session has asked for.
func (q *Queue) Answers() int { return q.own }

// Overdue returns how much waits that a session should have taken by now: nothing while it keeps up, and no replays.
func (q *Queue) Overdue(now int64) int {
	if q.Empty() || q.pace.keepsUp(q.OldestAt(), int64(patience), q.chunk, now) {
		return 0
	}
	return q.bytes - q.replay
}

// Empty reports whether nothing waits.
func (q *Queue) Empty() bool { return q.head == len(q.segs) }

// OldestAt returns when the oldest waiting bytes were queued; the queue is not empty.
func (q *Queue) OldestAt() int64 { return q.segs[q.head].at }

// Append queues bytes of b from off to end that no policy may drop. It takes a reference of its own.
func (q *Queue) Append(b *Batch, off, end int, now int64) {
	q.add(newSeg(b, off, off, end, now, nil))
}

// Rest queues what a socket did not take of a batch for s: the bytes from pos on, of frames that start at off. No
// policy acts yet. It takes a reference of its own.
func (q *Queue) Rest(s *Sub, b *Batch, off, pos, end int, now int64) {
	q.add(newSeg(b, off, pos, end, now, s))
}

// Replay queues an item of a replay for s. No policy acts. It takes a reference of its own.
func (q *Queue) Replay(s *Sub, it ReplayItem, now int64) {
	if it.Off < it.End {
		g := newSeg(it.B, it.Off, it.Off, it.End, now, s)
		g.replay = true
		q.add(g)
	}
}

// Orphan lets what waits for s go out although s is no longer there; no policy touches it any more.
func (q *Queue) Orphan(s *Sub) {
	s.slow = nil
	q.rest(s)
}

func (q *Queue) add(g seg) {
	if q.head > 32 && q.head*2 > len(q.segs) {
		n := copy(q.segs, q.segs[q.head:])
		clear(q.segs[n:])
		q.segs, q.head = q.segs[:n], 0
	}
	if q.Empty() {
		q.pace.begin(g.at)
	}
	if len(q.segs) == cap(q.segs) {
		defer q.account()
	}
	q.segs = append(q.segs, g)
	n := g.left()
	q.bytes += n
	q.added++
	if g.sub != nil {
		g.sub.queued += n
		q.attend(g.sub)
	} else {
		q.own += n
	}
	if g.replay {
		q.replay += n
		g.sub.replay += int32(n)
	} else {
		q.pace.came(n, g.at)
	}
}

// Push queues the frames of b from off to end for s, leaving out what s has to skip, and lets the room's policy act. It
// takes a reference of its own. It returns what the policy did.
//
// In a latest room old messages go when they make up half of what is queued, so that a push costs no pass over the
// queue; Check drops them all.
//
// In a live room, what is queued for s stays below twice Settings.QueueBytes unless the session keeps up (see pace),
// or, where that is more, below what the last look found that may not be dropped and an eighth of QueueBytes. Replays
// do not count. Not dropped are the rest of messages begun, the newest init messages, the newest message of each stream
// without key messages, gaps, and frames about the room.
func (q *Queue) Push(s *Sub, b *Batch, off, end int, now int64) (out Outcome) {
	if s.slow != nil && b.Kind != KindCount {
		off = q.resume(s, b, off, end, now, &out)
		if off == end {
			return out
		}
	}
	if s.queued == 0 {
		s.ripe = int32(end - off)
	}
	q.add(newSeg(b, off, off, end, now, s))
	if (!s.room.kind.keepsNewest() || s.queued > int(s.ripe)) && q.mayPass() {
		out.merge(q.Check(s, now))
	}
	return out
}

// mayPass reports whether the queue has grown enough for another pass: a short one always.
func (q *Queue) mayPass() bool { return q.added >= q.passed/16-16 }

// attend puts s on the list of active subscriptions.
func (q *Queue) attend(s *Sub) {
	if s.active == 0 {
		q.active = append(q.active, s)
		s.active = int32(len(q.active))
	}
}

// rest takes s off that list.
func (q *Queue) rest(s *Sub) {
	if s.active == 0 {
		return
	}
	n := len(q.active) - 1
	last := q.active[n]
	q.active[s.active-1], last.active = last, s.active
	q.active[n], s.active = nil, 0
	q.active = q.active[:n]
}

// Forget drops all that waits for s but a frame begun, without a notice: the subscription has ended, and the next that
// its subscriber is told is why. Bytes go at the next Head or Look, those of all that have ended by then in one pass.
func (q *Queue) Forget(s *Sub) {
	if s.queued > 0 {
		q.forgotten = append(q.forgotten, s)
	}
	q.Orphan(s)
}

// drop drops what was forgotten.
func (q *Queue) drop(now int64) {
	if len(q.forgotten) == 0 {
		return
	}
	for _, s := range q.forgotten {
		q.mark(s)
		q.sheds[s.shed-1].mode = shedForget
	}
	clear(q.forgotten)
	q.forgotten = q.forgotten[:0]
	q.pass(now)
	q.unmark()
}

// Finish queues the notices that s still waits for, because it gets nothing more of its room.
func (q *Queue) Finish(s *Sub, now int64) {
	if s.slow == nil {
		return
	}
	for i := range s.slow.streams {
		q.tell(s, &s.slow.streams[i], now)
	}
	s.slow = nil
}

// Head appends up to limit of the waiting slices to dst, in order, for one vectored write. There may be none where some
// were forgotten.
func (q *Queue) Head(dst [][]byte, limit int) [][]byte {
	q.drop(q.passedAt)
	for i := q.head; i < len(q.segs) && limit > 0; i++ {
		g := &q.segs[i]
		dst = append(dst, g.b.B[g.pos:g.end])
		limit--
	}
	return dst
}

// Advance says that the socket has taken n bytes.
func (q *Queue) Advance(n int, now int64) {
	if n > 0 {
		q.pace.took(n, now)
	}
	q.bytes -= n
	for n > 0 {
		g := &q.segs[q.head]
		k := min(n, g.left())
		n -= k
		g.pos += int32(k)
		if g.sub != nil {
			g.sub.queued -= k
		} else {
			q.own -= k
		}
		if g.replay {
			g.sub.replay -= int32(k)
			q.replay -= k
		}
		if g.pos == g.end {
			g.b.Release()
			*g = seg{}
			q.head++
		}
	}
	if q.head == len(q.segs) {
		q.reset()
	}
}

// Own says whose the queue is from now on; nil: nobody's. What it takes, the batches apart, is counted for that
// account.
func (q *Queue) Own(s *Share) {
	q.share.Hold(-q.holds)
	q.share, q.holds = s, 0
	q.account()
}

// account counts what the queue takes beside its batches.
func (q *Queue) account() {
	n := (cap(q.segs)+cap(q.kept))*segCost + cap(q.views)*viewCost + 8*cap(q.active)
	q.share.Hold(n - q.holds)
	q.holds = n
}

// maxIdleSegs bounds the scratch space that an empty queue keeps, so that a burst does not pin its size.
const maxIdleSegs = 64

func (q *Queue) reset() {
	q.segs, q.head, q.bytes, q.replay, q.own = q.segs[:0], 0, 0, 0, 0
	if cap(q.active) > maxIdleSegs && len(q.active) == 0 {
		q.active = nil
	}
	clear(q.forgotten)
	q.forgotten = q.forgotten[:0]
	q.passed, q.added = 0, 0
	if cap(q.segs) > maxIdleSegs || cap(q.kept) > maxIdleSegs || cap(q.views) > maxIdleSegs {
		q.segs, q.kept, q.views, q.byKey, q.sheds = nil, nil, nil, nil, nil
		q.account()
	}
}

// Idle reports whether nothing waits, and nobody who is slow is to be looked after: the queue may go to another
// session.
func (q *Queue) Idle() bool {
	if !q.Empty() {
		return false
	}
	for i := len(q.active) - 1; i >= 0; i-- {
		if q.active[i].slow == nil {
			q.rest(q.active[i])
		}
	}
	return len(q.active) == 0
}

// Clear drops everything: the session is gone.
func (q *Queue) Clear() {
	for _, s := range q.active {
		s.active = 0
	}
	q.active = q.active[:0]
	list := make([]*Batch, 0, len(q.segs)-q.head)
	for i := q.head; i < len(q.segs); i++ {
		g := &q.segs[i]
		if g.sub != nil {
			g.sub.queued -= g.left()
		}
		if g.replay {
			g.sub.replay -= int32(g.left())
		}
		list = append(list, g.b)
		*g = seg{}
	}
	q.pool.discard(list)
	q.reset()
}
