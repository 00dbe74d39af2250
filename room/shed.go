package room

import "github.com/timedge/timedge/codec"

// shedMode says how much of a subscription's queue is given up.
type shedMode uint8

const (
	shedNone    shedMode = iota // nothing
	shedOld                     // all before the newest complete group; keyless streams: the oldest messages
	shedCurrent                 // all before the newest group, which goes on
	shedAll                     // the group in progress too; keyless streams: all but the newest message
	shedLatest                  // all but the newest message of each stream
	shedForget                  // everything, without a notice
)

// view is what shed knows of one stream in a queue. A group counts if it begins in the queue; what is left of a group
// whose key message the socket has begun to take lies before the first.
type view struct {
	key      codec.StreamKey
	of       int32 // place in sheds of whose it is
	next     int32 // the next view of the same subscription, and one; 0: none
	seen     bool
	inBegun  bool   // the last frame looked at belongs to a message of which the socket has taken a part
	inInit   bool   // the last frame looked at belongs to an init message that goes on
	keepTo   uint64 // frames of the message begun, which stay
	keyed    bool
	prevKey  uint64 // start of the newest complete group
	lastKey  uint64 // start of the group in progress
	prevAt   int    // bytes of the stream before prevKey
	lastAt   int    // likewise before lastKey
	bytes    int
	newest   uint64     // start of the newest message that is no init message
	init     frameRange // newest init messages in a row; once the cut is decided, the newest before it
	prevInit frameRange // likewise when prevKey came
	lastInit frameRange // likewise when lastKey came

	cut      uint64 // frames below go
	parted   bool   // there is a frame about the room behind some of it
	parts    int32  // in how many segments in a row the newest message lies, with what follows it
	broken   bool   // the last of the stream in the queue is a gap
	turn     int32  // latest: where in the new queue the next of these goes, and one; 0: it stays
	told     uint64 // latest: up to there a notice is in the queue already
	dropping bool   // keyless: the message in hand goes
	gapFrom  uint64 // dropped and not yet noticed; 0: none
	gapTo    uint64
	reason   codec.GapReason
}

// frameRange is a range of sequence numbers, both included; the zero value holds none.
type frameRange struct{ from, to uint64 }

// gap adds frames to what is to be noticed.
func (v *view) gap(from, to uint64, reason codec.GapReason) {
	if to <= v.told {
		return
	}
	if v.gapFrom == 0 {
		v.gapFrom, v.reason = from, reason
	}
	v.gapTo, v.reason = to, joint(v.reason, reason)
}

// joint returns the reason for two ranges that are told as one: what the publisher gave up is the lesser half.
func joint(a, b codec.GapReason) codec.GapReason {
	if a == codec.GapPublisher {
		return b
	}
	return a
}

const noSeq = ^uint64(0)

// fewViews is how many streams are found faster by looking at each than in a map.
const fewViews = 16

// viewKey identifies a stream in a queue.
type viewKey struct {
	of  int32
	key codec.StreamKey
}

// shedding is what a pass does to one subscription.
type shedding struct {
	sub    *Sub
	mode   shedMode
	excess int   // bytes that its streams without key messages have to lose
	views  int32 // the first of its views, and one; 0: none
	out    Outcome
}

// mark has the next passes shed s, as its policy does first.
func (q *Queue) mark(s *Sub) {
	q.sheds = append(q.sheds, shedding{sub: s, mode: s.room.kind.shed()})
	s.shed = int32(len(q.sheds))
}

// unmark ends the marks.
func (q *Queue) unmark() {
	for i := range q.sheds {
		q.sheds[i].sub.shed = 0
	}
	clear(q.sheds)
	q.sheds = q.sheds[:0]
}

// shedding returns what the pass does to a subscription, nil for nothing, valid until the next mark.
func (q *Queue) shedding(s *Sub) *shedding {
	if s == nil || s.shed <= 0 || q.sheds[s.shed-1].mode == shedNone {
		return nil
	}
	return &q.sheds[s.shed-1]
}

// view returns the view of a stream of a marked subscription, valid until the next call.
func (q *Queue) view(s *Sub, key codec.StreamKey) *view {
	k := viewKey{s.shed - 1, key}
	if len(q.views) <= fewViews {
		for i := range q.views {
			if v := &q.views[i]; v.key == key && v.of == k.of {
				return v
			}
		}
	} else if i, ok := q.byKey[k]; ok {
		return &q.views[i]
	}
	d := &q.sheds[k.of]
	q.views = append(q.views, view{key: key, of: k.of, next: d.views})
	n := len(q.views)
	d.views = int32(n)
	switch {
	case n == fewViews+1:
		if q.byKey == nil {
			q.byKey = make(map[viewKey]int32)
		}
		clear(q.byKey)
		for i := range q.views {
			q.byKey[viewKey{q.views[i].of, q.views[i].key}] = int32(i)
		}
	case n > fewViews:
		q.byKey[k] = int32(n - 1)
	}
	return &q.views[n-1]
}

