package room

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// fakeHolder is a publisher's session: it remembers what it was told.
type fakeHolder struct {
	mu     sync.Mutex
	cuts   []codec.Code
	nudges int
	counts []codec.Count
}

func (h *fakeHolder) Cut(_ Pusher, code codec.Code) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cuts = append(h.cuts, code)
}

func (h *fakeHolder) Peer() string { return "" }

func (h *fakeHolder) AckNow(Pusher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nudges++
}

func (h *fakeHolder) Count(_ Pusher, c codec.Count) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts = append(h.counts, c)
}

// fakeLoop is an outlet with its mailbox and its members, as an event loop has them. Post may be called from
// any goroutine, as Admit and Cut of its viewers, all else from one.
type fakeLoop struct {
	room *Room
	pool *Pool
	now  int64

	mu    sync.Mutex
	items []fakeItem

	members []*viewer
	seats   int           // members and those on their way in
	end     codec.Control // of replays; nil: they have none
}

type fakeItem struct {
	b      *Batch
	m      *viewer
	replay *Replay // nil: m is cut with code
	code   codec.Code
}

func (l *fakeLoop) Post(b *Batch) { l.add(fakeItem{b: b}) }

// Admit implements Member.
func (v *viewer) Admit(rp *Replay) { v.in.add(fakeItem{m: v, replay: rp}) }

// Cut implements Member.
func (v *viewer) Cut(code codec.Code) { v.in.add(fakeItem{m: v, code: code}) }

func (l *fakeLoop) unsubscribe(v *viewer, gone bool) {
	for i, m := range l.members {
		if m == v {
			l.members = append(l.members[:i], l.members[i+1:]...)
			break
		}
	}
	v.member = false
	l.seats--
	l.room.Unsubscribe(l, v, v.counts, l.seats == 0, gone, l.now)
}

func (l *fakeLoop) subscribe(v *viewer, j Join) error {
	j.Member, v.counts, v.in = v, j.Counts, l
	l.seats++
	err := l.room.Subscribe(l, j, l.now)
	if err != nil {
		l.seats--
	}
	return err
}

func (l *fakeLoop) add(it fakeItem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, it)
}

// drain does what is in the mailbox. Members get it through their queues.
func (l *fakeLoop) drain() {
	l.mu.Lock()
	items := l.items
	l.items = nil
	l.mu.Unlock()
	for _, it := range items {
		switch {
		case it.b != nil:
			for _, m := range l.members {
				if m.mute != 0 && it.b.Key.Pub == m.mute && it.b.Kind != KindLeft || it.b.Kind == KindCount && !m.counts {
					continue
				}
				m.Acted(m.q.Push(&m.Sub, it.b, 0, len(it.b.B), l.now))
			}
			it.b.Taken()
			it.b.Release()
		case it.replay != nil:
			it.m.member, it.m.mute = true, it.replay.Mute
			l.members = append(l.members, it.m)
			if l.end != nil {
				it.replay.Conclude(l.room, l.end)
			}
			for _, item := range it.replay.Items {
				it.m.q.Replay(&it.m.Sub, item, l.now)
			}
			for _, mid := range it.replay.Midway {
				it.m.q.SkipTo(&it.m.Sub, mid)
			}
			it.m.q.Fresh(&it.m.Sub, it.replay.Fresh, it.replay.FreshUntil)
			it.replay.Release()
		case it.m.member:
			it.m.q.Forget(&it.m.Sub)
			it.m.q.Head(nil, 0)
			it.m.cuts = append(it.m.cuts, it.code)
			l.unsubscribe(it.m, false)
		}
	}
}

// viewer is a subscriber that checks the rule of the protocol on all that it gets: the next thing on a stream is the
// frame expected or a gap from there, by a publisher that was announced, and messages come whole.
type viewer struct {
	Sub
	q       *Queue
	loop    *fakeLoop // whose clock v goes by
	in      *fakeLoop // where v is, or is on its way in
	member  bool
	mute    uint16
	counts  bool
	cutOff  bool
	dropped int // by looks
	cuts    []codec.Code

	elsewhere []uint64 // of a link: clients that have come to other nodes

	tap     func(frame []byte, typ byte) // is given every frame, too; may be nil
	fail    func(format string, args ...any)
	broken  map[codec.Position]bool // the last frames before gaps of the publisher
	wire    []byte
	streams map[codec.StreamKey]*viewed
	joined  map[uint16]bool
	lefts   []codec.Left
	closed  codec.Code
	told    []codec.Count
}

// viewed is a stream as a viewer sees it. A script lists what came: "1", "2i" for an init and "3k" for a key frame,
// with "<" and ">" for pieces that go on with or before others, "4-7 slow" for a gap.
type viewed struct {
	expected uint64
	prev     codec.Flags
	resumed  bool // nothing has come since a resume, which may be within a message
	script   []string
}

// Elsewhere implements Member.
func (v *viewer) Elsewhere(marks []uint64) { v.elsewhere = append(v.elsewhere, marks...) }

