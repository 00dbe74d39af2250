package client

import "slices"

// turn is what one push at a time may have; the others get it in the order in which they came. The client's mutex
// guards it, so that a push that finds it free takes no other lock.
type turn struct {
	taken   bool
	waiting []chan struct{} // each holds a value once it is granted
	free    []chan struct{} // to be used again
}

// take takes the turn if it is to be had at once.
func (t *turn) take() bool {
	if t.taken {
		return false
	}
	t.taken = true
	return true
}

// wait queues up. The caller releases the lock, waits for granted, and calls either done or leave.
func (t *turn) wait() (granted chan struct{}) {
	if i := len(t.free) - 1; i >= 0 {
		granted, t.free = t.free[i], t.free[:i]
	} else {
		granted = make(chan struct{}, 1)
	}
	t.waiting = append(t.waiting, granted)
	return granted
}

// done ends a wait that was granted: the caller has received from granted.
func (t *turn) done(granted chan struct{}) { t.free = append(t.free, granted) }

// leave gives up a wait, and what was granted in the meantime.
func (t *turn) leave(granted chan struct{}) {
	select {
	case <-granted:
		t.release()
	default:
		i := slices.Index(t.waiting, granted)
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.done(granted)
}

// release hands the turn to the push that has waited longest.
func (t *turn) release() {
	if len(t.waiting) == 0 {
		t.taken = false
		return
	}
	t.waiting[0] <- struct{}{}
	t.waiting = slices.Delete(t.waiting, 0, 1)
}
