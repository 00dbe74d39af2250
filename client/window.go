package client

import (
	"slices"

	"github.com/timedge/timedge/codec"
)

// window is a budget of bytes for what is pushed and not acknowledged. Pushes that find it used up are served in the
// order in which they came. A stream may have three quarters of it for messages of several pieces, so that a picture
// larger than the window leaves room for the sound. The client's mutex guards it.
type window struct {
	size, used int
	waiting    []*waiter
	free       []*waiter // to be used again
}

// waiter is a push that waits for n bytes. They are its own when granted holds a value.
type waiter struct {
	n       int
	st      *outStream // whose share counts; nil: none
	granted chan struct{}
}

func (w *window) fits(n int) bool { return w.used+n <= w.size || w.used == 0 && w.size > 0 }

// exceeds reports whether n more bytes are above the stream's share.
func (w *window) exceeds(n int, st *outStream) bool {
	return st != nil && st.q.bytes > 0 && st.q.bytes+n > w.size-w.size/4
}

// has reports whether a whole message of a stream is to be had at once, however many pieces it has.
func (w *window) has(payload []byte, st *outStream) bool {
	if len(payload) <= codec.MaxPiece {
		return len(w.waiting) == 0 && w.fits(codec.StreamHeaderSize+len(payload))
	}
	n := len(payload) + (len(payload)+codec.MaxPiece-1)/codec.MaxPiece*codec.StreamHeaderSize
	return len(w.waiting) == 0 && w.used+n <= w.size && st.q.bytes+n <= w.size-w.size/4
}

// take takes n bytes if they are to be had at once. st is the stream whose share counts, nil if none does.
func (w *window) take(n int, st *outStream) bool {
	if len(w.waiting) > 0 || !w.fits(n) || w.exceeds(n, st) {
		return false
	}
	w.used += n
	return true
}

// wait queues up for n bytes. The caller releases the lock, waits for granted, and calls either done or leave.
func (w *window) wait(n int, st *outStream) *waiter {
	var x *waiter
	if i := len(w.free) - 1; i >= 0 {
		x, w.free = w.free[i], w.free[:i]
	} else {
		x = &waiter{granted: make(chan struct{}, 1)}
	}
	x.n, x.st = n, st
	w.waiting = append(w.waiting, x)
	w.grant() // those before it may wait for their share only
	return x
}

// done ends a wait that was granted: the caller has received from granted.
func (w *window) done(x *waiter) { w.free = append(w.free, x) }

// leave gives up a wait, and gives back what was granted in the meantime.
func (w *window) leave(x *waiter) {
	select {
	case <-x.granted:
		w.used -= x.n
	default:
		i := slices.Index(w.waiting, x)
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	w.done(x)
	w.grant()
}

// release gives n bytes back.
func (w *window) release(n int) {
	w.used -= n
	w.grant()
}

func (w *window) resize(size int) {
	w.size = size
	w.grant()
}

func (w *window) grant() {
	for i := 0; i < len(w.waiting); {
		x := w.waiting[i]
		if w.exceeds(x.n, x.st) {
			i++
			continue
		}
		if !w.fits(x.n) {
			return
		}
		w.used += x.n
		x.granted <- struct{}{}
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
}
