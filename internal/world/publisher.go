package world

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// publisher is a client that pushes into a room, as PROTOCOL.md has it ("Publishing"): it numbers its frames, keeps
// what is not acknowledged, and for some seconds what is, goes on from what a server has, and begins anew under another
// number.
type publisher struct {
	client
	author uint16
	shape  shape
	pause  time.Duration // between two messages

	life     *life
	num      uint16
	window   int
	flight   int // bytes sent and not acknowledged
	asking   bool
	live     bool          // the server has answered on this connection
	liveAt   time.Duration // since when
	lostAt   time.Duration // when it last was not any more
	absent   time.Duration // how long that lasted the last time
	denied   bool          // it may not publish, and asks again now and then
	done     bool          // the room is over for it
	resting  bool          // it pushes nothing for the moment
	headless bool          // the server has forgotten the beginning of a message
	tries    int
	answers  []time.Duration // when publish was answered of late
	streams  []*outStream
}

// keepFor is how long a publisher keeps what is acknowledged.
const keepFor = 5 * time.Second

// maxAnswers is how often a publisher may be taken in a second: more often it is sent round in circles.
const maxAnswers = 20

// outStream is one dtype of a publisher.
//
//	kept, acknowledged | sent | waiting
//	                   acked  sent
type outStream struct {
	dtype  uint8
	msg    uint64 // messages made
	frames []outFrame
	acked  int // of frames
	sent   int // of frames, on this connection
	next   uint64
	init   []outFrame // the newest init message
}

// outFrame is a frame, or a gap up to a number.
type outFrame struct {
	seq, to uint64 // to: of a gap, otherwise 0
	msg     uint64
	part    uint8
	flags   codec.Flags
	size    int
	acked   time.Duration
}

func (f *outFrame) last() uint64 { return max(f.seq, f.to) }

// come brings a publisher into the world, or back to it on another connection.
func (p *publisher) come(node string) {
	if p.gone != 0 { // it went, and is another now
		p.forgetAll()
		p.gone = 0
	}
	p.resting = false
	p.dial(node)
	if p.author == 0 {
		p.w.books.authors = append(p.w.books.authors, p)
		p.author = uint16(len(p.w.books.authors))
		p.w.after(p.w.between(0, p.pause), func() { p.beat(0) })
	}
}

// forgetAll is a process of the client that begins anew: with another instance, and without memory.
func (p *publisher) forgetAll() {
	p.instance = mix(p.instance)
	p.life, p.num, p.streams, p.done, p.denied, p.tries = nil, 0, nil, false, false, 0
	p.lostAt, p.absent = 0, 0
}

// beat makes a message now and then.
func (p *publisher) beat(n uint64) {
	if p.gone == 0 && !p.done && !p.resting && !p.w.quiet && p.life != nil && p.backlog() < 2*Config.Window {
		p.shape(p, n)
		n++
		p.ready()
	}
	p.w.after(p.pause, func() { p.beat(n) })
}

// backlog returns how many bytes wait.
func (p *publisher) backlog() (n int) {
	for _, s := range p.streams {
		for i := range s.frames[s.sent:] {
			n += s.frames[s.sent+i].size
		}
	}
	return n + p.flight
}

func (p *publisher) dtype(dtype uint8) *outStream {
	for _, s := range p.streams {
		if s.dtype == dtype {
			return s
		}
	}
	s := &outStream{dtype: dtype, next: 1}
	p.streams = append(p.streams, s)
	return s
}

// message makes a message of some pieces.
func (p *publisher) message(dtype uint8, flags codec.Flags, size, parts int) {
	s := p.dtype(dtype)
	s.msg++
	if flags&codec.FlagInit != 0 {
		s.init = nil
	}
	for i := range parts {
		f := flags
		if i > 0 {
			f |= codec.FlagCont
		}
		if i < parts-1 {
			f |= codec.FlagMore
		}
		out := outFrame{
			seq: s.next, msg: s.msg, part: uint8(i), flags: f, size: codec.StreamHeaderSize + max(size, stampSize),
		}
		if flags&codec.FlagInit != 0 {
			s.init = append(s.init, out)
		}
		s.add(p, out)
	}
}

