package world

import (
	"fmt"
	"strings"
	"time"

	"github.com/timedge/timedge/node"
)

// World is a running cluster. It belongs to one goroutine.
type World struct {
	seed   uint64
	now    time.Duration // since the beginning; nobody but the world knows it
	queue  []event       // a heap by time
	made   uint64        // events made, to break ties
	cause  uint64        // of what happens now, see draw
	kids   uint64        // draws and events that this has had
	events int           // handled so far

	fault *Fault
	only  string    // if set, the one invariant that is looked at: shrinking keeps to it
	story *[]string // what happened, line by line; nil: nobody reads it
	quiet bool      // the night: nothing goes wrong any more

	net      network
	nodes    map[string]*Process
	births   map[string]uint64
	views    map[uint64]*node.View
	names    []string // of nodes, in order
	clients  map[string]actor
	cast     []string // of clients, in order
	rooms    map[string]*roomRecord
	books    ledger
	armed    []strike
	suspects []suspect
	missed   []missed
	parts    int // parts of the network there were
	plant    Plant

	scratch []byte // of one frame
	padding []byte
}

// Fault is an invariant that did not hold.
type Fault struct {
	At        time.Duration
	Invariant string // "I1" to "I14"
	Text      string
}

func (f *Fault) Error() string { return fmt.Sprintf("%s at %v: %s", f.Invariant, f.At, f.Text) }

// fail notes the first invariant that does not hold.
func (w *World) fail(invariant, format string, args ...any) {
	if w.fault == nil && (w.only == "" || w.only == invariant) {
		w.fault = &Fault{w.now, invariant, fmt.Sprintf(format, args...)}
		w.tell("%s does not hold: %s", invariant, w.fault.Text)
	}
}

// tell adds a line to the story.
func (w *World) tell(format string, args ...any) {
	if w.story != nil {
		text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
		*w.story = append(*w.story, fmt.Sprintf("%9.1fms  %s", float64(w.now)/1e6, text))
	}
}

// event is something that will happen.
type event struct {
	at    time.Duration
	n     uint64
	cause uint64
	do    func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.n < o.n }

// after lets something happen later.
func (w *World) after(d time.Duration, do func()) {
	w.made++
	w.push(event{w.now + max(0, d), w.made, w.child(), do})
}

// child returns the cause of something that this event causes.
func (w *World) child() uint64 {
	w.kids++
	return mix(w.cause*31 + w.kids)
}

// draw returns a number below n. It depends on the seed and on what led here, and on nothing that happens beside.
func (w *World) draw(n int64) int64 {
	w.kids++
	return int64(mix(w.seed*0x9e3779b97f4a7c15^mix(w.cause+w.kids)) % uint64(n))
}

// between returns a time.
func (w *World) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.draw(int64(high-low)+1))
}

// chance reports true once in n times.
func (w *World) chance(n int64) bool { return w.draw(n) == 0 }

// under does something that has a cause of its own, within an event that handles many such things.
func (w *World) under(cause uint64, do func()) {
	was, kids := w.cause, w.kids
	w.cause, w.kids = cause, 0
	do()
	w.cause, w.kids = was, kids
}

// mix spreads a number over all bits (the finalizer of splitmix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// run lets happen what is due before a moment, or until something is found.
func (w *World) run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until && w.fault == nil {
		e := w.pop()
		w.now, w.cause, w.kids = e.at, e.cause, 0
		w.events++
		e.do()
		if len(w.armed) > 0 {
			w.strikes()
		}
	}
	if w.fault == nil {
		w.now = until
	}
}

// push adds an event to the heap, which has four children to a parent: half as deep, and most events are near the end.
func (w *World) push(e event) {
	q := append(w.queue, e)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&q[up]) {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = e
	w.queue = q
}

func (w *World) pop() event {
	q := w.queue
	top, e := q[0], q[len(q)-1]
	q[len(q)-1] = event{}
	q = q[:len(q)-1]
	for i := 0; len(q) > 0; {
		least, first := -1, 4*i+1
		for k := first; k < min(first+4, len(q)); k++ {
			if least < 0 || q[k].before(&q[least]) {
				least = k
			}
		}
		if least < 0 || !q[least].before(&e) {
			q[i] = e
			break
		}
		q[i] = q[least]
		i = least
	}
	w.queue = q
	return top
}

// mailbox is a queue that keeps its order, and that its owner empties when it wakes. Whatever production posts from one
// goroutine to another is posted here, and waits for a time that is drawn: the seams between goroutines are where the
// faults were.
type mailbox struct {
	w     *World
	host  *Process
	items []letter
	awake bool          // a wake-up is on its way
	slow  time.Duration // how long a wake-up takes at most
	done  func()        // after each emptying; may be nil
}

// letter is something to do, and what caused it.
type letter struct {
	cause uint64
	do    func()
}

// post adds something. Its owner does it a moment later.
func (m *mailbox) post(do func()) {
	m.items = append(m.items, letter{m.w.child(), do})
	m.wake()
}

func (m *mailbox) wake() {
	if m.awake {
		return
	}
	m.awake = true
	slow := m.slow
	if m.w.chance(40) { // the processor is another's: much may come meanwhile, and is done in one go
		slow = 20 * time.Millisecond
	}
	m.w.after(m.w.between(time.Microsecond, slow), func() { m.host.run(m.drain) })
}

// drain does what is there; now and then only the first of it, as when the owner was interrupted.
func (m *mailbox) drain() {
	m.awake = false
	items := m.items
	if len(items) > 1 && m.w.chance(8) {
		m.items = items[1:len(items):len(items)]
		items = items[:1]
		m.wake()
	} else {
		m.items = nil
	}
	for _, it := range items {
		m.w.under(it.cause, it.do)
	}
	if m.done != nil {
		m.done()
	}
}

// payload returns a payload of n bytes, to be stamped and used at once.
func (w *World) payload(n int) []byte {
	if len(w.padding) < n {
		w.padding = make([]byte, n)
	}
	return w.padding[:n:n]
}
