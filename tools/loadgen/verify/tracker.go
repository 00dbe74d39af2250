package verify

import (
	"encoding/binary"
	"math"

	"github.com/timedge/timedge/codec"
)

// Key names a stream on a connection. Servers without publisher numbers leave all but Room zero and put the generator's
// number of the stream there.
type Key struct {
	Room  uint64
	Pub   uint16
	Dtype uint8
}

// stream is one stream as one subscriber sees it.
type stream struct {
	key      Key
	h0       uint64 // bytes 2..9 of its plain frames, as they stand on the wire
	h1       uint32 // bytes 10..13
	next     uint64 // the sequence number expected
	mark     uint64 // when next reaches it, window is told
	reported uint64 // next when window was last told
	window   *Window
	number   uint32 // the generator's number of the stream
	known    bool   // number is set

	gapped  bool  // a gap came, and no message since but init messages
	heard   int64 // when a message last came; open loop
	longest int64 // the longest time between two, ns, of those that ended after Sink.After
	within  bool  // a message has begun and not ended
	due     int64
	off     int    // bytes of the message so far
	missing []span // unannounced, newest last; frames that turn up after all are reordered, not lost
}

type span struct{ from, to uint64 }

// maxMissing bounds the memory of a stream that loses much. Older spans are forgotten: they stay lost.
const maxMissing = 256

// Tracker checks the streams of one connection.
type Tracker struct {
	// Now is when the bytes being scanned had been read. The loop sets it before each scan.
	Now int64

	// Strict makes a stream begin at frame 1, as timedge promises. Otherwise it begins wherever the first frame says.
	Strict bool
	// Since leaves messages out of the latencies that were due before it: what a late joiner is given of the past.
	Since int64
	// Window returns the closed loop of a stream, or nil. It is asked once per stream.
	Window func(number uint32) *Window

	sink    *Sink
	streams []*stream
	index   map[Key]*stream // only once there are several
	cur     *stream
	got     bool // a whole message has come
	fresh   bool // one has come since Begin
	sampled bool // a latency of this read has been recorded

	body    *stream // whose payload is being received
	left    int     // bytes of it still to come
	size    int     // of it
	start   bool    // it begins its message
	last    bool    // it ends its message
	discard bool    // it is a duplicate: read, not delivered
}

// NewTracker returns a tracker that counts into sink.
func NewTracker(sink *Sink) *Tracker { return &Tracker{sink: sink} }

// Begin starts the scan of what one read gave: now is when it had been read.
func (t *Tracker) Begin(now int64) { t.Now, t.sampled, t.fresh = now, false, false }

// Delivered reports whether any whole message has come since Begin.
func (t *Tracker) Delivered() bool { return t.fresh }

// Received reports whether any whole message has come.
func (t *Tracker) Received() bool { return t.got }

func (t *Tracker) sample(due int64) {
	if due >= t.Since {
		t.sink.record(due, t.Now)
	}
}

// Left returns how many bytes of the payload begun with Frame are still to come.
func (t *Tracker) Left() int { return t.left }

func (t *Tracker) stream(k Key) *stream {
	if t.cur != nil && t.cur.key == k {
		return t.cur
	}
	var s *stream
	if t.index != nil {
		s = t.index[k]
	} else {
		for _, o := range t.streams {
			if o.key == k {
				s = o
			}
		}
	}
	if s == nil {
		s = &stream{key: k, mark: math.MaxUint64}
		if t.Strict {
			s.next = 1
		}
		var h [codec.StreamHeaderSize]byte
		h[2] = codec.TypeStream
		binary.BigEndian.PutUint64(h[3:], k.Room)
		binary.BigEndian.PutUint16(h[11:], k.Pub)
		h[13] = k.Dtype
		s.h0, s.h1 = binary.BigEndian.Uint64(h[2:]), binary.BigEndian.Uint32(h[10:])
		t.streams = append(t.streams, s)
		if len(t.streams) > 8 {
			if t.index == nil {
				t.index = make(map[Key]*stream)
			}
			for _, o := range t.streams {
				t.index[o.key] = o
			}
		}
	}
	t.cur = s
	return s
}

