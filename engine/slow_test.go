package engine_test

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// narrow is login with a small receive buffer, so that the server's socket is soon full when it does not read.
func narrow(t testing.TB, e *engine.Engine, account string, instance uint64) *wire {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if err := syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10); err != nil {
				t.Error(err)
			}
		})
	}}
	c, err := d.DialContext(context.Background(), "tcp", e.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &wire{t: t, c: c}
	w.write(enc((&codec.Hello{Account: account, Instance: instance}).Append(codec.AppendClientPreface(nil, 1, 1))))
	w.preface()
	next[*codec.Welcome](w)
	return w
}

func smallSockets(c *engine.Config) { c.SendBuffer = 64 << 10 }

// pushGroups pushes an init message, then n messages with a key message every tenth, some of them in pieces.
func pushGroups(src *source, dtype uint8, n int) {
	src.t.Helper()
	if src.seq[dtype] == 0 {
		src.push(dtype, codec.FlagInit, []byte("header"))
	}
	for i := range n {
		f := codec.Flags(0)
		if i%10 == 0 {
			f = codec.FlagKey
		}
		if i%3 == 0 {
			src.message(dtype, f, make([]byte, 9000), 4000)
		} else {
			src.push(dtype, f, make([]byte, 6000))
		}
	}
}

// One of ten subscribers reads nothing: the others get every frame, what is held for it stays bounded, and when it
// reads again what it gets keeps to the rule and goes on at a key message.
func TestOneOfTenStalled(t *testing.T) {
	e := start(t, smallSockets)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueBytes: 256 << 10, QueueMillis: 60_000})
	src := newSource(pub, room)
	stalled := narrow(t, e, "mallory", 2)
	stalled.subscribe(room)
	var healthy []*wire
	var vs []*verifier
	for i := range 9 {
		w := login(t, e, "bob", uint64(10+i))
		w.subscribe(room)
		healthy, vs = append(healthy, w), append(vs, newVerifier(room))
	}
	for range 60 {
		pushGroups(src, 1, 30)
		for i, w := range healthy {
			vs[i].upTo(w, src.key(1), src.seq[1])
		}
	}
	e.AwaitHeld(t, 2<<20) // what waits counts with the clock
	for i, v := range vs {
		if s := v.stream(src.key(1)); len(s.gaps) != 0 {
			t.Errorf("healthy subscriber %d missed %v", i, s.gaps)
		}
	}
	end := src.seq[1]
	v := newVerifier(room)
	v.upTo(stalled, src.key(1), end)
	s := v.stream(src.key(1))
	if v.missed(codec.GapSlow) == 0 || s.frames == 0 {
		t.Errorf("the stalled one got %d frames and missed %d", s.frames, v.missed(codec.GapSlow))
	}
	if n := uint64(s.frames) + v.missed(codec.GapSlow); n != end {
		t.Errorf("%d frames and gaps of %d", n, end)
	}
}

// What a slow subscriber of each policy receives keeps to the rule, and adds up.
func TestPoliciesOverRealSockets(t *testing.T) {
	for _, tc := range []struct {
		name   string
		reg    codec.Register
		reason codec.GapReason // that stands for what is missed
		end    codec.Code      // that ends the subscription
	}{
		{"live, by bytes", codec.Register{QueueBytes: 128 << 10, QueueMillis: 60_000}, codec.GapSlow, 0},
		{"live, by age", codec.Register{QueueBytes: 64 << 20, QueueMillis: 10}, codec.GapSlow, 0},
		{"latest", codec.Register{Policy: codec.PolicyLatest}, codec.GapNewer, 0},
		{"disconnect, by bytes", codec.Register{Policy: codec.PolicyDisconnect, QueueBytes: 128 << 10, QueueMillis: 60_000}, 0, codec.CodeTooSlow},
		{"disconnect, by age", codec.Register{Policy: codec.PolicyDisconnect, QueueMillis: 10}, 0, codec.CodeTooSlow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := start(t, smallSockets)
			pub := login(t, e, "alice", 1)
			room := pub.register(tc.reg)
			src := newSource(pub, room)
			slow := narrow(t, e, "bob", 2)
			slow.subscribe(room)
			pushGroups(src, 1, 150)
			for range 100 { // a stream without key messages beside it
				src.push(2, 0, make([]byte, 5000))
			}
			e.AwaitPolicy(t) // bounds on age act with the clock
			v := newVerifier(room)
			if tc.end != 0 {
				v.until(slow, func(x any) bool { _, ok := x.(*codec.Closed); return ok })
				if v.closed != tc.end {
					t.Errorf("closed %v", v.closed)
				}
				slow.send(&codec.Ping{}) // the session itself lives on
				next[*codec.Pong](slow)
				slow.subscribe(room)
				return
			}
			pushGroups(src, 1, 10)
			src.push(1, codec.FlagKey, []byte("last of 1"))
			src.push(2, 0, []byte("last of 2"))
			v.upTo(slow, src.key(1), src.seq[1])
			v.upTo(slow, src.key(2), src.seq[2])
			if v.missed(tc.reason) == 0 {
				t.Error("nothing was missed")
			}
			for k, s := range v.streams {
				for _, g := range s.gaps {
					if g.Reason != tc.reason {
						t.Errorf("stream %v: gap %+v", k, g)
					}
				}
			}
			if n := uint64(v.stream(src.key(1)).frames+v.stream(src.key(2)).frames) + v.missed(tc.reason); n != src.seq[1]+src.seq[2] {
				t.Errorf("%d frames and gaps of %d", n, src.seq[1]+src.seq[2])
			}
		})
	}
}

