package room

import (
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
)

// Who is at which node. A client of a lossless room subscribes at one node at a time, and where it did before its place
// is kept when its connection breaks: what it has not acknowledged there holds the publisher up. So nobody is to wait
// for it there once it has come to another node, and somebody is, until then, also if the node before is gone. Nodes
// tell their relay who their clients are, by codec.ClientMark, and the relay tells them who is elsewhere.
//
// In what order the nodes tell does not matter: a place that is kept for a client is given up while another says that
// the client subscribes there, and no other place is. So a client that is anywhere has a place that holds for it.

// says returns what a client is behind a link, as its node has told. If the link is broken whoever subscribed there is
// awaited back.
func (s *seat) says(mark uint64) codec.Presence {
	now := s.clients[mark]
	if s.member == nil {
		now = min(now, codec.PresenceAwaited)
	}
	return now
}

// stands returns what a client is here, and at the nodes that get the room by way of this one, but for one seat.
func (l *seating) stands(mark uint64, but *seat) (now codec.Presence) {
	for _, s := range l.byMark[mark] {
		switch {
		case s == but:
		case s.member != nil:
			return codec.PresenceHere
		default:
			now = codec.PresenceAwaited
		}
	}
	for _, s := range l.nodes {
		if s != but {
			now = max(now, s.says(mark))
		}
	}
	return now
}

// note notes at a mirror that the relay is to be told of a client.
func (l *seating) note(mark uint64) {
	if k := &l.room.kind; k.mirror && k.lossless() {
		if l.moves == nil {
			l.moves = make(map[uint64]struct{})
		}
		l.moves[mark] = struct{}{}
	}
}

// came says that clients subscribe at a seat, or behind it, or, where that is nil, at another node: the places are
// given up that are kept for them at others, and nodes that await them are told.
func (l *seating) came(marks []uint64, at *seat) {
	for _, mark := range marks {
		for _, s := range slices.Clone(l.byMark[mark]) {
			if s != at && s.member == nil {
				l.remove(s)
			}
		}
	}
	for i := len(l.nodes) - 1; i >= 0; i-- {
		s := l.nodes[i]
		if s == at {
			continue
		}
		var its []uint64
		for _, mark := range marks {
			if s.says(mark) == codec.PresenceAwaited {
				its = append(its, mark)
			}
		}
		if l.forgo(s, its); s.member == nil && !s.missed() {
			l.remove(s)
		}
	}
}

// forgo gives up the places of clients behind a link, and has its node told.
func (l *seating) forgo(s *seat, marks []uint64) {
	for _, mark := range marks {
		delete(s.clients, mark)
		l.note(mark)
	}
	s.account()
	if len(marks) > 0 && s.member != nil {
		s.member.Elsewhere(marks)
	}
}

// named takes a node's word of what has become of clients there; of all there are, if it is its first.
func (l *seating) named(s *seat, clients []codec.ClientMove, first bool) {
	if !l.room.kind.lossless() {
		return
	}
	if first {
		clear(s.clients)
	}
	if s.clients == nil && len(clients) > 0 {
		s.clients = make(map[uint64]codec.Presence)
	}
	var here, elsewhere []uint64
	for _, c := range clients {
		switch c.Now {
		case codec.PresenceHere:
			s.clients[c.Mark] = c.Now
			here = append(here, c.Mark)
		case codec.PresenceAwaited:
			s.clients[c.Mark] = c.Now
			if l.stands(c.Mark, s) == codec.PresenceHere {
				elsewhere = append(elsewhere, c.Mark)
			}
		default:
			delete(s.clients, c.Mark)
		}
		l.note(c.Mark)
	}
	l.forgo(s, elsewhere)
	l.came(here, s)
}

// parts follows a broken connection: no place is kept for who subscribes elsewhere, and none for a node behind whose
// link nobody is missed.
func (l *seating) parts(s *seat) {
	if s.node == "" {
		if l.note(s.mark); l.stands(s.mark, s) == codec.PresenceHere {
			l.remove(s)
		}
		return
	}
	for mark := range s.clients {
		if l.note(mark); l.stands(mark, s) == codec.PresenceHere {
			delete(s.clients, mark)
		}
	}
	if s.account(); l.room.kind.lossless() && !s.missed() {
		l.remove(s)
	}
}

// missed reports whether subscribers may have been behind a link that is gone: those that it has named and that are not
// elsewhere, or some of a node that names nobody.
func (s *seat) missed() bool { return len(s.clients) > 0 || s.clients == nil && s.served > 0 }

// Moves returns what has become of the clients of a mirror of a lossless room since the last call, or, with all, how
// each stands: for the relay.
func (r *Room) Moves(all bool) (moves []codec.ClientMove) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.seats
	if l == nil || !r.kind.lossless() {
		return nil
	}
	if all {
		for mark := range l.byMark {
			l.note(mark)
		}
		for _, s := range l.nodes {
			for mark := range s.clients {
				l.note(mark)
			}
		}
	}
	for _, mark := range slices.Sorted(maps.Keys(l.moves)) {
		if now := l.stands(mark, nil); now != codec.PresenceGone || !all {
			moves = append(moves, codec.ClientMove{Mark: mark, Now: now})
		}
	}
	clear(l.moves)
	return moves
}

// Elsewhere takes the relay's word, by the newest feed of a mirror, that clients subscribe at other nodes: no places
// are kept for them here. Who is connected stays.
func (r *Room) Elsewhere(feed uint64, marks []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == 0 && !r.kind.decides() && feed >= r.feed && r.seats != nil {
		r.seats.came(marks, nil)
	}
}