// name learns the generator's number of a stream and with it the closed loop.
func (t *Tracker) name(s *stream, number uint32) {
	s.number, s.known = number, true
	if t.Window == nil {
		return
	}
	if s.window = t.Window(number); s.window != nil {
		s.mark, s.reported = 0, 1 // a closed loop has no late joiners: its streams begin at 1
	}
}

// advance tells the closed loop how far the stream is. Callers check next against mark first.
func (s *stream) advance() {
	if s.window == nil {
		return
	}
	s.mark = s.window.pass(s.reported, s.next)
	s.reported = s.next
}

// Frame checks a frame by its header: stream, flags, sequence number and the first bytes of its payload, of which size
// bytes follow in all. head must hold the stamp if the frame starts a message. The caller then hands all of the payload
// to Body.
func (t *Tracker) Frame(k Key, flags codec.Flags, seq uint64, head []byte, size int) {
	s := t.stream(k)
	if s.next == 0 {
		s.next = seq
	}
	t.body, t.left, t.last, t.discard = s, size, flags.End(), false
	t.size, t.start = size, flags.Start()
	switch {
	case seq == s.next:
		s.next++
	case seq > s.next:
		t.sink.Lost += seq - s.next
		s.miss(s.next, seq-1)
		s.within = false
		s.next = seq + 1
	case s.found(seq):
		t.sink.Lost--
		t.sink.Reordered++
		t.discard = true
	default:
		t.sink.Duplicate++
		t.discard = true
	}
	if t.discard {
		return
	}
	t.sink.Frames++
	if flags.Start() == s.within {
		t.sink.BadPieces++
	}
	s.within = !flags.End()
	if flags&codec.FlagInit == 0 {
		s.gapped = false
	}
	if !flags.Start() {
		return
	}
	s.off = 0
	if len(head) < StampSize {
		t.sink.BadPayload++
		s.due = t.Now
		return
	}
	due, first, number := ReadStamp(head)
	s.due = due
	if !s.known {
		t.name(s, number)
	}
	if first != seq || number != s.number {
		t.sink.BadPayload++
	}
}

// Body takes the next bytes of the payload begun with Frame, at most Left, and counts the message when it is whole.
// It returns how many bytes of b it took.
func (t *Tracker) Body(b []byte) int {
	n := min(len(b), t.left)
	s := t.body
	t.left -= n
	if !t.discard {
		if t.sink.Check {
			t.check(s, b[:n])
		}
		s.off += n
		t.sink.Bytes += uint64(n)
	}
	if t.left > 0 || s == nil {
		return n
	}
	t.body = nil
	if t.discard {
		return n
	}
	if t.last {
		t.got, t.fresh = true, true
		t.sink.Messages++
		s.hear(t)
		if t.sink.Every || !t.sampled {
			t.sampled = true
			t.sample(s.due)
		}
	}
	if s.next > s.mark {
		s.advance()
	}
	return n
}

func (t *Tracker) check(s *stream, b []byte) {
	off := s.off
	if off < StampSize {
		skip := min(StampSize-off, len(b))
		b, off = b[skip:], off+skip
	}
	if !matches(b, off) {
		t.sink.BadPayload++
	}
}

// Gap takes an announcement that the frames from to to of a stream will not come.
func (t *Tracker) Gap(k Key, from, to uint64, reason codec.GapReason) {
	s := t.stream(k)
	if s.next == 0 {
		s.next = from
	}
	t.sink.Gaps++
	t.sink.Counts.gap(reasonName(reason), to-from+1)
	switch {
	case from > s.next:
		t.sink.BadGap++
		t.sink.Lost += from - s.next
		s.miss(s.next, from-1)
	case from < s.next:
		t.sink.BadGap++
	}
	if s.within {
		// A message begun is finished before anything of its stream is dropped; what is lost may be cut off anywhere.
		if reason != codec.GapLost && reason != codec.GapExpired && reason != codec.GapPublisher {
			t.sink.BadPieces++
		}
		s.within = false
	}
	s.gapped = true
	s.next = max(s.next, to+1)
	if s.next > s.mark {
		s.advance()
	}
}

