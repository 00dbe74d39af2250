package room

import "github.com/timedge/timedge/codec"

// The init messages that an Outbound keeps: a relay that knows nothing of a stream is sent first what its decoders
// need.

// keepInit retains init messages: those that a decoder needs for the oldest frame that is here, and what came since.
// All that an outbound retains so is bounded as one stream's is in a room; over that its newest is not. Mutex held.
func (o *Outbound) keepInit(s *outStream, b *Batch, first uint64, run *Run) {
	follows := len(s.inits) > 0 && s.inits[len(s.inits)-1].last+1 == first
	if !follows && run.Cont && first == run.First || o.inits+b.cost() > maxInits(codec.DefaultMaxPayload) {
		o.clearInits(s) // of a message without its beginning, or its rest, nothing is of use
		return
	}
	s.inits = append(s.inits, held{b: b.Retain(), first: first, last: run.Last})
	o.inits += b.cost()
	o.pruneInits(s)
}

// pruneInits lets go of the init messages that others have replaced before the oldest frame that is here. Mutex held.
func (o *Outbound) pruneInits(s *outStream) {
	begin := 0 // of the last run that begins before that
	for i := 1; i < len(s.inits) && s.inits[i].first < s.first(); i++ {
		if s.inits[i-1].last+1 != s.inits[i].first {
			begin = i
		}
	}
	for _, h := range s.inits[:begin] {
		o.inits -= h.b.cost()
		h.b.Release()
	}
	s.inits = s.inits[begin:]
}

func (o *Outbound) clearInits(s *outStream) {
	for _, h := range s.inits {
		o.inits -= h.b.cost()
		h.b.Release()
	}
	s.inits = nil
}

// head sends, at the beginning of a stream that the relay does not know, the newest init messages in their places and a
// gap from there to the oldest frame that is here: so who joins late gets them from a relay that has lost its memory.
// Mutex held.
func (o *Outbound) head(s *outStream) {
	at := uint64(0)
	for _, h := range s.inits {
		if h.first >= s.first() {
			break // comes with what is held
		}
		o.way.Forward(h.b, h.first, h.last)
		at = h.last + 1
	}
	if at != 0 && at < s.first() {
		b := o.gap(s, at, s.first()-1)
		o.way.Forward(b, at, s.first()-1)
		b.Release()
	}
}