// pass drops frames of all that are marked by whole messages, and puts notices in the places of what it drops. A frame
// or message of which the socket has taken a part stays, and so do the init messages that the first frames kept need.
// It goes through the whole queue.
func (q *Queue) pass(now int64) {
	q.views = q.views[:0]
	for i := range q.sheds {
		q.sheds[i].views = 0
	}
	q.survey()
	q.decide()
	q.rewrite(now)
	q.passed, q.added, q.passedAt = len(q.segs), 0, now
}

// frames calls yield for each frame of g of which the socket has not taken all, with its place in the batch.
func (g *seg) frames(yield func(off, n int, f codec.Flags, seq uint64)) {
	for off := int(g.beg); off < int(g.end); {
		n, f, seq := frameAt(g.b.B[off:])
		if off+n > int(g.pos) {
			yield(off, n, f, seq)
		}
		off += n
	}
}

// survey looks at what the marked ones have in the queue, stream by stream.
func (q *Queue) survey() {
	for i := q.head; i < len(q.segs); i++ {
		g := &q.segs[i]
		d := q.shedding(g.sub)
		switch {
		case d == nil:
			continue
		case g.b.First == 0:
			for n := d.views; n != 0 && g.b.Kind != KindCount; n = q.views[n-1].next {
				q.views[n-1].parted = true
			}
			continue
		}
		v := q.view(g.sub, g.b.Key)
		if g.b.Kind != KindStream { // a gap breaks off the message before it
			v.seen, v.inBegun, v.inInit, v.broken = true, false, false, true
			continue
		}
		if !v.broken {
			v.parts++
		}
		v.keyed = v.keyed || g.b.Keyed
		g.frames(func(off, n int, f codec.Flags, seq uint64) {
			begun := off < int(g.pos) || !f.Start() && (!v.seen || v.inBegun)
			v.seen = true
			v.inBegun = begun && !f.End()
			v.inInit = f&codec.FlagInit != 0 && !f.End()
			if begun {
				v.keepTo = seq
				return
			}
			switch {
			case f&codec.FlagInit == 0:
				if f.Start() {
					v.newest, v.parts, v.broken = seq, 1, false
				}
			case v.init.to+1 != seq:
				v.init = frameRange{seq, seq}
			default:
				v.init.to = seq
			}
			if f.KeyStart() {
				v.prevKey, v.prevAt, v.prevInit = v.lastKey, v.lastAt, v.lastInit
				v.lastKey, v.lastAt, v.lastInit = seq, v.bytes, v.init
			}
			if !g.replay {
				v.bytes += n
			}
		})
	}
}

// decide sets the cut of each stream, and how many bytes the streams without key messages have to lose together.
func (q *Queue) decide() {
	for i := range q.sheds {
		d := &q.sheds[i]
		d.excess = d.sub.live() - d.sub.room.set.QueueBytes/2
	}
	for i := range q.views {
		v := &q.views[i]
		d := &q.sheds[v.of]
		switch {
		case d.mode == shedForget:
			v.cut = noSeq
		case d.mode == shedLatest, !v.keyed && d.mode == shedAll:
			v.cut = v.keepLast()
		case !v.keyed: // by excess and age
		case d.mode == shedOld && v.prevKey != 0:
			v.cut, v.init = v.prevKey, v.prevInit
			d.excess -= v.prevAt
		case d.mode != shedAll && v.lastKey != 0:
			v.cut, v.init = v.lastKey, v.lastInit
			d.excess -= v.lastAt
		default:
			v.cut = noSeq
			d.excess -= v.bytes
		}
	}
}

// keep adds g to the queue that is built anew.
func (q *Queue) keep(g seg) {
	q.kept = append(q.kept, g)
	q.keeps(&g)
}

// keeps counts g, which is in that queue.
func (q *Queue) keeps(g *seg) {
	n := g.left()
	q.bytes += n
	if g.replay {
		q.replay += n
	}
	if g.sub == nil {
		q.own += n
	}
	if q.shedding(g.sub) != nil {
		g.sub.queued += n
		if g.replay {
			g.sub.replay += int32(n)
		}
	}
}

// gapped puts the notice of what was dropped of a stream where g is, which follows: the queue is in order of time.
func (q *Queue) gapped(d *shedding, v *view, at int64) {
	if v.gapFrom != 0 && d.mode != shedForget {
		q.keep(q.notice(d.sub, v.key, v.gapFrom, v.gapTo, v.reason, at))
	}
	v.gapFrom = 0
}

// takesPlace reports whether the newest message of a stream in a latest room takes the place of frame seq, which goes:
// else a socket that takes less than comes would see the same streams each time. Init messages between the two stay
// between them, and so does what is told of the room.
func (v *view) takesPlace(d *shedding, seq uint64) bool {
	return d.mode == shedLatest && v.turn == 0 && v.told == 0 && !v.parted && seq < v.newest &&
		(v.init.to < seq || v.init.from > v.newest)
}