// Walk takes as many whole stream frames off the front of b as are exactly what is expected next on the stream of the
// frame before, and returns how many bytes that were. It is the fast path: whatever stops it, the caller reads in full.
// All its frames are single messages without flags.
func (t *Tracker) Walk(b []byte) int {
	s := t.cur
	if s == nil || !s.known || s.within || t.left > 0 {
		return 0
	}
	const head = codec.StreamHeaderSize + StampSize
	n, next, bytes := 0, s.next, 0
	for len(b)-n >= head {
		h := b[n : n+head]
		size := int(binary.BigEndian.Uint16(h)) + codec.LengthSize
		if size > len(b)-n || size < head || binary.BigEndian.Uint64(h[2:]) != s.h0 || binary.BigEndian.Uint32(h[10:]) != s.h1 ||
			binary.BigEndian.Uint64(h[12:])&codec.MaxSeq != next {
			break
		}
		if t.sink.Every || !t.sampled {
			t.sampled = true
			t.sample(int64(binary.BigEndian.Uint64(h[20:])))
		}
		if stamp := binary.BigEndian.Uint64(h[28:]); stamp != next<<24|uint64(s.number) {
			t.sink.BadPayload++
		}
		if t.sink.Check && !matches(b[n+head:n+size], StampSize) {
			t.sink.BadPayload++
		}
		next++
		bytes += size - codec.StreamHeaderSize
		n += size
	}
	k := next - s.next
	s.next = next
	if k > 0 {
		t.fresh, s.gapped = true, false
		s.hear(t)
	}
	t.sink.Messages += k
	t.sink.Frames += k
	t.sink.Bytes += uint64(bytes)
	if next > s.mark {
		s.advance()
	}
	return n
}

// hear notes that a message has come.
func (s *stream) hear(t *Tracker) {
	if after := t.sink.After; after > 0 && t.Now > after && s.heard > 0 {
		s.longest = max(s.longest, t.Now-s.heard)
	}
	s.heard = t.Now
}

// Longest calls f for every stream that a message has come of, with the longest time, in ns, between two messages, the
// end of the measured time counting as one. Only those count that ended after Sink.After.
func (t *Tracker) Longest(f func(longest int64)) {
	for _, s := range t.streams {
		if s.heard > 0 {
			f(max(s.longest, t.sink.To-s.heard))
		}
	}
}

// Interrupt takes note that the connection broke: a frame that had come in part comes again, whole, on the next one.
func (t *Tracker) Interrupt() {
	if t.left > 0 && !t.discard {
		s, had := t.body, t.size-t.left
		s.next--
		s.off -= had
		s.within = !t.start
		t.sink.Frames--
		t.sink.Bytes -= uint64(had)
	}
	t.body, t.left = nil, 0
}

// Positions calls f for every stream of which something has come: the last frame or end of a gap, and whether the
// stream may wait for a key message, since a gap came and no message after it.
func (t *Tracker) Positions(f func(k Key, last uint64, gapped bool)) {
	for _, s := range t.streams {
		if s.next > 1 {
			f(s.key, s.next-1, s.gapped)
		}
	}
}

// Streams calls f for every stream seen: the generator's number and the sequence number expected next.
func (t *Tracker) Streams(f func(k Key, number uint32, next uint64)) {
	for _, s := range t.streams {
		f(s.key, s.number, s.next)
	}
}

func (s *stream) miss(from, to uint64) {
	if len(s.missing) == maxMissing {
		s.missing = append(s.missing[:0], s.missing[1:]...)
	}
	s.missing = append(s.missing, span{from, to})
}

// found reports whether seq was counted as lost, and forgets it.
func (s *stream) found(seq uint64) bool {
	for i, m := range s.missing {
		if seq < m.from || seq > m.to {
			continue
		}
		s.missing = append(s.missing[:i], s.missing[i+1:]...)
		if m.from < seq {
			s.missing = append(s.missing, span{m.from, seq - 1})
		}
		if seq < m.to {
			s.missing = append(s.missing, span{seq + 1, m.to})
		}
		return true
	}
	return false
}

// Current returns the stream whose payload is being received; it is meaningful while Left is not 0.
func (t *Tracker) Current() Key { return t.body.key }
