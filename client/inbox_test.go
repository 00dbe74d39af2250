//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// serveCluster starts nodes of the test's own and returns when each has links to all others.
func serveCluster(t testing.TB, n int) (addrs []string, shutdown []func()) {
	t.Helper()
	_, addrs, shutdown = startCluster(t, n, engine.Config{Log: zerolog.Nop()})
	return addrs, shutdown
}

// startCluster is serveCluster of nodes that can be asked.
func startCluster(t testing.TB, n int, cfg engine.Config) (nodes []*engine.Engine, addrs []string, shutdown []func()) {
	t.Helper()
	key, log := node.NewKey(), cfg.Log
	cfg.Listen, cfg.Loops, cfg.DrainSpread = []string{"127.0.0.1:0"}, 2, 10*time.Millisecond
	for i := range n {
		c := &engine.ClusterConfig{Bind: "127.0.0.1:0", Keys: node.Keys{key}}
		for _, e := range nodes {
			c.Join = append(c.Join, e.ClusterAddr())
		}
		cfg.Node, cfg.Cluster = fmt.Sprint("n", i), c
		cfg.Log = log.With().Str("at", cfg.Node).Logger()
		e, err := engine.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nodes, addrs = append(nodes, e), append(addrs, e.Addrs()[0].String())
		shutdown = append(shutdown, sync.OnceFunc(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // on a busy machine it takes long
			defer cancel()
			if err := e.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}))
		t.Cleanup(shutdown[i])
	}
	deadline := time.Now().Add(time.Minute)
	for _, e := range nodes {
		for linked := 0; linked < n; time.Sleep(5 * time.Millisecond) { // between two looks
			if time.Now().After(deadline) {
				t.Fatal("the nodes do not find each other")
			}
			answer := httptest.NewRecorder()
			e.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/nodes", nil))
			var members []engine.NodeReport
			if err := json.Unmarshal(answer.Body.Bytes(), &members); err != nil {
				t.Fatal(err)
			}
			linked = 0
			for _, m := range members {
				if m.Linked {
					linked++
				}
			}
		}
	}
	return nodes, addrs, shutdown
}

// nextFrom is nextMessage of an inbox.
func nextFrom(t testing.TB, in *client.Inbox) *client.Message {
	t.Helper()
	for {
		ev, err := in.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Message:
			return ev
		case *client.Gap:
			t.Fatalf("gap %d to %d (%v) on dtype %d", ev.From, ev.To, ev.Reason, ev.Dtype)
		}
	}
}

func refusedWith(t testing.TB, err error, code codec.Code) {
	t.Helper()
	if !errors.Is(err, &client.RefusedError{Code: code}) {
		t.Errorf("got %v, want a refusal with %v", err, code)
	}
}

