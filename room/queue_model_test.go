package room

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// modelStream is what the model knows of one stream of a room: every frame and gap that was pushed, and what came out.
type modelStream struct {
	room  codec.RoomID
	key   codec.StreamKey
	style int // 0: key messages, 1: none, 2: none but init messages

	next    uint64
	frames  map[uint64]modelFrame // absent: the publisher's gap
	open    int                   // pieces to come of the message in progress
	flags   codec.Flags           // of that message
	keyed   bool
	initRun frameRange // the newest init messages in a row

	expected uint64
	prev     codec.Flags // of the frame that came out last; 0 after a gap
	needKey  bool
	got      map[uint64]bool
}

type modelFrame struct {
	raw   []byte
	flags codec.Flags
	keyed bool
	init  frameRange // newest init run before a key frame
}

// produce makes a batch of frames, or a publisher's gap.
func (m *modelStream) produce(t *rapid.T, pool *Pool) *Batch {
	if rapid.IntRange(0, 19).Draw(t, "gap") == 0 {
		n := uint64(rapid.IntRange(1, 3).Draw(t, "gapLen"))
		b := pool.encodeOwn(&codec.Gap{Room: m.room, StreamKey: m.key, From: m.next, To: m.next + n - 1,
			Reason: codec.GapPublisher}, nil)
		b.Key, b.First, b.Last, b.Keyed = m.key, m.next, m.next+n-1, m.keyed
		m.next += n
		m.open = 0
		return b
	}
	b := pool.Get(512, nil)
	b.Kind, b.Key, b.First = KindStream, m.key, m.next
	initial := false
	for i := range rapid.IntRange(1, 6).Draw(t, "frames") {
		flags := codec.FlagCont
		if m.open == 0 {
			m.open = max(1, rapid.IntRange(-4, 4).Draw(t, "pieces"))
			m.flags, flags = 0, 0
			switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
			case kind == 0 && m.style != 1:
				m.flags = codec.FlagInit
			case kind <= 2 && m.style == 0:
				m.flags = codec.FlagKey
			}
		}
		isInit := m.flags&codec.FlagInit != 0
		if i == 0 {
			initial = isInit
		} else if initial != isInit {
			if flags == 0 {
				m.open = 0
			}
			break
		}
		m.open--
		flags |= m.flags
		if m.open > 0 {
			flags |= codec.FlagMore
		}
		if isInit {
			if m.initRun.to+1 != m.next {
				m.initRun.from = m.next
			}
			m.initRun.to = m.next
		}
		m.keyed = m.keyed || flags.KeyStart()
		f := codec.Stream{Room: m.room, StreamKey: m.key, Flags: flags, Seq: m.next,
			Payload: bytes.Repeat([]byte{byte(m.next)}, rapid.IntRange(0, 700).Draw(t, "payload"))}
		at := len(b.B)
		b.B = enc(f.Append(b.B))
		mf := modelFrame{raw: append([]byte(nil), b.B[at:]...), flags: flags}
		if flags.KeyStart() {
			mf.init = m.initRun
		}
		m.frames[m.next] = mf
		b.Last = m.next
		m.next++
	}
	b.Keyed = m.keyed
	for seq := b.First; seq <= b.Last; seq++ {
		f := m.frames[seq]
		f.keyed = m.keyed
		m.frames[seq] = f
	}
	return b
}

// frame checks a frame that came out.
func (m *modelStream) frame(raw []byte, s *codec.Stream, live bool) error {
	want, ok := m.frames[s.Seq]
	switch {
	case s.Seq != m.expected:
		return fmt.Errorf("frame %d, expected %d", s.Seq, m.expected)
	case !ok || !bytes.Equal(raw, want.raw):
		return fmt.Errorf("frame %d was never pushed like this", s.Seq)
	case !follows(s.Flags, m.prev):
		return fmt.Errorf("frame %d: flags %b after %b: a message was cut in half", s.Seq, s.Flags, m.prev)
	}
	if live && m.needKey && s.Flags&codec.FlagInit == 0 {
		if !s.Flags.KeyStart() {
			return fmt.Errorf("frame %d is delivered after a drop, and is no key", s.Seq)
		}
		for i := want.init.from; i != 0 && i <= want.init.to; i++ {
			if _, pushed := m.frames[i]; pushed && !m.got[i] {
				return fmt.Errorf("key %d without the init message %d before it", s.Seq, i)
			}
		}
	}
	if s.Flags&codec.FlagInit == 0 {
		m.needKey = false
	}
	m.got[s.Seq] = true
	m.prev, m.expected = s.Flags, s.Seq+1
	return nil
}

