package room

import (
	"sync"

	"github.com/timedge/timedge/codec"
)

// guard is a room's mutex. A panic that passes through what it guards lets it go, as deferred unlocks do, but leaves
// the room half done: the room becomes suspect, and Mend ends it. So one fault costs one room.
type guard struct {
	sync.Mutex
	room *Room
}

// Unlock must be deferred itself, not called by what is deferred: only then is it told of a panic.
func (g *guard) Unlock() {
	if fault := recover(); fault != nil {
		g.room.table.Suspect(g.room)
		g.Mutex.Unlock()
		panic(fault) // the stack below is still the one where it began
	}
	g.Mutex.Unlock()
}

// outboundGuard is an Outbound's mutex, which a panic ends: its client publishes anew.
type outboundGuard struct {
	sync.Mutex
	out *Outbound
}

// Unlock must be deferred itself, as guard's.
func (g *outboundGuard) Unlock() {
	if fault := recover(); fault != nil {
		attempt(func() { g.out.end(codec.CodeMoved) })
		g.Mutex.Unlock()
		panic(fault)
	}
	g.Mutex.Unlock()
}

// Suspect says that something went wrong while a room was being handled: Mend is to end it. Any goroutine; the list's
// lock is a leaf.
func (t *Table) Suspect(r *Room) {
	t.suspects.Lock()
	defer t.suspects.Unlock()
	t.suspects.rooms = append(t.suspects.rooms, r)
}

// Mend ends the rooms that are suspect with node_lost, for everybody, and returns how many there were. Call it after a
// panic, when no room's mutex is held.
func (t *Table) Mend() (ended int) {
	for {
		t.suspects.Lock()
		rooms := t.suspects.rooms
		t.suspects.rooms = nil
		t.suspects.Unlock()
		if len(rooms) == 0 {
			return ended
		}
		for _, r := range rooms {
			if t.giveUp(r) {
				ended++
			}
		}
	}
}

// giveUp is End for a room whose state may not be in order: each step is by itself, and what one cannot do is left to
// the garbage collector.
func (t *Table) giveUp(r *Room) (first bool) {
	const code = codec.CodeNodeLost
	var outlets []Outlet
	var pubs []*Publisher
	var seats *seating
	func() {
		r.mu.Mutex.Lock()
		defer r.mu.Mutex.Unlock()
		if r.lost {
			return
		}
		first, r.lost = true, true
		if r.ended == 0 {
			r.ended = code
		}
		outlets, pubs, seats = r.outlets, r.pubs, r.seats
		r.outlets, r.pubs, r.seats = nil, nil, nil
	}()
	if !first {
		return false
	}
	attempt(func() {
		b := t.pool.encodeOwn(&codec.Closed{Room: r.ID, Code: code}, r.share)
		b.Kind = KindClosed
		b.outlets.Store(int32(len(outlets)))
		for _, o := range outlets {
			o.Post(b.Retain())
		}
		b.Release()
	})
	for _, p := range pubs {
		attempt(func() {
			if h := p.holder.Load(); h != nil {
				(*h).Cut(p, code)
			}
		})
	}
	func() {
		r.mu.Mutex.Lock()
		defer r.mu.Mutex.Unlock()
		for _, p := range pubs {
			attempt(func() {
				for _, s := range p.streams {
					attempt(s.clearLog)
					attempt(s.clearInits)
				}
			})
			attempt(p.release)
		}
		attempt(seats.dissolve)
	}()
	attempt(func() { t.ended(r, code) })
	attempt(func() { t.told(r, code) })
	return true
}

// attempt calls f and reports whether it came back without a panic.
func attempt(f func()) (ok bool) {
	defer func() {
		if !ok {
			_ = recover()
		}
	}()
	f()
	return true
}
