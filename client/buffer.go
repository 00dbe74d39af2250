package client

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// buffer holds the frames of one room between the reader, who adds, and Next, which takes. What it holds is bounded,
// and the room's policy says what becomes of the rest, as the server's queue does for what a connection does not take:
// so no subscription that is not read holds up the others on its connection, and what is read is as new as the policy
// promises.
//
//	latest      a message is replaced by a newer one of its stream
//	live        whole groups are dropped; streams without key messages lose the oldest
//	disconnect  the subscription ends
//	lossless    nothing is dropped: the server sends no more than its window before it is acknowledged
//
// In a latest room what waits is the newest of each stream, so that there is nothing to drop. A stream is taken in the
// place of the message that has waited first, so that a caller who takes less than comes gets all streams in turn.
//
// Elsewhere a burst is no reason to drop anything: live and disconnect act only when more than limit has been waiting
// for bufferAge, or, where the caller has been behind since it last took all there was, more than limit. Until then
// hard is the bound, at which the reader pauses. At limit it pauses for a moment, too: a caller that is just taking has
// half of that in less, and what waits stays in the processor's cache.
//
// What is dropped is marked in its place, for take to turn into a Gap. The subscription's mutex guards all of it.
type buffer struct {
	frameQueue
	ahead  frameQueue // taken before the queue: the newest message of a stream whose turn it is
	policy Policy
	limit  int
	hard   int
	busy   bool // the caller has what front returned
	now    func() time.Time

	streams  map[codec.StreamKey]*waiting // in use for latest, and once something was dropped
	last     *waiting
	skipping int // streams of which something is left out
	dead     int // bytes of what is marked
	behind   bool
	shedAt   int       // below that shedding is of no use
	paused   time.Time // since when the reader pauses at limit; zero: it does not
	burst    bool      // it has paused for long enough
	over     time.Time // since when more than limit has been waiting; zero: it is not
	until    uint64    // what was waiting then ends here
	look     uint64    // not before that place is looked again whether the caller keeps up
}

// waiting is what a buffer knows of a stream.
type waiting struct {
	key   codec.StreamKey
	keyed bool // it has had a key message

	// latest: the newest message that is there in whole, with the gaps behind it, and the one that is coming.
	whole, coming span
	turn          uint64 // one more than the place of the message that whole replaced, where it is taken; 0: its own place
	fence         uint64 // no place before is handed on: what lies between belongs between

	skip   skip
	header bool   // while skipping: an init message is being let in
	skipTo uint64 // the last number that was left out since the last mark; 0: none was
}

// skip says what of a stream is left out as it comes.
type skip uint8

const (
	nothing skip = iota
	toStart      // all up to the next message
	toKey        // all up to the next key message, but for init messages
)

// span is a row of a stream's frames.
type span struct {
	first  place
	frames int // 0: there is none
}

// front returns the frame to be taken next, or nil if there is none.
func (b *buffer) front() []byte {
	if f := b.ahead.front(); f != nil {
		return f
	}
	f := b.frameQueue.front()
	if f == nil || b.policy != codec.PolicyLatest || !isDead(f) {
		return f
	}
	if w := b.streams[streamOf(f)]; w != nil && w.turn == b.at()+1 {
		b.serve(w)
		return b.ahead.front()
	}
	return f
}

// drop forgets the frame that front returned.
func (b *buffer) drop() {
	if b.ahead.head != nil {
		b.ahead.pop()
		return
	}
	if f := b.frameQueue.front(); isDead(f) {
		b.dead -= len(f)
	}
	b.pop()
}

// takeBack drops the frame of n bytes that the caller had.
func (b *buffer) takeBack(n int) {
	b.busy = false
	if b.ahead.head != nil {
		b.ahead.pass(n)
	} else {
		b.pass(n)
	}
}

// serve copies the newest message of a stream ahead, and the gaps behind it.
func (b *buffer) serve(w *waiting) {
	var buf [codec.StreamHeaderSize]byte
	if mark := appendMark(buf[:0], w.key, firstSeq(w.whole.first.frame())-1); len(mark) > 0 {
		b.ahead.push(mark)
	}
	b.span(w.whole, w.key, func(frame []byte) {
		b.ahead.push(frame)
		b.kill(frame)
	})
	w.whole, w.turn = span{}, 0
}

// span calls yield for each frame of a stream's span.
func (q *frameQueue) span(s span, key codec.StreamKey, yield func(frame []byte)) {
	n := s.frames
	q.from(s.first, func(frame []byte) bool {
		init := isStream(frame) && flagsOf(frame)&codec.FlagInit != 0
		if ofStream(frame) && !isDead(frame) && streamOf(frame) == key && !init {
			yield(frame)
			n--
		}
		return n > 0
	})
}

// kill marks a stream frame or a gap as dropped.
func (b *buffer) kill(frame []byte) {
	if isStream(frame) {
		frame[offType] |= deadBit
	} else {
		frame[offType] = deadGap
	}
	b.dead += len(frame)
}

