package room

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/timedge/timedge/codec"
)

// seating keeps how far those have acknowledged each stream whom acknowledgements wait for: in a lossless room every
// subscriber, in any other only the links of nodes that have subscribers of theirs. Guarded by the room's mutex.
//
// In a lossless room the slowest seat alone decides what has arrived, and what is kept. In any other a frame has
// arrived when every loop has taken it and every seat that counts has acknowledged it; a seat that owes a batch for too
// long does not count until it has caught up.
type seating struct {
	room     *Room
	pool     *Pool
	crowd    *atomic.Int32 // how many seats there are
	seats    []*seat
	nodes    []*seat // of these, those of links
	byWho    map[who][]*seat
	byMark   map[uint64][]*seat  // of clients: see presence.go
	moves    map[uint64]struct{} // clients of whom a mirror's relay is to be told
	byMember map[Member]*seat    // those whose subscriber is connected
	hold     int64               // until then, by time, nothing counts as arrived; 0: no hold
}

// seated returns the room's seating, making it if need be. Room's mutex.
func (r *Room) seated() *seating {
	if r.seats == nil {
		r.seats = &seating{room: r, pool: r.table.pool, crowd: &r.crowd, byWho: make(map[who][]*seat),
			byMark: make(map[uint64][]*seat), byMember: make(map[Member]*seat)}
		r.table.watch(r)
	}
	return r.seats
}

// kept returns the seat of a client whose connection broke or, when the client resumes, that still sits on an old one.
// It returns nil if there is none.
func (l *seating) kept(w who, node string, resumes bool) *seat {
	for _, s := range l.byWho[w] {
		if s.node == node && (resumes || s.member == nil) && !s.orphan {
			return s
		}
	}
	return nil
}

// take gives a seat to a member: a new one if s is nil. A member that still sits there, on a connection that is not
// known to be dead, is cut off.
func (l *seating) take(s *seat, j *Join, now int64) *seat {
	if s == nil {
		s = &seat{who: who{j.Account, j.Instance}, node: j.Link, places: make(map[codec.StreamKey]*place),
			share: l.pool.Share(j.Account)}
		s.at = len(l.seats)
		l.seats = append(l.seats, s)
		l.crowd.Store(int32(len(l.seats)))
		l.byWho[s.who] = append(l.byWho[s.who], s)
		if j.Link == "" {
			s.mark = codec.ClientMark(l.room.ID, j.Account, j.Instance)
			l.byMark[s.mark] = append(l.byMark[s.mark], s)
		} else {
			l.nodes = append(l.nodes, s)
		}
	}
	if s.member != nil {
		s.member.Cut(codec.CodeReplaced)
		delete(l.byMember, s.member)
	}
	if j.Link != "" { // it says what its node has, which may be another process than the one before
		for _, p := range s.places {
			p.leave()
		}
		clear(s.places)
		clear(s.has)
	} else {
		l.note(s.mark)
	}
	s.member, s.moved, s.late, s.cut = j.Member, now, false, false
	l.byMember[j.Member] = s
	s.account()
	return s
}

// dissolve gives up all seats: the room has ended. No-op on nil.
func (l *seating) dissolve() {
	if l == nil {
		return
	}
	for _, s := range l.seats {
		s.share.Hold(-s.holds)
		s.share, s.holds = nil, 0
	}
}

// leave takes the place off its stream's list.
func (p *place) leave() {
	if p.st == nil {
		return
	}
	n := len(p.st.places) - 1
	last := p.st.places[n]
	p.st.places[p.at], last.at = last, p.at
	p.st.places[n] = nil
	p.st.places, p.st = p.st.places[:n], nil
}

// begin gives every seat a place in a new stream, from its first frame.
func (l *seating) begin(st *stream) {
	for _, s := range l.seats {
		if has := s.has[st.key]; s.mute == st.key.Pub {
			continue
		} else if has > 0 {
			delete(s.has, st.key)
			s.claims(st, has)
		} else {
			s.start(st, st.next-1)
		}
	}
	l.update(st)
}

// restart moves the seats to where a stream turned out to begin, but for those that have said where they are.
func (l *seating) restart(st *stream) {
	for _, s := range l.seats {
		if p := s.places[st.key]; p != nil && p.claim == 0 {
			p.acked = max(p.acked, st.next-1)
		}
	}
	l.update(st)
}

// Mute says that a member that wants no echoes is sent nothing more of a publisher: the number under which its client
// publishes now.
func (r *Room) Mute(member Member, num uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seats == nil {
		return
	}
	if s := r.seats.byMember[member]; s != nil {
		s.mutes(num)
		r.seats.updateAll(r)
	}
}

