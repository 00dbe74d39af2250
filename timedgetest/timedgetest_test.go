package timedgetest_test

import (
	"context"
	"testing"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/timedgetest"
)

// stream checks that what is pushed by way of one server comes by way of another.
func stream(t *testing.T, from, to []string) {
	t.Helper()
	ctx := t.Context()
	dial := func(account string, servers []string) *client.Client {
		c, err := client.Dial(ctx, client.Options{Servers: servers, Account: account})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(context.Background()) })
		return c
	}
	alice, bob := dial("alice", from), dial("bob", to)
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Push(ctx, room, 1, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for ev, err := range sub.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok && string(m.Payload) == "hello" {
			return
		}
	}
}

func TestStart(t *testing.T) {
	s := timedgetest.Start(t)
	stream(t, s.Addrs, s.Addrs)
}

func TestStartCluster(t *testing.T) {
	s := timedgetest.StartCluster(t, 3)
	stream(t, s.Addrs[:1], s.Addrs[2:])
	s.Stop(t, 1)
	stream(t, s.Addrs[:1], s.Addrs[2:])
}
