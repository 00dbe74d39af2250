package engine

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// stepsBench is a session on a loop, whose frames are handled as those that it reads.
type stepsBench struct {
	b    testing.TB
	s    *session
	l    *loop
	req  uint32
	room codec.RoomID // a live one that it publishes into
	pub  uint16
	seq  uint64
}

func newStepsBench(b testing.TB) *stepsBench {
	e, err := Start(Config{Listen: []string{"127.0.0.1:0"}, Loops: 1, Limits: Limits{Requests: -1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.close() })
	c, err := net.Dial("tcp", e.Addrs()[0].String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	hello, err := (&codec.Hello{Account: "alice", Instance: 1}).Append(codec.AppendClientPreface(nil, codec.VersionMin,
		codec.VersionMax))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.Write(hello); err != nil {
		b.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	x := &stepsBench{b: b, l: e.loops[0]}
	for x.s == nil {
		x.l.onLoop(func() {
			for _, s := range x.l.sessions {
				if s.phase == phaseOpen {
					x.s = s
				}
			}
		})
	}
	r, err := e.rooms.Register("alice", &codec.Register{}, e.now())
	if err != nil {
		b.Fatal(err)
	}
	x.room = r.ID
	x.handle(&codec.Publish{Req: 1, Room: r.ID})
	x.l.onLoop(func() { x.pub = x.s.published(r.ID).Num })
	return x
}

// handle handles a frame and what follows from it on the loop, and returns how long that took, and how many steps are
// charged.
func (x *stepsBench) handle(ms ...codec.Control) (took time.Duration, steps int) {
	var b []byte
	for _, m := range ms {
		var err error
		if b, err = m.Append(b); err != nil {
			x.b.Fatal(err)
		}
	}
	return x.handleBytes(b)
}

func (x *stepsBench) handleBytes(b []byte) (took time.Duration, steps int) {
	x.l.onLoop(func() {
		l, s := x.l, x.s
		s.debt = 0
		begin := time.Now()
		for len(b) > 0 {
			steps += stepsOf(b)
			n, err := s.step(b)
			if err != nil {
				x.b.Error(err)
				return
			}
			b = b[n:]
			for items := l.box.take(nil); len(items) > 0; items = l.box.take(nil) {
				for i := range items {
					l.handle(&items[i])
				}
			}
		}
		s.sendOut()
		l.settle()
		took = time.Since(begin)
		steps += int(s.debt)
		s.debt = 0
	})
	return took, steps
}

// frames returns so many frames of 20 bytes, of two streams in turn: each is a run, and a step.
func (x *stepsBench) frames(n int) (b []byte) {
	for i := range n {
		f := codec.Stream{Room: x.room, StreamKey: codec.StreamKey{Pub: x.pub, Dtype: uint8(i % 2)},
			Seq: x.seq + uint64(i/2) + 1}
		var err error
		if b, err = f.Append(b); err != nil {
			x.b.Fatal(err)
		}
	}
	x.seq += uint64(n / 2)
	return b
}

// register makes a room of the account.
func (x *stepsBench) register(p codec.Policy) *room.Room {
	r, err := x.l.eng.rooms.Register("alice", &codec.Register{Policy: p}, x.l.eng.now())
	if err != nil {
		x.b.Fatal(err)
	}
	return r
}

func (x *stepsBench) subscribe(r *room.Room, have int) *codec.Subscribe {
	x.req++
	m := &codec.Subscribe{Req: x.req, Room: r.ID}
	for i := range have {
		m.Have = append(m.Have, codec.Position{StreamKey: codec.StreamKey{Pub: uint16(i + 2), Dtype: uint8(i)}, Last: 1})
	}
	return m
}

func (x *stepsBench) unsubscribe(r *room.Room) *codec.Unsubscribe {
	m := &codec.Unsubscribe{}
	m.Req, m.Room = x.req, r.ID
	return m
}

// nowhere is an outlet of subscribers that are not there.
type nowhere struct{}

func (nowhere) Post(b *room.Batch) { b.Taken(); b.Release() }

// nobody is one of them.
type nobody struct{ _ byte } // not empty: members are told apart by their addresses

func (*nobody) Admit(rp *room.Replay) { rp.Release() }
func (*nobody) Cut(codec.Code)        {}
func (*nobody) Elsewhere([]uint64)    {}
func (*nobody) Acted(room.Outcome)    {}

// noHolder is a publisher's session that is not there.
type noHolder struct{ _ byte }

func (*noHolder) Peer() string                   { return "" }
func (*noHolder) Cut(room.Pusher, codec.Code)    {}
func (*noHolder) AckNow(room.Pusher)             {}
func (*noHolder) Count(room.Pusher, codec.Count) {}

// requestsCharged are what a client may ask for: each makes one round's frames.
var requestsCharged = []struct {
	name string
	make func(x *stepsBench) func() []codec.Control
}{
	{"ping", func(x *stepsBench) func() []codec.Control {
		return func() []codec.Control { return []codec.Control{&codec.Ping{Echo: 1}} }
	}},
	{"subscribe and unsubscribe", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLive)
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 0), x.unsubscribe(r)} }
	}},
	{"subscribe with 4,096 positions", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLive)
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 4096), x.unsubscribe(r)} }
	}},
	{"subscribe with 4,096 positions, refused", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLive)
		x.l.eng.leaving.Store(true)
		x.l.eng.draining.Store(true)
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 4096)} }
	}},
	{"subscribe to 250 streams", func(x *stepsBench) func() []codec.Control {
		r, err := x.l.eng.rooms.Get(x.room)
		if err != nil {
			x.b.Fatal(err)
		}
		for d := 2; d < 252; d++ {
			f := codec.Stream{Room: x.room, StreamKey: codec.StreamKey{Pub: x.pub, Dtype: uint8(d)}, Seq: 1,
				Flags: codec.FlagKey}
			frame, err := f.Append(nil)
			if err != nil {
				x.b.Fatal(err)
			}
			x.handleBytes(frame)
		}
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 0), x.unsubscribe(r)} }
	}},
	{"an acknowledgement in 4,096 rooms", func(x *stepsBench) func() []codec.Control {
		var last *room.Room
		for range 4096 {
			last = x.register(codec.PolicyLossless)
			x.handle(x.subscribe(last, 0))
		}
		return func() []codec.Control {
			return []codec.Control{&codec.Ack{Room: last.ID, StreamKey: codec.StreamKey{Pub: 1}, Seq: 1}}
		}
	}},
	{"subscribe to a lossless room of 1,000", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLossless)
		for i := range 1000 {
			j := room.Join{Member: new(nobody), Account: "bob", Instance: uint64(i)}
			if err := r.Subscribe(nowhere{}, j, 1); err != nil {
				x.b.Fatal(err)
			}
		}
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 0), x.unsubscribe(r)} }
	}},
	{"an acknowledgement of the slowest of 1,000", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLossless)
		x.handle(&codec.Publish{Req: 1, Room: r.ID})
		x.handle(x.subscribe(r, 0))
		var others []room.Member
		for i := range 1000 {
			others = append(others, new(nobody))
			j := room.Join{Member: others[i], Account: "bob", Instance: uint64(i)}
			if err := r.Subscribe(nowhere{}, j, 1); err != nil {
				x.b.Fatal(err)
			}
		}
		key, seq := codec.StreamKey{Pub: 1, Dtype: 1}, uint64(0)
		return func() []codec.Control {
			seq++
			f := codec.Stream{Room: r.ID, StreamKey: key, Seq: seq}
			frame, err := f.Append(nil)
			if err != nil {
				x.b.Fatal(err)
			}
			x.handleBytes(frame)
			for _, o := range others {
				if err := r.Ack(o, key, seq, x.l.eng.now()); err != nil {
					x.b.Fatal(err)
				}
			}
			return []codec.Control{&codec.Ack{Room: r.ID, StreamKey: key, Seq: seq}}
		}
	}},
	{"subscribe and unsubscribe while much waits", func(x *stepsBench) func() []codec.Control {
		r, err := x.l.eng.rooms.Get(x.room)
		if err != nil {
			x.b.Fatal(err)
		}
		f := codec.Stream{Room: x.room, StreamKey: codec.StreamKey{Pub: x.pub, Dtype: 9}, Seq: 1, Flags: codec.FlagKey}
		frame, err := f.Append(nil)
		if err != nil {
			x.b.Fatal(err)
		}
		x.handleBytes(frame) // something to replay
		x.l.onLoop(func() {
			q := x.s.needQueue()
			b := x.l.eng.pool.Copy(room.KindControl, frame, nil)
			for range 50_000 {
				q.Append(b, 0, len(b.B), x.l.now)
			}
			b.Release()
			x.s.blocked = true    // the socket takes nothing ...
			x.l.poller = noPoller // ... and so would not be read
		})
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 0), x.unsubscribe(r)} }
	}},
	{"register and remove", func(x *stepsBench) func() []codec.Control {
		return func() []codec.Control {
			r := x.register(codec.PolicyLive)
			m := &codec.Remove{}
			m.Req, m.Room = 1, r.ID
			return []codec.Control{&codec.Register{Req: 1}, m}
		}
	}},
	{"publish and unpublish", func(x *stepsBench) func() []codec.Control {
		return func() []codec.Control {
			r := x.register(codec.PolicyLive)
			m := &codec.Unpublish{}
			m.Req, m.Room = 2, r.ID
			return []codec.Control{&codec.Publish{Req: 1, Room: r.ID}, m}
		}
	}},
	{"publish and unpublish where many have", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLive)
		again := func() []codec.Control {
			m := &codec.Unpublish{}
			m.Req, m.Room = 2, r.ID
			return []codec.Control{&codec.Publish{Req: 1, Room: r.ID}, m}
		}
		for range 2 * x.l.eng.rooms.Config().MaxPublishers {
			x.handle(again()...)
		}
		return again
	}},
	{"subscribe to 1,000 publishers", func(x *stepsBench) func() []codec.Control {
		r := x.register(codec.PolicyLive)
		if err := r.Grant("alice", codec.Everyone); err != nil {
			x.b.Fatal(err)
		}
		for i := range 1000 {
			if _, _, err := r.Publish(new(noHolder), fmt.Sprint("p", i), uint64(i), false); err != nil {
				x.b.Fatal(err)
			}
		}
		return func() []codec.Control { return []codec.Control{x.subscribe(r, 0), x.unsubscribe(r)} }
	}},
	{"grant and revoke", func(x *stepsBench) func() []codec.Control {
		return func() []codec.Control {
			g, r := &codec.Grant{}, &codec.Revoke{}
			g.Req, g.Room, g.Account = 1, x.room, "bob"
			r.Req, r.Room, r.Account = 2, x.room, "bob"
			return []codec.Control{g, r}
		}
	}},
	{"an inbox of 2,048 names", func(x *stepsBench) func() []codec.Control {
		m := &codec.Inbox{Req: 1, Room: codec.InboxOf("alice")}
		for i := range 1024 {
			m.Accept = append(m.Accept, fmt.Sprintf("accept-%018d", i))
			m.Block = append(m.Block, fmt.Sprintf("block-%019d", i))
		}
		return func() []codec.Control { return []codec.Control{m} }
	}},
	{"stat", func(x *stepsBench) func() []codec.Control {
		return func() []codec.Control {
			m := &codec.Stat{}
			m.Req, m.Room = 1, x.room
			return []codec.Control{m}
		}
	}},
}

// round measures what a frame of 20 bytes pushed by itself takes, which is one step, and right beside it, so that what
// else the machine does meets both, what a request takes for each step that it is charged.
func (x *stepsBench) round(next func() []codec.Control) (unit, charged float64) {
	took, n := x.handleBytes(x.frames(64))
	unit = float64(took) / float64(n)
	var frames []codec.Control
	for range 16 { // answers go out together, as those of a turn do
		frames = append(frames, next()...)
	}
	took, n = x.handle(frames...)
	return unit, float64(took) / float64(n)
}

// BenchmarkSteps compares what each request costs with what it is charged, in medians. docs/limits.md has the table.
func BenchmarkSteps(b *testing.B) {
	for _, c := range requestsCharged {
		b.Run(c.name, func(b *testing.B) {
			x := newStepsBench(b)
			next := c.make(x)
			var ratios []float64
			for b.Loop() {
				unit, charged := x.round(next)
				ratios = append(ratios, charged/unit)
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "x-charged")
		})
	}
}