// Acted implements Member.
func (v *viewer) Acted(out Outcome) {
	v.dropped += out.Frames
	v.cutOff = v.cutOff || out.CutOff
}

func (x *bench) newViewer() *viewer {
	v := &viewer{q: NewQueue(x.pool, x.chunk), loop: x.loop, streams: make(map[codec.StreamKey]*viewed),
		joined: make(map[uint16]bool), broken: x.broken, fail: x.t.Fatalf}
	v.Init(x.room, v)
	return v
}

func (v *viewer) stream(k codec.StreamKey) *viewed {
	s := v.streams[k]
	if s == nil {
		s = &viewed{expected: 1}
		v.streams[k] = s
	}
	return s
}

// take reads up to n bytes of what is queued.
func (v *viewer) take(n int) {
	for n > 0 && !v.q.Empty() {
		k := 0
		for _, h := range v.q.Head(nil, 64) {
			h = h[:min(len(h), n-k)]
			v.wire = append(v.wire, h...)
			k += len(h)
		}
		v.q.Advance(k, v.loop.now)
		n -= k
	}
	for {
		frame, typ, err := codec.Next(v.wire, codec.MaxFrame)
		if err != nil {
			if err != codec.ErrIncomplete {
				v.fail("not a frame: %v", err)
			}
			return
		}
		v.frame(frame, typ)
		if v.tap != nil {
			v.tap(frame, typ)
		}
		v.wire = v.wire[len(frame):]
	}
}

func (v *viewer) frame(frame []byte, typ byte) {
	if v.closed != 0 {
		v.fail("a frame of type %#x after closed", typ)
	}
	if typ&codec.TypeStream != 0 {
		var f codec.Stream
		if err := codec.ParseStream(frame, &f); err != nil {
			v.fail("%v", err)
		}
		s := v.stream(f.StreamKey)
		switch {
		case !v.joined[f.Pub]:
			v.fail("frame of publisher %d, which is not there", f.Pub)
		case f.Seq != s.expected:
			v.fail("stream %v: frame %d, expected %d", f.StreamKey, f.Seq, s.expected)
		case !s.resumed && !follows(f.Flags, s.prev):
			v.fail("stream %v: frame %d with flags %b after %b", f.StreamKey, f.Seq, f.Flags, s.prev)
		case len(f.Payload) >= 8 && binary.BigEndian.Uint64(f.Payload) != f.Seq:
			v.fail("stream %v: frame %d has the payload of another", f.StreamKey, f.Seq)
		}
		s.expected, s.prev, s.resumed = f.Seq+1, f.Flags, false
		text := fmt.Sprint(f.Seq)
		for i, c := range "ki><" {
			if f.Flags&(1<<i) != 0 {
				text += string(c)
			}
		}
		s.script = append(s.script, text)
		return
	}
	c, err := codec.ParseControl(frame)
	if err != nil {
		v.fail("%v", err)
	}
	switch m := c.(type) {
	case *codec.Joined:
		v.joined[m.Pub] = true
	case *codec.Left:
		v.joined[m.Pub] = false
		v.lefts = append(v.lefts, *m)
	case *codec.Gap:
		s := v.stream(m.StreamKey)
		if m.From != s.expected {
			v.fail("stream %v: gap %d to %d (%v), expected %d", m.StreamKey, m.From, m.To, m.Reason, s.expected)
		}
		if !s.prev.End() && !v.broken[codec.Position{StreamKey: m.StreamKey, Last: m.From - 1}] && !s.resumed {
			v.fail("stream %v: gap %d to %d (%v) within a message", m.StreamKey, m.From, m.To, m.Reason)
		}
		s.expected, s.prev, s.resumed = m.To+1, 0, false
		s.script = append(s.script, fmt.Sprintf("%d-%d %v", m.From, m.To, m.Reason))
	case *codec.Closed:
		v.closed = m.Code
	case *codec.Count:
		v.told = append(v.told, *m)
	case *codec.OK:
	default:
		v.fail("unexpected %T", c)
	}
}

// have returns what the viewer has seen, to resume with.
func (v *viewer) have() (ps []codec.Position) {
	for k, s := range v.streams {
		ps = append(ps, codec.Position{StreamKey: k, Last: s.expected - 1})
	}
	return ps
}

// reconnect makes v a viewer without anything queued that goes on where v is.
func (v *viewer) reconnect(r *Room) {
	v.q.Clear()
	v.q, v.wire, v.cutOff, v.cuts = NewQueue(r.table.pool, 0), nil, false, nil
	v.Sub = Sub{}
	v.Init(r, v)
	for _, s := range v.streams {
		s.resumed = true
		s.script = append(s.script, "resumed")
	}
}

// bench is a table with one room, its owner publishing, and one loop.
type bench struct {
	t     rapid.TB
	pool  *Pool
	table *Table
	room  *Room
	loop  *fakeLoop
	hold  *fakeHolder
	pub   *Publisher
	now   int64
	chunk int // of viewers' queues
	stuck []*Queue

	broken map[codec.Position]bool // for viewers
}

