package drills

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// stream is a room with one publisher that pushes a numbered message at a time, and subscribers that check every one of
// them.
type stream struct {
	t     *testing.T
	f     *fleet
	room  codec.RoomID
	owner *client.Client
	pub   *client.Publisher
	every time.Duration
	size  int // of a message
	dtype uint8

	pushed atomic.Uint64
	stop   chan struct{}
	pusher sync.WaitGroup
	done   sync.WaitGroup
	subs   []*viewer
	slow   []*viewer // who may be told of gaps, and nobody waits for
	fault  atomic.Pointer[error]
}

// viewer is one subscriber.
type viewer struct {
	c     *client.Client
	dtype uint8
	pub   atomic.Uint32 // the publisher's number
	last  atomic.Uint64 // the newest message
	err   error

	longest time.Duration // between two messages
	pause   atomic.Int64  // ns; likewise, since it was set to 0
	when    uint64        // the message behind that
	lost    uint64        // messages named by gaps
	gaps    []client.Gap
	told    atomic.Int64                // how many these are
	gone    atomic.Pointer[client.Left] // the word that its publisher has left, after which it looks no further
}

// place says where the parts of a stream are at home.
type place struct {
	relay, publisher int
	subscribers      []int
	slow             []int // where subscribers are that the network cannot carry all of it to
	policy           codec.Policy
	size             int // of a message; 0: 200
}

// run begins a stream: everybody is there before the first message.
func (f *fleet) run(p place, every time.Duration) *stream {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	s := &stream{t: f.t, f: f, every: every, size: cmp.Or(p.size, 200), stop: make(chan struct{})}
	s.room = f.register(ctx, p)
	for _, at := range p.subscribers {
		s.subs = append(s.subs, f.watch(s, at))
	}
	for _, at := range p.slow {
		s.slow = append(s.slow, f.watch(s, at))
	}
	f.publish(s, p.publisher)
	return s
}

// register makes the room, with a client at home where it is to be relayed. On a busy machine that may have left before
// it was answered, and the room is nobody's; it is made anew.
func (f *fleet) register(ctx context.Context, p place) codec.RoomID {
	f.t.Helper()
	for {
		c := f.client(p.relay, "owner")
		room, err := c.Register(ctx, client.RoomOptions{Policy: p.policy})
		c.Close(context.Background())
		if err == nil {
			return room
		}
		if !errors.Is(err, client.ErrUnanswered) {
			f.t.Fatal(err)
		}
	}
}

// join begins another stream in the room of s, by another publisher; each has subscribers of its own, who look at it
// alone.
func (f *fleet) join(s *stream, publisher int, subscribers []int) *stream {
	f.t.Helper()
	o := &stream{t: f.t, f: f, room: s.room, dtype: s.dtype + 1, every: s.every, size: s.size, stop: make(chan struct{})}
	for _, at := range subscribers {
		o.subs = append(o.subs, f.watch(o, at))
	}
	f.publish(o, publisher)
	return o
}

// publish begins to push.
func (f *fleet) publish(s *stream, at int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	s.owner = f.client(at, "owner")
	var err error
	if s.pub, err = s.owner.Publish(ctx, s.room, client.PublishOptions{}); err != nil {
		f.t.Fatal(err)
	}
	s.pusher.Go(s.push)
}

