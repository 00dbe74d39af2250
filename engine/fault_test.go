package engine_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// reset closes a connection with a reset instead of an orderly end.
func (w *wire) reset() {
	_ = w.c.(*net.TCPConn).SetLinger(0)
	_ = w.c.Close()
}

// Subscribers hang up and reset in the middle of fan-outs, others take their places (and, the lowest free descriptor
// being given out first, their descriptors); those who stay see one unbroken stream.
func TestConnectionsThatCloseInTheMiddleOfAFanOut(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.SendBuffer = 64 << 10 })
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueBytes: 64 << 20, QueueMillis: 60_000})
	src := newSource(pub, room)
	stays := make([]*verifier, 4)
	var wires []*wire
	for i := range stays {
		w := login(t, e, "bob", uint64(10+i))
		w.subscribe(room)
		stays[i], wires = newVerifier(room), append(wires, w)
	}
	stop := make(chan struct{})
	var churn sync.WaitGroup
	for g := range 4 {
		churn.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", e.Addrs()[0].String())
				if err != nil {
					t.Error(err)
					return
				}
				b := enc((&codec.Hello{Account: "churn", Instance: uint64(g)}).Append(codec.AppendClientPreface(nil, 1, 1)))
				_, _ = c.Write(enc((&codec.Subscribe{Req: 1, Room: room}).Append(b)))
				got := make([]byte, 2000)
				_ = c.SetReadDeadline(time.Now().Add(patience))
				_, _ = c.Read(got)
				if i%2 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0) // reset, with frames on their way
				}
				_ = c.Close()
			}
		})
	}
	const frames = 3000
	var readers sync.WaitGroup
	for i, w := range wires {
		readers.Go(func() {
			v := stays[i]
			for v.stream(src.key(1)).next <= frames {
				x := w.any()
				if x == nil {
					t.Error("connection closed")
					return
				}
				if err := v.take(x); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range frames {
		src.push(1, 0, make([]byte, 3000))
	}
	readers.Wait()
	close(stop)
	churn.Wait()
	for _, v := range stays {
		if n := v.stream(src.key(1)).frames; n != frames {
			t.Errorf("%d frames of %d", n, frames)
		}
	}
}

// A connection with a full socket and a queue behind it is reset, and its descriptor number goes to the next connection
// at once: that one must get nothing of what was meant for the first.
func TestADescriptorNumberUsedAgain(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.SendBuffer, c.Loops = 16<<10, 1 })
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueMillis: 60_000})
	src := newSource(pub, room)
	again := 0
	for range 30 {
		stalled := login(t, e, "bob", 2)
		stalled.subscribe(room)
		for range 200 {
			src.push(1, codec.FlagKey, make([]byte, 30<<10)) // more than its sockets hold
		}
		src.settle()
		fd := e.Descriptor("bob", 2)
		stalled.reset()
		after := login(t, e, "carol", 3) // takes one of the lowest free numbers
		if e.Descriptor("carol", 3) == fd {
			again++
		}
		after.send(&codec.Ping{Echo: 4})
		if x, ok := after.any().(*codec.Pong); !ok || x.Echo != 4 {
			t.Fatalf("got %T", x)
		}
		after.c.Close()
	}
	if again == 0 {
		t.Error("no descriptor number was used again")
	}
	t.Logf("%d of 30 descriptor numbers were used again", again)
}

func TestOutOfDescriptors(t *testing.T) {
	srv := spawn(t, "server", "NOFILE=64")
	addr := strings.Fields(srv.expect("listening"))[1]
	pub, sub := on(t, addr, "alice", 1), on(t, addr, "bob", 2)
	room := pub.register(codec.Register{})
	src := newSource(pub, room)
	sub.subscribe(room)
	v := newVerifier(room)
	var held []net.Conn
	for range 100 { // those beyond the limit wait in the kernel's backlog, or are hung up on
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(greeting("crowd"))
		held = append(held, c)
	}
	srv.expect("out of descriptors")
	// Those who are in are served as ever.
	for seq := range uint64(100) {
		src.push(1, 0, []byte("still here"))
		v.upTo(sub, src.key(1), seq+1)
	}
	for _, c := range held {
		c.Close()
	}
	if l := srv.line(); !strings.Contains(l, "descriptors are free again") {
		t.Errorf("logged %s", l)
	}
	w := on(t, addr, "carol", 3)
	w.send(&codec.Ping{})
	next[*codec.Pong](w)
}
