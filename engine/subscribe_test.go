package engine_test

import (
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

func TestNoEcho(t *testing.T) {
	for _, tc := range []struct {
		name           string
		subscribeFirst bool
	}{{"subscribes, then publishes", true}, {"publishes, then subscribes", false}} {
		t.Run(tc.name, func(t *testing.T) {
			e := start(t)
			alice, bob := login(t, e, "alice", 1), login(t, e, "bob", 2)
			room := alice.register(codec.Register{})
			okayed(t, alice.ask(grant(1, room, "bob")), 1)
			other := newSource(bob, room)
			subscribe := func() {
				alice.send(&codec.Subscribe{Req: 2, Room: room, Flags: codec.SubNoEcho})
				next[*codec.Subscribed](alice)
			}
			if tc.subscribeFirst {
				subscribe()
			}
			own := newSource(alice, room)
			if !tc.subscribeFirst {
				own.push(1, 0, []byte("before"))
				subscribe()
			}
			// In one write: frames, then a new number, then frames under it.
			first := own.pub
			for range 5 {
				own.frame(1, 0, []byte("mine"))
			}
			own.buf = enc(unpublish(3, room).Append(own.buf))
			own.buf = enc((&codec.Publish{Req: 4, Room: room}).Append(own.buf))
			own.pub++ // the next number is the next free one
			own.seq[1] = 0
			if own.pub == other.pub {
				own.pub++
			}
			own.frame(1, 0, []byte("mine again"))
			own.flush()
			v := newVerifier(room)
			v.joined[other.pub] = "bob" // told before the answer to publish, which the test has read past
			published := false
			sent := false
			v.until(alice, func(x any) bool {
				switch m := x.(type) {
				case *codec.Published:
					published = m.Pub == own.pub
					other.push(1, 0, []byte("yours"))
					sent = true
				case *codec.Stream:
					if m.Pub != other.pub {
						t.Errorf("own frame %d of publisher %d (first %d) came back", m.Seq, m.Pub, first)
						return true
					}
					return sent
				}
				return false
			})
			if !published {
				t.Error("published under another number than the test guessed")
			}
		})
	}
}

func TestCountsReachThoseWhoAsked(t *testing.T) {
	e := start(t)
	owner := login(t, e, "alice", 1)
	room := owner.register(codec.Register{})
	owner.send(&codec.Publish{Req: 1, Room: room, Flags: codec.PubCount})
	next[*codec.Published](owner)
	asked, silent := login(t, e, "bob", 2), login(t, e, "carol", 3)
	asked.send(&codec.Subscribe{Req: 1, Room: room, Flags: codec.SubCount})
	silent.subscribe(room)
	until := func(w *wire, subs, pubs uint64) {
		t.Helper()
		for {
			if c := next[*codec.Count](w); c.Room == room && c.Subscribers == subs && c.Publishers == pubs {
				return
			}
		}
	}
	until(owner, 2, 1)
	until(asked, 2, 1)
	silent.c.Close()
	until(owner, 1, 1)
	until(asked, 1, 1)

	// carol's other session, which asked for nothing, gets no count among its frames.
	quiet := login(t, e, "carol", 4)
	quiet.subscribe(room)
	until(owner, 2, 1)
	owner.ask(remove(9, room))
	for {
		switch m := quiet.any().(type) {
		case *codec.Count:
			t.Fatalf("unwanted %+v", m)
		case *codec.Closed:
			return
		case nil:
			t.Fatal("connection closed")
		}
	}
}

// Whoever subscribes and unsubscribes faster than it is answered is answered as if it had waited each time.
func TestSubscribeAndUnsubscribeInOneWrite(t *testing.T) {
	e := start(t)
	room := login(t, e, "alice", 1).register(codec.Register{})
	w := login(t, e, "bob", 2)
	var b []byte
	for req := uint32(1); req < 10; req += 2 {
		b = enc((&codec.Subscribe{Req: req, Room: room}).Append(b))
		b = enc(unsubscribe(req+1, room).Append(b))
	}
	w.write(enc((&codec.Subscribe{Req: 11, Room: room}).Append(b)))
	for req := uint32(1); req < 10; req += 2 {
		if m := next[*codec.Subscribed](w); m.Req != req {
			t.Fatalf("request %d was answered, expected %d", m.Req, req)
		}
		if m := next[*codec.OK](w); m.Req != req+1 {
			t.Fatalf("request %d was answered, expected %d", m.Req, req+1)
		}
	}
	if m := next[*codec.Subscribed](w); m.Req != 11 {
		t.Fatalf("request %d was answered, expected 11", m.Req)
	}
}

// The ok of an unsubscribe comes after all that was on its way, and nothing of the room after it.
func TestUnsubscribeInTheMiddleOfAStream(t *testing.T) {
	e := start(t)
	pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := pub.register(codec.Register{})
	src := newSource(pub, room)
	stop := make(chan struct{})
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		for {
			select {
			case <-stop:
				return
			default:
				src.push(1, 0, make([]byte, 100))
			}
		}
	}()
	for round := range 20 {
		v := newVerifier(room)
		sub.send(&codec.Subscribe{Req: 1, Room: room})
		v.until(sub, func(x any) bool { _, ok := x.(*codec.Stream); return ok })
		sub.send(unsubscribe(2, room))
		v.until(sub, func(x any) bool { _, ok := x.(*codec.OK); return ok })
		sub.send(&codec.Ping{Echo: uint64(round)})
		switch m := sub.any().(type) {
		case *codec.Pong:
		default:
			t.Fatalf("%T after the ok", m)
		}
	}
	close(stop)
	<-pushed
}