// watch begins to receive.
func (f *fleet) watch(s *stream, at int) *viewer {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	v := &viewer{c: f.client(at, "viewer"), dtype: s.dtype}
	sub, err := v.c.Subscribe(ctx, s.room, client.SubscribeOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	s.done.Go(func() { v.watch(f.t.Context(), sub) })
	return v
}

func (s *stream) push() {
	t := time.NewTicker(s.every)
	defer t.Stop()
	msg := make([]byte, s.size)
	for n := uint64(1); ; n++ {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		binary.BigEndian.PutUint64(msg, n)
		kind := client.Delta
		if n%50 == 1 {
			kind = client.Key
		}
		if err := s.pub.Push(s.t.Context(), s.dtype, kind, msg); err != nil {
			err = fmt.Errorf("push of message %d: %w", n, err)
			s.fault.Store(&err)
			return
		}
		s.pushed.Store(n)
	}
}

// watch checks that every message is the next one, and notes what it was told of the others.
func (v *viewer) watch(ctx context.Context, sub *client.Subscription) {
	var at time.Time
	expect := uint64(1)
	for {
		ev, err := sub.Next(ctx)
		if err != nil {
			if !errors.Is(err, client.ErrClosed) {
				v.err = errors.Join(v.err, err)
			}
			var fault *client.StreamError
			if errors.As(err, &fault) {
				continue
			}
			return
		}
		switch ev := ev.(type) {
		case *client.Gap:
			if ev.Dtype != v.dtype {
				continue
			}
			v.gaps = append(v.gaps, *ev)
			v.told.Add(1)
			v.lost += ev.To - ev.From + 1
			expect = ev.To + 1
		case *client.Message:
			if ev.Dtype != v.dtype {
				continue
			}
			v.pub.Store(uint32(ev.Pub))
			now := time.Now()
			if n := binary.BigEndian.Uint64(ev.Payload); n != expect || ev.First != n {
				v.err = errors.Join(v.err, fmt.Errorf("message %d as frame %d, expected %d", n, ev.First, expect))
			}
			if d := now.Sub(at); !at.IsZero() {
				if d > v.longest {
					v.longest, v.when = d, ev.First
				}
				v.pause.Store(max(v.pause.Load(), int64(d)))
			}
			at = now
			expect = ev.Last + 1
			v.last.Store(ev.Last)
		case *client.Left:
			if uint32(ev.Pub) == v.pub.Load() {
				left := *ev
				v.gone.Store(&left)
				return
			}
		}
	}
}

// reach waits until n more messages were pushed and everybody has had them.
func (s *stream) reach(n uint64) {
	s.t.Helper()
	s.reachTo(s.pushed.Load() + n)
}

// reachTo waits until everybody has had a message.
func (s *stream) reachTo(to uint64) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !s.at(to) {
		if err := s.fault.Load(); err != nil {
			s.t.Fatal(*err)
		}
		if time.Now().After(deadline) || s.forsaken(to) {
			for i, v := range s.subs {
				s.t.Logf("viewer %d is at message %d (%v), told of %d gaps, and that its publisher has left: %+v", i, v.last.Load(),
					v.err, v.told.Load(), v.gone.Load())
			}
			for _, i := range s.f.running() {
				s.t.Logf("%s: %+v", s.f.nodes[i].name, s.f.report(i, s.room.String()))
			}
			s.t.Fatalf("room %v: message %d has not come to all; %d were pushed", s.room, to, s.pushed.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

// forsaken reports whether somebody who lacks a message was told that the publisher has left.
func (s *stream) forsaken(n uint64) bool {
	return slices.ContainsFunc(s.subs, func(v *viewer) bool { return v.gone.Load() != nil && v.last.Load() < n })
}

func (s *stream) at(n uint64) bool {
	if s.pushed.Load() < n {
		return false
	}
	for _, v := range s.subs {
		if v.last.Load() < n {
			return false
		}
	}
	return true
}

// finish ends the stream, and checks that everybody had everything, or was told why not if the network was too slow for
// that.
func (s *stream) finish() {
	s.t.Helper()
	close(s.stop)
	s.pusher.Wait() // Close flushes what was pushed before it
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.pub.Close(ctx); err != nil {
		s.t.Errorf("room %v: closing the publisher: %v", s.room, err)
	}
	for _, v := range s.slow {
		v.c.Close(context.Background()) // what it still waits for may take long
	}
	s.done.Wait()
	if err := s.fault.Load(); err != nil {
		s.t.Error(*err)
	}
	s.owner.Close(context.Background())
	for i, v := range s.subs {
		v.c.Close(context.Background())
		if v.err != nil {
			s.t.Errorf("room %v, viewer %d: %v", s.room, i, v.err)
		}
		if v.lost > 0 || v.last.Load() != s.pushed.Load() {
			s.t.Errorf("room %v, viewer %d: %d of %d messages lost; gaps %+v", s.room, i, v.lost, s.pushed.Load(), v.gaps)
		}
	}
	for i, v := range s.slow {
		if v.err != nil {
			s.t.Errorf("room %v, slow viewer %d: %v", s.room, i, v.err)
		}
		for _, gap := range v.gaps {
			if gap.Reason != codec.GapSlow && gap.Reason != codec.GapExpired {
				s.t.Errorf("room %v, slow viewer %d was told %+v", s.room, i, gap)
			}
		}
	}
}

// untilSlow waits until every subscriber that the network is too slow for was told so.
func (s *stream) untilSlow() {
	s.t.Helper()
	for _, v := range s.slow {
		s.f.until("the subscriber behind the slow link is told of a gap", func() bool { return v.told.Load() > 0 })
	}
}