// gap checks a gap that came out.
func (m *modelStream) gap(g *codec.Gap) error {
	if g.From != m.expected || g.To >= m.next {
		return fmt.Errorf("gap %d to %d, expected %d of %d", g.From, g.To, m.expected, m.next)
	}
	if _, pushed := m.frames[g.From]; pushed && !m.prev.End() {
		return fmt.Errorf("gap %d to %d cuts a message in half", g.From, g.To)
	}
	dropped := false
	for i := g.From; i <= g.To; i++ {
		if f, pushed := m.frames[i]; pushed {
			dropped = true
			m.needKey = m.needKey || f.keyed
		}
	}
	if dropped == (g.Reason == codec.GapPublisher) {
		return fmt.Errorf("gap %d to %d for reason %v", g.From, g.To, g.Reason)
	}
	m.prev, m.expected = 0, g.To+1
	return nil
}

// modelSub is a subscription of the model.
type modelSub struct {
	nobody
	Sub
	live    bool // not forgotten and not orphaned
	peak    int  // most bytes that might not be dropped since a look was last due
	streams []*modelStream
	acted   func(Outcome)
}

// Elsewhere implements Member.
func (s *modelSub) Elsewhere([]uint64) {}

// Acted implements Member.
func (s *modelSub) Acted(out Outcome) { s.acted(out) }

// fixed returns the bytes queued for s that no policy may drop, by a slow and simple count.
func (q *Queue) fixed(s *Sub) (n int) {
	type entry struct {
		n     int
		flags codec.Flags
		seq   uint64
		begun bool
	}
	streams := make(map[codec.StreamKey][]entry)
	keyed := make(map[codec.StreamKey]bool)
	broken := make(map[codec.StreamKey]bool)
	for i := q.head; i < len(q.segs); i++ {
		g := &q.segs[i]
		if g.sub != s {
			continue
		}
		if g.b.Kind != KindStream {
			n += g.left()
			broken[g.b.Key] = true
			continue
		}
		k := g.b.Key
		keyed[k] = keyed[k] || g.b.Keyed
		for off := int(g.beg); off < int(g.end); {
			l, f, seq := frameAt(g.b.B[off:])
			if off+l > int(g.pos) {
				es := streams[k]
				begun := off < int(g.pos)
				if !f.Start() && !broken[k] {
					begun = begun || len(es) == 0 || es[len(es)-1].begun
				}
				streams[k] = append(es, entry{min(l, off+l-int(g.pos)), f, seq, begun})
			}
			off += l
		}
		broken[k] = false
	}
	for k, es := range streams {
		newest := -1
		inits := frameRange{}
		for i, e := range es {
			switch {
			case e.flags&codec.FlagInit != 0:
				if inits.to+1 != e.seq {
					inits.from = e.seq
				}
				inits.to = e.seq
			case e.flags.Start() && !keyed[k]:
				newest = i
			}
		}
		for i, e := range es {
			if e.begun || newest >= 0 && i >= newest || inits.from <= e.seq && e.seq <= inits.to {
				n += e.n
			}
		}
	}
	return n
}

func TestQueueModel(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLatest, codec.PolicyLossless} {
		t.Run("policy="+policy.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { queueModel(t, policy) })
		})
	}
}

