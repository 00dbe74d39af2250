package node

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
)

// This file knows what a cluster has promised and compares it with what it holds.

// item is something that was answered, and must last: that a room exists, that it was removed, that an account was
// granted or revoked.
type item struct {
	room    codec.RoomID
	removed bool
	account string
	version uint64
	granted bool
	lost    bool // all processes that knew of it were killed
}

// holds reports whether a state has it, or something newer.
func (i *item) holds(st *codec.RoomState) bool {
	switch {
	case st == nil:
		return false
	case i.removed:
		return final(st.Ended)
	case i.account != "":
		return slices.ContainsFunc(st.Grants, func(g codec.GrantState) bool {
			return g.Account == i.account && (g.Version > i.version || g.Version == i.version && (i.granted || !g.Granted))
		})
	}
	return true
}

type ledger struct {
	rooms  []codec.RoomID
	names  map[codec.RoomID]string
	items  map[codec.RoomID][]*item
	ended  map[codec.RoomID]bool // someone began to end it
	strict bool                  // what was answered may not get lost by any kill
}

func newLedger() ledger {
	return ledger{names: map[codec.RoomID]string{}, items: map[codec.RoomID][]*item{}, ended: map[codec.RoomID]bool{}}
}

func (r *ledger) add(room codec.RoomID) {
	r.rooms = append(r.rooms, room)
	r.names[room] = fmt.Sprintf("room %d", len(r.rooms))
}

func (r *ledger) label(room codec.RoomID) string { return r.names[room] }

func (r *ledger) text(i item) string {
	switch {
	case i.removed:
		return r.label(i.room) + " is removed"
	case i.account != "" && i.granted:
		return r.label(i.room) + " is granted to " + i.account
	case i.account != "":
		return r.label(i.room) + " is revoked from " + i.account
	}
	return r.label(i.room) + " is as told"
}

func (r *ledger) ending(room codec.RoomID) { r.ended[room] = true }

// answered notes a promise. Somebody must know of it at that moment already.
func (r *ledger) answered(w *world, i item) {
	r.items[i.room] = append(r.items[i.room], &i)
	if !r.known(w, &i) {
		w.fail("%s: answered, and nobody knows of it", r.text(i))
	}
}

func (r *ledger) known(w *world, i *item) bool {
	for _, p := range w.procs {
		if i.holds(p.core.State(i.room)) {
			return true
		}
	}
	return false
}

// died notes what has gone with a process.
func (r *ledger) died(w *world) {
	for _, room := range r.rooms {
		for _, i := range r.items[room] {
			if i.lost || r.known(w, i) {
				continue
			}
			if i.lost = true; r.strict {
				w.fail("%s: all who knew of it are gone", r.text(*i))
			}
		}
	}
}

// over reports whether a room has ended, or was lost with all who had its state.
func (r *ledger) over(w *world, room codec.RoomID) bool {
	for _, p := range w.procs {
		if st := p.core.State(room); st != nil && st.Ended == 0 {
			return false
		}
	}
	return true
}

// touched checks, after an event at a process, that it gave nothing away that nobody else has.
func (p *proc) touched() {
	if p.core.Pending() && !p.steps {
		p.steps = true
		p.w.after(3*time.Millisecond, func() {
			if p.steps = false; !p.dead {
				p.core.Step(1)
				p.touched()
			}
		})
	}
	for _, room := range slices.Sorted(maps.Keys(p.had)) {
		if p.core.State(room) != nil {
			continue
		}
		delete(p.had, room)
		for _, i := range p.w.records.items[room] {
			switch {
			case i.lost || p.w.records.known(p.w, i):
			case !p.w.records.strict && p.w.now-p.w.killed < time.Second:
				i.lost = true // those who had answered that it is safe were killed while the answer was under way
			default:
				p.w.fail("%s: %s dropped the last copy", p.w.records.text(*i), p.me.Name)
			}
		}
	}
	for id, e := range p.core.rooms {
		if e.state != nil {
			p.had[id] = true
		}
		if e.relay && e.state.Ended == 0 && p.rooms[id] == nil {
			p.w.fail("%s relays %s and was not told so", p.me.Name, p.w.records.label(id))
		}
	}
	for id := range p.rooms {
		if !p.core.Relays(id) {
			p.w.fail("%s does not relay %s and was not told so", p.me.Name, p.w.records.label(id))
		}
	}
}

