package promises

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// TestSlowSubscribers has one subscriber in ten of a live room stall and one in ten read at half the speed of the
// stream. None of the others misses a frame; the slow ones are told of all that they miss, and go on at a key frame;
// and the server's memory stays within a bound and does not grow.
//
// The publisher pushes as fast as the slowest of the healthy ones reads, so that the machine's speed does not matter;
// in the long form at most 500 messages of 8 KiB a second.
func TestSlowSubscribers(t *testing.T) {
	const (
		payload = 8 << 10
		group   = 50   // messages
		enough  = 2000 // messages that no buffers on the way to a stalled one can hold
		queue   = 1 * mib
		// What the server may hold: for each slow one twice its queue; the rest is the program itself, the late-join cache,
		// and what the garbage collector has not come to yet. Beside that, once for all of them, what came while it was found
		// out that they do not keep up (docs/decisions/keeping-up.md).
		standing = subscribers/5*2*queue + 64*mib
		foundOut = 3 * time.Second // of the stream, where it was fastest
	)
	run, pace := 8*time.Second, time.NewTicker(time.Nanosecond)
	defer pace.Stop()
	switch {
	case long:
		run = 5 * time.Minute
		pace.Reset(2 * time.Millisecond)
	case testing.Short():
		run = 7 * time.Second // as long as it takes to find out that somebody reads nothing, and some more
	}
	s := serve(t)
	owner := dialAs(t, s.addr, "alice")
	room := must(owner.Register(t.Context(), client.RoomOptions{QueueBytes: queue}))(t)
	pub := must(owner.Publish(t.Context(), room, client.PublishOptions{}))(t)
	a := gather(t, s.addr, room)
	defer a.stop()

	rss := samples{of: s.process, every: run / 60}
	body := make([]byte, payload)
	pushed := uint64(0)
	var times []time.Time // when every hundredth message was pushed
	for begun := time.Now(); a.ctx.Err() == nil && (pushed < enough || time.Since(begun) < run); {
		<-pace.C
		a.awaitHealthy(pushed)
		kind := client.Delta
		if pushed%group == 0 {
			kind = client.Key
		}
		if err := pub.Push(a.ctx, 0, kind, body); err != nil {
			break // the audience says why
		}
		if pushed++; pushed%100 == 0 {
			times = append(times, time.Now())
		}
		a.allow(pushed)
		if now := time.Since(begun); rss.take(now) && long {
			t.Logf("%3.0f s: %6d messages, server %5.1f MB", now.Seconds(), pushed, float64(rss.v[len(rss.v)-1])/1e6)
		}
	}
	most := standing + payload*100*mostWithin(times, foundOut)
	close(a.goOn)
	if err := owner.Remove(t.Context(), room); err != nil {
		t.Error(err)
	}
	if err := a.g.Wait(); err != nil {
		t.Fatal(err)
	}

	peak := s.status("VmHWM")
	t.Logf("%d messages, %d MB to each subscriber; server at most %.1f MB", pushed, int(pushed)*payload/1e6, float64(peak)/1e6)
	if peak > most {
		t.Errorf("the server held %d bytes, bound %d", peak, most)
	}
	if n := len(rss.v); n >= 20 && !testing.Short() { // it is flat after the first fifth, while queues fill
		early, late := slices.Max(rss.v[n/5:n*3/5]), slices.Max(rss.v[n*3/5:])
		t.Logf("server's highest: %.1f MB in the second and third fifth, %.1f MB in the last two", float64(early)/1e6, float64(late)/1e6)
		if late > early+early/4 {
			t.Errorf("the server grew from %d to %d bytes", early, late)
		}
	}
}

// mostWithin returns how many of these moments, which rise, lie within so long of each other at most, and one more: a
// stretch begins and ends between two of them.
func mostWithin(times []time.Time, long time.Duration) (most int) {
	from := 0
	for to, t := range times {
		for t.Sub(times[from]) > long {
			from++
		}
		most = max(most, to-from+2)
	}
	return most
}

// samples is a process's resident memory over time, in bytes.
type samples struct {
	of    *process
	every time.Duration
	next  time.Duration
	v     []int
}

// take takes one if it is time to.
func (s *samples) take(now time.Duration) bool {
	if now < s.next {
		return false
	}
	s.next = now + s.every
	s.v = append(s.v, s.of.status("VmRSS"))
	return true
}

