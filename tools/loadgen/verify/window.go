package verify

import "sync/atomic"

// Window is the closed loop of one stream: its publisher may be at most so many frames ahead of the slowest subscriber.
// It relies on nothing but delivery, so it is the same for every server, acknowledging or not.
//
// Subscribers report only every Step frames, so the cost per frame is a comparison. All methods may be called at once
// from many goroutines.
type Window struct {
	step, size uint64
	subs       int32
	floor      atomic.Uint64
	passed     [marks]atomic.Int32 // subscribers that have frame k*step, at k modulo marks
	wake       func()
}

// stepsPerWindow is how often within a window a subscriber reports. More make a smoother flow, fewer cost less.
const stepsPerWindow = 8

// marks must exceed the number of marks that can be open at once, which is stepsPerWindow+1.
const marks = 2 * stepsPerWindow

// NewWindow returns a window of about size frames for a stream that subs subscribers receive. wake is called, on the
// goroutine of the last subscriber to report, whenever the publisher may go on; it must not block.
func NewWindow(size uint64, subs int, wake func()) *Window {
	step := max(size/stepsPerWindow, 1)
	return &Window{step: step, size: min(max(size, 1), step*(marks-1)), subs: int32(subs), wake: wake}
}

// Credit returns how many frames may be sent after frame seq, at the moment.
func (w *Window) Credit(seq uint64) int { return int(w.floor.Load()+w.size) - int(seq) }

// Floor is the frame that every subscriber is known to have.
func (w *Window) Floor() uint64 { return w.floor.Load() }

// pass reports that one subscriber went from having all before from to having all before to. It returns the frame that
// the subscriber must have before it reports again.
func (w *Window) pass(from, to uint64) uint64 {
	for k := (from-1)/w.step + 1; k <= (to-1)/w.step; k++ {
		m := &w.passed[k%marks]
		if m.Add(1) == w.subs {
			m.Store(0)
			w.floor.Store(k * w.step)
			w.wake()
		}
	}
	return ((to-1)/w.step + 1) * w.step
}