func (s *outStream) add(p *publisher, f outFrame) {
	s.frames = append(s.frames, f)
	ls := p.life.stream(s.dtype)
	for ; s.next <= f.last(); s.next++ {
		ls.frames = append(ls.frames, frameRecord{
			msg: f.msg, part: f.part, flags: f.flags, size: int32(f.size), gap: f.to != 0,
		})
	}
}

// opened asks to publish.
func (p *publisher) opened() {
	p.stop()
	p.asking, p.flight = false, 0
	p.publish()
}

func (p *publisher) lost() {
	p.stop()
	p.asking = false
}

// stop notes that no server takes what it pushes.
func (p *publisher) stop() {
	if p.live {
		p.live, p.lostAt = false, p.w.now
	}
}

func (p *publisher) publish() {
	if p.asking || p.done || !p.open || p.gone != 0 {
		return
	}
	if p.room.id == 0 { // not registered yet
		p.again()
		return
	}
	p.stop()
	p.asking = true
	asked := p.w.now
	p.ask(&codec.Publish{Room: p.room.id}, func(answer codec.Control) {
		p.asking = false
		switch m := answer.(type) {
		case *codec.Published:
			p.published(m)
		case *codec.Refused:
			p.refused(m, asked)
		}
	})
}

// again asks a little later.
func (p *publisher) again() {
	p.stop()
	p.tries++
	this := p.dials
	low := min(5*time.Millisecond<<min(p.tries, 6), 200*time.Millisecond)
	p.w.after(p.w.between(low/2, low), func() {
		if p.dials == this && !p.live {
			p.publish()
		}
	})
}

func (p *publisher) refused(m *codec.Refused, asked time.Duration) {
	switch {
	case m.Code == codec.CodeNotGranted, m.Code == codec.CodeRevoked: // the latter who was taken until this moment
		if p.room.granted(p.account, asked) && !p.w.books.doubted(p.room.settled(p.account), p.w.now) {
			p.w.fail("I5", "%s has been granted to publish into %s and is refused", p.name, p.room.label)
		}
		p.tries = max(p.tries, 4)
		p.again()
	case m.Code == codec.CodeRevoked && p.room.mayBeRevoked(p.account, 0): // while it asked
		p.tries = max(p.tries, 4)
		p.again()
	case m.Code == codec.CodeRoomUnknown, m.Code == codec.CodeNodeLost, m.Code == codec.CodeRemoved:
		if p.done = p.w.lost(p.room, p.name, m.Code); !p.done {
			p.again()
		}
	case m.Code.Retry(), m.Code == codec.CodePublisherFull:
		p.again()
	default:
		p.w.fail("I9", "%s may not publish into %s: %v", p.name, p.room.label, m.Code)
	}
}

// published brings the streams in line with what the server has.
func (p *publisher) published(m *codec.Published) {
	w := p.w
	p.answers = append(p.answers, w.now)
	if n := len(p.answers); n > maxAnswers {
		if p.answers = p.answers[1:]; w.now-p.answers[0] < time.Second {
			w.fail("I11", "%s has published %d times in %v, and was taken each time", p.name, n, w.now-p.answers[0])
		}
	}
	if w.story != nil {
		w.tell("%s is publisher %d of %s at %s, which has %v", p.name, m.Pub, p.room.label, p.node, m.Streams)
	}
	p.window, p.flight, p.live, p.liveAt, p.tries = int(m.Window), 0, true, w.now, 0
	p.absent = w.now - p.lostAt
	next := make(map[uint8]uint64, len(m.Streams))
	for _, x := range m.Streams {
		next[x.Dtype] = x.Next
		p.dtype(x.Dtype)
	}
	if p.life == nil || m.Pub != p.num {
		p.begin(m.Pub, next)
	}
	for _, s := range p.streams {
		s.resume(p, next[s.dtype])
	}
	p.headless = false
	p.ready()
}

