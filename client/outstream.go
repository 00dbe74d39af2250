package client

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// outStream is one dtype of a publisher: the frames that are not acknowledged, and how many of them the connection has;
// and for a while those that are acknowledged.
//
//	kept, acknowledged | taken by the writer | waiting
//	                   head                  cur
//
// A new connection moves cur back to the head. The client's mutex guards it.
type outStream struct {
	p     *Publisher
	dtype uint8
	turn  turn // taken while a Push is at work, for the pieces of a message stand together

	open    bool              // the last frame's message goes on
	stopped bool              // what a Push is at work on can no longer be completed
	base    uint64            // how many frames were numbered before the numbers began anew
	bases   map[uint16]uint64 // base under publisher numbers that the client had before
	next    uint64            // number of the next frame
	acked   uint64            // highest number acknowledged
	wrote   uint64            // highest number that any connection took: a server may have it
	q       frameQueue
	kept    kept
	cur     *chunk // nil: where the queue begins
	curOff  int

	queued bool       // in the list of streams that have something to send
	after  *outStream // next in that list
}

// push adds one frame of a message. It fails, and adds nothing, when the stream has had as many frames as there are
// numbers.
func (st *outStream) push(flags codec.Flags, payload []byte) error {
	if st.next >= codec.MaxSeq {
		return &RefusedError{codec.CodeSequence, "the stream has no numbers left"}
	}
	key := codec.StreamKey{Pub: st.p.pub, Dtype: st.dtype}
	f := codec.Stream{Room: st.p.room, StreamKey: key, Flags: flags, Seq: st.next}
	var buf [codec.StreamHeaderSize]byte
	head, err := codec.AppendStreamHeader(buf[:0], &f, len(payload))
	if err != nil {
		return err
	}
	ch := st.q.room(codec.StreamHeaderSize + len(payload))
	ch.b = append(append(ch.b, head...), payload...)
	ch.last = st.next
	st.next++
	st.open = !flags.End()
	return nil
}

// pushGap gives up the next number, if there is one.
func (st *outStream) pushGap() {
	var buf [codec.GapSize]byte
	gap, err := st.gap(st.next, st.next).Append(buf[:0])
	if err != nil {
		return
	}
	ch := st.q.room(codec.GapSize)
	ch.b = append(ch.b, gap...)
	ch.last = st.next
	st.next++
	st.open = false
	st.p.window.used += codec.GapSize
}

func (st *outStream) gap(from, to uint64) *codec.Gap {
	return &codec.Gap{
		Room: st.p.room, StreamKey: codec.StreamKey{Pub: st.p.pub, Dtype: st.dtype},
		From: from, To: to, Reason: codec.GapPublisher,
	}
}

// cursor returns where the waiting frames begin, nil if there are none.
func (st *outStream) cursor() (*chunk, int) {
	ch, off := st.cur, st.curOff
	if ch == nil {
		ch, off = st.q.head, st.q.off
	}
	for ch != nil && off == len(ch.b) {
		ch, off = ch.next, 0
	}
	return ch, off
}

// waits reports whether there is anything to send.
func (st *outStream) waits() bool {
	ch, _ := st.cursor()
	return ch != nil
}

// take hands out the waiting frames of one chunk, at most limit bytes of them but at least one frame if limit is that
// of an unused window. The chunk is retained for the caller.
func (st *outStream) take(limit int, first bool) (part []byte, held *chunk) {
	ch, off := st.cursor()
	if ch == nil {
		return nil, nil
	}
	end, last := len(ch.b), ch.last
	if end-off > limit {
		for end = off; end < len(ch.b); {
			f := frameAt(ch.b[end:])
			if end+len(f)-off > limit && !(first && end == off) {
				break
			}
			end, last = end+len(f), lastSeq(f)
		}
		if end == off {
			return nil, nil
		}
	}
	st.cur, st.curOff = ch, end
	st.wrote = max(st.wrote, last)
	ch.refs++
	return ch.b[off:end], ch
}

// drop forgets the first frame and returns its size. The stream is rewound, and what is kept is given up afterwards.
func (st *outStream) drop() int {
	n := len(st.q.front())
	st.q.pop()
	return n
}

// acknowledge takes the frames up to seq that the connection has off the queue and returns their size.
func (st *outStream) acknowledge(seq uint64) (n int) {
	now := time.Now()
	for st.cur != nil && !(st.cur == st.q.head && st.curOff == st.q.off) {
		last := lastSeq(st.q.front())
		if last > seq {
			break
		}
		st.acked = last
		size := len(st.q.front())
		if st.cur == st.q.head && st.curOff == st.q.off+size && st.curOff == len(st.cur.b) {
			st.cur, st.curOff = nil, 0 // the chunk goes
		}
		if old := st.q.shift(size); old != nil {
			st.kept.add(old, now)
		}
		n += size
	}
	return n
}

