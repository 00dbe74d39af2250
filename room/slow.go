package room

import (
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
)

// What a subscription that does not get all its frames is told, and where its streams go on.

// slow is what a subscription that lost frames has to make up for.
type slow struct {
	streams    []skip
	quietBytes int   // no policy before so much is queued ...
	quietUntil int64 // ... or so late
	toldAt     int64

	fresh      []uint16 // publishers whose streams may begin anywhere ...
	freshUntil int64    // ... until then
}

// skip is a stream that a subscription does not get at the moment.
type skip struct {
	key      codec.StreamKey
	from, to uint64 // missed and not yet told; from 0: none
	reason   codec.GapReason
	waiting  bool // until a key message, or in a keyless stream any message, begins
	finish   bool // while waiting: the pieces of a message begun still pass
	init     bool // while waiting: the last frame that passed was an init frame, and its message goes on

	ahead bool // the subscription has the stream up to past already, which the room has not reached
	torn  bool // that ends with a gap
	past  uint64
}

func (s *Sub) slowState() *slow {
	if s.slow == nil {
		s.slow = &slow{}
	}
	return s.slow
}

func (s *Sub) skip(key codec.StreamKey) *skip {
	sl := s.slowState()
	for i := range sl.streams {
		if sl.streams[i].key == key {
			return &sl.streams[i]
		}
	}
	sl.streams = append(sl.streams, skip{key: key})
	return &sl.streams[len(sl.streams)-1]
}

// SkipTo makes s wait for the next point of a stream to start at.
func (q *Queue) SkipTo(s *Sub, m Midway) {
	q.attend(s)
	k := s.skip(m.Key)
	switch {
	case m.Known:
		return
	case m.Ahead:
		k.ahead, k.past, k.torn = true, m.From-1, m.Torn
		return
	}
	k.waiting, k.reason, k.init = true, m.Why, m.Init
}

// Fresh says that streams of these publishers may begin anywhere until a moment: what comes before that is lost for s.
func (q *Queue) Fresh(s *Sub, pubs []uint16, until int64) {
	if len(pubs) > 0 {
		q.attend(s)
		sl := s.slowState()
		sl.fresh, sl.freshUntil = pubs, until
	}
}

// settle forgets the slow state when nothing is left of it.
func (s *Sub) settle(now int64) {
	sl := s.slow
	if sl == nil {
		return
	}
	if now >= sl.freshUntil {
		sl.fresh = nil
	}
	kept := sl.streams[:0]
	for _, k := range sl.streams {
		// A stream without an entry would be one that may begin anywhere.
		if k.waiting || k.from != 0 || k.ahead || slices.Contains(sl.fresh, k.key.Pub) {
			kept = append(kept, k)
		}
	}
	sl.streams = kept
	if len(kept)+len(sl.fresh) == 0 && now >= sl.quietUntil {
		s.slow = nil
	}
}

// tell queues the notice of what was missed of a stream. If the last of the stream in the queue is such a notice, that
// is widened: a stalled session does not collect them.
func (q *Queue) tell(s *Sub, k *skip, now int64) {
	if k.from == 0 {
		return
	}
	from := k.from
	k.from = 0
	for i := len(q.segs) - 1; i >= q.head; i-- {
		g := &q.segs[i]
		if g.sub != s || g.b.Kind != KindDrop || g.pos != g.beg {
			break
		}
		if g.b.Key == k.key {
			reason := joint(g.b.reason(), k.reason)
			n := q.notice(s, k.key, g.b.First, k.to, reason, g.at)
			g.b.Release()
			*g = n
			return
		}
	}
	q.add(q.notice(s, k.key, from, k.to, k.reason, now))
}

func (q *Queue) notice(s *Sub, key codec.StreamKey, from, to uint64, reason codec.GapReason, now int64) seg {
	b := q.pool.encodeOwn(&codec.Gap{Room: s.room.ID, StreamKey: key, From: from, To: to, Reason: reason}, q.share)
	b.Kind, b.Key, b.First, b.Last = KindDrop, key, from, to
	return seg{b: b, end: int32(len(b.B)), at: now, sub: s}
}

// TellEvery is how long a notice may wait when no later frame of its stream makes it go out.
const TellEvery = 100 * time.Millisecond

// Tell queues the notices that have waited for long enough. Call it for every slow subscription from time to time.
func (q *Queue) Tell(s *Sub, now int64) {
	if s.slow == nil || now-s.slow.toldAt < int64(TellEvery) {
		return
	}
	s.slow.toldAt = now
	for i := range s.slow.streams {
		q.tell(s, &s.slow.streams[i], now)
	}
	s.settle(now)
}

