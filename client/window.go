package client

import (
	"slices"
	"sync"
)

// window is a budget of bytes for what is pushed and not acknowledged. Pushes that find it used up are served in the order
// in which they came, so that a stream of large messages cannot keep the small ones of another stream waiting. The client's
// mutex guards it.
type window struct {
	size, used int
	waiting    []*waiter
}

// waiter is a push that waits for n bytes. They are its own when granted holds a value.
type waiter struct {
	n       int
	granted chan struct{}
}

var waiters = sync.Pool{New: func() any { return &waiter{granted: make(chan struct{}, 1)} }}

func (w *window) fits(n int) bool { return w.used+n <= w.size || w.used == 0 && w.size > 0 }

// take takes n bytes if they are to be had at once.
func (w *window) take(n int) bool {
	if len(w.waiting) > 0 || !w.fits(n) {
		return false
	}
	w.used += n
	return true
}

// wait queues up for n bytes. The caller releases the lock, waits for granted, and calls either done or leave.
func (w *window) wait(n int) *waiter {
	x := waiters.Get().(*waiter)
	x.n = n
	w.waiting = append(w.waiting, x)
	return x
}

// done ends a wait that was granted: the caller has received from granted.
func (x *waiter) done() { waiters.Put(x) }

// leave gives up a wait, and gives back what was granted in the meantime.
func (w *window) leave(x *waiter) {
	select {
	case <-x.granted:
		w.used -= x.n
	default:
		i := slices.Index(w.waiting, x)
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	waiters.Put(x)
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
	n := 0
	for n < len(w.waiting) && w.fits(w.waiting[n].n) {
		w.used += w.waiting[n].n
		w.waiting[n].granted <- struct{}{}
		n++
	}
	w.waiting = slices.Delete(w.waiting, 0, n)
}
