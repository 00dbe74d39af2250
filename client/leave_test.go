//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// The nodes leave one after the other while a file is pushed into a lossless room, and while one is sent to an account:
// the publisher's, the subscriber's and the relay among them.
func TestNodesLeave(t *testing.T) {
	for _, to := range []string{"room", "inbox"} {
		t.Run(to, func(t *testing.T) {
			addrs, shutdown := serveCluster(t, 3)
			alice, bob := dialServer(t, "alice", addrs...), dialServer(t, "bob", addrs...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var in interface {
				Next(context.Context) (client.Event, error)
			}
			var pub *client.Publisher
			if to == "inbox" {
				in = must[*client.Inbox](t)(alice.OpenInbox(ctx,
					client.InboxOptions{Policy: codec.PolicyLossless, Accept: []string{"bob"}}))
				pub = must[*client.Publisher](t)(bob.PublishTo(ctx, "alice", client.PublishOptions{}))
			} else {
				room := must[codec.RoomID](t)(bob.Register(ctx, client.RoomOptions{Policy: codec.PolicyLossless}))
				in = must[*client.Subscription](t)(alice.Subscribe(ctx, room, client.SubscribeOptions{}))
				pub = must[*client.Publisher](t)(bob.Publish(ctx, room, client.PublishOptions{}))
			}
			const size = 24 << 20
			sent, got := sha256.New(), sha256.New()
			done := make(chan error, 1)
			go func() {
				gone := 0
				rnd := rand.New(rand.NewPCG(3, 4))
				for n := 0; n < size; {
					p := random(n, 1+rnd.IntN(200_000))
					n += len(p)
					sent.Write(p)
					if err := pub.Push(ctx, 0, client.Delta, p); err != nil {
						done <- fmt.Errorf("push at %d: %w", n, err)
						return
					}
					if gone < 2 && n > (gone+1)*size/3 {
						shutdown[gone]()
						gone++
					}
				}
				done <- pub.Close(ctx)
			}()
			for left := false; !left; {
				ev, err := in.Next(ctx)
				if err != nil {
					select {
					case err := <-done:
						t.Error(err)
					default:
					}
					t.Fatal(err)
				}
				switch ev := ev.(type) {
				case *client.Message:
					got.Write(ev.Payload)
				case *client.Gap:
					t.Errorf("gap %d to %d: %v", ev.From, ev.To, ev.Reason)
				case *client.Left:
					left = true
				}
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Error("what arrived is not what was sent")
			}
		})
	}
}