func TestSendTo(t *testing.T) {
	addrs, _ := serveCluster(t, 3)
	for name, addrs := range map[string][]string{"one node": addrs[:1], "three nodes": addrs} {
		t.Run(name, func(t *testing.T) {
			at := func(i int) string { return addrs[i%len(addrs)] }
			recipient := "alice of " + name
			recipient = string(bytes.ReplaceAll([]byte(recipient), []byte(" "), []byte("_")))
			hers := []*client.Client{dialServer(t, recipient, at(0)), dialServer(t, recipient, at(1)),
				dialServer(t, recipient, at(2))}
			bob, carol := dialServer(t, "bob", at(1)), dialServer(t, "carol", at(2))
			ctx := t.Context()

			refusedWith(t, bob.SendTo(ctx, recipient, 1, []byte("x")), codec.CodeNotAccepted)
			if err := hers[0].Accept(ctx, "bob"); err != client.ErrNoInbox {
				t.Error(err)
			}
			var inboxes []*client.Inbox
			for _, c := range hers {
				inboxes = append(inboxes, must[*client.Inbox](t)(c.OpenInbox(ctx, client.InboxOptions{Accept: []string{"bob"}})))
			}
			if err := bob.SendTo(ctx, recipient, 9, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			refusedWith(t, carol.SendTo(ctx, recipient, 1, []byte("x")), codec.CodeNotAccepted)
			if err := hers[1].Accept(ctx, client.Everyone); err != nil {
				t.Fatal(err)
			}
			large := random(1, 3<<20)
			if err := carol.SendTo(ctx, recipient, 2, large); err != nil {
				t.Fatal(err)
			}
			for i, in := range inboxes {
				if m := nextFrom(t, in); m.Publisher != "bob" || m.Dtype != 9 || string(m.Payload) != "hello" {
					t.Errorf("session %d: %q from %s, dtype %d", i, m.Payload, m.Publisher, m.Dtype)
				}
				if m := nextFrom(t, in); m.Publisher != "carol" || m.Dtype != 2 || !bytes.Equal(m.Payload, large) {
					t.Errorf("session %d: %d bytes from %s, dtype %d", i, len(m.Payload), m.Publisher, m.Dtype)
				}
			}
			if err := hers[2].Block(ctx, "bob"); err != nil {
				t.Fatal(err)
			}
			for { // his publisher ends when he hears of it
				err := bob.SendTo(ctx, recipient, 9, []byte("x"))
				if errors.Is(err, &client.RefusedError{Code: codec.CodeNotAccepted}) {
					break
				}
				if err == nil {
					t.Fatal("sent although blocked")
				}
			}
			_, err := bob.Subscribe(ctx, codec.InboxOf(recipient), client.SubscribeOptions{})
			if !errors.Is(err, &client.RefusedError{Code: codec.CodeRoomUnknown}) {
				t.Errorf("subscribed to somebody else's inbox: %v", err)
			}
			for _, in := range inboxes {
				in.Close()
			}
			for { // carol sends on until all know that nobody is there
				err := carol.SendTo(ctx, recipient, 2, []byte("x"))
				if errors.Is(err, &client.ClosedError{Code: codec.CodeAway}) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			refusedWith(t, carol.SendTo(ctx, recipient, 2, []byte("x")), codec.CodeAway)
		})
	}
}

// However often the connections of both sides break: a file sent to an account is the file that it gets.
func TestSendOverBreakingConnections(t *testing.T) {
	addr, _ := serve(t)
	alice, bob := dialServer(t, "alice", flaky(t, addr, 8)), dialServer(t, "bob", flaky(t, addr, 8))
	in := must[*client.Inbox](t)(alice.OpenInbox(t.Context(),
		client.InboxOptions{Policy: codec.PolicyLossless, Accept: []string{"bob"}}))
	pub := must[*client.Publisher](t)(bob.PublishTo(t.Context(), "alice", client.PublishOptions{}))
	const size = 16 << 20
	sent, got := sha256.New(), sha256.New()
	done := make(chan error, 1)
	go func() {
		rnd := rand.New(rand.NewPCG(3, 4))
		for n := 0; n < size; {
			p := random(n, 1+rnd.IntN(200_000))
			n += len(p)
			sent.Write(p)
			if err := pub.Push(t.Context(), 0, client.Delta, p); err != nil {
				done <- err
				return
			}
		}
		done <- pub.Close(t.Context())
	}()
	for left := false; !left; {
		ev, err := in.Next(t.Context())
		if err != nil {
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
}

// A server that goes takes the inbox with it; it is opened again with another one, with whom the client accepts.
func TestInboxIsOpenedAgain(t *testing.T) {
	first, shutdown := serve(t)
	second, _ := serve(t)
	alice := dialServer(t, "alice", first)
	alice.Close(context.Background())
	for { // random order: until it is the first server that has the client
		alice = dialServer(t, "alice", first, second)
		in := must[*client.Inbox](t)(alice.OpenInbox(t.Context(), client.InboxOptions{}))
		if err := dialServer(t, "alice", first).Accept(t.Context(), "x"); err == nil {
			in.Close()
			break
		}
		alice.Close(context.Background())
	}
	in := must[*client.Inbox](t)(alice.OpenInbox(t.Context(), client.InboxOptions{Accept: []string{"carol"}}))
	for _, account := range []string{"bob", "dave"} {
		if err := alice.Accept(t.Context(), account); err != nil {
			t.Fatal(err)
		}
	}
	for _, account := range []string{"carol", "dave"} {
		if err := alice.Block(t.Context(), account); err != nil {
			t.Fatal(err)
		}
	}
	before := dialServer(t, "bob", first)
	if err := before.SendTo(t.Context(), "alice", 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	before.Close(context.Background())
	shutdown()
	bob := dialServer(t, "bob", second)
	for {
		err := bob.SendTo(t.Context(), "alice", 1, []byte("two"))
		if err == nil {
			break
		}
		if !errors.Is(err, &client.RefusedError{Code: codec.CodeNotAccepted}) &&
			!errors.Is(err, &client.RefusedError{Code: codec.CodeAway}) {
			t.Fatal(err)
		}
	}
	var got []string
	for len(got) < 2 {
		ev, err := in.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m, is := ev.(*client.Message); is {
			got = append(got, string(m.Payload))
		}
	}
	if fmt.Sprint(got) != "[one two]" {
		t.Errorf("got %v", got)
	}
	for _, account := range []string{"carol", "dave"} {
		refusedWith(t, dialServer(t, account, second).SendTo(t.Context(), "alice", 1, []byte("x")), codec.CodeNotAccepted)
	}
}
