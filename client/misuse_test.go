//go:build linux

package client_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

// onNodes runs a test with clients of one node, and with clients of three.
func onNodes(t *testing.T, test func(t *testing.T, dial func(t *testing.T, account string, i int) *client.Client)) {
	t.Run("one node", func(t *testing.T) {
		addr, _ := serve(t)
		test(t, func(t *testing.T, account string, _ int) *client.Client { return dialServer(t, account, addr) })
	})
	t.Run("three nodes", func(t *testing.T) {
		addrs, _ := serveCluster(t, 3)
		test(t, func(t *testing.T, account string, i int) *client.Client { return dialServer(t, account, addrs[i%3]) })
	})
}

// What cannot be done says why in the words of its kind, and nothing is left behind of it.
func TestRefusalsNameTheirCause(t *testing.T) {
	onNodes(t, func(t *testing.T, dial func(t *testing.T, account string, i int) *client.Client) {
		ctx := t.Context()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		alice, bob, closed := dial(t, "alice", 0), dial(t, "bob", 1), dial(t, "carol", 2)
		closed.Close(ctx)
		room := must[client.RoomID](t)(alice.Register(ctx, client.RoomOptions{}))
		long := strings.Repeat("x", 129)
		sendTo := func(ctx context.Context, c *client.Client, account string) error {
			return c.SendTo(ctx, account, 1, []byte("x"))
		}
		publishTo := func(ctx context.Context, c *client.Client, account string) error {
			_, err := c.PublishTo(ctx, account, client.PublishOptions{})
			return err
		}
		publish := func(ctx context.Context, c *client.Client) error {
			_, err := c.Publish(ctx, room, client.PublishOptions{})
			return err
		}
		open := func(ctx context.Context, c *client.Client, o client.InboxOptions) error {
			_, err := c.OpenInbox(ctx, o)
			return err
		}
		for name, tc := range map[string]struct{ got, want error }{
			"SendTo nobody":              {sendTo(ctx, bob, ""), client.ErrBadAccount},
			"SendTo everyone":            {sendTo(ctx, bob, client.Everyone), client.ErrBadAccount},
			"SendTo, too long":           {sendTo(ctx, bob, long), client.ErrBadAccount},
			"SendTo, no text":            {sendTo(ctx, bob, "\xff"), client.ErrBadAccount},
			"SendTo without an inbox":    {sendTo(ctx, bob, "alice"), client.ErrNotAccepted},
			"SendTo an unknown account":  {sendTo(ctx, bob, "nobody"), client.ErrNotAccepted},
			"SendTo, context ended":      {sendTo(ended, bob, "alice"), context.Canceled},
			"SendTo, closed":             {sendTo(ctx, closed, "alice"), client.ErrClosed},
			"PublishTo nobody":           {publishTo(ctx, bob, ""), client.ErrBadAccount},
			"PublishTo, too long":        {publishTo(ctx, bob, long), client.ErrBadAccount},
			"PublishTo without an inbox": {publishTo(ctx, bob, "alice"), client.ErrNotAccepted},
			"PublishTo, closed":          {publishTo(ctx, closed, "alice"), client.ErrClosed},
			"Publish, not granted":       {publish(ctx, bob), client.ErrNotGranted},
			"Publish, closed":            {publish(ctx, closed), client.ErrClosed},
			"Accept without an inbox":    {alice.Accept(ctx, "bob"), client.ErrNoInbox},
			"Block without an inbox":     {alice.Block(ctx, "bob"), client.ErrNoInbox},
			"Accept, too long":           {alice.Accept(ctx, long), client.ErrBadAccount},
			"Block, no text":             {alice.Block(ctx, "\xff"), client.ErrBadAccount},
			"Accept, closed":             {closed.Accept(ctx, "bob"), client.ErrClosed},
			"OpenInbox, too long":        {open(ctx, alice, client.InboxOptions{Accept: []string{long}}), client.ErrBadAccount},
			"OpenInbox, closed":          {open(ctx, closed, client.InboxOptions{}), client.ErrClosed},
			"Grant, not the owner":       {bob.Grant(ctx, room, "bob"), client.ErrNotOwner},
			"Grant, too long":            {alice.Grant(ctx, room, long), client.ErrBadAccount},
			"Grant, context ended":       {alice.Grant(ended, room, "bob"), context.Canceled},
			"Remove, not the owner":      {bob.Remove(ctx, room), client.ErrNotOwner},
			"Remove, unknown":            {bob.Remove(ctx, 42), client.ErrRoomUnknown},
			"Unsubscribe without having": {bob.Unsubscribe(ctx, room), client.ErrNotSubscribed},
		} {
			if !errors.Is(tc.got, tc.want) {
				t.Errorf("%s: %v, want %v", name, tc.got, tc.want)
			}
		}
		if err := alice.Push(ctx, room, 1, []byte("it goes on")); err != nil {
			t.Error(err)
		}
		if s := bob.Stats(); s.Unacked != 0 {
			t.Errorf("%d bytes are left of what was refused", s.Unacked)
		}
	})
}

