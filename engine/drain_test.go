package engine_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// run starts a server that the test shuts down itself.
func run(t testing.TB, change ...func(*engine.Config)) *engine.Engine {
	t.Helper()
	cfg := engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2, Node: "test", DrainSpread: 50 * time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	e, err := engine.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func shutdown(e *engine.Engine, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return e.Shutdown(ctx)
}

// clean fails the test if the server left batches behind, or goroutines beyond those in before.
func clean(t testing.TB, e *engine.Engine, before goleak.Option) {
	t.Helper()
	if n := e.Batches(); n != 0 {
		t.Errorf("%d batches are still held", n)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// descriptors counts those of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// Everybody is told to go, gets all that was queued, hears why the room ended, and is closed in an orderly way.
func TestShutdownDrains(t *testing.T) {
	before, fds := goleak.IgnoreCurrent(), descriptors(t)
	e := run(t, smallSockets)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueBytes: 64 << 20, QueueMillis: 60_000})
	src := newSource(pub, room)
	slow, quick, silent := narrow(t, e, "bob", 2), login(t, e, "carol", 3), dial(t, e)
	slow.subscribe(room)
	quick.subscribe(room)
	pushGroups(src, 1, 200)
	src.settle()
	src.frame(1, 0, []byte("unread by the server when it closes, perhaps"))
	src.flush()

	result := make(chan error)
	go func() { result <- shutdown(e, patience) }()
	for _, w := range []*wire{slow, quick} {
		v := newVerifier(room)
		told := false
		v.until(w, func(x any) bool {
			if m, ok := x.(*codec.GoAway); ok {
				told = m.Code == codec.CodeGoingAway
			}
			_, ok := x.(*codec.Closed)
			return ok
		})
		if s := v.stream(src.key(1)); !told || v.closed != codec.CodeGoingAway || s.next < src.seq[1] || len(s.gaps) != 0 {
			t.Errorf("told to go: %v; closed %v after frame %d of %d, gaps %v", told, v.closed, s.next-1, src.seq[1], s.gaps)
		}
		if x := w.any(); x != nil {
			t.Errorf("%T after all", x)
		}
		w.c.Close()
	}
	if m := next[*codec.Closed](pub); m.Code != codec.CodeGoingAway {
		t.Errorf("publisher: closed %v", m.Code)
	}
	for pub.any() != nil {
	}
	pub.c.Close()
	silent.c.Close()
	if err := <-result; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	clean(t, e, before)
	if n := descriptors(t); n > fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if c, err := net.Dial("tcp", e.Addrs()[0].String()); err == nil {
		c.Close()
		t.Error("still accepting")
	}
}

// A client that does not read cannot hold a shutdown up beyond its bound.
func TestShutdownIsBounded(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := run(t, smallSockets)
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{QueueBytes: 64 << 20, QueueMillis: 60_000})
	src := newSource(pub, room)
	stalled := narrow(t, e, "bob", 2)
	stalled.subscribe(room)
	pushGroups(src, 1, 300)
	src.settle()
	if err := shutdown(e, 100*time.Millisecond); err == nil {
		t.Error("no error, although frames were queued")
	}
	stalled.c.Close()
	pub.c.Close()
	clean(t, e, before)
}

func TestADrainingNodeBeginsNothing(t *testing.T) {
	e := run(t, func(c *engine.Config) { c.DrainSpread = 300 * time.Millisecond })
	w := login(t, e, "alice", 1)
	room := w.register(codec.Register{})
	result := make(chan error)
	go func() { result <- shutdown(e, patience) }()
	next[*codec.GoAway](w)
	refusedWith(t, w.ask(&codec.Register{Req: 1}), 1, codec.CodeGoingAway)
	refusedWith(t, w.ask(&codec.Publish{Req: 2, Room: room}), 2, codec.CodeGoingAway)
	refusedWith(t, w.ask(&codec.Subscribe{Req: 3, Room: room}), 3, codec.CodeGoingAway)
	for w.any() != nil { // until the server closes
	}
	w.c.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// A thousand clients that come, take part and go, some of them rudely, leave nothing behind.
func TestNothingIsLeftBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := run(t)
	owner := login(t, e, "alice", 1)
	room, lossless := owner.register(codec.Register{}), owner.register(codec.Register{Policy: codec.PolicyLossless})
	fds := descriptors(t)
	for i := range 1000 {
		w := login(t, e, "alice", uint64(2+i%10))
		src := newSource(w, room)
		w.subscribe(room)
		w.subscribe(lossless)
		src.push(uint8(i%7), codec.FlagInit, make([]byte, 100))
		src.push(uint8(i%7), codec.FlagKey, make([]byte, 1000))
		if i%3 == 0 {
			w.reset()
		} else {
			w.c.Close()
		}
	}
	e.AwaitSessions(t, 1)
	for deadline := time.Now().Add(patience); descriptors(t) > fds; time.Sleep(time.Millisecond) { // a descriptor is closed after its session
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors, %d before", descriptors(t), fds)
		}
	}
	owner.c.Close()
	if err := shutdown(e, patience); err != nil {
		t.Error(err)
	}
	clean(t, e, before)
}

func TestStartTellsAllThatIsWrong(t *testing.T) {
	before, fds := goleak.IgnoreCurrent(), descriptors(t)
	_, err := engine.Start(engine.Config{Loops: -1, Ping: time.Nanosecond, MaxConns: -5})
	if err == nil {
		t.Fatal("no error")
	}
	type many interface{ Unwrap() []error }
	if m, ok := err.(many); !ok || len(m.Unwrap()) != 3 {
		t.Errorf("error: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Start(engine.Config{Listen: []string{"127.0.0.1:0", ln.Addr().String()}}); err == nil {
		t.Error("no error, although the address is taken")
	}
	pages := engine.Config{
		Listen: []string{"127.0.0.1:0"}, ListenWeb: []string{ln.Addr().String()}, Pages: http.HandlerFunc(showPage),
	}
	if _, err := engine.Start(pages); err == nil {
		t.Error("no error, although the address for pages is taken")
	}
	ln.Close()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if n := descriptors(t); n > fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
}
