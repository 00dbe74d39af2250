package client

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// shed drops of each stream what lies before its newest key message, or where it has none, all but the newest part; and
// all, if that is too much still. Of a stream that loses its newest messages, what comes is left out until it can be
// begun with.
func (b *buffer) shed() {
	begin := make(map[codec.StreamKey]uint64) // from where on a stream is kept
	skipped := make(map[codec.StreamKey]bool) // what is left out of it lies behind what waits
	newest := b.end() - uint64(min(b.bytes, b.limit)/4)
	headers := 0
	b.waits(func(at uint64, frame []byte) {
		w, f := b.of(streamOf(frame)), flagsOf(frame)
		w.keyed = w.keyed || f&codec.FlagKey != 0
		skipped[w.key] = w.skip != nothing
		_, begun := begin[w.key]
		switch {
		case f&codec.FlagInit != 0:
			headers += len(frame)
		case f.Start() && f&codec.FlagKey != 0, f.Start() && !w.keyed && !begun && at >= newest:
			begin[w.key] = at
		}
	})
	kept := 0
	b.waits(func(at uint64, frame []byte) {
		if from, ok := begin[streamOf(frame)]; ok && at >= from {
			kept += len(frame)
		}
	})
	if kept > b.limit/2 {
		clear(begin)
	}
	b.waits(func(at uint64, frame []byte) {
		w, f := b.of(streamOf(frame)), flagsOf(frame)
		from, ok := begin[w.key]
		keep := ok && at >= from || f&codec.FlagInit != 0 && headers <= b.limit/4
		if !keep || !skipped[w.key] {
			w.header = keep && f&codec.FlagInit != 0 && !f.End()
		}
		if keep {
			return
		}
		frame[offType] |= deadBit
		b.dead += len(frame)
		if was := w.skip; !ok && !skipped[w.key] {
			switch {
			case w.keyed:
				w.skip = toKey
			case f.End():
				w.skip = nothing
			default:
				w.skip = toStart
			}
			b.skipping += change(was, w.skip)
		}
	})
	b.sweep()
}

// change returns by how many streams more something is left out.
func change(was, is skip) int {
	switch {
	case was == nothing && is != nothing:
		return 1
	case was != nothing && is == nothing:
		return -1
	}
	return 0
}

// waits calls f for all stream frames that wait and are not dropped.
func (b *buffer) waits(f func(at uint64, frame []byte)) {
	at, busy := b.at(), b.taking()
	b.each(func(frame []byte) bool {
		if !busy && isStream(frame) && !isDead(frame) {
			f(at, frame)
		}
		busy = false
		at += uint64(len(frame))
		return true
	})
}

// sweep gives the memory of what is dropped back: a mark stays in the place of a row of a stream's frames. In a latest
// room the newest message goes to where its stream's turn is.
func (b *buffer) sweep() {
	old := b.frameQueue
	b.frameQueue, b.dead, b.over = frameQueue{passed: old.end()}, 0, time.Time{}
	turns := make(map[uint64]span)
	for _, w := range b.streams {
		if w.turn != 0 {
			turns[w.turn-1] = w.whole
		}
		w.whole, w.coming, w.turn, w.fence = span{}, span{}, 0, 0
	}
	gone := make(map[codec.StreamKey]uint64)
	settle := func(of func(codec.StreamKey) bool) {
		for key, seq := range gone {
			if of(key) {
				delete(gone, key)
				b.putMark(key, seq)
			}
		}
	}
	moved := make(map[codec.StreamKey]uint64) // its last number
	held := b.taking()
	busy, at := held, old.at()
	old.each(func(frame []byte) bool {
		var key codec.StreamKey
		if ofStream(frame) || frame[offType] == codec.TypeLeft {
			key = streamOf(frame)
		}
		newest, turn := turns[at]
		at += uint64(len(frame))
		switch {
		case busy:
			busy = false
			b.push(frame)
		case turn:
			delete(gone, key)
			moved[key] = b.move(&old, newest, key)
		case isDead(frame):
			if seq := lastSeq(frame); seq > moved[key] {
				gone[key] = seq
			}
		case !isStream(frame):
			switch frame[offType] {
			case codec.TypeLeft:
				settle(func(k codec.StreamKey) bool { return k.Pub == key.Pub })
			case codec.TypeClosed:
				settle(func(codec.StreamKey) bool { return true })
			case codec.TypeSubscribed:
				b.fences()
			case codec.TypeGap:
				settle(func(k codec.StreamKey) bool { return k == key })
				if b.policy == codec.PolicyLatest {
					b.sortControl(frame)
					return true
				}
			}
			b.push(frame)
		default:
			if seq, ok := gone[key]; ok {
				delete(gone, key)
				b.putMark(key, seq)
			}
			b.stay(frame)
		}
		return true
	})
	for key, seq := range gone { // more of it may be left out yet
		w := b.of(key)
		if w.skipTo = max(w.skipTo, seq); w.skip == nothing {
			b.mark(w)
		}
	}
	if held {
		old.head.refs++ // the caller has a part of it: it is left to the garbage collector
	}
	old.clear()
}

// stay adds a stream frame that stays while the memory is swept.
func (b *buffer) stay(frame []byte) {
	at := b.place(frame)
	if w := b.of(streamOf(frame)); b.policy == codec.PolicyLatest && w.note(flagsOf(frame), at) {
		w.whole, w.coming = w.coming, span{}
	}
}

// move adds the newest message of a stream, which lies in old, behind a mark for what it has replaced. It returns its
// last number.
func (b *buffer) move(old *frameQueue, newest span, key codec.StreamKey) (last uint64) {
	b.putMark(key, firstSeq(newest.first.frame())-1)
	old.span(newest, key, func(frame []byte) {
		if isStream(frame) {
			b.stay(frame)
		} else {
			b.sortControl(frame)
		}
		last = lastSeq(frame)
		b.kill(frame)
		b.dead -= len(frame)
	})
	return last
}
