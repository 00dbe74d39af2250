package room

import "math"

// Outcome says what a policy did to a subscription.
type Outcome struct {
	Frames, Bytes int  // dropped
	CutOff        bool // the subscription must end: policy disconnect
}

func (o *Outcome) merge(p Outcome) {
	o.Frames += p.Frames
	o.Bytes += p.Bytes
	o.CutOff = o.CutOff || p.CutOff
}

// Check lets the policy of the room of s act if s is over its bounds.
func (q *Queue) Check(s *Sub, now int64) (out Outcome) {
	if !q.over(s, now, q.stale(s, now)) {
		return out
	}
	if s.room.kind.cutsOff() {
		return Outcome{CutOff: true}
	}
	q.mark(s)
	q.act(now)
	out = q.sheds[0].out
	q.unmark()
	return out
}

// Look lets the policies of all rooms act, tells what was missed, and tells the members what was done. Call it from
// time to time, for the bounds on age, and when the socket takes bytes again. It reports whether there is anything left
// to look after.
func (q *Queue) Look(now int64) bool {
	if !q.mayPass() && now-q.passedAt < int64(q.passed)*passTime {
		return true
	}
	q.drop(now)
	stale := q.findStale(now)
	for i := len(q.active) - 1; i >= 0; i-- {
		s := q.active[i]
		old := s.shed == isStale
		s.shed = 0
		switch {
		case s.queued == 0 && s.slow == nil:
			q.rest(s)
		case !q.over(s, now, stale && old):
		case s.room.kind.cutsOff():
			s.member.Acted(Outcome{CutOff: true})
		default:
			q.mark(s)
		}
	}
	if len(q.sheds) > 0 {
		q.act(now)
		q.tellActed()
	}
	for _, s := range q.active {
		q.Tell(s, now)
	}
	return len(q.active) > 0
}

// passTime is how long, in nanoseconds for each segment, a pass that time alone asks for is put off after another: a
// multiple of what it takes.
const passTime = 1000

// tellActed tells the members what was done, and ends the marks.
func (q *Queue) tellActed() {
	for i := range q.sheds {
		if d := &q.sheds[i]; d.out != (Outcome{}) {
			d.sub.member.Acted(d.out)
		}
	}
	q.unmark()
}

// over reports whether the policy of s has to act. stale: its oldest bytes have waited for longer than the bound.
func (q *Queue) over(s *Sub, now int64, stale bool) bool {
	switch k := &s.room.kind; {
	case k.keepsAll():
		return false
	case k.keepsNewest():
		return s.queued > 0
	}
	if s.live() <= s.room.set.QueueBytes && !stale || q.keepsUp(s, now) {
		return false
	}
	sl := s.slow
	return s.room.kind.cutsOff() || sl == nil || s.live() >= sl.quietBytes || now >= sl.quietUntil
}

// act sheds all that are marked, by as much as their bounds ask for.
func (q *Queue) act(now int64) {
	q.pass(now)
	for _, mode := range [...]shedMode{shedCurrent, shedAll} {
		more := false
		for i := range q.sheds {
			d := &q.sheds[i]
			if d.mode == shedLatest || d.mode == shedNone || d.sub.live() <= 2*d.sub.room.set.QueueBytes {
				d.mode = shedNone
			} else {
				d.mode, more = mode, true
			}
		}
		if more {
			q.pass(now)
		}
	}
	for i := range q.sheds {
		d := &q.sheds[i]
		s := d.sub
		if s.room.kind.keepsNewest() {
			s.ripe = int32(min(2*s.queued, math.MaxInt32))
			continue
		}
		// A pass over the queue that found little to drop is not repeated for every frame that comes.
		twice := 2 * s.room.set.QueueBytes
		if step := s.room.set.QueueBytes / 8; d.out.Bytes < step && s.queued > 0 {
			sl := s.slowState()
			sl.quietBytes = s.live() + step
			if s.live() <= twice {
				sl.quietBytes = min(sl.quietBytes, twice+1)
			}
			sl.quietUntil = now + int64(s.room.set.QueueAge)/8
		}
	}
}

// stale reports whether the oldest bytes of s, its replay apart, have waited longer than the bound. The queue is in
// order of time, so the first of s is the oldest.
func (q *Queue) stale(s *Sub, now int64) bool {
	if s.live() == 0 {
		return false
	}
	limit := now - int64(s.room.set.QueueAge)
	for i := q.head; i < len(q.segs) && q.segs[i].at < limit; i++ {
		if q.segs[i].sub == s && !q.segs[i].replay {
			return true
		}
	}
	return false
}

// findStale notes which subscriptions are stale, and reports whether any is. It goes through what has waited for longer
// than the least of their bounds.
func (q *Queue) findStale(now int64) (any bool) {
	least := int64(0)
	for _, s := range q.active {
		if age := int64(s.room.set.QueueAge); s.live() > 0 && (least == 0 || age < least) {
			least = age
		}
	}
	if least == 0 {
		return false
	}
	i := q.head
	for ; i < len(q.segs) && q.segs[i].at < now-least; i++ {
		g := &q.segs[i]
		if g.sub != nil && g.sub.active != 0 && !g.replay && g.at < now-int64(g.sub.room.set.QueueAge) {
			g.sub.shed, any = isStale, true
		}
	}
	if i > q.head {
		q.passed, q.passedAt, q.added = max(q.passed, i-q.head), now, 0
	}
	return any
}

// keepsUp reports whether the session takes what comes, so that no bound acts on what waits for s.
func (q *Queue) keepsUp(s *Sub, now int64) bool {
	return q.Empty() || q.pace.keepsUp(q.OldestAt(), int64(s.room.set.QueueAge), q.chunk, now)
}

// Relieve drops all that may be dropped of s, whatever the bounds: the process holds too much. Where the policy drops
// nothing, a subscription that has something queued must end.
func (q *Queue) Relieve(s *Sub, now int64) (out Outcome) {
	out, marked := q.relieve(s)
	if marked {
		q.pass(now)
		out = q.sheds[0].out
		q.unmark()
	}
	return out
}

// RelieveAll is Relieve for all subscriptions, or only for those to rooms whose owners hold too much, which also leaves
// out those of lossless rooms unless lossless is set. The members are told.
func (q *Queue) RelieveAll(all, lossless bool, now int64) {
	q.drop(now)
	for _, s := range q.active {
		if s.queued == 0 || !all && !s.room.share.Over() || !lossless && s.room.kind.keepsAll() {
			continue
		}
		if out, _ := q.relieve(s); out.CutOff {
			s.member.Acted(out)
		}
	}
	if len(q.sheds) > 0 {
		q.pass(now)
		q.tellActed()
	}
}

func (q *Queue) relieve(s *Sub) (out Outcome, marked bool) {
	if s.queued == 0 {
		return out, false
	}
	k := &s.room.kind
	if k.keepsAll() || k.cutsOff() {
		return Outcome{CutOff: true}, false
	}
	if q.mark(s); !k.keepsNewest() {
		q.sheds[s.shed-1].mode = shedAll
	}
	return out, true
}
