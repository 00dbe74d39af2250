package room

import (
	"sync/atomic"

	"github.com/timedge/timedge/codec"
)

// stream is one (publisher, dtype) of a room, with the log of what late joiners and resuming subscribers may need.
type stream struct {
	key codec.StreamKey
	pub *Publisher

	// Guarded by the room's mutex.
	next     uint64 // the sequence number expected next
	open     bool   // the last frame's message goes on
	openSize int    // payload bytes of that message so far
	openSeq  uint64 // its first frame
	keyed    bool   // has had a key frame
	log      []span // contiguous, oldest first
	logCost  int
	groupSeq uint64 // first frame of the newest group in the log; 0 if there is none
	inits    []span // the newest init messages in a row
	initLast uint64
	told     uint64 // the last acknowledgement handed to the publisher's session

	acked atomic.Uint64 // all up to here has arrived
}

// span is a part of a batch that holds whole frames of one stream, with a reference to it.
type span struct {
	b           *Batch
	off, end    int
	first, last uint64
}

func (s *span) bytes() []byte { return s.b.B[s.off:s.end] }

// taken records that every outlet has taken the frames up to last. Batches of a stream pass every outlet in order, so
// this is called in order too. Any goroutine.
func (s *stream) taken(last uint64, n int) {
	if s.pub.room.set.Policy == codec.PolicyLossless {
		return
	}
	s.acked.Store(last)
	s.pub.arrived(n)
}

// keepFrom returns the oldest frame that a late joiner or a lossless subscriber may still need.
func (s *stream) keepFrom(p codec.Policy) uint64 {
	from := s.next
	switch {
	case p == codec.PolicyLossless:
		from = s.acked.Load() + 1
	case s.groupSeq != 0:
		from = s.groupSeq
	}
	if s.open {
		from = min(from, s.openSeq)
	}
	return from
}

// append adds a batch to the log. The log takes a reference.
func (s *stream) append(b *Batch, first, last uint64) {
	s.log = append(s.log, span{b.Retain(), 0, len(b.B), first, last})
	s.logCost += b.cost()
	s.pub.room.cached(b.cost())
}

// trim releases what nobody needs any more.
func (s *stream) trim() {
	r := s.pub.room
	history := r.table.cfg.History
	if p := r.set.Policy; p == codec.PolicyLatest || p == codec.PolicyLossless {
		history = 0
	}
	keep := s.keepFrom(r.set.Policy)
	n := 0
	for n < len(s.log) && s.log[n].last < keep && s.logCost-s.log[n].b.cost() >= history {
		s.drop(n)
		n++
	}
	s.shift(n)
	if r.cacheBytes > r.table.cfg.CacheRoom || r.table.cacheAll.Load() > int64(r.table.cfg.CacheAll) {
		// A lossless log is bounded by its publisher's window and must not be emptied.
		if r.set.Policy != codec.PolicyLossless {
			s.clearLog()
			r.table.stats.CacheOverflows.Add(1)
		}
	}
}

func (s *stream) drop(i int) {
	c := s.log[i].b.cost()
	s.logCost -= c
	s.pub.room.cached(-c)
	s.log[i].b.Release()
	s.log[i].b = nil
}

// shift forgets the first n spans, which were dropped. Moving the rest down keeps the slice from growing; n is small
// against what is appended between two calls.
func (s *stream) shift(n int) {
	if n > 0 {
		s.log = s.log[:copy(s.log, s.log[n:])]
	}
}

func (s *stream) clearLog() {
	for i := range s.log {
		s.drop(i)
	}
	s.log, s.groupSeq = s.log[:0], 0
}

// maxInits bounds what a stream may ask to be retained for late joiners.
const maxInits = 1 << 20

// keepInit retains an init run: a run that follows the retained one directly is added to it, any other replaces it.
func (s *stream) keepInit(b *Batch, first, last uint64) {
	size := len(b.B)
	if len(s.inits) > 0 && s.initLast+1 == first {
		for i := range s.inits {
			size += s.inits[i].end - s.inits[i].off
		}
	} else {
		s.clearInits()
	}
	if size > maxInits {
		s.clearInits()
		return
	}
	s.inits = append(s.inits, span{b.Retain(), 0, len(b.B), first, last})
	s.initLast = last
	s.pub.room.cached(b.cost())
}

func (s *stream) clearInits() {
	for _, sp := range s.inits {
		s.pub.room.cached(-sp.b.cost())
		sp.b.Release()
	}
	s.inits, s.initLast = nil, 0
}