// posted is called before a batch is posted: if nobody was waited for it has arrived, or is the first that somebody
// lacks who has been ahead of the room.
func (l *seating) posted(st *stream) {
	if st.atLow == 0 {
		l.update(st)
	}
}

// lowest returns how far the slowest seats that count are, and how many stand there; next-1 and 0 if there are none.
// Those that say they have more than the room do not count until it has come there. Who moves as the last of the
// slowest, alone in front of a crowd, has it look at all of them: so they are in a list, some ns each.
func (l *seating) lowest(st *stream) (low uint64, n int) {
	low = st.next - 1
	for _, p := range st.places {
		if p.seat.late || p.acked >= st.next {
			continue
		}
		switch {
		case n > 0 && p.acked > low:
		case n > 0 && p.acked == low:
			n++
		default:
			low, n = p.acked, 1
		}
	}
	bound := uint64(codec.MaxSeq)
	switch {
	case l.hold != 0:
		bound = st.acked.Load()
	case st.pub.room.vacant:
		bound = max(st.acked.Load(), st.left)
	}
	if bound <= low {
		low, n = bound, n+1
	}
	return low, n
}

// reached returns up to where a stream may be acknowledged in a room that was a mirror: what arrived here then says
// nothing of other nodes.
func (l *seating) reached(st *stream) uint64 {
	if l.hold != 0 {
		return 0
	}
	if low, n := l.lowest(st); n > 0 {
		return low
	}
	return st.next - 1
}

// update computes how far the slowest seats are, lets go of what all have, and tells the publisher.
func (l *seating) update(st *stream) {
	low, n := l.lowest(st)
	st.low, st.atLow = low, n
	st.pub.room.kind.reached(st, low, n)
}

// consumed records that every subscriber of a lossless room has consumed the stream up to low.
func (st *stream) consumed(low uint64) {
	if low > st.acked.Load() {
		st.acked.Store(low)
	}
	st.turn()
	arrived, log := 0, st.spans()
	for ; st.counts < len(log) && log[st.counts].last <= low; st.counts++ {
		arrived += log[st.counts].end - log[st.counts].off - st.part
		st.part = 0
	}
	// The publisher may send as much again for each frame acknowledged, so those of a span in progress count, too.
	if st.counts < len(log) && log[st.counts].b.Kind == KindStream && log[st.counts].first <= low {
		sp := &log[st.counts]
		from := sp.first
		if st.part > 0 {
			from = st.partNext
		}
		if low >= from {
			n := offsetOf(sp.bytes()[st.part:], from, low+1)
			arrived += n
			st.part, st.partNext = st.part+n, low+1
		}
	}
	st.trim()
	if arrived > 0 {
		st.pub.arrived(arrived)
	}
}

// updateAll updates every stream of the room.
func (l *seating) updateAll(r *Room) {
	for _, p := range r.pubs {
		for _, st := range p.streams {
			l.update(st)
		}
	}
}

// Ack records that a member has a stream up to seq: a subscriber of a lossless room has consumed it, the subscribers of
// a link's node have it. From others it is nothing. Streams that the room does not know are ignored. A number that was
// never sent is ErrFlow: the connection is to be closed.
func (r *Room) Ack(member Member, key codec.StreamKey, seq uint64, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seats == nil {
		return nil
	}
	s := r.seats.byMember[member]
	if s == nil {
		return nil
	}
	p := s.places[key]
	if p == nil || seq <= p.acked {
		return nil
	}
	if seq >= p.st.next && seq > p.claim && s.node == "" {
		return ErrFlow.With("acknowledgement of a frame that was never sent")
	}
	was := p.acked
	p.acked, s.moved = seq, now
	if s.late {
		r.seats.caughtUp(r, s)
		return nil
	}
	// Only the last of the slowest seats to move moves the publisher.
	if was == p.st.low {
		if p.st.atLow--; p.st.atLow == 0 {
			r.seats.update(p.st)
		}
	}
	return nil
}

// unseat says that a seat no longer stands at a place. Only the last of the slowest seats matters.
func (l *seating) unseat(s *seat, p *place, st *stream) {
	switch {
	case s.late || p.acked >= st.next || st.atLow > 0 && p.acked > st.low:
	case p.acked == st.low && st.atLow > 1:
		st.atLow--
	default:
		l.update(st)
	}
}

// sit says that a seat that is new stands at its places.
func (l *seating) sit(s *seat) {
	for _, p := range s.places {
		switch st := p.st; {
		case p.acked >= st.next || st.atLow > 0 && p.acked > st.low:
		case p.acked == st.low && st.atLow > 0:
			st.atLow++
		default:
			l.update(st)
		}
	}
}