// catchUp leaves out what s has already of a stream that it was ahead of, and tells what it has missed when the stream
// goes on behind that. It returns the offset of the first frame that is still to be looked at, which is end if there is
// none.
func (q *Queue) catchUp(s *Sub, b *Batch, off, end int, now int64) int {
	sl := s.slow
	i := slices.IndexFunc(sl.streams, func(k skip) bool { return k.key == b.Key })
	if i < 0 {
		if !slices.Contains(sl.fresh, b.Key.Pub) || now >= sl.freshUntil {
			return off
		}
		i = len(sl.streams)
		sl.streams = append(sl.streams, skip{key: b.Key, ahead: true})
	}
	k := &sl.streams[i]
	if !k.ahead {
		return off
	}
	if b.Kind != KindStream { // a gap: the part of it that is news
		if b.Last <= k.past {
			return end
		}
		k.ahead = false
		reason := b.reason()
		switch {
		case b.First > k.past+1:
			reason = codec.GapLost
		case reason == codec.GapJoined: // the node that says so has joined late, not s
			reason = codec.GapExpired
		case b.First == k.past+1:
			return off
		}
		k.from, k.to, k.reason = k.past+1, b.Last, reason
		q.tell(s, k, now)
		return end
	}
	for off < end {
		n, f, seq := frameAt(b.B[off:])
		if seq > k.past {
			k.ahead = false
			if seq > k.past+1 || k.past == 0 && !f.Start() {
				k.waiting = true
				if seq > k.past+1 {
					k.from, k.to = k.past+1, seq-1
				}
				k.reason = codec.GapLost
			} else if k.torn {
				k.waiting, k.reason = true, codec.GapExpired
			}
			return off
		}
		off += n
	}
	return end
}

// resume passes a batch for a slow subscription: it returns the offset of the first frame that s gets, which is end if
// there is none, after queueing the notice of what came before. A batch about a publisher or the room lets all notices
// out first.
func (q *Queue) resume(s *Sub, b *Batch, off, end int, now int64, out *Outcome) int {
	if b.First != 0 && b.Kind != KindDrop {
		if off = q.catchUp(s, b, off, end, now); off == end {
			s.settle(now)
			return end
		}
	}
	if b.Kind != KindStream {
		for i := range s.slow.streams {
			k := &s.slow.streams[i]
			switch {
			case b.First == 0:
				q.tell(s, k, now)
			case k.key != b.Key:
			case k.waiting && k.from != 0: // a gap of the stream itself goes into the notice
				k.to, k.finish, k.init = b.Last, false, false
				return end
			default: // it breaks off the message in progress
				k.finish, k.init = false, false
				q.tell(s, k, now)
			}
		}
		if b.Kind == KindLeft {
			s.slow.streams = slices.DeleteFunc(s.slow.streams, func(k skip) bool { return k.key.Pub == b.Key.Pub })
		}
		s.settle(now)
		return off
	}
	i := 0
	for ; i < len(s.slow.streams) && s.slow.streams[i].key != b.Key; i++ {
	}
	if i == len(s.slow.streams) {
		s.settle(now)
		return off
	}
	k := &s.slow.streams[i]
	if !k.waiting {
		q.tell(s, k, now)
		s.settle(now)
		return off
	}
	for off < end {
		n, f, seq := frameAt(b.B[off:])
		switch {
		case f.KeyStart() || f.Start() && !b.Keyed:
			k.waiting, k.finish, k.init = false, false, false
			q.tell(s, k, now)
			s.settle(now)
			return off
		case k.finish && !f.Start(): // a message begun is finished
			k.finish = !f.End()
			q.add(newSeg(b, off, off, off+n, now, s))
		case f&codec.FlagInit != 0 && (f.Start() || k.init):
			k.finish, k.init = false, !f.End()
			q.tell(s, k, now)
			q.add(newSeg(b, off, off, off+n, now, s))
		default:
			k.finish, k.init = false, false
			if k.from == 0 {
				k.from = seq
			}
			k.to = seq
			if k.reason != codec.GapJoined && k.reason != codec.GapExpired && k.reason != codec.GapLost {
				k.reason = codec.GapSlow
			}
			out.Frames++
			out.Bytes += n
		}
		off += n
	}
	return end
}
