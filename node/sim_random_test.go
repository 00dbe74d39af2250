package node

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "the one seed that TestSim replays, with a trace")
	seedsFlag = flag.Int("seeds", 200, "how many seeds TestSim tries, from 1 on")
	nodesFlag = flag.Int("nodes", 0, "nodes that each of TestSim's clusters begins with; 0: 3 to 12, and 50 in every 50th seed")
)

// TestSim has clusters live through random days: nodes join, leave, drain, are killed and restarted, networks fall
// apart and heal, rooms are made, changed and removed meanwhile. A day that goes wrong is replayed by go test ./node
// -run Sim -seed=N, with the same -nodes.
func TestSim(t *testing.T) {
	if *seedFlag != 0 {
		w := newWorld(*seedFlag)
		w.trace = func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "%10v %s\n", w.now, fmt.Sprintf(format, args...))
		}
		w.debug = w.trace
		w.live(*seedFlag)
		if w.fault != "" {
			t.Fatalf("seed %d: %s", *seedFlag, w.fault)
		}
		return
	}
	seeds := *seedsFlag
	if testing.Short() {
		seeds = min(seeds, 60)
	}
	if raceEnabled { // which finds nothing in what runs on one goroutine
		seeds = min(seeds, 20)
	}
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		w := newWorld(seed)
		w.live(seed)
		if w.fault != "" {
			t.Errorf("seed %d: %s\nreplay: go test ./node -run Sim -nodes=%d -seed=%d", seed, w.fault, *nodesFlag, seed)
		}
	}
}

// live lets a cluster live for some days, each with a quiet night in which everything must be found in order.
func (w *world) live(seed uint64) {
	size := []int{3, 4, 5, 6, 8, 12}[seed%6]
	if seed%50 == 0 {
		size = 50
	}
	if *nodesFlag > 0 {
		size = *nodesFlag
	}
	kind := w.rng.IntN(4) // 0: kills only, and never so many that anything could get lost
	w.records.strict = kind == 0 && size > 4
	w.slices = true
	names := make([]string, size+size/2)
	for i := range names {
		names[i] = fmt.Sprintf("n%02d", i)
	}
	for _, name := range names[:size] {
		w.start(name)
	}
	w.meet() // before the first day
	for day := range 4 {
		if day > 0 {
			for range 10 + w.rng.IntN(30) {
				w.after(w.between(0, 3*time.Second), func() { w.surprise(names, kind) })
			}
			if w.records.strict {
				w.after(w.between(0, 3*time.Second), func() { w.strike = true })
			}
		}
		for range 10 {
			w.after(w.between(0, 3*time.Second), func() { w.business() })
		}
		if !w.run(w.now + 4*time.Second) {
			w.fail("no end of events")
		}
		if w.fault != "" {
			return
		}
		w.trace("the network heals")
		w.heal()
		if !w.run(0) {
			w.fail("no end of events after the network has healed")
		}
		if w.quiet(); w.fault != "" {
			return
		}
		w.trace("all is quiet")
	}
}

func (w *world) heal() {
	clear(w.cut)
	w.split(0, slices.Sorted(maps.Keys(w.group))...)
	for _, p := range w.alive() {
		if p.me.Draining {
			p.me.Draining = false
			w.gossip(p.me.Name, 5*time.Millisecond, 50*time.Millisecond)
		}
	}
}

func pick[T any](w *world, s []T) T { return s[w.rng.IntN(len(s))] }

func (w *world) killSome(n, size int) {
	for range n {
		if all := w.alive(); len(all) > max(3, size/2) {
			w.kill(pick(w, all).me.Name)
		}
	}
}

// struck kills the relay that has just answered something, and another in the room's chain: the worst moment for both.
func (w *world) struck(room codec.RoomID, relay *proc) {
	all := w.alive()
	if w.now-w.killed < time.Second { // while copies of who was killed before are not made anew four at once would be too many
		return
	}
	if w.strike = false; relay.dead || len(all) <= 4 || len(relay.core.Chain(room)) <= 2 { // so many drain that the two are all who have it
		return
	}
	w.kill(relay.me.Name)
	for _, name := range relay.core.Chain(room) {
		if q := w.procs[name]; q != nil {
			w.kill(q.me.Name)
			return
		}
	}
}

// surprise is something that happens to nodes or the network.
func (w *world) surprise(names []string, kind int) {
	all := w.alive()
	switch n := w.rng.IntN(10); {
	case n < 2: // one more, or one again
		var free []string
		for _, name := range names {
			if w.procs[name] == nil {
				free = append(free, name)
			}
		}
		if len(free) > 0 {
			w.start(pick(w, free))
		}
	case n == 2:
		w.drain(pick(w, all).me.Name)
	case n == 3: // one that drains and has nothing left to do leaves
		for _, p := range all {
			if p.me.Draining && p.core.Relayed() == 0 && len(p.had) == 0 && len(all) > 3 {
				w.kill(p.me.Name)
				return
			}
		}
	case kind == 0:
	case n < 6:
		w.killSome(1, 5)
	case n == 6: // restarted under its name, before anyone has noticed
		if p := pick(w, all); len(all) > 2 {
			w.kill(p.me.Name)
			w.after(w.between(time.Millisecond, 400*time.Millisecond), func() {
				if w.procs[p.me.Name] == nil {
					w.start(p.me.Name)
				}
			})
		}
	case kind == 1:
	case n == 7:
		w.trace("the network falls apart")
		for _, p := range all {
			w.split(w.rng.IntN(2+w.rng.IntN(2)), p.me.Name)
		}
		w.after(w.between(100*time.Millisecond, 3*time.Second), w.heal)
	case n > 7:
		a, b := pick(w, all).me.Name, pick(w, all).me.Name
		if a != b {
			w.trace("nothing passes from %s to %s", a, b)
			w.sever(a, b, true)
			w.after(w.between(100*time.Millisecond, 2*time.Second), func() { w.sever(a, b, false) })
		}
	}
}

// business is what owners and sessions do at random nodes.
func (w *world) business() {
	for range 5 {
		p := pick(w, w.alive())
		if len(w.records.rooms) < 4 || w.rng.IntN(10) == 0 {
			if room := p.create(); room == 0 {
				continue
			}
		}
		room := pick(w, w.records.rooms)
		if w.rng.IntN(3) == 0 {
			if !w.records.over(w, room) {
				p.visit(room)
			}
			continue
		}
		var relays []*proc
		for _, q := range w.alive() {
			if q.rooms[room] != nil {
				relays = append(relays, q)
			}
		}
		if len(relays) == 0 {
			continue
		}
		q := pick(w, relays)
		account := pick(w, []string{"bob", "carol", "dave"})
		switch n := w.rng.IntN(20); {
		case n < 8:
			q.grant(room, account, true)
		case n < 14:
			q.grant(room, account, false)
		case n < 18:
			q.publish(room, account)
		case n == 18:
			w.trace("%s removes %s", q.me.Name, w.records.label(room))
			q.finish(room, codec.CodeRemoved)
		default:
			w.trace("%s ends %s as idle", q.me.Name, w.records.label(room))
			q.finish(room, codec.CodeIdle)
		}
	}
}
