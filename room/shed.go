package room

import "github.com/timedge/timedge/codec"

// shedMode says how much of a subscription's queue is given up.
type shedMode uint8

const (
	shedOld     shedMode = iota // all before the newest complete group; keyless streams: the oldest messages
	shedCurrent                 // all before the group in progress
	shedAll                     // the group in progress too; keyless streams: all but the newest message
	shedLatest                  // all but the newest message of each stream
	shedForget                  // everything, without a notice
)

// view is what shed knows of one stream in a queue.
type view struct {
	key      codec.StreamKey
	seen     bool
	inBegun  bool   // the last frame looked at belongs to a message of which the socket has taken a part
	keepTo   uint64 // frames of that message, which stay
	keyed    bool
	prevKey  uint64 // start of the newest complete group
	lastKey  uint64 // start of the group in progress
	prevAt   int    // bytes of the stream before prevKey
	lastAt   int    // likewise before lastKey
	bytes    int
	newest   uint64 // start of the newest message
	initFrom uint64 // newest init messages in a row
	initTo   uint64

	cut      uint64 // frames below go
	dropping bool   // keyless: the message in hand goes
	gapFrom  uint64 // dropped and not yet noticed; 0: none
	gapTo    uint64
}

const noSeq = ^uint64(0)

func (q *Queue) view(key codec.StreamKey) *view {
	for i := range q.views {
		if q.views[i].key == key {
			return &q.views[i]
		}
	}
	q.views = append(q.views, view{key: key})
	return &q.views[len(q.views)-1]
}

// shed drops frames of s by whole messages, and puts a notice in the place of what it drops. A frame or message of which the
// socket has taken a part stays, and so do the newest init messages.
func (q *Queue) shed(s *Sub, now int64, mode shedMode) Outcome {
	q.views = q.views[:0]
	q.survey(s)
	excess := q.decide(s, mode)
	return q.rewrite(s, now, mode, excess)
}

// frames calls yield for each frame of g of which the socket has not taken all, with its place in the batch.
func (g *seg) frames(yield func(off, n int, f codec.Flags, seq uint64)) {
	for off := g.beg; off < g.end; {
		n, f, seq := frameAt(g.b.B[off:])
		if off+n > g.pos {
			yield(off, n, f, seq)
		}
		off += n
	}
}

// survey looks at what s has in the queue, stream by stream.
func (q *Queue) survey(s *Sub) {
	for i := q.head; i < len(q.segs); i++ {
		g := &q.segs[i]
		if g.sub != s || g.b.Kind != KindStream {
			continue
		}
		v := q.view(g.b.Key)
		v.keyed = v.keyed || g.b.Keyed
		g.frames(func(off, n int, f codec.Flags, seq uint64) {
			begun := off < g.pos || !f.Start() && (!v.seen || v.inBegun)
			v.seen = true
			v.inBegun = begun && !f.End()
			if begun {
				v.keepTo = seq
				return
			}
			if f.Start() {
				v.newest = seq
				if f&codec.FlagInit != 0 && v.initTo+1 != seq {
					v.initFrom = seq
				}
			}
			if f&codec.FlagInit != 0 {
				v.initTo = seq
			}
			if f.KeyStart() {
				v.prevKey, v.prevAt = v.lastKey, v.lastAt
				v.lastKey, v.lastAt = seq, v.bytes
			}
			v.bytes += n
		})
	}
}

// decide sets the cut of each stream. It returns how many bytes the keyless streams together have to lose.
func (q *Queue) decide(s *Sub, mode shedMode) (excess int) {
	excess = s.queued - s.set.QueueBytes/2
	for i := range q.views {
		v := &q.views[i]
		switch {
		case mode == shedForget:
			v.cut = noSeq
		case mode == shedLatest, !v.keyed && mode == shedAll:
			v.cut = v.newest
		case !v.keyed: // by excess and age
		case mode == shedOld && v.prevKey != 0:
			v.cut = v.prevKey
			excess -= v.prevAt
		case mode != shedAll && v.lastKey != 0:
			v.cut = v.lastKey
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
	q.bytes, s.queued = 0, 0
	keep := func(g seg) {
		q.bytes += g.left()
		if g.sub != nil && g.sub == s {
			s.queued += g.left()
		}
		kept = append(kept, g)
	}
	notice := func(v *view) {
		if v.gapFrom != 0 && mode != shedForget {
			keep(q.notice(s, v.key, v.gapFrom, v.gapTo, reason, now))
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
					gone = off >= g.pos
				}
				if gone {
					if v.gapFrom == 0 {
						v.gapFrom = seq
					}
					v.gapTo = seq
					out.Frames++
					out.Bytes += n
					if !v.keyed {
						excess -= n
					}
					return
				}
				if v.gapFrom != 0 || run.end != off {
					flush()
					notice(v)
					run.beg, run.pos, run.end = off, max(off, g.pos), off
				}
				run.end = off + n
			})
			flush()
			g.b.Release()
		case g.b.Kind == KindDrop && g.pos == g.beg: // an earlier notice becomes part of the new one
			v := q.view(g.b.Key)
			if v.gapFrom == 0 {
				v.gapFrom = g.b.First
			}
			v.gapTo = g.b.Last
			g.b.Release()
		case mode == shedForget && g.pos == g.beg:
			g.b.Release()
		default: // about a publisher, the room, or a stream: what came before it is noticed before it
			for j := range q.views {
				if v := &q.views[j]; g.b.First == 0 && g.b.Kind != KindCount || v.key == g.b.Key {
					notice(v)
				}
			}
			keep(g)
		}
	}
	if mode != shedForget {
		q.suspend(s, reason)
	}
	clear(q.segs)
	q.kept = q.segs[:0]
	q.segs, q.head = kept, 0
	return out
}

// drops decides on one frame.
func (v *view) drops(f codec.Flags, seq uint64, mode shedMode, pressed bool) bool {
	if seq <= v.keepTo {
		return false
	}
	if f&codec.FlagInit != 0 && v.initFrom <= seq && seq <= v.initTo {
		return false
	}
	if v.cut != 0 || v.keyed || mode != shedOld {
		return seq < v.cut
	}
	if f.Start() {
		v.dropping = pressed && seq < v.newest
	}
	return v.dropping
}

// suspend notes what was dropped at the end of the queue, and what is to be left out until a group begins.
func (q *Queue) suspend(s *Sub, reason codec.GapReason) {
	for i := range q.views {
		v := &q.views[i]
		all := v.cut == noSeq
		if v.gapFrom == 0 && !all {
			continue
		}
		k := s.skip(v.key)
		if v.gapFrom != 0 {
			if k.from == 0 {
				k.to, k.reason = v.gapTo, reason
			}
			k.from = v.gapFrom
		}
		if all && !k.waiting {
			k.waiting = true
			k.finish = v.inBegun && v.gapFrom == 0
		}
	}
}