// rewrite builds the queue anew without what goes.
func (q *Queue) rewrite(now int64) {
	q.bytes, q.replay, q.own, q.kept = 0, 0, 0, q.kept[:0]
	for i := range q.sheds {
		if d := &q.sheds[i]; d.mode != shedNone {
			d.sub.queued, d.sub.replay = 0, 0
		}
	}
	for i := q.head; i < len(q.segs); i++ {
		g := q.segs[i]
		d := q.shedding(g.sub)
		switch {
		case d == nil:
			q.keep(g)
		case g.b.Kind == KindStream:
			q.sift(d, g, now)
			g.b.Release()
		case g.b.First != 0 && g.pos == g.beg: // an earlier notice, or the publisher's gap, becomes part of the new one
			// A gap frame ends with its reason.
			q.view(g.sub, g.b.Key).gap(g.b.First, g.b.Last, g.b.reason())
			g.b.Release()
		case d.mode == shedForget && g.pos == g.beg:
			g.b.Release()
		default: // about a publisher or the room: what came before it is noticed before it
			if g.b.First == 0 && g.b.Kind != KindCount {
				for n := d.views; n != 0; n = q.views[n-1].next {
					q.gapped(d, &q.views[n-1], g.at)
				}
			}
			q.keep(g)
		}
	}
	for i := range q.sheds {
		d := &q.sheds[i]
		if d.mode == shedNone || d.mode == shedForget {
			continue
		}
		for n := d.views; n != 0; n = q.views[n-1].next {
			q.suspend(d.sub, &q.views[n-1])
		}
		d.sub.settle(now)
	}
	clear(q.segs)
	q.segs, q.kept, q.head = q.kept, q.segs[:0], 0
	q.account()
}

// sift keeps those frames of a run that do not go.
func (q *Queue) sift(d *shedding, g seg, now int64) {
	reason := codec.GapSlow
	if d.mode == shedLatest {
		reason = codec.GapNewer
	}
	old := g.at < now-int64(d.sub.room.set.QueueAge)/2
	v := q.view(g.sub, g.b.Key)
	run := g // the frames kept in a row
	run.end = run.beg
	turn := false // run is of a message that has its place already
	flush := func() {
		switch {
		case run.end <= run.pos:
			return
		case turn:
			place := &q.kept[v.turn-1]
			run.at, turn = place.at, false
			*place = run
			q.keeps(place)
			if v.parts--; v.parts == 0 {
				v.turn = 0
			} else {
				v.turn++
			}
		default:
			q.keep(run)
		}
		run.b.Retain()
	}
	begin := func(off int) { run.beg, run.pos, run.end = int32(off), max(int32(off), g.pos), int32(off) }
	g.frames(func(off, n int, f codec.Flags, seq uint64) {
		gone := v.drops(f, seq, d.mode, d.excess > 0 || old)
		if d.mode == shedForget {
			gone = off >= int(g.pos)
		}
		if gone {
			if v.takesPlace(d, seq) {
				flush()
				begin(off)
				v.gap(seq, v.newest-1, reason)
				v.reason, v.told = reason, v.newest-1
				q.gapped(d, v, g.at)
				v.turn = int32(len(q.kept) + 1)
				for range v.parts {
					q.kept = append(q.kept, seg{at: g.at})
				}
			}
			v.gap(seq, seq, reason)
			v.reason = reason
			d.out.Frames++
			d.out.Bytes += n
			if !v.keyed && !g.replay {
				d.excess -= n
			}
			return
		}
		if place := !turn && v.turn != 0 && seq >= v.newest; place || v.gapFrom != 0 || run.end != int32(off) {
			flush()
			q.gapped(d, v, g.at)
			begin(off)
			turn = place
		}
		run.end = int32(off + n)
	})
	flush()
}

// keepLast returns where the newest message starts, for streams without key messages.
func (v *view) keepLast() uint64 {
	if v.newest == 0 {
		return v.init.from
	}
	return v.newest
}

// drops decides on one frame.
func (v *view) drops(f codec.Flags, seq uint64, mode shedMode, pressed bool) bool {
	if seq <= v.keepTo {
		return false
	}
	if f&codec.FlagInit != 0 && v.init.from <= seq && seq <= v.init.to {
		return false
	}
	if v.cut != 0 || v.keyed || mode != shedOld {
		return seq < v.cut
	}
	if f.Start() {
		v.dropping = pressed && seq < v.keepLast()
	}
	return v.dropping
}

// suspend notes what was dropped at the end of the queue, and what is to be left out until a group begins.
func (q *Queue) suspend(s *Sub, v *view) {
	all := v.cut == noSeq
	if v.gapFrom == 0 && !all {
		return
	}
	k := s.skip(v.key)
	if v.gapFrom != 0 {
		if k.from == 0 {
			k.to, k.reason = v.gapTo, v.reason
		}
		k.from, k.reason = v.gapFrom, joint(k.reason, v.reason)
	}
	if all && !k.waiting {
		k.waiting, k.finish, k.init = true, v.inBegun, v.inInit
	}
}
