package room

import "github.com/timedge/timedge/codec"

// StreamInfo is a stream as people see it.
type StreamInfo struct {
	codec.StreamKey
	Account  string
	Next     uint64 // the number of the frame expected next
	LogBytes int    // kept for late joiners
}

// Streams returns the room's streams, those of publishers that left a short while ago among them.
func (r *Room) Streams() (all []StreamInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pubs {
		for _, s := range p.streams {
			all = append(all, StreamInfo{s.key, p.who.account, s.next, s.logCost})
		}
	}
	return all
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
