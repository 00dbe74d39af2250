package room

import "github.com/timedge/timedge/codec"

// shedMode says how much of a subscription's queue is given up.
type shedMode uint8

const (
	shedOld     shedMode = iota // all before the newest complete group; keyless streams: the oldest messages
	shedCurrent                 // all before the newest group, which goes on
	shedAll                     // the group in progress too; keyless streams: all but the newest message
	shedLatest                  // all but the newest message of each stream
	shedForget                  // everything, without a notice
)

// view is what shed knows of one stream in a queue. A group counts if it begins in the queue; what is left of a group whose
// key message the socket has begun to take lies before the first.
type view struct {
	key      codec.StreamKey
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
	dropping bool   // keyless: the message in hand goes
	gapFrom  uint64 // dropped and not yet noticed; 0: none
	gapTo    uint64
	reason   codec.GapReason
}

// frameRange is a range of sequence numbers, both included; the zero value holds none.
type frameRange struct{ from, to uint64 }

// gap adds frames to what is to be noticed.
func (v *view) gap(from, to uint64, reason codec.GapReason) {
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

// view returns the view of a stream, valid until the next call.
func (q *Queue) view(key codec.StreamKey) *view {
	if len(q.views) <= fewViews {
		for i := range q.views {
			if q.views[i].key == key {
				return &q.views[i]
			}
		}
	} else if i, ok := q.byKey[key]; ok {
		return &q.views[i]
	}
	q.views = append(q.views, view{key: key})
	n := len(q.views)
	switch {
	case n == fewViews+1:
		if q.byKey == nil {
			q.byKey = make(map[codec.StreamKey]int32)
		}
		clear(q.byKey)
		for i := range q.views {
			q.byKey[q.views[i].key] = int32(i)
		}
	case n > fewViews:
		q.byKey[key] = int32(n - 1)
	}
	return &q.views[n-1]
}

// shed drops frames of s by whole messages, and puts a notice in the place of what it drops. A frame or message of which the
// socket has taken a part stays, and so do the init messages that the first frames kept need.
func (q *Queue) shed(s *Sub, now int64, mode shedMode) Outcome {
	q.views = q.views[:0]
	q.survey(s)
	excess := q.decide(s, mode)
	return q.rewrite(s, now, mode, excess)
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

// survey looks at what s has in the queue, stream by stream.
func (q *Queue) survey(s *Sub) {
	for i := q.head; i < len(q.segs); i++ {
		g := &q.segs[i]
		if g.sub != s || g.b.First == 0 {
			continue
		}
		v := q.view(g.b.Key)
		if g.b.Kind != KindStream { // a gap breaks off the message before it
			v.seen, v.inBegun, v.inInit = true, false, false
			continue
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
					v.newest = seq
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

// decide sets the cut of each stream. It returns how many bytes the keyless streams together have to lose.
func (q *Queue) decide(s *Sub, mode shedMode) (excess int) {
	excess = s.live() - s.set.QueueBytes/2
	for i := range q.views {
		v := &q.views[i]
		switch {
		case mode == shedForget:
			v.cut = noSeq
		case mode == shedLatest, !v.keyed && mode == shedAll:
			v.cut = v.keepLast()
		case !v.keyed: // by excess and age
		case mode == shedOld && v.prevKey != 0:
			v.cut, v.init = v.prevKey, v.prevInit
			excess -= v.prevAt
		case mode != shedAll && v.lastKey != 0:
			v.cut, v.init = v.lastKey, v.lastInit
			excess -= v.lastAt
		default:
			v.cut = noSeq
			excess -= v.bytes
		}
	}
	return excess
}

// rewrite builds the queue anew without what goes.
func (q *Queue) rewrite(s *Sub, now int64, mode shedMode, excess int) (out Outcome) {
	reason := codec.GapSlow
	if mode == shedLatest {
		reason = codec.GapNewer
	}
	old := now - int64(s.set.QueueAge)/2
	kept := q.kept[:0]
	q.bytes, q.replay, s.queued, s.replay = 0, 0, 0, 0
	keep := func(g seg) {
		n := g.left()
		q.bytes += n
		if g.replay {
			q.replay += n
		}
		if g.sub != nil && g.sub == s {
			s.queued += n
			if g.replay {
				s.replay += n
			}
		}
		kept = append(kept, g)
	}
	notice := func(v *view, at int64) { // at: of what follows, for the queue is in order of time
		if v.gapFrom != 0 && mode != shedForget {
			keep(q.notice(s, v.key, v.gapFrom, v.gapTo, v.reason, at))
		}
		v.gapFrom = 0
	}
	for i := q.head; i < len(q.segs); i++ {
		g := q.segs[i]
		switch {
		case g.sub != s:
			keep(g)
		case g.b.Kind == KindStream:
			v := q.view(g.b.Key)
			run := g // the frames kept in a row
			run.end = run.beg
			flush := func() {
				if run.end > run.pos {
					run.b.Retain()
					keep(run)
				}
			}
			g.frames(func(off, n int, f codec.Flags, seq uint64) {
				gone := v.drops(f, seq, mode, excess > 0 || g.at < old)
				if mode == shedForget {
					gone = off >= int(g.pos)
				}
				if gone {
					v.gap(seq, seq, reason)
					v.reason = reason
					out.Frames++
					out.Bytes += n
					if !v.keyed && !g.replay {
						excess -= n
					}
					return
				}
				if v.gapFrom != 0 || run.end != int32(off) {
					flush()
					notice(v, g.at)
					run.beg, run.pos, run.end = int32(off), max(int32(off), g.pos), int32(off)
				}
				run.end = int32(off + n)
			})
			flush()
			g.b.Release()
		case g.b.First != 0 && g.pos == g.beg: // an earlier notice, or the publisher's gap, becomes part of the new one
			// A gap frame ends with its reason.
			q.view(g.b.Key).gap(g.b.First, g.b.Last, g.b.reason())
			g.b.Release()
		case mode == shedForget && g.pos == g.beg:
			g.b.Release()
		default: // about a publisher or the room: what came before it is noticed before it
			for j := range q.views {
				if g.b.First == 0 && g.b.Kind != KindCount {
					notice(&q.views[j], g.at)
				}
			}
			keep(g)
		}
	}
	if mode != shedForget {
		q.suspend(s)
		s.settle(now)
	}
	clear(q.segs)
	q.kept = q.segs[:0]
	q.segs, q.head = kept, 0
	q.account()
	return out
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
func (q *Queue) suspend(s *Sub) {
	for i := range q.views {
		v := &q.views[i]
		all := v.cut == noSeq
		if v.gapFrom == 0 && !all {
			continue
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
}