// A lossless room carries everything to a slow reader; the publisher moves with it.
func TestLosslessOverRealSockets(t *testing.T) {
	e := start(t, smallSockets, func(c *engine.Config) { c.Rooms.Window = 256 << 10 })
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{Policy: codec.PolicyLossless})
	src := newSource(pub, room)
	slow, fast := narrow(t, e, "bob", 2), login(t, e, "carol", 3)
	const messages = 500
	var readers sync.WaitGroup
	for i, w := range []*wire{slow, fast} {
		w.send(&codec.Subscribe{Req: 1, Room: room})
		if s := next[*codec.Subscribed](w); s.Window != 256<<10 {
			t.Errorf("window %d", s.Window)
		}
		readers.Go(func() {
			v := newVerifier(room)
			s := v.stream(src.key(1))
			for owed := 0; s.frames < messages; {
				x := w.any()
				if err := v.take(x); err != nil || x == nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				if f, ok := x.(*codec.Stream); ok {
					if owed += len(f.Payload) + codec.StreamHeaderSize; owed > 32<<10 || f.Seq == messages {
						w.send(&codec.Ack{Room: room, StreamKey: src.key(1), Seq: f.Seq})
						owed = 0
					}
				}
			}
			if len(s.gaps) != 0 {
				t.Errorf("reader %d: gaps %v", i, s.gaps)
			}
		})
	}
	for range messages {
		src.push(1, 0, make([]byte, 10_000))
		if e.Held() > 4<<20 {
			t.Fatalf("%d bytes held", e.Held())
		}
	}
	src.settle()
	readers.Wait()
}

// A subscriber that does not read still hears why its room ended, after all that had been queued for it.
func TestClosedComesAfterEverythingQueued(t *testing.T) {
	e := start(t, smallSockets)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueBytes: 64 << 20, QueueMillis: 60_000})
	src := newSource(pub, room)
	slow := narrow(t, e, "bob", 2)
	slow.subscribe(room)
	pushGroups(src, 1, 300)
	src.settle()
	okayed(t, pub.ask(remove(9, room)), 9)
	v := newVerifier(room)
	v.until(slow, func(x any) bool { _, ok := x.(*codec.Closed); return ok })
	if s := v.stream(src.key(1)); v.closed != codec.CodeRemoved || s.next != src.seq[1]+1 || len(s.gaps) != 0 {
		t.Errorf("closed %v after frame %d of %d, gaps %v", v.closed, s.next-1, src.seq[1], s.gaps)
	}
}

// When all frames in memory together are too many, the slowest are shed, whatever their rooms allow them.
func TestMemoryBoundShedsTheWorst(t *testing.T) {
	const bound = 16 << 20
	e := start(t, smallSockets, func(c *engine.Config) {
		c.MemoryBound = bound
		c.Rooms.History, c.Rooms.Window = 64<<10, 1<<20
	})
	pub := login(t, e, "alice", 1)
	var rooms []codec.RoomID
	var srcs []*source
	var stalled []*wire
	for i, p := range []codec.Policy{codec.PolicyLive, codec.PolicyLive, codec.PolicyDisconnect} {
		room := pub.register(codec.Register{Policy: p, QueueBytes: 60 << 20, QueueMillis: 60_000})
		rooms, srcs = append(rooms, room), append(srcs, newSource(pub, room))
		w := narrow(t, e, "bob", uint64(10+i))
		w.subscribe(room)
		stalled = append(stalled, w)
	}
	healthy := login(t, e, "carol", 2)
	healthy.subscribe(rooms[0])
	hv := newVerifier(rooms[0])
	worst := int64(0)
	for range 15 {
		for i, s := range srcs {
			pushGroups(s, 1, 80)
			if i == 0 {
				hv.upTo(healthy, s.key(1), s.seq[1])
			}
			s.settle()
			worst = max(worst, e.Held())
		}
	}
	if worst > 3*bound {
		t.Errorf("%d bytes held, bound %d", worst, bound)
	}
	if len(hv.stream(srcs[0].key(1)).gaps) != 0 {
		t.Error("the healthy subscriber missed frames")
	}
	sum := uint64(0)
	for i, w := range stalled {
		v := newVerifier(rooms[i])
		srcs[i].push(1, codec.FlagKey, []byte("last"))
		v.until(w, func(any) bool { return v.closed != 0 || v.stream(srcs[i].key(1)).next > srcs[i].seq[1] })
		sum += v.missed(codec.GapSlow)
		if v.closed != 0 && v.closed != codec.CodeTooSlow {
			t.Errorf("closed %v", v.closed)
		}
	}
	if sum == 0 {
		t.Error("nothing was shed")
	}
}
