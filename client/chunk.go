package client

import (
	"sync"
	"time"

	"github.com/timedge/timedge/codec"
)

// chunk is pooled memory that holds whole frames, one after the other.
type chunk struct {
	b    []byte // what is written; its capacity is the chunk's size
	last uint64 // sending: number of the last frame in b

	acked time.Time // kept: when the last of it was acknowledged

	refs int // the queue, and the writer while it writes; under the same lock as the queue
	next *chunk
}

// Two sizes, so that the many streams with a small frame now and then do not hold the memory of the largest.
const (
	smallChunk = 8 << 10
	largeChunk = codec.MaxFrame
)

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, largeChunk)} }}
)

func newChunk(size int) *chunk {
	var ch *chunk
	if size <= smallChunk {
		ch = smallChunks.Get().(*chunk)
	} else {
		ch = largeChunks.Get().(*chunk)
	}
	ch.b, ch.last, ch.refs, ch.next = ch.b[:0], 0, 1, nil
	return ch
}

func (ch *chunk) release() {
	ch.refs--
	switch {
	case ch.refs > 0:
	case ch.refs < 0:
		panic("client: chunk released twice")
	case cap(ch.b) == smallChunk:
		smallChunks.Put(ch)
	default:
		largeChunks.Put(ch)
	}
}

// frameQueue is a queue of frames in chunks: first in, first out, each frame in one piece of memory. It has no lock of
// its own.
type frameQueue struct {
	head, tail *chunk
	off        int    // of the first frame in head
	bytes      int    // in all
	passed     uint64 // bytes that were ever taken off
}

// place is where a frame is: at counts all bytes that ever went into the queue. Once these have been taken off, it is
// nowhere.
type place struct {
	ch  *chunk
	off int
	at  uint64
}

// frame returns the frame that is there.
func (p place) frame() []byte { return frameAt(p.ch.b[p.off:]) }

// at returns the place of the first frame, end that of the next to come.
func (q *frameQueue) at() uint64  { return q.passed }
func (q *frameQueue) end() uint64 { return q.passed + uint64(q.bytes) }

// room returns the chunk that has room for n more bytes, at most codec.MaxFrame. The caller appends them to its b.
func (q *frameQueue) room(n int) *chunk {
	q.bytes += n
	if q.tail != nil && cap(q.tail.b)-len(q.tail.b) >= n {
		return q.tail
	}
	size := n
	if q.tail != nil {
		size = largeChunk // the stream is busy
	}
	ch := newChunk(size)
	if q.tail == nil {
		q.head = ch
	} else {
		q.tail.next = ch
	}
	q.tail = ch
	return ch
}

// push adds a copy of frame.
func (q *frameQueue) push(frame []byte) {
	ch := q.room(len(frame))
	ch.b = append(ch.b, frame...)
}

// pushAll adds a copy of whole frames.
func (q *frameQueue) pushAll(frames []byte) {
	for len(frames) > 0 {
		n := len(frameAt(frames))
		ch := q.room(n)
		for free := cap(ch.b) - len(ch.b) - n; n < len(frames); {
			next := len(frameAt(frames[n:]))
			if free -= next; free < 0 {
				break
			}
			n += next
			q.bytes += next
		}
		ch.b = append(ch.b, frames[:n]...)
		frames = frames[n:]
	}
}

// place adds a copy of frame, and returns where it is.
func (q *frameQueue) place(frame []byte) place {
	at := q.end()
	ch := q.room(len(frame))
	off := len(ch.b)
	ch.b = append(ch.b, frame...)
	return place{ch, off, at}
}

// front returns the first frame, or nil if there is none.
func (q *frameQueue) front() []byte {
	if q.head == nil {
		return nil
	}
	return frameAt(q.head.b[q.off:])
}

// pop drops the first frame. What front returned is no longer valid.
func (q *frameQueue) pop() { q.pass(len(q.front())) }

// pass is pop of a first frame of n bytes.
func (q *frameQueue) pass(n int) {
	if old := q.shift(n); old != nil {
		old.release()
	}
}

// shift takes the first frame off, n bytes, and hands over the chunk that is at its end with it, if one is.
func (q *frameQueue) shift(n int) (old *chunk) {
	q.off += n
	q.bytes -= n
	q.passed += uint64(n)
	if q.off < len(q.head.b) {
		return nil
	}
	old = q.head
	q.head, q.off = old.next, 0
	if q.head == nil {
		q.tail = nil
	}
	return old
}

// compact lets go of the memory before the first frame.
func (q *frameQueue) compact() {
	if q.off == 0 {
		return
	}
	old := q.head
	ch := newChunk(len(old.b) - q.off)
	ch.b, ch.last, ch.next = append(ch.b, old.b[q.off:]...), old.last, old.next
	if q.head, q.off = ch, 0; q.tail == old {
		q.tail = ch
	}
	old.release()
}

// each calls yield for every frame from the first on, until it returns false.
func (q *frameQueue) each(yield func(frame []byte) bool) {
	off := q.off
	for ch := q.head; ch != nil; ch, off = ch.next, 0 {
		for off < len(ch.b) {
			f := frameAt(ch.b[off:])
			if !yield(f) {
				return
			}
			off += len(f)
		}
	}
}

// from calls yield for every frame from a place on that is in the queue, until it returns false.
func (q *frameQueue) from(p place, yield func(frame []byte) bool) {
	for ch, off := p.ch, p.off; ch != nil; ch, off = ch.next, 0 {
		for off < len(ch.b) {
			f := frameAt(ch.b[off:])
			if !yield(f) {
				return
			}
			off += len(f)
		}
	}
}

// keep drops all but the first n bytes, which are the first frame or nothing.
func (q *frameQueue) keep(n int) {
	if n == 0 || q.head == nil {
		q.clear()
		return
	}
	rest := frameQueue{head: q.head.next}
	rest.clear()
	q.head.b, q.head.next = q.head.b[:q.off+n], nil
	q.tail, q.bytes = q.head, n
}

func (q *frameQueue) clear() {
	for q.head != nil {
		next := q.head.next
		q.head.release()
		q.head = next
	}
	*q = frameQueue{}
}