// All calls at once, and the client's end in the middle of them: each returns, with nil or the reason.
func TestEndAmongCalls(t *testing.T) {
	onNodes(t, func(t *testing.T, dial func(t *testing.T, account string, i int) *client.Client) {
		for name, end := range map[string]func(ctx context.Context, c *client.Client) error{
			"Close": func(ctx context.Context, c *client.Client) error { return c.Close(ctx) },
			"Drain": func(ctx context.Context, c *client.Client) error { return c.Drain(ctx) },
			"Close twice": func(ctx context.Context, c *client.Client) error {
				c.Close(ctx)
				return c.Close(ctx)
			},
		} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				alice, bob := dial(t, "alice", 0), dial(t, "bob", 1)
				in := must[*client.Inbox](t)(bob.OpenInbox(ctx, client.InboxOptions{Accept: []string{"alice"}}))
				room := must[client.RoomID](t)(bob.Register(ctx, client.RoomOptions{}))
				sub := must[*client.Subscription](t)(alice.Subscribe(ctx, room, client.SubscribeOptions{}))
				own := must[client.RoomID](t)(alice.Register(ctx, client.RoomOptions{}))
				pub := must[*client.Publisher](t)(alice.Publish(ctx, own, client.PublishOptions{}))
				if err := bob.Push(ctx, room, 1, []byte("x")); err != nil {
					t.Fatal(err)
				}
				var calls sync.WaitGroup
				begun := make(chan struct{}, 16)
				call := func(f func() error) {
					calls.Go(func() {
						for first := true; ctx.Err() == nil; first = false {
							err := f()
							if first {
								begun <- struct{}{}
							}
							if err != nil {
								return
							}
						}
						t.Error("a call goes on after the client's end")
					})
				}
				call(func() error { return pub.Push(ctx, 1, client.Key, []byte("x")) })
				call(func() error { return pub.Flush(ctx) })
				call(func() error {
					if err := pub.TryPush(2, client.Key, make([]byte, 100_000)); err != client.ErrFull {
						return err
					}
					return nil
				})
				call(func() error { return alice.SendTo(ctx, "bob", 1, []byte("x")) })
				call(func() error { _, err := alice.Stat(ctx, room); return err })
				calls.Go(func() {
					for _, err := range sub.All(ctx) {
						if err != nil {
							return
						}
					}
				})
				calls.Go(func() {
					for {
						if _, err := in.Next(ctx); err != nil {
							return
						}
					}
				})
				for range 5 {
					<-begun
				}
				if err := end(ctx, alice); err != nil && !errors.Is(err, client.ErrClosed) {
					t.Error(err)
				}
				if err := bob.Close(ctx); err != nil {
					t.Error(err)
				}
				calls.Wait()
				if ctx.Err() != nil {
					t.Error("a call did not return")
				}
			})
		}
	})
}
