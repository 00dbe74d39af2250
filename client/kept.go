package client

import "time"

// kept is what a stream keeps of its acknowledged frames for a while. An acknowledgement says that all nodes have a
// frame that need it. When one of them that had fallen behind, or was cut off, takes the room over all the same, it
// asks for more than what is not acknowledged.
//
// The frames in it, those before the queue's first in its first chunk, and those of the queue follow one another.
type kept struct {
	head, tail *chunk
	bytes      int
}

// So long, and so many bytes of a stream, are kept.
const (
	keepFor   = 5 * time.Second
	keepBytes = 1 << 20
)

// add takes a chunk over whose frames are acknowledged. What fits goes into the memory of the one before it.
func (k *kept) add(ch *chunk, now time.Time) {
	k.bytes += len(ch.b)
	if t := k.tail; t != nil && cap(t.b)-len(t.b) >= len(ch.b) {
		t.b, t.last, t.acked = append(t.b, ch.b...), ch.last, now
		ch.release()
	} else {
		ch.next, ch.acked = nil, now
		if t == nil {
			k.head = ch
		} else {
			t.next = ch
		}
		k.tail = ch
	}
	for k.head != nil && (k.bytes > keepBytes || now.Sub(k.head.acked) > keepFor) {
		k.shift()
	}
}

// shift drops the first chunk.
func (k *kept) shift() {
	ch := k.head
	k.bytes -= len(ch.b)
	if k.head = ch.next; k.head == nil {
		k.tail = nil
	}
	ch.release()
}

func (k *kept) clear() {
	for k.head != nil {
		k.shift()
	}
}

// oldest returns the number of the oldest frame there is, acknowledged or not, or of the next one.
func (st *outStream) oldest() uint64 {
	switch {
	case st.kept.head != nil:
		return firstSeq(frameAt(st.kept.head.b))
	case st.q.head != nil:
		return firstSeq(frameAt(st.q.head.b))
	}
	return st.next
}

// recall makes the queue begin with frame seq, if it begins behind that; if there is none any more, with the oldest
// message of which all is there.
func (st *outStream) recall(seq uint64) {
	oldest, first, was := st.oldest(), st.first(), st.q.bytes
	cut := seq < oldest
	if seq = max(seq, oldest); seq >= first {
		return
	}
	st.rewind()
	if q := &st.q; q.head == nil || firstSeq(frameAt(q.head.b)) > seq {
		for st.kept.head.last < seq {
			st.kept.shift()
		}
		q.bytes += q.off + st.kept.bytes
		if st.kept.tail.next = q.head; q.head == nil {
			q.tail = st.kept.tail
		}
		q.head, st.kept = st.kept.head, kept{}
	} else {
		q.bytes += q.off
	}
	for st.q.off = 0; firstSeq(st.q.front()) < seq; {
		n := len(st.q.front())
		st.q.off += n
		st.q.bytes -= n
	}
	for cut && st.first() < first && continues(st.q.front()) {
		st.q.pop()
	}
	st.acked = st.first() - 1
	st.p.window.used += st.q.bytes - was
}

// forgo gives up what is kept: what comes next does not follow it.
func (st *outStream) forgo() {
	st.kept.clear()
	st.q.compact()
}
