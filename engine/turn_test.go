package engine_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// withPollers runs a test with loops that stop reading who is paused, and with loops that cannot.
func withPollers(t *testing.T, run func(t *testing.T, e *engine.Engine)) {
	t.Run("told", func(t *testing.T) {
		e := start(t)
		if !e.Pollers() {
			t.Fatal("the kernel did not tell which epoll instance is the reactor's")
		}
		run(t, e)
	})
	t.Run("not told", func(t *testing.T) {
		e := start(t)
		e.ForgetPollers()
		run(t, e)
	})
}

// Far more frames than a turn has, cut anywhere, are all handled, in order.
func TestManyTinyFrames(t *testing.T) {
	withPollers(t, func(t *testing.T, e *engine.Engine) {
		w := login(t, e, "alice", 1)
		const n = 10_000
		var b []byte
		for i := range n {
			b = enc((&codec.Ping{Echo: uint64(i)}).Append(b))
		}
		for _, size := range []int{7, 30_001, 3, 20_000, len(b)} {
			size = min(size, len(b))
			w.write(b[:size])
			b = b[size:]
		}
		for i := range n {
			if p := next[*codec.Pong](w); p.Echo != uint64(i) {
				t.Fatalf("pong %d, expected %d", p.Echo, i)
			}
		}
		if n, _ := e.Waiting(); n != 0 {
			t.Errorf("%d bytes are left waiting", n)
		}
	})
}

// What a publisher has sent counts, though it has left before the server had handled all of it.
func TestPushedBeforeClosing(t *testing.T) {
	withPollers(t, func(t *testing.T, e *engine.Engine) {
		pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
		room := pub.register(codec.Register{})
		sub.subscribe(room)
		num := pub.publish(room).Pub
		const n = 5000
		var b []byte
		for i := range n { // each frame is a run of its own
			b = enc((&codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: num, Dtype: uint8(i % 2)}, Seq: uint64(1 + i/2), Flags: codec.FlagKey, Payload: []byte("x")}).Append(b))
		}
		pub.write(b)
		if err := pub.c.(*net.TCPConn).CloseWrite(); err != nil { // to close all of it with acknowledgements unread would be a reset
			t.Fatal(err)
		}
		for i := range n {
			if f := next[*codec.Stream](sub); f.Dtype != uint8(i%2) || f.Seq != uint64(1+i/2) {
				t.Fatalf("frame %d is %d of stream %d", i, f.Seq, f.Dtype)
			}
		}
		if n, _ := e.Waiting(); n != 0 {
			t.Errorf("%d bytes are left waiting", n)
		}
	})
}

// What a publisher makes another loop do does not pile up there, however much it sends and however small the frames: it
// waits in its socket, and comes when that loop has caught up, all of it and in order.
func TestLoopThatIsBehind(t *testing.T) {
	e := start(t, quiet)
	pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := pub.register(codec.Register{Policy: codec.PolicyLossless})
	sub.subscribe(room)
	num := pub.publish(room).Pub
	at := e.LoopOf("bob")
	if at == e.LoopOf("alice") {
		t.Fatal("both are on one loop")
	}
	goOn := e.Stop(at)
	defer goOn()
	const n = 60_000
	go pub.write(singles(room, num, n))
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // between two looks
		waits, most := e.WaitingOf(1 - at)
		items, behind := e.Behind(at)
		if behind && waits > 0 {
			if items > engine.MostBehind(1) {
				t.Errorf("%d items wait for the loop, bound %d", items, engine.MostBehind(1))
			}
			if most > 1<<20 {
				t.Errorf("%d bytes of the session wait, bound a read", most)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d items wait for the loop, and %d bytes for turns: nobody is held back", items, waits)
		}
	}
	e.LookForSilence(1-at, 20) // who waits for its turn is not silent, however long that takes
	goOn()
	sub.takeSingles(room, n)
}

