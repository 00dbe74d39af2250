package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/clock"
	"github.com/timedge/timedge/internal/record"
)

// queued waits until n goroutines wait at the gate.
func (g *gate) queued(n int) {
	for {
		g.mu.Lock()
		is := len(g.again) + len(g.first)
		g.mu.Unlock()
		if is == n {
			return
		}
		runtime.Gosched()
	}
}

// Who comes first is served first, but for those that have been served before: they go on at once.
func TestGateOrder(t *testing.T) {
	t.Parallel()
	g := newGate(1, nil)
	from, err := g.enter(false, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var order []string // guarded by the gate
	var done sync.WaitGroup
	for i, w := range []struct {
		name   string
		served bool
	}{{"a", false}, {"b", false}, {"c", true}, {"d", false}, {"e", true}} {
		done.Go(func() {
			from, err := g.enter(w.served, time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, w.name)
			g.leave(from)
		})
		g.queued(i + 1)
	}
	g.leave(from)
	done.Wait()
	if got := strings.Join(order, ""); got != "ceabd" {
		t.Errorf("served in the order %s", got)
	}
}

// There are as many places as processors of the share, begun ones included, and at least one.
func TestGatePlaces(t *testing.T) {
	t.Parallel()
	for share, places := range map[float64]int{0.25: 1, 0.5: 1, 1: 1, 1.25: 2, 4: 4} {
		if g := newGate(share, nil); g.free != places {
			t.Errorf("a share of %v has %d places, want %d", share, g.free, places)
		}
	}
}

// What others do with the processors meanwhile is not what a handshake has taken.
func TestGateCountsItsOwnTime(t *testing.T) {
	t.Parallel()
	g := newGate(1, nil)
	from, err := g.enter(false, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const others = 200 * time.Millisecond
	done := make(chan struct{})
	go func() {
		defer close(done)
		for began := time.Now(); time.Since(began) < others; {
		}
	}()
	<-done
	g.leave(from)
	g.mu.Lock()
	idle := g.debt
	g.mu.Unlock()
	if idle > others/2 {
		t.Errorf("a handshake that did nothing for %v has taken %v", others, idle)
	}
	if from, err = g.enter(false, time.Minute); err != nil {
		t.Fatal(err)
	}
	for began := clock.Thread(); clock.Thread()-began < others; {
	}
	g.leave(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.debt < others/2 {
		t.Errorf("a handshake that computed for %v has taken %v", others, g.debt)
	}
}

// Who has waited for too long, or hung up while it waited, gets no place, and those behind it do.
func TestGateLetsGo(t *testing.T) {
	t.Parallel()
	g := newGate(1, nil)
	from, err := g.enter(false, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	late, next := make(chan error, 1), make(chan error, 1)
	enter := func(to chan error, most time.Duration) {
		from, err := g.enter(false, most)
		if err == nil {
			g.leave(from)
		}
		to <- err
	}
	go enter(late, 0)
	g.queued(1)
	go enter(next, time.Minute)
	g.queued(2)
	g.leave(from)
	if err := <-late; !errors.Is(err, errCrowd) {
		t.Errorf("who waited too long was answered with %v", err)
	}
	if err := <-next; err != nil {
		t.Errorf("who came behind it was answered with %v", err)
	}
}

// After a burst those rest that have not begun: who has is through at once.
func TestGateRestsBeforeTheFirst(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	g := newGate(1, stop)
	g.debt, g.at = time.Hour, time.Now()
	from, err := g.enter(true, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	g.leave(from)
	answer := make(chan error, 1)
	go func() {
		_, err := g.enter(false, 2*time.Hour)
		answer <- err
	}()
	g.queued(1)
	close(stop)
	if err := <-answer; !errors.Is(err, net.ErrClosed) {
		t.Errorf("with an hour to rest for it is answered with %v", err)
	}
}

// Who would have to wait for too long is told so as it comes, by what those before it will take; whoever has been served
// before is never sent away for those that have not.
func TestGateTellsAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate(0.5, nil)
	from, err := g.enter(false, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.spent, g.begun = 200*time.Second, 100 // 4 s of the clock each, at this share
	g.mu.Unlock()
	var done sync.WaitGroup
	wait := func(served bool) {
		done.Go(func() {
			from, err := g.enter(served, time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			g.leave(from)
		})
	}
	const most = 10 * time.Second
	for n := range 3 {
		g.queued(n)
		wait(false)
	}
	g.queued(3)
	if _, err := g.enter(false, most); !errors.Is(err, errCrowd) {
		t.Errorf("with 12 s of work before it, a client that may wait for %v is answered with %v", most, err)
	}
	wait(false) // it may wait for a minute
	wait(true)
	g.queued(5)
	g.leave(from)
	done.Wait()
}

// The gate knows what handshakes take by those of late.
func TestGateLearns(t *testing.T) {
	t.Parallel()
	g := newGate(1, nil)
	compute := func(d time.Duration, times int) time.Duration {
		for range times {
			from, err := g.enter(false, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			g.leave(from - d) // as if it had begun so much earlier
			g.mu.Lock()
			g.debt = 0
			g.mu.Unlock()
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.spent / time.Duration(g.begun)
	}
	if each := compute(time.Second, 10); each < time.Second || each > 2*time.Second {
		t.Errorf("handshakes of a second take %v", each)
	}
	if each := compute(0, 10*lately); each > time.Second/4 {
		t.Errorf("handshakes that take nothing any more still take %v", each)
	}
}

// A ClientHello that comes with a balancer's PROXY header, in one piece, waits for a place like any other.
func TestGateBehindProxyHeader(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	cfg := record.Config(&tls.Config{Certificates: []tls.Certificate{testCertificate}})
	e := &Engine{log: zerolog.Nop(), gate: newGate(1, nil), cfg: Config{TLS: cfg}}
	e.lives.Store(&e.cfg)
	e.limits.init(&Limits{})
	from, err := e.gate.enter(false, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() {
		s := &session{role: client{}, carrier: &carrier{}}
		_, err := e.handshakes(far.(*net.TCPConn), transport{tls: true, proxy: true}, s, time.Now().Add(time.Minute))
		done <- err
	}()
	over := &behind{Conn: near, head: []byte("PROXY UNKNOWN\r\n"), answered: make(chan struct{})}
	go func() { done <- tls.Client(over, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	waiting := make(chan struct{})
	go func() { e.gate.queued(1); close(waiting) }()
	select {
	case <-waiting:
	case <-over.answered:
		t.Fatal("it was answered while another had the only place")
	}
	e.gate.leave(from)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// behind is a connection on which a head goes out with what is written first.
type behind struct {
	net.Conn
	head     []byte
	answered chan struct{} // closed when the first bytes have come
	once     sync.Once
}

func (b *behind) Write(p []byte) (int, error) {
	head := b.head
	b.head = nil
	if _, err := b.Conn.Write(append(head, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (b *behind) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.once.Do(func() { close(b.answered) })
	return n, err
}

// Nothing is computed for a client that has hung up before its turn.
func TestNobodyComputesForTheGone(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, gone := range map[string]bool{"gone": true, "waiting": false} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if gone {
			_ = client.Close()
		}
		g := newGate(1, nil)
		from, err := g.enter(false, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		c := &shaking{TCPConn: server.(*net.TCPConn), gate: g, until: time.Now().Add(time.Hour)}
		answer := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			c.rest()
			answer <- err
		}()
		g.queued(1)
		for began := time.Now(); time.Since(began) <= longWait; {
			runtime.Gosched()
		}
		g.leave(from)
		if err := <-answer; errors.Is(err, errGone) != gone {
			t.Errorf("%s: answered with %v", name, err)
		}
		_, _ = client.Close(), server.Close()
	}
}

// Who has to wait for a place at the gate for longer than the hello may take is not cut off for that, before the
// handshake or after it.
func TestGateWaitIsNobodysTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("somebody waits for some seconds")
	}
	const hello = 3 * time.Second
	e, err := Start(Config{
		ListenTLS: []string{"127.0.0.1:0"}, TLS: &tls.Config{Certificates: []tls.Certificate{testCertificate}},
		Loops: 1, Node: "test", Log: zerolog.Nop(), HelloTimeout: hello,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = e.Shutdown(ctx)
	}()
	entered := make(chan struct{})
	go func() {
		from, err := e.gate.enter(false, time.Minute)
		if err != nil {
			t.Error(err)
		}
		close(entered)
		<-time.After(hello + time.Second)
		e.gate.leave(from)
	}()
	<-entered
	c, err := tls.Dial("tcp", e.Addrs()[0].String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal("cut off in the handshake: ", err)
	}
	defer c.Close()
	b, err := (&codec.Hello{Account: "ann", Instance: 1}).Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	answer := make([]byte, codec.PrefaceSize+codec.LengthSize+1)
	if _, err := io.ReadFull(c, answer); err != nil || answer[len(answer)-1] != codec.TypeWelcome {
		t.Errorf("answered with %x, %v", answer, err)
	}
	silent, err := net.Dial("tcp", e.Addrs()[0].String()) // who says nothing waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = silent.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := silent.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a silent one is kept: %d, %v", n, err)
	}
}
