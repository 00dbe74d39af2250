package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/engine"
)

// Who joins late gets what was said last: wherever it joins, and after another node has taken the room over.
func TestHistory(t *testing.T) {
	for nodes, start := range map[string]func(t *testing.T) []*engine.Engine{
		"one node":    func(t *testing.T) []*engine.Engine { return []*engine.Engine{start(t)} },
		"three nodes": func(t *testing.T) []*engine.Engine { return startCluster(t, "a", "b", "c") },
	} {
		for _, policy := range []client.Policy{client.PolicyLive, client.PolicyLossless} {
			t.Run(fmt.Sprint(nodes, ", ", policy), func(t *testing.T) {
				testHistory(t, start(t), policy)
			})
		}
	}
}

func testHistory(t *testing.T, nodes []*engine.Engine, policy client.Policy) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	dial := func(account string, addrs ...string) *client.Client {
		t.Helper()
		c, err := client.Dial(ctx, client.Options{Servers: addrs, Account: account})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	addr := func(i int) string { return nodes[i].Addrs()[0].String() }
	last := len(nodes) - 1

	// Only the last node stays: who is to see all of it is there.
	alice := dial("alice", addr(last))
	room, err := alice.Register(ctx, client.RoomOptions{
		Policy: policy, History: client.History{Bytes: 3 * (20 + 7), Age: time.Hour}, IdleUnlessOccupied: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := alice.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	say := func(n int) {
		t.Helper()
		for range n {
			said++
			if err := pub.Push(ctx, 0, client.Delta, fmt.Appendf(nil, "line %2d", said)); err != nil {
				t.Fatal(err)
			}
		}
		if err := pub.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	joins := 0
	// late joins at a node, sees the last three lines, and the next.
	late := func(when string, i int) {
		t.Helper()
		joins++
		sub, err := dial(fmt.Sprint("late", joins), addr(i)).Subscribe(ctx, room, client.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		first := said - 2
		next := make(chan error, 1)
		go func() {
			defer close(next)
			defer sub.Close() // in a lossless room the publisher waits for what it has not consumed
			for n := first; n <= first+3; n++ {
				for {
					e, err := sub.Next(ctx)
					if err != nil {
						next <- fmt.Errorf("waiting for line %d: %w", n, err)
						return
					}
					if m, is := e.(*client.Message); is {
						if got, want := string(m.Payload), fmt.Sprintf("line %2d", n); got != want {
							next <- fmt.Errorf("got %q, want %q", got, want)
							return
						}
						break
					}
				}
				if n == first+2 {
					next <- nil
				}
			}
		}()
		if err := <-next; err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		say(1)
		if err := <-next; err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}

	say(10)
	for i := range nodes {
		late(fmt.Sprint("at node ", i), i)
	}
	if len(nodes) == 1 {
		return
	}
	// Somebody stays at the last node, so that it has the history when the others go.
	stays, err := dial("stays", addr(last)).Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range stays.All(ctx) {
		}
	}()
	say(3)
	for i := range last {
		if err := nodes[i].Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		late(fmt.Sprint("after node ", i, " left"), last)
	}
}