// caughtUp lets a late seat count again once it has all that was acknowledged without it. What it owes of publishers
// that have left it never acknowledges.
func (l *seating) caughtUp(r *Room, s *seat) {
	for _, p := range s.places {
		if p.st.pub.ended == 0 && p.acked < p.st.acked.Load() {
			return
		}
	}
	s.late = false
	l.updateAll(r)
}

// leave takes a member off its seat. The seat stays, empty, if the connection broke.
func (l *seating) leave(member Member, gone bool, now int64) {
	s := l.byMember[member]
	if s == nil {
		return
	}
	delete(l.byMember, member)
	s.member, s.moved = nil, now
	if !gone || s.cut {
		l.remove(s)
	} else {
		l.parts(s)
	}
}

func (l *seating) remove(gone *seat) {
	n := len(l.seats) - 1
	l.seats[gone.at], l.seats[n].at = l.seats[n], gone.at
	l.seats[n] = nil
	l.seats = l.seats[:n]
	l.crowd.Store(int32(n))
	without(l.byWho, gone.who, gone)
	if gone.node == "" {
		without(l.byMark, gone.mark, gone)
		l.note(gone.mark)
	} else {
		l.nodes = slices.DeleteFunc(l.nodes, func(s *seat) bool { return s == gone })
		for mark := range gone.clients {
			l.note(mark)
		}
	}
	gone.share.Hold(-gone.holds)
	gone.share, gone.holds = nil, 0
	keys := slices.SortedFunc(maps.Keys(gone.places), compareKeys) // publishers hear of it in this order
	streams := make([]*stream, len(keys))
	for i, key := range keys {
		p := gone.places[key]
		streams[i] = p.st
		p.leave()
	}
	for i, key := range keys {
		l.unseat(gone, gone.places[key], streams[i])
	}
}

// without takes a seat out of an index.
func without[K comparable](index map[K][]*seat, key K, gone *seat) {
	if same := slices.DeleteFunc(index[key], func(s *seat) bool { return s == gone }); len(same) > 0 {
		index[key] = same
	} else {
		delete(index, key)
	}
}

// released takes the streams of a publisher that is gone for good out of every seat.
func (l *seating) released(p *Publisher) {
	for _, s := range l.seats {
		s.forget(p.Num)
	}
}

// sweep does what time brings to seats. In a lossless room it cuts off those that have not moved for the stall time
// although frames wait for them; a link's, whose node cuts off its own first, after twice as long. In any other nobody
// is cut off, but who lags does not count any more, and who is away for the lag time loses its seat.
func (l *seating) sweep(r *Room, now int64) {
	if l.hold != 0 && now >= l.hold {
		l.hold = 0
		l.updateAll(r)
	}
	for i := len(l.seats) - 1; i >= 0; i-- {
		r.kind.lookAfter(l, r, l.seats[i], now)
	}
}

func (l *seating) lag(r *Room, s *seat, now int64) {
	before := now - int64(r.table.conf().SeatLag)
	switch {
	case s.member == nil && s.moved < before:
		l.remove(s)
	case s.late:
		l.caughtUp(r, s)
	case s.lags(before):
		s.late = true
		l.updateAll(r)
	}
}

func (l *seating) stall(r *Room, s *seat, now int64) {
	t := r.table
	if s.member != nil && !s.stalls() {
		s.moved = now
		return
	}
	stall := int64(t.conf().Stall)
	if s.node != "" && s.member != nil {
		stall *= 2
	}
	switch {
	case s.cut || now-s.moved <= stall:
	case s.member != nil:
		s.member.Cut(codec.CodeTooSlow)
		s.cut = true
		t.stats.CutOff.Add(1)
	default:
		l.remove(s)
	}
}

// Hold makes nothing count as arrived until a moment, or Unhold: somebody who needs what comes is on the way to a seat.
func (r *Room) Hold(until int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended != 0:
	case r.deserted():
		r.held = until
	default:
		r.seated().hold = until
		r.seats.updateAll(r)
	}
}

// Unhold ends a hold.
func (r *Room) Unhold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = 0
	if r.seats != nil && r.seats.hold != 0 {
		r.seats.hold = 0
		r.seats.updateAll(r)
	}
}

// vacate gives up the seat that a node's broken link has left. In a lossless room the subscribers of that node keep it,
// who are on their way to other nodes: for the stall time, as any whose connection broke. Room's mutex.
func (l *seating) vacate(r *Room, node string) {
	for i := len(l.seats) - 1; i >= 0; i-- {
		s := l.seats[i]
		switch {
		case s.node != node || s.member != nil:
		case r.kind.bequeaths(s):
			s.orphan = true
		default:
			l.remove(s)
		}
	}
}