// Who leaves a room and comes back in one breath leaves first, then comes back.
func TestUnsubscribeAndSubscribeInOneWrite(t *testing.T) {
	e := start(t)
	pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := pub.register(codec.Register{})
	sub.send(&codec.Subscribe{Req: 1, Room: room})
	if m, ok := sub.any().(*codec.Subscribed); !ok || m.Req != 1 {
		t.Fatalf("not subscribed: %T", m)
	}
	both := enc(unsubscribe(2, room).Append(nil))
	sub.write(enc((&codec.Subscribe{Req: 3, Room: room}).Append(both)))
	if m, ok := sub.any().(*codec.OK); !ok || m.Req != 2 {
		t.Fatalf("not unsubscribed: %T", m)
	}
	if m, ok := sub.any().(*codec.Subscribed); !ok || m.Req != 3 {
		t.Fatalf("not subscribed again: %T", m)
	}
}

func TestARoomEndsOnceForASessionThatPublishesAndSubscribes(t *testing.T) {
	e := start(t)
	alice, bob := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := alice.register(codec.Register{})
	okayed(t, alice.ask(grant(1, room, "bob")), 1)
	src := newSource(bob, room)
	bob.subscribe(room)
	src.push(1, 0, []byte("x"))
	v := newVerifier(room)
	v.upTo(bob, src.key(1), 1)
	okayed(t, alice.ask(remove(2, room)), 2)
	v.until(bob, func(x any) bool { _, ok := x.(*codec.Closed); return ok })
	bob.send(&codec.Ping{})
	if x, ok := bob.any().(*codec.Pong); !ok {
		t.Errorf("%T after closed", x)
	}
	if v.closed != codec.CodeRemoved {
		t.Errorf("closed %v", v.closed)
	}
}

func TestRoomsEndByThemselves(t *testing.T) {
	for _, tc := range []struct {
		name string
		reg  codec.Register
		code codec.Code
	}{
		{"idle", codec.Register{IdleMillis: 50}, codec.CodeIdle},
		{"expired", codec.Register{ExpireMillis: 50}, codec.CodeExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := start(t, func(c *engine.Config) { c.Rooms.IdleMin = time.Millisecond })
			pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
			room := pub.register(tc.reg)
			pub.publish(room)
			sub.subscribe(room)
			for _, w := range []*wire{pub, sub} {
				if m := next[*codec.Closed](w); m.Code != tc.code || m.Room != room {
					t.Errorf("closed %+v", m)
				}
			}
			refusedWith(t, sub.ask(&codec.Subscribe{Req: 3, Room: room}), 3, codec.CodeRoomUnknown)
		})
	}
}

func TestLateJoinAndResumeOverTheWire(t *testing.T) {
	e := start(t)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{})
	src := newSource(pub, room)
	src.push(1, codec.FlagInit, []byte("header"))
	for i := range 100 {
		f := codec.Flags(0)
		if i%25 == 0 {
			f = codec.FlagKey
		}
		src.push(1, f, []byte("picture"))
	}
	src.settle()
	late := login(t, e, "bob", 2)
	late.subscribe(room)
	v := newVerifier(room)
	v.upTo(late, src.key(1), 101)
	if s := v.stream(src.key(1)); s.frames != 26 || v.missed(codec.GapJoined) != 75 {
		t.Errorf("late joiner: %d frames, %d missed", s.frames, v.missed(codec.GapJoined))
	}
	back := login(t, e, "carol", 3)
	at := codec.Position{StreamKey: src.key(1), Last: 40}
	back.subscribe(room, at)
	v = newVerifier(room)
	v.resume(at)
	v.upTo(back, src.key(1), 101)
	if s := v.stream(src.key(1)); s.frames != 61 || len(s.gaps) != 0 {
		t.Errorf("resumed: %d frames, gaps %v", s.frames, s.gaps)
	}
}

// Subscribers come and go while frames flow; each sees one unbroken stream from where it joined.
func TestNoSeamWhenJoiningARunningStream(t *testing.T) {
	e := start(t)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{})
	src := newSource(pub, room)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			f := codec.Flags(0)
			if i%10 == 0 {
				f = codec.FlagKey
			}
			src.push(1, f, make([]byte, 200))
		}
	}()
	for i := range 50 {
		w := login(t, e, "bob", uint64(100+i))
		w.subscribe(room)
		v := newVerifier(room)
		v.until(w, func(any) bool { return v.stream(src.key(1)).frames > 30 })
		if n := v.missed(codec.GapSlow); n != 0 {
			t.Errorf("subscriber %d missed %d frames as if slow", i, n)
		}
		w.c.Close()
	}
	close(stop)
	<-done
}

func TestSilentClientsArePingedThenClosed(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Ping = 100 * time.Millisecond })
	w := login(t, e, "alice", 1)
	ping := next[*codec.Ping](w)
	w.send(&codec.Pong{Echo: ping.Echo})
	next[*codec.Ping](w)
	if m := next[*codec.Error](w); m.Code != codec.CodeSilent {
		t.Errorf("error %v", m.Code)
	}
}