// begin starts a life under a number: what is not acknowledged is numbered anew, from where the server is with that
// number.
func (p *publisher) begin(num uint16, next map[uint8]uint64) {
	w := p.w
	p.num = num
	p.life = &life{by: p, num: num, began: w.now, streams: make(map[uint8]*lifeStream)}
	p.room.lives[num] = append(p.room.lives[num], p.life)
	for _, s := range p.streams {
		frames := s.frames[s.acked:]
		for len(frames) > 0 && (frames[0].to != 0 || !frames[0].flags.Start()) { // the rest of what began before
			frames = frames[1:]
		}
		unsure := s.msg + 1
		if len(frames) > 0 {
			unsure = frames[0].msg
		}
		if len(s.init) > 0 && (len(frames) == 0 || frames[0].msg > s.init[0].msg) {
			frames = append(append([]outFrame(nil), s.init...), frames...)
		}
		s.frames, s.acked, s.sent, s.next = nil, 0, 0, max(1, next[s.dtype])
		*p.life.stream(s.dtype) = lifeStream{first: s.next, unsure: unsure}
		for _, f := range frames {
			n := f.last() - f.seq
			f.seq, f.acked = s.next, 0
			if f.to != 0 {
				f.to = f.seq + n
			}
			s.add(p, f)
			if f.flags&codec.FlagInit != 0 && len(s.init) > 0 && f.msg == s.init[0].msg {
				s.init[f.part] = f
			}
		}
	}
}

// resume goes on where the server is: 0 means that it does not know the stream.
func (s *outStream) resume(p *publisher, next uint64) {
	oldest := s.next
	if len(s.frames) > 0 {
		oldest = s.frames[0].seq
	}
	from := next
	if next == 0 {
		from = oldest
		if n := len(s.init); n > 0 && s.init[n-1].seq < oldest { // first of all what decoders need
			head := append([]outFrame(nil), s.init...)
			if s.init[n-1].seq+1 < oldest {
				head = append(head, outFrame{seq: s.init[n-1].seq + 1, to: oldest - 1, size: codec.GapSize})
			}
			s.frames = append(head, s.frames...)
			s.acked, s.sent = 0, 0
			return
		} else if n > 0 { // what is older than the newest header that is kept
			for seq := oldest; seq < s.init[0].seq; seq++ {
				if r := p.life.stream(s.dtype).at(seq); r != nil {
					r.headless = true
				}
			}
		}
	}
	at := 0
	for at < len(s.frames) && s.frames[at].last() < from {
		at++
	}
	lost := at < len(s.frames) && !s.frames[at].flags.Start()
	if from < oldest || p.headless && lost { // it wants what is no more
		for at < len(s.frames) && !s.frames[at].flags.Start() {
			oldest = s.frames[at].last() + 1
			at++
		}
		s.frames = append([]outFrame{{seq: from, to: oldest - 1, size: codec.GapSize}}, s.frames[at:]...)
		s.acked, s.sent = 0, 0
		for seq := from; seq < oldest; seq++ {
			if r := p.life.stream(s.dtype).at(seq); r != nil {
				r.gap = true
			}
		}
		return
	}
	s.acked = min(s.acked, at)
	s.sent = at
	for i := range s.frames[s.acked:at] {
		p.flight += s.frames[s.acked+i].size
	}
	if from > s.next {
		p.w.fail("I1", "%s is told to go on with frame %d of dtype %d, and has made %d", p.name, from, s.dtype, s.next-1)
	}
}

// ready sends what the window and the connection take.
func (p *publisher) ready() {
	if !p.live || p.end == nil {
		return
	}
	for sent := true; sent; {
		sent = false
		for _, s := range p.streams {
			if s.sent < len(s.frames) && p.push(s, &s.frames[s.sent]) {
				s.sent++
				sent = true
			}
		}
	}
}