// retract takes the waiting frames back that no connection ever took and that are not below first. It returns their
// size. They must be the last ones of the queue.
func (st *outStream) retract(first uint64) (n int) {
	from := max(first, st.wrote+1)
	if from >= st.next {
		return 0
	}
	ch, off := st.cursor()
	for ch != nil {
		for off < len(ch.b) {
			f := frameAt(ch.b[off:])
			if firstSeq(f) >= from {
				n = st.cut(ch, off, from)
				st.next = from
				if st.q.head == nil {
					st.kept.clear()
				}
				return n
			}
			off += len(f)
		}
		ch, off = ch.next, 0
	}
	return 0
}

// cut drops the queue's end from off in ch on, which begins with frame from, and returns its size.
func (st *outStream) cut(ch *chunk, off int, from uint64) (n int) {
	n = len(ch.b) - off
	for x := ch.next; x != nil; {
		n += len(x.b)
		next := x.next
		x.release()
		x = next
	}
	ch.b, ch.last, ch.next, st.q.tail = ch.b[:off], from-1, nil, ch
	if st.q.bytes -= n; st.q.bytes == 0 {
		st.q.clear()
		st.rewind()
	} else if off == 0 { // no chunk is ever empty
		prev := st.q.head
		for prev.next != ch {
			prev = prev.next
		}
		prev.next, st.q.tail = nil, prev
		ch.release()
	}
	return n
}

// rewind makes the next connection begin with the first unacknowledged frame.
func (st *outStream) rewind() { st.cur, st.curOff = nil, 0 }

// resume brings the stream in line with a server that expects frame next: what it has is not sent again, the rest is.
// What it has is kept, and counts, until it is acknowledged: a node that takes the server's place may not have it. If
// the server wants frames that are no longer here resume returns the first number that is, otherwise next: what lies
// between is to be given up by a gap. A message whose beginning is lost that way goes with it, and so does, if headless
// is set, one whose beginning the server has forgotten.
func (st *outStream) resume(next uint64, headless bool) (from uint64, kept, freed int, lost bool) {
	st.rewind()
	if !headless {
		st.recall(next)
		kept = st.pass(next)
	} else {
		for f := st.q.front(); f != nil && lastSeq(f) < next; f = st.q.front() {
			freed += st.drop()
		}
		st.forgo()
	}
	st.wrote = max(st.wrote, next-1)
	st.next = max(st.next, next)
	if kept > 0 {
		return next, kept, freed, false
	}
	st.acked = max(st.acked, next-1)
	if st.first() > next || headless {
		n, was := st.behead()
		freed, lost = freed+n, was
		st.forgo()
	}
	return st.first(), 0, freed, lost
}

// pass takes the frames before next for sent and returns their size.
func (st *outStream) pass(next uint64) (n int) {
	for ch, off := st.q.head, st.q.off; ch != nil; ch, off = ch.next, 0 {
		for off < len(ch.b) {
			f := frameAt(ch.b[off:])
			if lastSeq(f) >= next {
				return n
			}
			off, n = off+len(f), n+len(f)
			st.cur, st.curOff = ch, off
		}
	}
	return n
}

// restart numbers the stream as that of another publisher, pub; was is the number before. It begins at 1; but where the
// server gives back a number that the client had before, it goes on as it was numbered then, and where it knows a
// stream that the client does not, with next.
func (st *outStream) restart(was, pub uint16, next uint64) (freed int, lost bool) {
	st.rewind()
	freed, lost = st.behead()
	st.forgo()
	less := st.first() - max(1, next) // may wrap around, here and below: what counts is the sum
	base, before := st.bases[pub]
	if before {
		less = base - st.base
	}
	for ch, off := st.q.head, st.q.off; ch != nil; ch, off = ch.next, 0 {
		for off < len(ch.b) {
			f := frameAt(ch.b[off:])
			readdress(f, pub, less)
			off += len(f)
		}
		ch.last -= less
	}
	if st.bases == nil {
		st.bases = make(map[uint16]uint64)
	}
	if len(st.bases) >= maxBases {
		clear(st.bases)
	}
	st.bases[was] = st.base
	st.base, st.next, st.acked, st.wrote = st.base+less, st.next-less, 0, 0
	return freed, lost
}

// maxBases is how many of its former numbers a publisher remembers.
const maxBases = 16

// first returns the number that the queue begins with, or would begin with.
func (st *outStream) first() uint64 {
	if f := st.q.front(); f != nil {
		return firstSeq(f)
	}
	return st.next
}

// behead drops the rest of a message whose beginning is gone. If a Push is still at work on it, that is told to stop.
func (st *outStream) behead() (freed int, lost bool) {
	for f := st.q.front(); f != nil && continues(f); f = st.q.front() {
		freed, lost = freed+st.drop(), true
	}
	if st.q.front() == nil && st.open {
		st.open, st.stopped, lost = false, true, true
	}
	return freed, lost
}
