package room

import (
	"cmp"
	"runtime"
	"slices"

	"github.com/timedge/timedge/codec"
)

// admit counts a publisher for its account. Room's mutex.
func (p *Publisher) admit() {
	s := p.share
	s.pubs.Add(1)
	s.Hold(publisherCost + len(p.who.account))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushes == nil {
		s.pushes = make(map[*Publisher]struct{})
	}
	s.pushes[p] = struct{}{}
}

// dismiss takes back what admit and find counted. Room's mutex.
func (p *Publisher) dismiss() {
	s := p.share
	s.mu.Lock()
	_, is := s.pushes[p]
	delete(s.pushes, p)
	s.mu.Unlock()
	if is {
		s.pubs.Add(-1)
		s.streams.Add(-int64(len(p.streams)))
		s.Hold(-(publisherCost + len(p.who.account) + streamCost*len(p.streams)))
	}
}

// cached counts bytes that logs hold. Who calls it calls tellCached at the end. Room's mutex.
func (p *Publisher) cached(n int) {
	p.cache += n
	p.room.cacheBytes += n
}

// tellCached has the account's share know what cached has counted. Room's mutex.
func (p *Publisher) tellCached() {
	if n := p.cache - p.counted; n != 0 {
		p.share.cache(n)
		p.counted = p.cache
	}
}

// confine keeps the room within its bound on caches: the publisher that has most pays, with its largest log. Room's
// mutex.
func (r *Room) confine() {
	for r.cacheBytes > r.table.conf().CacheRoom {
		before := r.cacheBytes
		p := slices.MaxFunc(r.pubs, func(a, b *Publisher) int { return cmp.Compare(a.cache, b.cache) })
		s := slices.MaxFunc(p.streams, func(a, b *stream) int { return cmp.Compare(a.logCost, b.logCost) })
		if s.logCost > 0 {
			s.clearLog()
		} else {
			for _, s := range p.streams {
				s.clearInits()
			}
		}
		p.tellCached()
		r.table.stats.CacheOverflows.Add(1)
		if r.cacheBytes == before {
			panic("room: a cache counts what nobody holds")
		}
	}
}

// Balance compares what the node holds, and what it caches, with its bounds. The accounts that hold most give up
// caches: what was not pushed into for longest first, init messages last. Those that still hold too much are returned,
// the largest first. Call it several times a second, from one goroutine at a time.
func (t *Table) Balance(bound int64) (over []*Share) {
	for _, s := range t.pool.Weigh(bound, int64(t.conf().CacheAll)) {
		t.shrink(s)
		if s.Over() {
			over = append(over, s)
		}
	}
	return over
}

// shrink has an account give up caches until it is below the level.
func (t *Table) shrink(s *Share) {
	s.mu.Lock()
	pubs := make([]*Publisher, 0, len(s.pushes))
	for p := range s.pushes {
		pubs = append(pubs, p)
	}
	s.mu.Unlock()
	slices.SortFunc(pubs, func(a, b *Publisher) int { return cmp.Compare(a.room.lastPush.Load(), b.room.lastPush.Load()) })
	for _, inits := range []bool{false, true} {
		for _, p := range pubs {
			if s.excess() <= 0 {
				return
			}
			p.uncache(inits)
			runtime.Gosched() // loops may wait for this processor
		}
	}
}

// uncache empties the publisher's logs of what is kept for others than its room's members, or its init messages.
func (p *Publisher) uncache(inits bool) {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.cache == 0 {
		return
	}
	was := p.cache
	for _, s := range p.streams {
		if inits {
			s.clearInits()
		} else {
			r.kind.uncache(s)
		}
	}
	p.tellCached()
	if p.cache < was {
		r.table.stats.CacheOverflows.Add(1)
	}
}

// Relieve has an account that holds too much, caches apart, give up what its lossless rooms hold: the subscribers that
// owe acknowledgements are cut off.
func (t *Table) Relieve(s *Share) {
	s.mu.Lock()
	rooms := make(map[*Room]struct{})
	for p := range s.pushes {
		rooms[p.room] = struct{}{}
	}
	s.mu.Unlock()
	for r := range rooms {
		if !s.Over() {
			return
		}
		r.relieve()
		runtime.Gosched()
	}
}

// EndOf ends rooms of an account that holds too much, until it does not.
func (t *Table) EndOf(s *Share) {
	for i := range t.stripes {
		for _, r := range t.list(i) {
			if r.share == s && !r.IsMirror() && s.Over() && t.End(r, codec.CodeOverloaded) {
				t.told(r, codec.CodeOverloaded)
			}
		}
	}
}

func (r *Room) relieve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 || !r.kind.lossless() {
		return
	}
	l := r.seats
	for i := len(l.seats) - 1; i >= 0; i-- {
		s := l.seats[i]
		switch {
		case !s.behind() || s.cut || s.node != "":
		case s.member != nil:
			s.member.Cut(codec.CodeTooSlow)
			s.cut = true
			r.table.stats.CutOff.Add(1)
		default:
			l.remove(s)
		}
	}
}
