//go:build linux

package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

// quick is how long what takes no waiting for others may take on a busy machine: much less than the 10 s after which a
// server gives up on who went without a word.
const quick = 5 * time.Second

// Who leaves cleanly holds nobody up, however it leaves: the publisher of a lossless room goes on at once, and others
// are told that it left.
func TestCleanExit(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	for name, leave := range map[string]func(ctx context.Context, c *client.Client, s *client.Subscription) error{
		"Close of both": func(ctx context.Context, c *client.Client, s *client.Subscription) error {
			s.Close()
			return c.Close(ctx)
		},
		"Close of the client": func(ctx context.Context, c *client.Client, s *client.Subscription) error {
			return c.Close(ctx)
		},
		"Unsubscribe": func(ctx context.Context, c *client.Client, s *client.Subscription) error {
			return c.Unsubscribe(ctx, s.Room())
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			alice, bob := dialServer(t, "alice", addr), dialServer(t, "bob", addr)
			room, err := alice.Register(ctx, client.RoomOptions{Policy: client.PolicyLossless})
			if err != nil {
				t.Fatal(err)
			}
			s, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p, err := alice.Publish(ctx, room, client.PublishOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if err := p.Push(ctx, 1, client.Delta, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			for {
				if ev, err := s.Next(ctx); err != nil {
					t.Fatal(err)
				} else if _, ok := ev.(*client.Message); ok {
					break
				}
			}
			if err := leave(ctx, bob, s); err != nil {
				t.Error(err)
			}
			bounded, cancel := context.WithTimeout(ctx, quick)
			defer cancel()
			if err := p.Flush(bounded); err != nil {
				t.Errorf("the publisher waits for who has left: %v", err)
			}
		})
	}
}

// A publisher that closes its client has left, and all that it pushed has arrived.
func TestPublisherLeaves(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice, bob := dialServer(t, "alice", addr), dialServer(t, "bob", addr)
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for range n {
		if err := alice.Push(ctx, room, 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := alice.Close(ctx); err != nil {
		t.Error(err)
	}
	bounded, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	got := 0
	for ev, err := range s.All(bounded) {
		if err != nil {
			t.Fatal(err)
		}
		switch e := ev.(type) {
		case *client.Message:
			got++
		case *client.Left:
			if got != n || errors.Is(e.Code, client.ErrGone) || e.Code == client.ErrGone {
				t.Errorf("%d messages, then left: %v", got, e.Code)
			}
			return
		}
	}
}

// What Next returned before the inbox is closed has been consumed: the sender is told so.
func TestConsumedBeforeClose(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	for _, policy := range []client.Policy{client.PolicyLossless, client.PolicyLive} {
		for i := range 8 {
			ctx := t.Context()
			alice, bob := dialServer(t, fmt.Sprintf("alice-%v-%d", policy, i), addr), dialServer(t, "bob", addr)
			in, err := alice.OpenInbox(ctx, client.InboxOptions{Policy: policy, Accept: []string{client.Everyone}})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				for {
					ev, err := in.Next(ctx)
					if _, ok := ev.(*client.Message); ok || err != nil {
						in.Close()
						done <- err
						return
					}
				}
			}()
			bounded, cancel := context.WithTimeout(ctx, quick)
			if err := bob.SendTo(bounded, fmt.Sprintf("alice-%v-%d", policy, i), 1, []byte("hello")); err != nil {
				t.Errorf("%v: %v", policy, err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// The publisher that the client keeps for Push and SendTo does not stand in the way of one that the caller asks for.
func TestPublishAfterPush(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice, bob := dialServer(t, "alice", addr), dialServer(t, "bob", addr)
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Push(ctx, room, 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	p, err := alice.Publish(ctx, room, client.PublishOptions{Counts: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Publish(ctx, room, client.PublishOptions{}); err != client.ErrPublishing {
		t.Errorf("a second one: %v", err)
	}
	if n := <-p.Counts(); n.Publishers != 1 {
		t.Errorf("counts: %+v", n)
	}
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := alice.Push(ctx, room, 1, []byte("two")); err != nil {
		t.Error(err)
	}
	if _, err := bob.OpenInbox(ctx, client.InboxOptions{Accept: []string{"alice"}}); err != nil {
		t.Fatal(err)
	}
	if err := alice.SendTo(ctx, "bob", 1, []byte("offer")); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.PublishTo(ctx, "bob", client.PublishOptions{}); err != nil {
		t.Error(err)
	}
}

// Everyone may be granted, as an inbox may accept everyone, but for who is revoked.
func TestGrantEveryone(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice, bob, eve := dialServer(t, "alice", addr), dialServer(t, "bob", addr), dialServer(t, "eve", addr)
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(alice.Grant(ctx, room, client.Everyone), alice.Revoke(ctx, room, "eve")); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Publish(ctx, room, client.PublishOptions{}); err != nil {
		t.Errorf("bob: %v", err)
	}
	if _, err := eve.Publish(ctx, room, client.PublishOptions{}); !errors.Is(err, client.ErrNotGranted) &&
		!errors.Is(err, client.ErrRevoked) {
		t.Errorf("eve: %v", err)
	}
	if err := alice.SendTo(ctx, "", 1, nil); !errors.Is(err, client.ErrBadAccount) {
		t.Errorf("to nobody: %v", err)
	}
}

// A message's arrival can be waited for, asked for, and done without.
func TestReceipts(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice := dialServer(t, "alice", addr)
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := alice.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.PushAsync(ctx, 7, client.Delta, []byte("x"))
	if err != nil || r.Wait(ctx) != nil || p.Acked(7) != 1 || p.Acked(8) != 0 {
		t.Errorf("%v; acknowledged up to %d", err, p.Acked(7))
	}
	if n, err := p.PushBatch(ctx, 7, client.Delta, []byte("a"), []byte("b"), nil); n != 3 || err != nil {
		t.Errorf("batch: %d, %v", n, err)
	}
	if err := p.Flush(ctx); err != nil || p.Buffered() != 0 {
		t.Errorf("%v; %d bytes on their way", err, p.Buffered())
	}
	large := make([]byte, 1<<20)
	full := false
	for range 64 { // 64 MiB at once are more than a window
		if err := p.TryPush(7, client.Delta, large); err == client.ErrFull {
			full = true
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !full {
		t.Error("TryPush is never full")
	}
}

// Two callers of Next both return when the subscription ends.
func TestTwoCallersOfNext(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice := dialServer(t, "alice", addr)
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := alice.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := s.Next(ctx); !errors.Is(err, client.ErrLeft) {
				t.Error(err)
			}
		})
	}
	s.Close()
	both.Wait()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// A program that is restarted goes on where it was, as subscriber and as publisher; what happens to connections can be
// seen.
func TestRestart(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice := dialServer(t, "alice", addr)
	room, err := alice.Register(ctx, client.RoomOptions{Policy: client.PolicyLive})
	if err != nil {
		t.Fatal(err)
	}
	push := func(c *client.Client, text string) {
		t.Helper()
		p, err := c.Publish(ctx, room, client.PublishOptions{})
		if err == nil {
			err = errors.Join(p.Push(ctx, 1, client.Key, []byte(text)), p.Flush(ctx))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	push(alice, "one")
	receive := func(from []client.Position, want string) []client.Position {
		t.Helper()
		bob := dialServer(t, "bob", addr)
		s, err := bob.Subscribe(ctx, room, client.SubscribeOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		for ev, err := range s.All(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if g, ok := ev.(*client.Gap); ok && from != nil {
				t.Errorf("a gap: %+v", g)
			}
			if m, ok := ev.(*client.Message); ok {
				if string(m.Payload) != want {
					t.Errorf("%q, want %q", m.Payload, want)
				}
				break
			}
		}
		at := s.Positions()
		if err := bob.Close(ctx); err != nil {
			t.Error(err)
		}
		return at
	}
	at := receive(nil, "one")
	if err := alice.Push(ctx, room, 1, []byte("two")); err != nil {
		t.Fatal(err)
	}
	receive(at, "two")

	var phases []string
	o := client.Options{Servers: []string{addr}, Account: "carol", Instance: 7,
		OnState: func(s client.State) { phases = append(phases, s.Phase.String()) }}
	carol, err := client.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if srv, ok := carol.Server(); !ok || srv.Addr != addr || srv.Session == 0 {
		t.Errorf("%+v", srv)
	}
	if st := carol.Stats(); st.Connections != 1 || st.Requests != 0 {
		t.Errorf("%+v", st)
	}
	if err := carol.Close(ctx); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(phases); got != "[connecting connected ended]" {
		t.Error(got)
	}
}

// Drain ends a client without losing what is on its way.
func TestDrain(t *testing.T) {
	addr, shutdown := serve(t)
	defer shutdown()
	ctx := t.Context()
	alice, bob := dialServer(t, "alice", addr), dialServer(t, "bob", addr)
	room, err := alice.Register(ctx, client.RoomOptions{Policy: client.PolicyLossless})
	if err != nil {
		t.Fatal(err)
	}
	s, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 100
	for range n {
		if err := alice.Push(ctx, room, 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan int, 1)
	begun := make(chan bool)
	go func() {
		sum := 0
		for ev, err := range s.All(ctx) {
			if err != nil {
				break
			}
			if _, ok := ev.(*client.Message); ok {
				if sum++; sum == 1 {
					close(begun)
				}
			}
		}
		got <- sum
	}()
	<-begun
	if err := bob.Drain(ctx); err != nil {
		t.Error(err)
	}
	if sum := <-got; sum == 0 || s.Pending() != 0 {
		t.Errorf("%d messages taken, %d bytes wait", sum, s.Pending())
	}
}
