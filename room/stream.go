package room

import (
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/codec"
)

// stream is one (publisher, dtype) of a room, with the log of what late joiners and resuming subscribers may need.
type stream struct {
	key codec.StreamKey
	pub *Publisher

	// Guarded by the room's mutex.
	next       uint64      // the sequence number expected next
	last       codec.Flags // of the frame before it; 0 after a gap
	openSize   int         // payload bytes so far of the message that goes on
	openSeq    uint64      // its first frame
	keyed      bool        // has had a key frame
	log        []span      // log[head:] is contiguous, oldest first
	head       int
	logCost    int
	logSize    int       // bytes of frames in it
	ungathered int       // batches added to it since small ones were gathered
	groupSeq   uint64    // first frame of the newest group in the log; 0 if there is none
	inits      initRun   // the init messages in a row that a late joiner's first frame goes by
	coming     []initRun // those that came after it, for who joins later; one run at most but in lossless rooms
	told       uint64    // the last acknowledgement handed to the publisher's session

	fresh   bool // of a restored publisher, or of a mirror without subscribers: begins wherever its first frame says
	lenient bool // of a restored publisher: its first frame may leave some out, which are lost
	// of a mirror that was being filled: its last is a gap, and what follows may go on with a message whose beginning
	// only subscribers have
	midway bool

	flight flight // rooms with seats that are not lossless

	// Rooms with seats, see seating.update.
	places []*place // of the seats, in no order
	low    uint64   // all seats have acknowledged so far
	atLow  int      // how many of them stand there; 0: nobody sits in the room
	left   uint64   // of an inbox: what sessions had that have left

	// Lossless rooms only.
	counts int // how many spans of log[head:] were counted as arrived

	// Of the span behind those: bytes counted, and the first frame that is not.
	part     int
	partNext uint64

	acked atomic.Uint64 // all up to here has arrived
}

// span is a part of a batch that holds whole frames of one stream, with a reference to it.
type span struct {
	b           *Batch
	off, end    int
	first, last uint64
	cost        int   // of the batch, for who counts many without looking at each
	at          int64 // when it came
}

func (s *span) bytes() []byte { return s.b.B[s.off:s.end] }
func (s *span) size() int     { return s.end - s.off }

// message returns the first frame at which a message begins; last+1 if none does.
func (s *span) message() uint64 {
	for b := s.bytes(); len(b) > 0; {
		n, f, seq := frameAt(b)
		if f.Start() {
			return seq
		}
		b = b[n:]
	}
	return s.last + 1
}

// initRun is init messages in a row, with references to their batches.
type initRun struct {
	spans []span // none if the run was too long to be retained
	last  uint64 // the last frame; 0: there is no run
}

// open reports whether the message of the last frame goes on.
func (s *stream) open() bool { return !s.last.End() }

// within reports whether the next frame may go on with a message.
func (s *stream) within() bool { return s.open() || s.midway }

// goesOn has the stream go on within a message, whose beginning is not here, with a frame that has these flags.
func (s *stream) goesOn(flags codec.Flags) {
	s.last = codec.FlagMore | flags&(codec.FlagKey|codec.FlagInit)
	s.openSize, s.openSeq = 0, 0
}

// grouped reports whether the stream is taken up at key messages only.
func (s *stream) grouped() bool {
	return s.keyed && s.pub.room.kind.grouped()
}

// rise records that all up to seq has arrived. Any goroutine.
func (s *stream) rise(seq uint64) {
	for old := s.acked.Load(); old < seq && !s.acked.CompareAndSwap(old, seq); old = s.acked.Load() {
	}
}

// spans returns the log.
func (s *stream) spans() []span { return s.log[s.head:] }

// has reports whether the log reaches back to frame seq.
func (s *stream) has(seq uint64) bool { return s.head < len(s.log) && s.log[s.head].first <= seq }

// append adds a batch to the log. The log takes a reference.
func (s *stream) append(b *Batch, first, last uint64, now int64) {
	s.log = append(s.log, span{b.Retain(), 0, len(b.B), first, last, b.cost(), now})
	s.logCost += b.cost()
	s.logSize += len(b.B)
	s.pub.cached(b.cost())
	s.appended()
}

// windowsFor is how long the windows are kept that policy.keepsWindows asks for: as long as an operator's bad day has
// lasted, of hosts that were suspended and went on.
const windowsFor = 30 * time.Second

// trim releases what nobody needs any more. When the account has more than there is for one, the log is emptied, and
// when the room has more than it may, its largest log.
func (s *stream) trim() {
	now := int64(0)
	if n := len(s.log); n > s.head {
		now = s.log[n-1].at
	}
	s.trimAt(now)
}

// trimAt is trim at a moment at which nothing came.
func (s *stream) trimAt(now int64) {
	r := s.pub.room
	history := r.kind.history(r.table.conf())
	windows, since := history, now
	if r.kind.keepsWindows(r.table.conf().Clustered) && r.cacheBytes < r.table.conf().CacheRoom/2 &&
		r.table.CacheBytes() < int64(r.table.conf().CacheAll)/2 && !s.pub.share.overCaches() {
		windows, since = max(history, 2*r.table.conf().Window), now-int64(windowsFor)
	}
	keep := r.kind.keepFrom(s)
	over := s.pub.share.overCaches()
	if r.settling && !over && r.cacheBytes <= r.table.conf().CacheRoom {
		keep = 0 // for those who have not found their way here yet
	}
	n, cost, behind := 0, 0, s.logSize
	log := s.spans()
	for n < len(log) && log[n].last < keep {
		left := s.logCost - cost - log[n].cost
		if left < history || left < windows && log[n].at >= since {
			break
		}
		behind -= log[n].size()
		if !over && s.recalls(&log[n], behind, r.cacheBytes-cost, now) {
			break
		}
		cost += log[n].cost
		n++
	}
	s.drop(n, cost)
	s.turn()
	// Moving the rest down only when it is the smaller half costs less than one move for each span in all.
	if s.head > 32 && s.head*2 > len(s.log) {
		n := copy(s.log, s.log[s.head:])
		clear(s.log[n:])
		s.log, s.head = s.log[:n], 0
	}
	r.kind.confine(s, over)
	s.pub.tellCached()
}

