//go:build linux

package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

// A message that Next has returned before the recipient closes its inbox has arrived, at whichever nodes the two are,
// and however often the inbox is opened again.
func TestConsumedBeforeTheInboxCloses(t *testing.T) {
	addrs, _ := serveCluster(t, 3)
	repetitions := 10
	if testing.Short() {
		repetitions = 4
	}
	for _, policy := range []client.Policy{client.PolicyLive, client.PolicyLossless} {
		for n := range 9 {
			t.Run(fmt.Sprint(policy, " ", n), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				recipient, sender := fmt.Sprint("alice-", policy), fmt.Sprint("bob-", n)
				alice, bob := dialServer(t, recipient, addrs[n%3]), dialServer(t, sender, addrs[n/3])
				for i := range repetitions {
					in, err := alice.OpenInbox(ctx, client.InboxOptions{Policy: policy, Accept: []string{sender}})
					if err != nil {
						t.Fatal(err)
					}
					sent := make(chan error, 1)
					go func() { sent <- bob.SendTo(ctx, recipient, 1, []byte{byte(i)}) }()
					for got := false; !got; {
						ev, err := in.Next(ctx)
						if err != nil {
							t.Fatalf("message %d: %v", i, err)
						}
						m, is := ev.(*client.Message)
						got = is && m.Payload[0] == byte(i)
					}
					in.Close()
					if err := <-sent; err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
				}
			})
		}
	}
}
