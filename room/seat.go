package room

import (
	"maps"

	"github.com/timedge/timedge/codec"
)

// seat is a subscriber's place. It outlives the subscriber's connection for the stall time, or the lag time.
type seat struct {
	who    who
	at     int    // place in the list
	node   string // of a link: the node at its other end
	member Member // nil while its connection is away
	mark   uint64 // of a client: its codec.ClientMark
	mute   uint16 // publisher whose streams it does not get; 0: none
	late   bool   // lagged, does not count; not in lossless rooms
	cut    bool   // cut off; the seat is there until its subscriber has left the room
	// of a link in a lossless room: the clients that its node has named, who subscribe there or are awaited back; nil if
	// it has named none
	clients map[uint64]codec.Presence
	served  int  // of a link that is away: how many subscribers its node had
	orphan  bool // and that node is gone: the seat is theirs, until they have come elsewhere; lossless rooms only
	// when it last acknowledged something, or had nothing to acknowledge, or its connection broke
	moved  int64
	places map[codec.StreamKey]*place // of every stream that it gets
	has    map[codec.StreamKey]uint64 // what it said it has of streams that the room does not know; may be nil
	share  *Share                     // its subscriber's
	holds  int                        // what the share counts for it
}

// place is how far a seat has acknowledged a stream.
type place struct {
	seat  *seat
	st    *stream
	at    int // place in the stream's list
	acked uint64
	began uint64 // where it stood when the seat was given it
	claim uint64 // what it said it has when it joined, which may be ahead of the room
	named bool   // it said that it has something of it when it joined
}

// account counts what the seat takes. No-op for one that is gone.
func (s *seat) account() {
	n := seatCost + placeCost*(len(s.places)+len(s.has)) + clientCost*len(s.clients)
	s.share.Hold(n - s.holds)
	s.holds = n
}

// start notes where a seat takes a stream up. No-op on a nil seat.
func (s *seat) start(st *stream, acked uint64) {
	if s == nil {
		return
	}
	p := s.places[st.key]
	if p == nil {
		p = &place{seat: s, acked: acked, began: acked}
		s.places[st.key] = p
		s.account()
	}
	if p.st != st {
		p.leave()
		p.st, p.at = st, len(st.places)
		st.places = append(st.places, p)
	}
	p.acked = max(acked, p.acked)
}

// claims notes that the subscriber has the stream up to seq, wherever the room stands. No-op on a nil seat.
func (s *seat) claims(st *stream, seq uint64) {
	if s != nil {
		s.start(st, seq)
		s.places[st.key].claim = seq
	}
}

// expects notes what the subscriber has of a stream that the room does not know yet. No-op on a nil seat.
func (s *seat) expects(key codec.StreamKey, last uint64) {
	if s != nil {
		if s.has == nil {
			s.has = make(map[codec.StreamKey]uint64)
		}
		s.has[key] = last
		s.account()
	}
}

// names notes streams that the subscriber said it has something of. No-op on a nil seat.
func (s *seat) names(have positions) {
	if s != nil {
		for i := range have {
			if p := s.places[have[i].StreamKey]; p != nil {
				p.named = true
			}
		}
	}
}

// owes reports whether the seat gets streams of p of which its subscriber has nothing, as far as it has said. Who has
// something, and does not name p when it comes back, has been told that p left. A nil seat owes nothing.
func (s *seat) owes(p *Publisher) bool {
	if s != nil {
		for _, st := range p.streams {
			if pl := s.places[st.key]; pl != nil && pl.acked == pl.began && !pl.named {
				return true
			}
		}
	}
	return false
}

// forget takes the streams of a publisher out of a seat.
func (s *seat) forget(num uint16) {
	maps.DeleteFunc(s.places, func(k codec.StreamKey, p *place) bool {
		if k.Pub == num {
			p.leave()
		}
		return k.Pub == num
	})
	maps.DeleteFunc(s.has, func(k codec.StreamKey, _ uint64) bool { return k.Pub == num })
	s.account()
}

// mutes leaves the streams of a publisher out from now on. No-op on a nil seat.
func (s *seat) mutes(num uint16) {
	if s != nil {
		s.mute = num
		s.forget(num)
	}
}

// behind reports whether frames wait for the seat's acknowledgement.
func (s *seat) behind() bool { return s.isBehind(false) }

// stalls reports whether frames of a publisher that is there do. Whoever has heard that a publisher has left need not
// acknowledge anything of it any more.
func (s *seat) stalls() bool { return s.isBehind(true) }

func (s *seat) isBehind(there bool) bool {
	for _, p := range s.places {
		if p.acked+1 < p.st.next && !(there && p.st.pub.ended != 0) {
			return true
		}
	}
	return false
}

// lags reports whether the seat owes a batch, of a publisher that is there, that was posted before a moment.
func (s *seat) lags(before int64) bool {
	for _, p := range s.places {
		if p.st.pub.ended == 0 && p.st.flight.owed(p.acked, before) {
			return true
		}
	}
	return false
}