const (
	subscribers = 20
	lead        = 64 // messages that the publisher may be ahead of the slowest healthy one
)

// audience is the subscribers, each with a goroutine that reads.
type audience struct {
	ctx     context.Context // ends when one of them finds a fault
	stop    context.CancelFunc
	g       errgroup.Group
	healthy []*reader
	half    chan struct{} // a token for each event that one at half speed may read
	goOn    chan struct{} // closed when the slow ones may read as fast as they can
	moved   chan struct{} // holds a value when a reader got something
}

func gather(t *testing.T, addr string, room codec.RoomID) *audience {
	a := &audience{half: make(chan struct{}, 1<<20), goOn: make(chan struct{}), moved: make(chan struct{}, 1)}
	a.ctx, a.stop = context.WithCancel(t.Context())
	for i := range subscribers {
		name := fmt.Sprint("viewer", i)
		o := client.Options{Servers: []string{addr}, Account: name, ReceiveBuffer: 64 << 10}
		stalled := make(chan struct{})
		if i%10 == 0 { // its connection stalls: a caller alone that stalls would not keep the SDK from reading
			o.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				return &stallingConn{conn, stalled, a}, err
			}
		}
		c := dial(t, o)
		r := &reader{name: name, sub: must(c.Subscribe(a.ctx, room, client.SubscribeOptions{}))(t), moved: a.moved}
		switch i % 10 {
		case 0:
			r.slow, r.stalled = true, true
			close(stalled)
		case 1:
			r.slow = true
			r.before = func() {
				select {
				case <-a.half:
				case <-a.goOn:
				case <-a.ctx.Done():
				}
			}
		default:
			a.healthy = append(a.healthy, r)
		}
		a.g.Go(func() error {
			err := r.run(a.ctx)
			if err != nil {
				a.stop()
			}
			return err
		})
	}
	return a
}

// stallingConn is a connection from which nothing is read from the time that stalled is closed until the audience goes
// on.
type stallingConn struct {
	net.Conn
	stalled <-chan struct{}
	a       *audience
}

func (c *stallingConn) Read(b []byte) (int, error) {
	select {
	case <-c.stalled:
		wait(c.a.ctx, c.a.goOn)
	default:
	}
	return c.Conn.Read(b)
}

// awaitHealthy waits until every healthy one has nearly all that was pushed.
func (a *audience) awaitHealthy(pushed uint64) {
	for _, r := range a.healthy {
		for r.head.Load()+lead <= pushed && a.ctx.Err() == nil {
			wait(a.ctx, a.moved)
		}
	}
}

// allow lets each of those at half speed read one event for every second message.
func (a *audience) allow(pushed uint64) {
	if pushed%2 == 0 {
		for range subscribers / 10 {
			a.half <- struct{}{}
		}
	}
}

// wait waits for a value, or for the end of ctx.
func wait(ctx context.Context, ch <-chan struct{}) {
	select {
	case <-ch:
	case <-ctx.Done():
	}
}

// reader takes a subscription to its end.
type reader struct {
	sub     *client.Subscription
	name    string
	slow    bool          // may miss frames
	stalled bool          // must
	before  func()        // before each event; may be nil
	head    atomic.Uint64 // newest frame it had
	moved   chan struct{} // told when that changes
}

// run returns when the room is removed, or with what is wrong: for a healthy reader that is any gap.
func (r *reader) run(ctx context.Context) error {
	missed, got, resumed := uint64(0), 0, true
	for {
		if r.before != nil {
			r.before()
		}
		e, err := r.sub.Next(ctx)
		if errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) {
			if got == 0 || r.stalled && missed == 0 {
				return fmt.Errorf("%s got %d messages and missed %d frames: the test does not test", r.name, got, missed)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		switch e := e.(type) {
		case *client.Gap:
			if !r.slow || e.Reason != codec.GapSlow {
				return fmt.Errorf("%s: frames %d to %d do not come: %v", r.name, e.From, e.To, e.Reason)
			}
			missed += e.To - e.From + 1
			resumed = false
		case *client.Message:
			if !resumed && e.Kind != client.Key {
				return fmt.Errorf("%s: goes on with frame %d, which is no key frame", r.name, e.First)
			}
			resumed = true
			got++
			r.head.Store(e.Last)
			select {
			case r.moved <- struct{}{}:
			default:
			}
		}
	}
}
