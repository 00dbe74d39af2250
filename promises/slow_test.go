package promises

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// TestSlowSubscribers has one subscriber in ten of a live room stall and one in ten read at half the speed of the stream. None of the
// others misses a frame; both kinds of slow ones are told of all that they miss, and go on where the stream is; and the server's
// memory stays within a bound and does not grow.
//
// The publisher pushes as fast as the slowest of the healthy ones reads, so that the machine's speed does not matter; in the long
// form at most 500 messages of 8 KiB a second.
func TestSlowSubscribers(t *testing.T) {
	const (
		subscribers = 20
		payload     = 8 << 10
		group       = 50
		lead        = 64   // messages that the publisher may be ahead of the slowest healthy one
		enough      = 2000 // messages that no buffers on the way to a stalled one can hold
		queue       = 1 * mib
		// What the server may hold: for each slow one twice its queue, and the late-join cache; the rest is the program itself
		// and what the garbage collector has not come to yet.
		most = 4*2*queue + 64*mib
	)
	run, pace := 8*time.Second, time.NewTicker(time.Nanosecond)
	defer pace.Stop()
	if long {
		run = 5 * time.Minute
		pace.Reset(2 * time.Millisecond)
	}
	if testing.Short() {
		run = time.Second
	}
	s := serve(t)
	owner := dialAs(t, s.addr, "alice")
	room := must(owner.Register(t.Context(), client.RoomOptions{QueueBytes: queue}))(t)
	pub := must(owner.Publish(t.Context(), room, client.PublishOptions{}))(t)

	ctx, fail := context.WithCancel(t.Context())
	defer fail()
	var g errgroup.Group
	half := make(chan struct{}, 1<<20) // a token for every second message
	goOn := make(chan struct{})        // closed when the stalled ones go on
	var heads [subscribers]atomic.Uint64
	moved := make(chan struct{}, 1)
	var healthy []*atomic.Uint64
	for i := range subscribers {
		c := dial(t, client.Options{Servers: []string{s.addr}, Account: fmt.Sprint("viewer", i), ReceiveBuffer: 64 << 10})
		sub := must(c.Subscribe(ctx, room, client.SubscribeOptions{}))(t)
		r := &reader{sub: sub, name: fmt.Sprint("viewer ", i), head: &heads[i], moved: moved}
		switch i % 10 {
		case 0:
			r.before = func() { wait(ctx, goOn) }
			r.slow, r.stalled = true, true
		case 1:
			r.before = func() {
				select {
				case <-half:
				case <-goOn:
				case <-ctx.Done():
				}
			}
			r.slow = true
		default:
			healthy = append(healthy, r.head)
		}
		g.Go(func() error {
			err := r.run(ctx)
			if err != nil {
				fail()
			}
			return err
		})
	}

	var rss []int
	begun := time.Now()
	sampled := time.Duration(0)
	every := run / 60
	seq := uint64(0)
	body := make([]byte, payload)
	for ctx.Err() == nil && (seq < enough || time.Since(begun) < run) {
		for _, h := range healthy {
			for h.Load()+lead < seq+1 && ctx.Err() == nil {
				wait(ctx, moved)
			}
		}
		<-pace.C
		kind := client.Delta
		if seq%group == 0 {
			kind = client.Key
		}
		if err := pub.Push(ctx, 0, kind, body); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		seq++
		if seq%2 == 0 { // one for each of the two readers at half speed: they read every second message's worth
			for range subscribers / 10 {
				select {
				case half <- struct{}{}:
				default:
				}
			}
		}
		if e := time.Since(begun); e >= sampled {
			sampled = e + every
			rss = append(rss, s.status("VmRSS"))
			if long {
				t.Logf("%3.0f s: %6d messages, server %5.1f MB", e.Seconds(), seq, float64(rss[len(rss)-1])/1e6)
			}
		}
	}
	close(goOn)
	if err := pub.Flush(ctx); err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	if err := owner.Remove(t.Context(), room); err != nil {
		t.Error(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	peak := s.status("VmHWM")
	t.Logf("%d messages, %d MB to each subscriber; server at most %.1f MB", seq, int(seq)*payload/1e6, float64(peak)/1e6)
	if peak > most {
		t.Errorf("the server held %d bytes, bound %d", peak, most)
	}
	if n := len(rss); n >= 20 && !testing.Short() { // after the first fifth, while queues fill, it is flat
		early, late := highest(rss[n/5:n/5+2*n/5]), highest(rss[n-2*n/5:])
		t.Logf("server's highest: %.1f MB in the second and third fifth, %.1f MB in the last two", float64(early)/1e6, float64(late)/1e6)
		if late > early+early/4 {
			t.Errorf("the server grew from %d to %d bytes", early, late)
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

func highest(v []int) (most int) {
	for _, x := range v {
		most = max(most, x)
	}
	return most
}

// reader takes a subscription to its end.
type reader struct {
	sub     *client.Subscription
	name    string
	slow    bool           // may miss frames
	stalled bool           // must
	before  func()         // before each event; may be nil
	head    *atomic.Uint64 // newest frame it had
	moved   chan struct{}  // told when that changes
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