func (p *publisher) push(s *outStream, f *outFrame) bool {
	if p.flight > 0 && p.flight+f.size > p.window {
		return false
	}
	if p.end.space() < f.size {
		p.end.full = true
		return false
	}
	p.flight += f.size
	key := codec.StreamKey{Pub: p.num, Dtype: s.dtype}
	if f.to != 0 {
		gap := &codec.Gap{Room: p.room.id, StreamKey: key, From: f.seq, To: f.to, Reason: codec.GapPublisher}
		p.end.write(p.w.frame(nil, gap))
		return true
	}
	if r := p.life.stream(s.dtype).at(f.seq); r.pushed == 0 {
		r.pushed = p.w.now
	}
	payload := p.w.payload(f.size - codec.StreamHeaderSize)
	out := codec.Stream{Room: p.room.id, StreamKey: key, Flags: f.flags, Seq: f.seq, Payload: payload}
	(&stamp{p.author, s.dtype, f.part, f.msg}).put(out.Payload)
	p.w.scratch, _ = out.Append(p.w.scratch[:0]) // its payload is short
	p.end.write(p.w.scratch)
	return true
}

func (p *publisher) stream(f *codec.Stream, _ []byte) {
	p.w.fail("I1", "%s gets frame %d of %v, and does not subscribe", p.name, f.Seq, f.StreamKey)
}

// control takes what is no answer.
func (p *publisher) control(m codec.Control) {
	switch m := m.(type) {
	case *codec.Ack:
		p.acknowledged(m)
	case *codec.Closed:
		p.closed(m.Code)
	case *codec.PushRefused:
		p.pushRefused(m.Code)
	case *codec.Count:
	default:
		p.w.fail("I10", "%s gets %T", p.name, m)
	}
}

func (p *publisher) acknowledged(m *codec.Ack) {
	if !p.live || m.Pub != p.num {
		return
	}
	for _, s := range p.streams {
		if s.dtype != m.Dtype {
			continue
		}
		ls := p.life.stream(s.dtype)
		for ; s.acked < s.sent && s.frames[s.acked].last() <= m.Seq; s.acked++ {
			f := &s.frames[s.acked]
			f.acked = p.w.now
			p.flight -= f.size
			for seq := f.seq; seq <= f.last(); seq++ {
				if r := ls.at(seq); r != nil && r.acked == 0 {
					r.acked = p.w.now
					p.w.acknowledged(p, s.dtype, seq, r)
				}
			}
		}
		n := 0
		for n < s.acked && p.w.now-s.frames[n].acked > keepFor {
			n++
		}
		s.frames, s.acked, s.sent = s.frames[n:], s.acked-n, s.sent-n
		if m.Seq >= s.next {
			p.w.fail("I4", "%s is told that frame %d of dtype %d has arrived, and has made %d", p.name, m.Seq, m.Dtype, s.next-1)
		}
	}
	p.ready()
}

// closed is the end of its part in the room.
func (p *publisher) closed(code codec.Code) {
	p.w.tell("%s is told closed: %v", p.name, code)
	was := p.live
	p.stop()
	switch code {
	case codec.CodeMoved, codec.CodeSuperseded:
		p.again()
	case codec.CodeRevoked:
		if !p.room.mayBeRevoked(p.account, 0) {
			p.w.fail("I5", "%s is told that it was revoked in %s, and was not", p.name, p.room.label)
		}
		p.tries = max(p.tries, 4)
		p.again()
	case codec.CodeGone:
		if was && p.w.now-p.liveAt > 500*time.Millisecond && !p.w.books.troubled(p.node, p.liveAt, p.w.now) {
			p.w.fail("I8", "%s, which lives, is told that it is gone", p.name)
		}
		p.again()
	case codec.CodeRemoved, codec.CodeNodeLost, codec.CodeIdle, codec.CodeExpired, codec.CodeRoomUnknown:
		if p.done = p.w.lost(p.room, p.name, code); !p.done {
			p.again()
		}
	default:
		p.again()
	}
}

func (p *publisher) pushRefused(code codec.Code) {
	p.w.tell("%s is told push_refused: %v", p.name, code)
	switch code {
	case codec.CodeMoved, codec.CodeSuperseded, codec.CodeNotPublishing, codec.CodeSequence, codec.CodeBadPieces:
		if p.live {
			p.headless = code == codec.CodeBadPieces
			p.again()
		}
	case codec.CodeRevoked, codec.CodeRoomUnknown: // closed says so, too
	default:
		if !code.Retry() {
			p.w.fail("I9", "what %s pushes is refused: %v", p.name, code)
		}
	}
}
