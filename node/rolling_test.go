package node

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

var (
	rollingRooms = flag.Int("rolling.rooms", 2_000, "rooms of TestRolling's cluster; each needs some 7 kB")
	rollingNodes = flag.Int("rolling.nodes", 10, "its nodes")
	rollingOf    = flag.Int("rolling.of", 10, "how many of them are restarted; each costs the same")
)

// rolling is a cluster of Cores and nothing else: what one sends to another lies in a queue. It counts what a rolling
// restart costs.
type rolling struct {
	t     *testing.T
	cores map[string]*Core
	queue []func()
	whole, changes, acks, demotes, events, attaches,
	frames, bytes int
	gathered map[[2]string][]codec.Control // by sender and receiver, of the event that goes on
}

// rollNode is what a Core of it does.
type rollNode struct {
	w  *rolling
	me string
}

func (n *rollNode) Promote(*codec.RoomState)         {}
func (n *rollNode) Demote(codec.RoomID, string)      { n.w.demotes++ }
func (n *rollNode) Merge(*codec.RoomState)           {}
func (n *rollNode) Attach(id codec.RoomID, _ string) { n.w.attaches++ }

// send counts a frame and has it arrive later.
func (n *rollNode) send(to string, m codec.Control, arrive func(q *Core)) {
	key := [2]string{n.me, to}
	n.w.gathered[key] = append(n.w.gathered[key], m)
	n.w.queue = append(n.w.queue, func() {
		if q := n.w.cores[to]; q != nil {
			arrive(q)
		}
	})
}

func (n *rollNode) SendState(to string, st *codec.RoomState, flags uint8, req uint32) {
	n.w.whole++
	n.send(to, &codec.State{Req: req, Flags: flags, RoomState: *st}, func(q *Core) { q.Got(n.me, st, flags, req) })
}

func (n *rollNode) SendChange(to string, ch *codec.Change) {
	n.w.changes++
	n.send(to, ch, func(q *Core) { q.GotChange(n.me, ch) })
}

func (n *rollNode) Ack(to string, req uint32) {
	n.w.acks++
	n.send(to, &codec.OK{Req: req}, func(q *Core) { q.Acked(n.me, req) })
}

func (n *rollNode) Decline(to string, req uint32) {
	n.w.acks++
	n.send(to, &codec.Refused{Req: req, Code: codec.CodeSequence}, func(q *Core) { q.Declined(n.me, req) })
}

// sent counts what an event has sent as it travels: together.
func (w *rolling) sent() {
	for key, ms := range w.gathered {
		for _, m := range codec.Packed(ms) {
			b, err := m.Append(nil)
			if err != nil {
				w.t.Fatal(err)
			}
			w.frames++
			w.bytes += len(b)
		}
		delete(w.gathered, key)
	}
}

// settle lets everything arrive, and every review come to its end: what waits for a node is handled as one event of at
// most so many frames as a pack has.
func (w *rolling) settle() {
	for {
		more := false
		for i := 0; i < len(w.queue); i++ {
			w.events++
			w.queue[i]()
			if i%128 == 127 {
				w.sent()
			}
		}
		w.queue = w.queue[:0]
		w.sent()
		for i := range *rollingNodes {
			if c := w.cores[rollName(i)]; c != nil && c.Pending() {
				more = c.Step(128) || more
				w.sent()
			}
		}
		if !more && len(w.queue) == 0 {
			return
		}
	}
}

func rollName(i int) string { return fmt.Sprintf("n%02d", i) }

// view gives all a view of those that are there.
func (w *rolling) view(draining string) {
	var ms []Member
	for i := range *rollingNodes {
		if c := w.cores[rollName(i)]; c != nil {
			ms = append(ms, Member{Name: c.me.name, Birth: c.me.birth, Level: Level, Draining: c.me.name == draining})
		}
	}
	v := NewView(ms)
	for i := range *rollingNodes {
		if c := w.cores[rollName(i)]; c != nil {
			c.SetView(v)
			w.sent()
		}
	}
	w.settle()
}

func (w *rolling) start(i int, birth uint64) *Core {
	name := rollName(i)
	c := NewCore(Member{Name: name, Birth: birth, Level: Level}, &rollNode{w, name})
	w.cores[name] = c
	return c
}

// TestRolling restarts all nodes of a cluster with many rooms, one after the other, and counts what that costs. No room
// is lost.
func TestRolling(t *testing.T) {
	w := &rolling{t: t, cores: map[string]*Core{}, gathered: map[[2]string][]codec.Control{}}
	for i := range *rollingNodes {
		w.start(i, uint64(i+1))
	}
	w.view("")
	for k := range *rollingRooms {
		id := codec.RoomID(uint64(k)*0x9e3779b97f4a7c15 + 1)
		relay := w.cores[w.cores[rollName(0)].Chain(id)[0]]
		if !relay.Create(&codec.RoomState{RoomHead: codec.RoomHead{Room: id, Owner: "owner", NextPub: 1}}, func(bool) {}) {
			t.Fatal("a number is taken")
		}
		if k%1000 == 0 {
			w.settle()
		}
	}
	w.settle()
	w.whole, w.changes, w.acks, w.demotes, w.events, w.frames, w.bytes = 0, 0, 0, 0, 0, 0, 0
	begun := time.Now()
	restarts := min(*rollingOf, *rollingNodes)
	for i := range restarts {
		w.view(rollName(i))
		if left := w.cores[rollName(i)].Relayed(); left > 0 {
			t.Fatalf("%s still relays %d rooms", rollName(i), left)
		}
		delete(w.cores, rollName(i))
		w.view("")
		fresh := w.start(i, uint64(100+i))
		w.view("")
		for o := range *rollingNodes { // links come up
			if o != i {
				w.cores[rollName(o)].Away(rollName(i), true)
				w.cores[rollName(o)].Away(rollName(i), false)
				fresh.Away(rollName(o), true)
				fresh.Away(rollName(o), false)
				w.sent()
			}
		}
		w.settle()
	}
	relayed := 0
	for _, c := range w.cores {
		relayed += c.Relayed()
	}
	if relayed != *rollingRooms {
		t.Errorf("%d rooms of %d are relayed", relayed, *rollingRooms)
	}
	single := w.whole + w.changes + w.acks
	t.Logf("%d rooms, %d of %d nodes restarted in %v: %d whole states, %d changes, %d answers in %d frames of %d bytes in all (%d frames if each went alone); "+
		"%d rooms handed over", *rollingRooms, restarts, *rollingNodes, time.Since(begun).Round(time.Millisecond), w.whole, w.changes, w.acks, w.frames, w.bytes, single, w.demotes)
	if single > 80**rollingRooms {
		t.Errorf("%d messages for %d rooms", single, *rollingRooms)
	}
	// A node is out of reach for a moment, and has all that it had.
	w.whole, w.changes = 0, 0
	for i := 1; i < *rollingNodes; i++ {
		w.cores[rollName(i)].Away(rollName(0), true)
		w.cores[rollName(0)].Away(rollName(i), true)
	}
	w.settle()
	for i := 1; i < *rollingNodes; i++ {
		w.cores[rollName(i)].Away(rollName(0), false)
		w.cores[rollName(0)].Away(rollName(i), false)
	}
	w.settle()
	if w.whole+w.changes > 0 {
		t.Errorf("%d states and %d changes after a flap of links", w.whole, w.changes)
	}
}