// pending returns how many bytes wait to be taken.
func (b *buffer) pending() int { return b.ahead.bytes + b.bytes - b.dead }

// all calls yield for all frames that are there, in the order in which they are taken but for those that take the place
// of others.
func (b *buffer) all(yield func(frame []byte)) {
	for _, q := range [...]*frameQueue{&b.ahead, &b.frameQueue} {
		q.each(func(frame []byte) bool {
			yield(frame)
			return true
		})
	}
}

// disown leaves the memory of the frame that the caller has to the garbage collector.
func (b *buffer) disown() {
	if b.ahead.head != nil {
		b.ahead.head.refs++
	} else {
		b.head.refs++
	}
}

// clear forgets all.
func (b *buffer) clear() {
	b.ahead.clear()
	b.frameQueue.clear()
	b.streams, b.last, b.skipping, b.dead = nil, nil, 0, 0
}

// taking reports whether the caller has the first frame of the queue.
func (b *buffer) taking() bool { return b.busy && b.ahead.head == nil }

// What is dropped is marked by its type byte: a stream frame by a bit that is never set on the wire, a gap by a type
// that is none.
const (
	deadBit = 0x40
	deadGap = 0x3f
)

// bufferAge is how long more than the limit may wait, as in a server's queue by default.
const bufferAge = 2 * time.Second

// lookEvery is how many bytes come between two looks whether a caller keeps up.
const lookEvery = 64 << 10

// outcome is what became of a frame that was offered.
type outcome uint8

const (
	taken  outcome = iota
	full           // it has to be offered again when there is space, or a while later
	cutOff         // the policy ends the subscription
)

// offer adds a frame.
func (b *buffer) offer(frame []byte) outcome {
	if b.bytes+len(frame) > b.limit {
		if o := b.overfull(len(frame)); o != taken {
			return o
		}
	} else if b.look != 0 || !b.paused.IsZero() {
		b.calm()
	}
	b.add(frame)
	return taken
}

// plain reports whether n bytes of frames go in as they come.
func (b *buffer) plain(n int) bool {
	return b.bytes+n <= b.limit && b.look == 0 && b.paused.IsZero() && b.skipping == 0 && b.policy != codec.PolicyLatest
}

// add adds a frame however full the buffer is.
func (b *buffer) add(frame []byte) {
	if b.policy == codec.PolicyLatest || b.skipping > 0 {
		b.sort(frame)
	} else {
		b.push(frame)
	}
}

// overfull looks for room for n more bytes.
func (b *buffer) overfull(n int) outcome {
	switch {
	case b.policy == codec.PolicyLossless:
	case b.policy == codec.PolicyLatest:
		if b.bytes+n > b.hard && b.dead > b.bytes/8 {
			b.sweep()
		}
	case b.pauses():
		return full
	case b.bytes+n > b.shedAt && b.ripe(n) && b.late():
		if b.policy == codec.PolicyDisconnect {
			return cutOff
		}
		b.behind = true
		b.shed()
		b.shedAt = b.bytes + b.limit/4
	}
	if b.bytes > 0 && b.bytes+n > b.hard {
		return full
	}
	return taken
}

// pauses reports whether the reader is to wait for the caller at limit.
func (b *buffer) pauses() bool {
	switch {
	case b.behind || b.burst || b.bytes == 0:
		return false
	case b.paused.IsZero():
		b.paused = b.now()
	}
	b.burst = b.now().Sub(b.paused) >= retryDelivery
	return !b.burst
}

// calm notes that less than limit waits.
func (b *buffer) calm() {
	b.over, b.look = time.Time{}, 0
	if b.bytes <= b.limit/2 {
		b.paused, b.burst = time.Time{}, false
	}
}

// ripe reports whether it is worth to look whether the caller keeps up: for that a clock is read.
func (b *buffer) ripe(n int) bool {
	if !b.behind && b.bytes+n <= b.hard && b.end() < b.look {
		return false
	}
	b.look = b.end() + lookEvery
	return true
}

// late reports whether the caller does not keep up. The buffer is overfull.
func (b *buffer) late() bool {
	if b.behind {
		return true
	}
	now := b.now()
	if b.over.IsZero() || b.at() >= b.until {
		b.over, b.until = now, b.end()
	}
	return now.Sub(b.over) >= bufferAge
}

// drained notes that the caller has taken all there was.
func (b *buffer) drained() {
	b.behind, b.shedAt = false, 0
	b.paused, b.burst = time.Time{}, false
}

// of returns what is known of a stream.
func (b *buffer) of(key codec.StreamKey) *waiting {
	if b.last != nil && b.last.key == key {
		return b.last
	}
	w := b.streams[key]
	if w == nil {
		if b.streams == nil {
			b.streams = make(map[codec.StreamKey]*waiting)
		}
		w = &waiting{key: key}
		b.streams[key] = w
	}
	b.last = w
	return w
}