// quiet checks what must hold once nothing happens any more and everyone sees everyone.
func (w *world) quiet() {
	all := w.alive()
	for _, p := range all {
		if len(p.core.View().Members) != len(all) || len(p.core.down)+len(p.core.away) > 0 {
			w.fail("%s: view of %d among %d, down %v, away %v", p.me.Name, len(p.core.View().Members), len(all), p.core.down, p.core.away)
		}
		for req, q := range p.core.asked { // a standby's copy is kept, and not answered before it leaves the chain
			if e := w.procs[q.to].core.rooms[q.room]; e == nil || !slices.Contains(e.owed, debt{p.core.me, req}) {
				w.fail("%s: %s has not answered %s, which owes it nothing", w.records.label(q.room), q.to, p.me.Name)
			}
		}
	}
	for _, p := range all {
		p.shelved()
	}
	for _, room := range w.records.rooms {
		w.quietRoom(room, all)
	}
}

// shelved checks that a room lies where a review looks for it, and nowhere else.
func (p *proc) shelved() {
	c := p.core
	on := 0
	for name, s := range c.of {
		on += len(s.rooms)
		for at, id := range s.rooms {
			if e := c.rooms[id]; e == nil || !slices.Contains(e.on, spot{s, at}) {
				p.w.fail("%s: room %d of the shelf of %s is not there", p.me.Name, at, name)
			}
		}
	}
	for id, e := range c.rooms {
		on -= len(e.on) - 1
		for _, name := range c.Chain(id) {
			if !slices.ContainsFunc(e.on, func(o spot) bool { return o.name == name }) {
				p.w.fail("%s: %s is not on the shelf of %s, which is in its chain", p.me.Name, p.w.records.label(id), name)
			}
		}
	}
	if on != 0 || len(c.all.rooms) != len(c.rooms) {
		p.w.fail("%s: %d places too many, %d of %d rooms", p.me.Name, on, len(c.all.rooms), len(c.rooms))
	}
}

func (w *world) quietRoom(room codec.RoomID, all []*proc) {
	name := w.records.label(room)
	chain := all[0].core.Chain(room)
	var keeper *proc
	held := false
	for _, p := range all {
		e := p.core.rooms[room]
		if e == nil || e.state == nil {
			continue
		}
		held = true
		if !slices.Contains(chain, p.me.Name) {
			w.fail("%s: %s is not in its chain %v and has a copy", name, p.me.Name, chain)
		}
		if len(e.waits) > 0 || e.relay && slices.ContainsFunc(e.owed, func(d debt) bool { return !slices.Contains(chain, d.to.name) }) {
			w.fail("%s: %s has not answered %d changes, %d copies", name, p.me.Name, len(e.waits), len(e.owed))
		}
		if !e.relay {
			continue
		}
		if keeper != nil {
			w.fail("%s: relayed by %s and %s", name, keeper.me.Name, p.me.Name)
		}
		keeper = p
	}
	if !held {
		for _, i := range w.records.items[room] {
			if !i.lost {
				w.fail("%s: nobody has its state", name)
			}
		}
		return
	}
	if keeper == nil || keeper.me.Name != chain[0] {
		w.fail("%s: %s is first in the chain and does not relay it", name, chain[0])
		return
	}
	st := keeper.core.State(room)
	for _, n := range chain[1:] {
		if copied := w.procs[n].core.State(room); copied == nil || !equal(copied, st) {
			w.fail("%s: %s has %+v\n%s has %+v", name, keeper.me.Name, st, n, copied)
		}
	}
	for _, i := range w.records.items[room] {
		if !i.lost && !i.holds(st) {
			w.fail("%s: forgotten", w.records.text(*i))
		}
	}
	if st.Ended != 0 && !w.records.ended[room] {
		w.fail("%s: ended, and nobody ended it", name)
	}
	for _, p := range all {
		if e := p.core.rooms[room]; e == nil || !e.edge || p == keeper || st.Ended != 0 {
			continue
		}
		if got := p.edges[room]; got != keeper.me.Name || keeper.fed[room][p.me.Name] != p.links[keeper.me.Name] {
			w.fail("%s: %s is attached to %q, not to its relay %s", name, p.me.Name, got, keeper.me.Name)
		}
	}
}