// drop lets go of the n oldest spans, which cost so much.
func (s *stream) drop(n, cost int) {
	s.logCost -= cost
	s.pub.cached(-cost)
	gone := s.log[s.head : s.head+n]
	for i := range gone {
		s.logSize -= gone[i].size()
	}
	s.head += n
	s.counts = max(0, s.counts-n)
	if n < wasteFrom {
		for i := range gone {
			gone[i].b.Release()
		}
	} else {
		list := make([]*Batch, n)
		for i := range gone {
			list[i] = gone[i].b
		}
		s.pub.room.table.pool.discard(list)
	}
	clear(gone)
}

func (s *stream) clearLog() {
	s.drop(len(s.spans()), s.logCost)
	s.log, s.head, s.groupSeq = s.log[:0], 0, 0
	s.turn()
	if cap(s.log) > 1024 {
		s.log = nil // a burst must not pin its size
	}
}

// keepInit retains init messages: those that follow the retained ones directly are added to them, any other replace
// them. What a late joiner begins with goes by those that came before it, so what comes behind that waits.
func (s *stream) keepInit(b *Batch, run *Run) {
	kept := &s.inits
	if n := len(s.coming); n > 0 {
		kept = &s.coming[n-1]
	}
	follows := kept.last != 0 && kept.last+1 == run.First
	if from := s.pub.room.kind.begins(s); !follows && from != 0 && run.First > from {
		if len(s.coming) == 0 || s.pub.room.kind.keepsRuns() {
			s.coming = append(s.coming, initRun{})
		}
		kept = &s.coming[len(s.coming)-1]
	}
	size := len(b.B)
	for i := range kept.spans {
		size += kept.spans[i].end - kept.spans[i].off
	}
	switch {
	case follows && len(kept.spans) == 0:
		kept.last = run.Last // the rest of what was too long
		return
	case !follows:
		s.clearRun(kept)
		size = len(b.B)
	}
	if size > maxInits(s.pub.room.table.conf().MaxPayload) || len(kept.spans) == 0 && run.Cont {
		s.clearRun(kept)
		kept.last = run.Last
		return
	}
	kept.spans = append(kept.spans, span{b.Retain(), 0, len(b.B), run.First, run.Last, b.cost(), 0})
	kept.last = run.Last
	s.pub.cached(b.cost())
}

// maxInits bounds what a stream may have retained for late joiners, in bytes on the wire: as much as the largest
// payload, in messages of any sensible size. Longer runs of init messages are not retained.
func maxInits(payload int) int { return payload + payload/64 + codec.MaxFrame }

// turn lets go of the init messages that nobody who joins goes by any more, where others came before the oldest frame
// that somebody begins with now.
func (s *stream) turn() {
	from := s.pub.room.kind.begins(s)
	for ; len(s.coming) > 0 && (from == 0 || s.coming[0].last < from); s.coming = s.coming[1:] {
		s.clearRun(&s.inits)
		s.inits = s.coming[0]
	}
}

// breakInit gives up the part of an init message whose rest will not come.
func (s *stream) breakInit() {
	for kept := range s.runs {
		for n := len(kept.spans) - 1; n >= 0 && kept.spans[n].last >= s.openSeq; n-- {
			sp := &kept.spans[n]
			if sp.first < s.openSeq {
				sp.end = sp.off + offsetOf(sp.bytes(), sp.first, s.openSeq)
				sp.last = s.openSeq - 1
				break
			}
			s.pub.cached(-sp.b.cost())
			sp.b.Release()
			kept.spans = kept.spans[:n]
		}
	}
}

// runs calls yield for all init messages that are retained, oldest first.
func (s *stream) runs(yield func(*initRun) bool) {
	if !yield(&s.inits) {
		return
	}
	for i := range s.coming {
		if !yield(&s.coming[i]) {
			return
		}
	}
}

// headOf returns the init messages that a decoder needs which begins with a frame: the newest run that begins before
// it.
func (s *stream) headOf(from uint64) (spans []span) {
	for kept := range s.runs {
		switch {
		case kept.last == 0:
		case len(kept.spans) == 0 && kept.last < from, len(kept.spans) > 0 && kept.spans[0].first < from:
			spans = kept.spans
		}
	}
	return spans
}

func (s *stream) clearInits() {
	for kept := range s.runs {
		s.clearRun(kept)
	}
	s.coming = nil
}

func (s *stream) clearRun(kept *initRun) {
	for _, sp := range kept.spans {
		s.pub.cached(-sp.b.cost())
		sp.b.Release()
	}
	*kept = initRun{}
}

// advance moves the stream's state past a run.
func (s *stream) advance(run *Run) {
	s.next, s.last = run.Last+1, run.last
	switch {
	case run.startSeq == 0: // goes on with the message that was open
		s.openSize += run.head
	case run.More:
		s.openSize, s.openSeq = run.tail, run.startSeq
	}
	s.pub.room.kind.opens(s, run)
}