func flagsOf(frame []byte) codec.Flags { return codec.Flags(frame[offType] & 0xf) }

// sort adds a frame where it matters of which stream it is.
func (b *buffer) sort(frame []byte) {
	if !isStream(frame) {
		b.sortControl(frame)
		return
	}
	w := b.of(streamOf(frame))
	if w.skip != nothing && !b.admit(w, frame) {
		w.skipTo = firstSeq(frame)
		return
	}
	if w.skipTo != 0 {
		b.mark(w)
	}
	at := b.place(frame)
	if b.policy == codec.PolicyLatest && w.note(flagsOf(frame), at) {
		b.replace(w)
	}
}

// admit reports whether a frame of a stream of which something is left out goes in, and ends the leaving out if it does
// for good.
func (b *buffer) admit(w *waiting, frame []byte) bool {
	f := flagsOf(frame)
	switch {
	case w.skip == toKey && f&codec.FlagInit != 0:
		in := f.Start() || w.header
		w.header = in && !f.End()
		return in
	case !f.Start() || w.skip == toKey && f&codec.FlagKey == 0:
		return false
	}
	w.skip, w.header = nothing, false
	b.skipping--
	return true
}

// note takes down where a frame is, and reports whether a message is whole with it that replaces those before. Init
// messages replace nothing.
func (w *waiting) note(f codec.Flags, at place) (whole bool) {
	if f&codec.FlagInit != 0 {
		w.fence = at.at
		return false
	}
	if f.Start() {
		w.coming = span{first: at}
	}
	w.coming.frames++
	return f.End()
}

// replace drops the message of a stream before the one that has just become whole, which takes its place.
func (b *buffer) replace(w *waiting) {
	at := w.whole.first.at
	switch {
	case w.whole.frames == 0, at < b.at(), at == b.at() && b.taking(): // the caller has it, or some of it
		w.turn = 0
	default:
		b.span(w.whole, w.key, b.kill)
		switch {
		case at < w.fence:
			w.turn = 0
		case w.turn == 0 && isStream(w.whole.first.frame()): // a gap alone has no turn to give
			w.turn = at + 1
		}
	}
	w.whole, w.coming = w.coming, span{}
	if b.dead > b.bytes/4*3 && b.dead > smallChunk {
		b.sweep()
	}
}

// sortControl adds a frame that is no stream frame, behind marks for what was left out before it.
func (b *buffer) sortControl(frame []byte) {
	switch frame[offType] {
	case codec.TypeGap:
		w := b.of(streamOf(frame))
		b.mark(w)
		at := b.place(frame)
		switch {
		case w.whole.frames > 0 && w.whole.first.at < w.fence: // behind what is not dropped, it is not either
		case w.whole.frames > 0:
			w.whole.frames += w.coming.frames + 1
		case w.coming.frames > 0:
			w.whole = span{w.coming.first, w.coming.frames + 1}
		default:
			w.whole = span{at, 1}
		}
		w.coming = span{}
		return
	case codec.TypeLeft:
		for key, w := range b.streams {
			if key.Pub == streamOf(frame).Pub {
				b.mark(w)
				if w.skip != nothing {
					b.skipping--
				}
				delete(b.streams, key)
			}
		}
		b.last = nil
	case codec.TypeClosed:
		for _, w := range b.streams {
			b.mark(w)
		}
	case codec.TypeSubscribed:
		b.fences()
	}
	b.push(frame)
}

// fences keeps what comes behind the end of the queue there: the subscription goes on with what may be others' streams.
func (b *buffer) fences() {
	for _, w := range b.streams {
		w.fence = b.end()
	}
}

// mark adds a mark for what was left out of a stream, if something was.
func (b *buffer) mark(w *waiting) {
	if w.skipTo != 0 {
		b.putMark(w.key, w.skipTo)
		w.skipTo = 0
	}
}

// putMark adds a mark: all of the stream up to seq is dropped.
func (b *buffer) putMark(key codec.StreamKey, seq uint64) {
	var buf [codec.StreamHeaderSize]byte
	if mark := appendMark(buf[:0], key, seq); len(mark) > 0 {
		b.push(mark)
		b.dead += len(mark)
	}
}

// appendMark appends such a mark to dst, which is empty; nothing for numbers that no frame has.
func appendMark(dst []byte, key codec.StreamKey, seq uint64) []byte {
	mark, err := codec.AppendStreamHeader(dst, &codec.Stream{Room: 1, StreamKey: key, Seq: seq}, 0)
	if err == nil {
		mark[offType] |= deadBit
	}
	return mark
}

func isDead(frame []byte) bool {
	return isStream(frame) && frame[offType]&deadBit != 0 || frame[offType] == deadGap
}

// ofStream reports whether a frame is a stream's: one of its own, or a gap.
func ofStream(frame []byte) bool {
	return isStream(frame) || frame[offType] == codec.TypeGap || frame[offType] == deadGap
}