func queueModel(t *rapid.T, policy codec.Policy) {
	var pool Pool
	q := NewQueue(&pool, 0)
	set := &Settings{Policy: policy, QueueBytes: rapid.IntRange(1500, 9000).Draw(t, "bound"), QueueAge: time.Second}
	var subs []*modelSub
	byName := make(map[codec.RoomID]map[codec.StreamKey]*modelStream)
	for r := range rapid.IntRange(1, 2).Draw(t, "subs") {
		id := codec.RoomID(r + 1)
		room := &Room{ID: id, set: *set, kind: kindOf(policy), share: pool.Share("owner")}
		s := &modelSub{Sub: Sub{room: room}, live: true}
		s.member = s
		byName[id] = make(map[codec.StreamKey]*modelStream)
		for i := range rapid.SampledFrom([]int{1, 2, 3, fewViews + 3}).Draw(t, "streams") {
			m := &modelStream{room: id, key: codec.StreamKey{Pub: uint16(i/2 + 1), Dtype: uint8(i % 2)},
				style: rapid.IntRange(0, 2).Draw(t, "style"),
				next:  1, expected: 1, frames: make(map[uint64]modelFrame), got: make(map[uint64]bool)}
			s.streams = append(s.streams, m)
			byName[id][m.key] = m
		}
		subs = append(subs, s)
	}
	var wire []byte
	now := int64(time.Hour)
	dropped := 0

	// check parses what has come out so far.
	check := func() {
		for len(wire) > 0 {
			frame, typ, err := codec.Next(wire, codec.MaxFrame)
			if err == codec.ErrIncomplete {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if typ&codec.TypeStream != 0 {
				var s codec.Stream
				if err := codec.ParseStream(frame, &s); err != nil {
					t.Fatal(err)
				}
				if err := byName[s.Room][s.StreamKey].frame(frame, &s, policy == codec.PolicyLive); err != nil {
					t.Fatalf("room %d, stream %v: %v", s.Room, s.StreamKey, err)
				}
			} else if typ == codec.TypeGap {
				var g codec.Gap
				if err := g.Parse(frame); err != nil {
					t.Fatal(err)
				}
				if err := byName[g.Room][g.StreamKey].gap(&g); err != nil {
					t.Fatalf("room %d, stream %v: %v", g.Room, g.StreamKey, err)
				}
			}
			wire = wire[len(frame):]
		}
	}
	advance := func(n int) {
		for n > 0 && !q.Empty() {
			k := 0
			for _, h := range q.Head(nil, rapid.IntRange(1, 5).Draw(t, "vectors")) {
				h = h[:min(len(h), n-k)]
				wire = append(wire, h...)
				k += len(h)
			}
			q.Advance(k, now)
			n -= k
		}
		check()
	}
	account := func(out Outcome) {
		dropped += out.Frames
		if out.CutOff {
			t.Fatal("cut off")
		}
	}
	for _, s := range subs {
		s.acted = account
	}
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		s := subs[rapid.IntRange(0, len(subs)-1).Draw(t, "sub")]
		now += int64(rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 50 * time.Millisecond, 700 * time.Millisecond,
			2 * time.Second}).Draw(t, "pause"))
		switch op := rapid.IntRange(0, 29).Draw(t, "op"); {
		case op < 17:
			m := s.streams[rapid.IntRange(0, len(s.streams)-1).Draw(t, "stream")]
			b := m.produce(t, &pool)
			if s.live {
				account(q.Push(&s.Sub, b, 0, len(b.B), now))
			}
			b.Release()
		case op < 24:
			advance(rapid.IntRange(1, 3000).Draw(t, "taken"))
		case op < 25:
			q.Look(now)
		case op < 26:
			for _, s := range subs {
				if s.live {
					account(q.Check(&s.Sub, now))
					q.Tell(&s.Sub, now)
				}
			}
		case op == 26:
			if policy != codec.PolicyLossless && s.live {
				account(q.Relieve(&s.Sub, now))
			}
		case op == 27:
			b := pool.encodeOwn(&codec.Pong{Echo: 1}, nil)
			q.Append(b, 0, len(b.B), now)
			b.Release()
		case op == 28:
			b := pool.encodeOwn(&codec.Joined{Room: s.room.ID, Pub: 9, Account: "x"}, nil)
			if s.live {
				account(q.Push(&s.Sub, b, 0, len(b.B), now))
			}
			b.Release()
		case op == 29 && s.live && rapid.IntRange(0, 3).Draw(t, "end") == 0:
			forget := rapid.Bool().Draw(t, "forget")
			if forget {
				q.Forget(&s.Sub)
				q.Head(nil, 0)
			} else {
				q.Finish(&s.Sub, now)
				q.Orphan(&s.Sub)
			}
			if forget && s.queued > 0 && (q.segs[q.head].sub != &s.Sub || s.queued != q.segs[q.head].left()) {
				t.Fatalf("ended with %d bytes queued, more than a frame begun", s.queued)
			}
			if s.active != 0 || s.Slow() {
				t.Fatalf("a policy acts on it still; slow: %v", s.Slow())
			}
			s.live = false
		}

		// The accounts hold, and so does the bound.
		total, last := 0, int64(0)
		queued := make(map[*Sub]int)
		for i := q.head; i < len(q.segs); i++ {
			g := &q.segs[i]
			total += g.left()
			queued[g.sub] += g.left()
			if g.at < last {
				t.Fatalf("the queue is not in order of time: %d after %d", g.at, last)
			}
			last = g.at
		}
		if total != q.Bytes() {
			t.Fatalf("queue holds %d bytes and says %d", total, q.Bytes())
		}
		for _, s := range subs {
			if queued[&s.Sub] != s.queued {
				t.Fatalf("room %d has %d bytes queued and says %d", s.room.ID, queued[&s.Sub], s.queued)
			}
			if in := s.active != 0 && q.active[s.active-1] == &s.Sub; !in && s.live && (s.queued > 0 || s.slow != nil) {
				t.Fatalf("room %d is not on the list of active subscriptions", s.room.ID)
			}
			if s.shed != 0 || len(q.sheds) != 0 {
				t.Fatalf("room %d is still marked, %d marks", s.room.ID, len(q.sheds))
			}
			if policy == codec.PolicyLive && s.live {
				if s.queued > 2*set.QueueBytes && s.live { // what is queued without a look: notices, the rest of messages
					account(q.Check(&s.Sub, now))
				}
				if s.slow == nil || now >= s.slow.quietUntil {
					s.peak = 0
				}
				s.peak = max(s.peak, q.fixed(&s.Sub))
				if bound := max(2*set.QueueBytes, s.peak+set.QueueBytes/8); s.queued > bound && !q.keepsUp(&s.Sub, now) {
					t.Fatalf("room %d has %d bytes queued, bound %d (%d may not be dropped)", s.room.ID, s.queued, bound,
						q.fixed(&s.Sub))
				}
			}
		}
	}

	// At the end everything is out or told.
	now += int64(TellEvery)
	for _, s := range subs {
		if s.live {
			account(q.Check(&s.Sub, now))
			q.Tell(&s.Sub, now)
		}
	}
	advance(1 << 30)
	if len(wire) != 0 {
		t.Fatalf("%d bytes of half a frame at the end", len(wire))
	}
	told := 0
	for _, s := range subs {
		for _, m := range s.streams {
			for i := uint64(1); i < m.expected; i++ {
				if _, pushed := m.frames[i]; pushed && !m.got[i] {
					told++
				}
			}
			if !s.live {
				continue
			}
			if m.expected != m.next {
				t.Fatalf("room %d, stream %v: ends at %d, pushed up to %d", s.room.ID, m.key, m.expected-1, m.next-1)
			}
			if policy == codec.PolicyLatest {
				m.wantNewest(t)
			}
		}
	}
	if live := subs[0].live && subs[len(subs)-1].live; live && told != dropped {
		t.Fatalf("%d frames told as dropped, %d counted", told, dropped)
	}
	q.Clear()
	tidy(&pool)
	if n := pool.Outstanding(); n != 0 {
		t.Fatalf("%d batches outstanding", n)
	}
	if n := pool.Held(); n != 0 {
		t.Fatalf("%d bytes alive", n)
	}
}

// wantNewest checks that the newest message of a stream in a latest room came out whole, as far as it was pushed.
func (m *modelStream) wantNewest(t *rapid.T) {
	for seq := m.next - 1; seq > 0; seq-- {
		f, pushed := m.frames[seq]
		if !pushed {
			return // the publisher broke it off
		}
		if f.flags&codec.FlagInit != 0 {
			continue
		}
		if !m.got[seq] {
			t.Fatalf("room %d, stream %v: frame %d of the newest message did not come", m.room, m.key, seq)
		}
		if f.flags.Start() {
			return
		}
	}
}
