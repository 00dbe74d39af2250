package promises

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/room"
)

// TestBreakingConnections streams from two publishers to four subscribers while all their connections break again and
// again, in the middle of whatever they carry. What is missed meanwhile is still kept, so every subscriber gets every
// message of every stream: whole, once, in order, and without a gap.
func TestBreakingConnections(t *testing.T) {
	const (
		publishers  = 2
		subscribers = 4
		messages    = 300
		largest     = 150_000 // three pieces
		life        = 400_000 // bytes
		history     = 4 * mib
		lead        = 500_000 // bytes that a stream may be ahead of the slowest subscriber: in memory they may take four times as much
	)
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		t.Run(policy.String(), func(t *testing.T) {
			seed, rnd := seeded(t)
			addr := serveHere(t, engine.Config{Rooms: room.Config{History: history}})
			owner := dialAs(t, addr, "alice")
			id := must(owner.Register(t.Context(), client.RoomOptions{Policy: policy, QueueBytes: 8 * mib, QueueAge: time.Minute}))(t)
			var proxies []*proxy
			shaky := func(account string) *client.Client {
				p := through(t, addr, rand.New(rand.NewPCG(seed, rnd.Uint64())))
				proxies = append(proxies, p)
				c := dialAs(t, p.addr, account)
				return c
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			g, ctx := errgroup.WithContext(ctx)

			var got [subscribers][publishers]atomic.Int64 // bytes
			complete := make(chan struct{}, subscribers)
			moved := [publishers]chan struct{}{}
			for i := range moved {
				moved[i] = make(chan struct{}, 1)
			}
			for i := range subscribers {
				sub := must(shaky("viewer").Subscribe(ctx, id, client.SubscribeOptions{}))(t)
				g.Go(func() error {
					for n := 0; ; {
						e, err := sub.Next(ctx) // after the last message, too: that acknowledges it
						if n == publishers*messages && ended(err) {
							return nil
						}
						if err != nil {
							return fmt.Errorf("subscriber %d after %d messages: %w", i, n, err)
						}
						switch e := e.(type) {
						case *client.Message:
							if n++; n == publishers*messages {
								complete <- struct{}{}
							}
							p := int(e.Dtype)
							if err := checkBody(e.Payload, p, int(got[i][p].Load())); err != nil {
								return fmt.Errorf("subscriber %d: frame %d: %w", i, e.First, err)
							}
							got[i][p].Add(int64(len(e.Payload)))
							select {
							case moved[p] <- struct{}{}:
							default:
							}
						case *client.Gap:
							return fmt.Errorf("subscriber %d: frames %d to %d of publisher %d do not come: %v", i, e.From, e.To, e.Pub, e.Reason)
						case *client.Left:
							return fmt.Errorf("subscriber %d: %s has left: %v", i, e.Account, e.Code)
						}
					}
				})
			}
			var flushed errgroup.Group
			for p := range publishers {
				pub := must(shaky("alice").Publish(ctx, id, client.PublishOptions{}))(t)
				rnd := rand.New(rand.NewPCG(seed, uint64(p)))
				flushed.Go(func() (err error) {
					defer func() {
						if err != nil {
							cancel()
						}
					}()
					pushed := 0
					for range messages {
						for i := range got {
							for pushed-int(got[i][p].Load()) > lead && ctx.Err() == nil {
								wait(ctx, moved[p])
							}
						}
						size := 20 + rnd.IntN(2000)
						if rnd.IntN(10) == 0 {
							size = 20 + rnd.IntN(largest-20)
						}
						if err := pub.Push(ctx, uint8(p), client.Delta, body(p, pushed, size)); err != nil {
							return fmt.Errorf("publisher %d: %w", p, err)
						}
						pushed += size
					}
					return pub.Flush(ctx)
				})
			}
			for _, p := range proxies {
				p.setLife(life)
			}
			if err := flushed.Wait(); err != nil {
				t.Error(err)
			}
			for range subscribers {
				wait(ctx, complete)
			}
			if err := owner.Remove(t.Context(), id); err != nil {
				t.Error(err)
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			for i, p := range proxies {
				if p.breaks() == 0 {
					t.Errorf("connection %d never broke: the test does not test", i)
				}
			}
		})
	}
}

// ended reports whether err says that a room was removed. Whoever has no connection just then learns later that it is
// unknown.
func ended(err error) bool {
	return errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) || errors.Is(err, &client.ClosedError{Code: codec.CodeRoomUnknown})
}

// body makes a payload that tells where in its stream it stands: by bytes, so that a wrong size shows, too.
func body(stream, at, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(stream), byte(at), byte(at >> 8), byte(at >> 16), byte(at >> 24), byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

// checkBody returns an error if a payload is not the one that body made.
func checkBody(got []byte, stream, at int) error {
	if want := body(stream, at, len(got)); string(want) != string(got) {
		return fmt.Errorf("%d bytes that are not what stands at %d of stream %d", len(got), at, stream)
	}
	return nil
}

// TestBrokenForTooLong breaks a subscriber's connection for so long that what it missed is not kept any more. It is
// told exactly what that is, and gets all that comes after, from a key message on.
func TestBrokenForTooLong(t *testing.T) {
	const (
		size   = 16 << 10
		group  = 20
		groups = 8 // while it is away: far more than is kept
	)
	_, rnd := seeded(t)
	addr := serveHere(t, engine.Config{})
	owner := dialAs(t, addr, "alice")
	id := must(owner.Register(t.Context(), client.RoomOptions{QueueBytes: 8 * mib, QueueAge: time.Minute}))(t)
	pub := must(owner.Publish(t.Context(), id, client.PublishOptions{}))(t)
	p := through(t, addr, rnd)
	sub := must(dialAs(t, p.addr, "viewer").Subscribe(t.Context(), id, client.SubscribeOptions{}))(t)
	pushed, newest := uint64(0), uint64(0)
	push := func(n int) {
		t.Helper()
		for range n {
			kind := client.Delta
			if pushed%group == 0 {
				kind, newest = client.Key, pushed+1
			}
			if err := pub.Push(t.Context(), 0, kind, body(0, int(pushed), size)); err != nil {
				t.Fatal(err)
			}
			pushed++
		}
		if err := pub.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	last := uint64(0)
	for range 5 {
		push(1 + rnd.IntN(3*group))
		p.hold()
		push(groups*group + rnd.IntN(group))
		p.release()

		// What had arrived, then the notice, then the newest group.
		expired := uint64(0)
		for last < pushed {
			e, err := sub.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			switch e := e.(type) {
			case *client.Gap:
				if expired != 0 || e.Reason != codec.GapExpired || e.From != last+1 || e.To != newest-1 {
					t.Fatalf("gap %d to %d (%v) behind frame %d; want one to %d", e.From, e.To, e.Reason, last, newest-1)
				}
				expired, last = e.To, e.To
			case *client.Message:
				if e.First != last+1 {
					t.Fatalf("frame %d behind %d", e.First, last)
				}
				if err := checkBody(e.Payload, 0, int(e.First-1)); err != nil {
					t.Fatal(err)
				}
				last = e.Last
			}
		}
		if expired == 0 {
			t.Errorf("nothing is said of what is missing up to %d", newest-1)
		}
	}
}
