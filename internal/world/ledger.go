package world

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// ledger is what really happened, by the word of clients and of the network alone.
type ledger struct {
	troubles map[string][]trouble // by node: when something befell it that excuses it
	authors  []*publisher         // by number: a payload says who wrote it
	killed   []time.Duration      // when nodes were killed
	extinct  bool                 // there was a moment without any node
	moves    []time.Duration      // when rooms may have moved: nodes came or went
	cuts     []trouble            // when two nodes did not reach each other: a change is done without those
	splits   []trouble            // when the cluster was, or may have been, of two minds who relays a room
	controls map[string]int       // control frames that Nodes have sent, by type
}

// sent counts a control frame of a Node.
func (l *ledger) sent(m codec.Control) {
	if l.controls == nil {
		l.controls = make(map[string]int)
	}
	l.controls[fmt.Sprintf("%T", m)[7:]]++
}

// trouble is a time during which a node may have lagged: it stood still, was cut off, or slow.
type trouble struct{ from, to time.Duration }

// befalls notes that something happens to a node until a moment.
func (l *ledger) befalls(node string, from, to time.Duration) {
	if l.troubles == nil {
		l.troubles = make(map[string][]trouble)
	}
	l.troubles[node] = append(l.troubles[node], trouble{from, to})
}

// troubled reports whether something befell a node between two moments, or so short a time before that it may still
// lag.
func (l *ledger) troubled(node string, from, to time.Duration) bool {
	const aftermath = 3 * time.Second
	for _, t := range l.troubles[node] {
		if t.from <= to && t.to+aftermath >= from {
			return true
		}
	}
	return false
}

// divided reports whether there may have been two relays of one room between two moments: what one has answered the
// other does not know.
func (l *ledger) divided(from, to time.Duration) bool {
	const agreement = 3 * time.Second
	for _, t := range l.splits {
		if t.from <= to && t.to+agreement >= from {
			return true
		}
	}
	return false
}

// doubted reports whether a change that was answered between two moments may be unknown to somebody who matters: the
// cluster was of two minds, or a standby could not be reached.
func (l *ledger) doubted(from, to time.Duration) bool {
	if l.divided(from, to) {
		return true
	}
	for _, t := range l.cuts {
		if t.from <= to && t.to+2*time.Second >= from {
			return true
		}
	}
	return false
}

// kept reports whether something befell a node between two moments that lasted for so long.
func (l *ledger) kept(node string, from, to, atLeast time.Duration) bool {
	for _, t := range l.troubles[node] {
		if t.from <= to && t.to+time.Second >= from && t.to-t.from >= atLeast {
			return true
		}
	}
	return false
}

// moved reports whether a node came or went between two moments.
func (l *ledger) moved(from, to time.Duration) bool {
	return slices.ContainsFunc(l.moves, func(at time.Duration) bool { return at >= from && at <= to })
}

// roomRecord is a room as its owner knows it.
type roomRecord struct {
	label   string
	id      codec.RoomID // 0: not registered yet
	policy  codec.Policy
	owner   string
	removed time.Duration // when its owner asked for its end; 0: not
	rights  map[string][]right
	lives   map[uint16][]*life // by publisher number
}

// right is one word of the owner about an account.
type right struct {
	granted bool
	asked   time.Duration
	ok      time.Duration // 0: not answered
}

// revoked reports whether what an account pushed at a moment must reach nobody.
func (r *roomRecord) revoked(account string, pushed time.Duration) bool {
	rights := r.rights[account]
	for i, x := range rights {
		if x.granted || x.ok == 0 || x.ok >= pushed {
			continue
		}
		later := false
		for _, y := range rights[i+1:] {
			later = later || y.granted
		}
		if !later {
			return true
		}
	}
	return false
}

// mayBeRevoked reports whether the owner has asked for that since a moment.
func (r *roomRecord) mayBeRevoked(account string, since time.Duration) bool {
	return slices.ContainsFunc(r.rights[account], func(x right) bool { return !x.granted && x.asked >= since })
}

// settled returns when the last word about an account was asked.
func (r *roomRecord) settled(account string) time.Duration {
	if rights := r.rights[account]; len(rights) > 0 {
		return rights[len(rights)-1].asked
	}
	return 0
}

// granted reports whether an account may publish for sure: the last word about it is a grant, which is answered.
func (r *roomRecord) granted(account string, now time.Duration) bool {
	rights := r.rights[account]
	if account == r.owner {
		return true
	}
	if len(rights) == 0 {
		return false
	}
	last := rights[len(rights)-1]
	return last.granted && last.ok != 0 && last.ok < now
}

// life is a publisher under one number.
type life struct {
	by      *publisher
	num     uint16
	began   time.Duration
	streams map[uint8]*lifeStream
}

// lifeStream is what was numbered in one stream of a life: frames[0] is frame first.
type lifeStream struct {
	first  uint64
	frames []frameRecord
	unsure uint64 // the first message that was not acknowledged when the life began: it and later ones may come again
}

// frameRecord is one frame of a publisher.
type frameRecord struct {
	msg      uint64
	part     uint8
	flags    codec.Flags
	size     int32
	gap      bool // given up
	headless bool // sent to a relay that has no header for it: that was replaced, and only the newest is kept
	pushed   time.Duration
	acked    time.Duration
}

func (l *life) stream(dtype uint8) *lifeStream {
	s := l.streams[dtype]
	if s == nil {
		s = &lifeStream{first: 1}
		l.streams[dtype] = s
	}
	return s
}

func (s *lifeStream) at(seq uint64) *frameRecord {
	if s == nil || seq < s.first || seq-s.first >= uint64(len(s.frames)) {
		return nil
	}
	return &s.frames[seq-s.first]
}

// kept reports whether a node keeps all from a frame on for those who resume, however its memory is cut; from the
// first, for who has none of it yet (0).
func (s *lifeStream) kept(seq uint64) bool {
	const piece = 512 // of memory, at least; at most half of one is wasted
	cost := 0
	for i := max(seq, s.first) - s.first; i < uint64(len(s.frames)); i++ {
		cost += piece + 2*int(s.frames[i].size)
	}
	return cost <= room.DefaultConfig().History
}

// stamp is what a payload says of itself.
type stamp struct {
	author uint16
	dtype  uint8
	part   uint8
	msg    uint64
}

const stampSize = 12

func (s *stamp) put(b []byte) {
	binary.BigEndian.PutUint16(b, s.author)
	b[2], b[3] = s.dtype, s.part
	binary.BigEndian.PutUint64(b[4:], s.msg)
}

func readStamp(b []byte) (s stamp, ok bool) {
	if len(b) < stampSize {
		return s, false
	}
	return stamp{binary.BigEndian.Uint16(b), b[2], b[3], binary.BigEndian.Uint64(b[4:])}, true
}
