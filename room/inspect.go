package room

import (
	"fmt"

	"github.com/timedge/timedge/codec"
)

// StreamInfo is a stream as people see it.
type StreamInfo struct {
	codec.StreamKey
	Account  string
	Next     uint64   // the number of the frame expected next
	Arrived  uint64   // the number up to which all has arrived
	LogBytes int      // kept for late joiners
	WaitsFor []string // who has acknowledged least of what has not arrived, in words; at most maxWaitsFor
}

const maxWaitsFor = 8

// Streams returns the room's streams, those of publishers that left a short while ago among them.
func (r *Room) Streams() (all []StreamInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pubs {
		for _, s := range p.streams {
			i := StreamInfo{s.key, p.who.account, s.next, s.acked.Load(), s.logCost, nil}
			if r.seats != nil && i.Arrived+1 < i.Next {
				i.WaitsFor = r.seats.waitsFor(s)
			}
			all = append(all, i)
		}
	}
	return all
}

// waitsFor says for whom a stream waits.
func (l *seating) waitsFor(st *stream) (who []string) {
	if l.hold != 0 {
		who = append(who, "who is on the way here, for the room has just come to this node")
	}
	if l.room.vacant {
		who = append(who, "somebody to come to the inbox")
	}
	for _, p := range st.places {
		if p.acked == st.low && !p.seat.late && len(who) < maxWaitsFor {
			who = append(who, p.seat.String())
		}
	}
	return who
}

func (s *seat) String() string {
	switch {
	case s.node == "" && s.member != nil:
		return s.who.account
	case s.node == "":
		return s.who.account + ", whose connection broke"
	case s.member != nil:
		return "node " + s.node
	case s.orphan:
		return fmt.Sprintf("subscribers of node %s, which is gone: %d", s.node, max(len(s.clients), s.served))
	}
	return "node " + s.node + ", to which the link broke"
}

// Each calls yield with every room until it returns false. Rooms that come meanwhile may be missing.
func (t *Table) Each(yield func(*Room) bool) {
	for i := range t.stripes {
		for _, r := range t.list(i) {
			if !yield(r) {
				return
			}
		}
	}
}