// What another node forwards has turns, too: it makes no more wait for a loop that is behind than a client's frames
// would, its link is not taken for a dead one meanwhile, and all of it comes, in order.
func TestLinkIsHeldBack(t *testing.T) {
	nodes := startClusterOf(t, func(c *engine.Config) {
		quiet(c)
		c.Loops = 4               // some of them without a link
		c.Rooms.Stall = time.Hour // who waits for a loop that is stopped is not cut off
	}, "a", "b")
	a, b := nodes[0], nodes[1]
	owner := login(t, a, "alice", 1)
	room := owner.register(codec.Register{Policy: codec.PolicyLossless})
	var sub *wire
	at := -1
	for i := range uint64(16) { // until one is on a loop without links
		account := fmt.Sprint("bob", i)
		sub = login(t, a, account, 1)
		if at = a.LoopOf(account); !slices.Contains(a.LoopsOf("b"), at) {
			break
		}
		at = -1
	}
	if at < 0 {
		t.Skip("all loops have links")
	}
	sub.subscribe(room)
	pub := login(t, b, "alice", 2)
	num := pub.publish(room).Pub
	links := a.LoopsOf("b")
	goOn := a.Stop(at)
	defer goOn()
	const n = 8000
	go pub.write(singles(room, num, n))
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // between two looks
		waiting := 0
		for _, loop := range links {
			n, closed := a.SilenceWaitingLinks(loop)
			if waiting += n; closed > 0 {
				t.Fatal("a link that waits for its turn is taken for a dead one")
			}
		}
		items, behind := a.Behind(at)
		if most := engine.MostBehind(4); items > most { // the owner, two links and who else is there
			t.Fatalf("%d items wait for the loop, bound %d", items, most)
		}
		if behind && waiting > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d items wait for the loop, and %d links: the link is not held back", items, waiting)
		}
	}
	goOn()
	sub.takeSingles(room, n)
}

// singles returns n frames of a publisher, by turns of two streams, so that each is a run of its own.
func singles(room codec.RoomID, num uint16, n int) (b []byte) {
	for i := range n {
		b = enc((&codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: num, Dtype: uint8(i % 2)},
			Seq: uint64(1 + i/2), Payload: []byte("x")}).Append(b))
	}
	return b
}

// takeSingles receives what singles returned, and acknowledges it now and then.
func (w *wire) takeSingles(room codec.RoomID, n int) {
	w.t.Helper()
	for i := range n {
		f := next[*codec.Stream](w)
		if f.Dtype != uint8(i%2) || f.Seq != uint64(1+i/2) {
			w.t.Fatalf("frame %d is %d of stream %d", i, f.Seq, f.Dtype)
		}
		if i%1000 == 999 {
			w.send(&codec.Ack{Room: room, StreamKey: f.StreamKey, Seq: f.Seq})
		}
	}
}

// A client that comes and goes without waiting for answers gets them all, in the order of its requests, and what it
// sends behind them.
func TestComesAndGoes(t *testing.T) {
	withPollers(t, func(t *testing.T, e *engine.Engine) {
		w := login(t, e, "alice", 1)
		room := w.register(codec.Register{})
		const n = 300
		var b []byte
		for i := range uint32(n) {
			u := &codec.Unsubscribe{}
			u.Req, u.Room = 3*i+2, room
			b = enc((&codec.Subscribe{Req: 3*i + 1, Room: room}).Append(b))
			b = enc(u.Append(b))
			u.Req = 3*i + 3 // of a room that it has left
			b = enc(u.Append(b))
		}
		w.write(enc((&codec.Ping{Echo: 7}).Append(b)))
		for i := range uint32(n) {
			if m := next[*codec.Subscribed](w); m.Req != 3*i+1 {
				t.Fatalf("an answer to request %d, expected %d", m.Req, 3*i+1)
			}
			if m := next[*codec.OK](w); m.Req != 3*i+2 {
				t.Fatalf("an answer to request %d, expected %d", m.Req, 3*i+2)
			}
			if m := next[*codec.Refused](w); m.Req != 3*i+3 || m.Code != codec.CodeNotSubscribed {
				t.Fatalf("%v to request %d, expected not_subscribed to %d", m.Code, m.Req, 3*i+3)
			}
		}
		if m := next[*codec.Pong](w); m.Echo != 7 {
			t.Errorf("pong %d, expected 7", m.Echo)
		}
		if n, _ := e.Waiting(); n != 0 {
			t.Errorf("%d bytes are left waiting", n)
		}
	})
}