func newBench(t testing.TB, cfg Config, reg codec.Register) *bench {
	t.Helper()
	x := openBench(t, cfg, reg)
	t.Cleanup(x.end)
	return x
}

func openBench(t rapid.TB, cfg Config, reg codec.Register) *bench {
	t.Helper()
	x := &bench{t: t, pool: &Pool{}, hold: &fakeHolder{}, now: 1e9, broken: make(map[codec.Position]bool)}
	x.table = NewTable(cfg, rand.Reader, x.pool)
	r, err := x.table.Register("owner", &reg, x.now)
	if err != nil {
		t.Fatal(err)
	}
	x.room = r
	x.loop = &fakeLoop{room: r, pool: x.pool, now: x.now}
	x.pub, _, err = r.Publish(x.hold, "owner", 1, false)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// end removes the room and checks that nothing is left of it.
func (x *bench) end() {
	x.table.EndAll(codec.CodeRemoved)
	x.loop.drain()
	for _, v := range x.loop.members {
		v.take(1 << 30)
		if v.closed == 0 {
			x.t.Error("a subscriber was not told that the room ended")
		}
		v.q.Clear()
	}
	tidy(x.pool)
	if n := x.pool.Outstanding(); n != 0 {
		x.t.Errorf("%d batches outstanding", n)
	}
	if n := x.pool.Held(); n != 0 {
		x.t.Errorf("%d bytes alive", n)
	}
	if n := x.table.CacheBytes(); n != 0 {
		x.t.Errorf("%d bytes cached", n)
	}
}

// message appends one frame per piece; its payloads begin with the sequence number. flags apply to all pieces.
func (x *bench) message(dst []byte, dtype uint8, seq uint64, flags codec.Flags, pieces, size int) []byte {
	for i := range pieces {
		f := flags
		if i > 0 {
			f |= codec.FlagCont
		}
		if i < pieces-1 {
			f |= codec.FlagMore
		}
		s := codec.Stream{Room: x.room.ID, StreamKey: codec.StreamKey{Pub: x.pub.Num, Dtype: dtype}, Flags: f,
			Seq: seq + uint64(i)}
		s.Payload = make([]byte, max(8, size))
		binary.BigEndian.PutUint64(s.Payload, s.Seq)
		dst = enc(s.Append(dst))
	}
	return dst
}

// push pushes whole frames, run by run.
func (x *bench) push(frames []byte) {
	x.t.Helper()
	if err := x.tryPush(frames); err != nil {
		x.t.Fatal(err)
	}
}

func (x *bench) tryPush(frames []byte) error {
	for len(frames) > 0 {
		run, err := ScanRun(frames)
		if err != nil {
			return err
		}
		if _, err := x.pub.Push(x.hold, run, x.now); err != nil {
			return err
		}
		frames = frames[len(run.Raw):]
	}
	return nil
}

// script pushes messages given in the notation of viewed, each in a batch of its own: "1i 2k 3 4k> 5k<".
func (x *bench) script(dtype uint8, script ...string) {
	x.t.Helper()
	for _, word := range script {
		var seq, to uint64
		if n, _ := fmt.Sscanf(word, "%d-%d", &seq, &to); n == 2 {
			g := codec.Gap{StreamKey: codec.StreamKey{Dtype: dtype}, From: seq, To: to}
			if err := x.pub.PushGap(x.hold, g, x.now); err != nil {
				x.t.Fatal(err)
			}
			x.broken[codec.Position{StreamKey: x.key(dtype), Last: seq - 1}] = true
			continue
		}
		flags := codec.Flags(0)
		for _, c := range word {
			switch c {
			case 'k':
				flags |= codec.FlagKey
			case 'i':
				flags |= codec.FlagInit
			case '>':
				flags |= codec.FlagMore
			case '<':
				flags |= codec.FlagCont
			}
		}
		fmt.Sscan(word, &seq)
		x.push(x.message(nil, dtype, seq, flags, 1, 100))
	}
}

// join subscribes a viewer and lets the loop work.
func (x *bench) join(v *viewer, j Join) {
	x.t.Helper()
	if err := x.loop.subscribe(v, j); err != nil {
		x.t.Fatal(err)
	}
	x.loop.drain()
}

// viewer returns a new viewer that has subscribed.
func (x *bench) viewer(j Join) *viewer {
	x.t.Helper()
	v := x.newViewer()
	x.join(v, j)
	return v
}

// at moves the clock and sweeps all stripes.
func (x *bench) at(now int64) {
	x.now, x.loop.now = now, now
	for range 11 {
		x.table.Sweep(now)
	}
	x.loop.drain()
}

func (x *bench) key(dtype uint8) codec.StreamKey {
	return codec.StreamKey{Pub: x.pub.Num, Dtype: dtype}
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// stream returns the room's own account of a stream.
func (x *bench) stream(dtype uint8) *stream {
	s, err := x.pub.find(dtype)
	if err != nil {
		x.t.Fatal(err)
	}
	return s
}
