//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// The tests of this file run against a real server.

// serve starts a server of the test's own.
func serve(t testing.TB) (addr string, shutdown func()) {
	t.Helper()
	e, err := engine.Start(engine.Config{
		Listen: []string{"127.0.0.1:0"}, Loops: 2, Log: zerolog.Nop(), DrainSpread: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	shutdown = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(shutdown)
	return e.Addrs()[0].String(), shutdown
}

func dialServer(t testing.TB, account string, addrs ...string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{
		Servers: addrs, Account: account, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// nextMessage returns the next message and fails on anything that is not expected before one.
func nextMessage(t testing.TB, s *client.Subscription) *client.Message {
	t.Helper()
	for {
		ev, err := s.Next(t.Context())
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

func TestMessagesOfAllSizes(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		t.Run(policy.String(), func(t *testing.T) {
			addr, _ := serve(t)
			alice, bob := dialServer(t, "alice", addr), dialServer(t, "bob", addr)
			room := must[codec.RoomID](t)(alice.Register(t.Context(), client.RoomOptions{
				Policy: policy, QueueBytes: 64 << 20, QueueAge: time.Minute,
			}))
			sub := must[*client.Subscription](t)(bob.Subscribe(t.Context(), room, client.SubscribeOptions{}))
			pub := must[*client.Publisher](t)(alice.Publish(t.Context(), room, client.PublishOptions{}))

			sizes := []int{0, 1, 1000, codec.MaxPiece - 1, codec.MaxPiece, codec.MaxPiece + 1, 2 << 20, 5 << 20, 10}
			done := make(chan error, 1)
			go func() {
				for i, n := range sizes {
					if err := pub.Push(t.Context(), 7, client.Kind(i%3), random(i, n)); err != nil {
						done <- fmt.Errorf("push %d: %w", i, err)
						return
					}
				}
				done <- pub.Close(t.Context())
			}()
			seq := uint64(1)
			for i, n := range sizes {
				m := nextMessage(t, sub)
				if m.First != seq || m.Publisher != "alice" || m.Dtype != 7 || m.Kind != client.Kind(i%3) ||
					!bytes.Equal(m.Payload, random(i, n)) {
					t.Fatalf("message %d: first %d, kind %v, %d bytes; want first %d, %d bytes", i, m.First, m.Kind, len(m.Payload),
						seq, n)
				}
				seq = m.Last + 1
			}
			ev, err := sub.Next(t.Context()) // which acknowledges the last message, where that matters
			if _, left := ev.(*client.Left); !left {
				t.Fatalf("got %T, %v; want Left", ev, err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err := alice.Remove(t.Context(), room); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Next(t.Context()); !errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) {
				t.Errorf("after remove: %v", err)
			}
		})
	}
}

// random returns n bytes that depend on a seed.
func random(seed, n int) []byte {
	p := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rnd.Read(p)
	return p
}

// flaky passes connections on to addr and breaks the first ones after some bytes.
func flaky(t testing.TB, addr string, breaks int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { ln.Close(); all.Wait() })
	rnd := rand.New(rand.NewPCG(1, 2))
	all.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", addr)
			if err != nil {
				down.Close()
				continue
			}
			life := int64(1) << 40
			if breaks > 0 {
				breaks--
				life = int64(200_000 + rnd.IntN(1_000_000))
			}
			for _, pair := range [][2]net.Conn{{up, down}, {down, up}} {
				all.Go(func() {
					io.CopyN(pair[0], pair[1], life)
					up.Close()
					down.Close()
				})
			}
		}
	})
	return ln.Addr().String()
}

// However often the connections of both sides break: in a lossless room all arrives, once and in order.
func TestLosslessOverBreakingConnections(t *testing.T) {
	addr, _ := serve(t)
	alice, bob := dialServer(t, "alice", flaky(t, addr, 8)), dialServer(t, "bob", flaky(t, addr, 8))
	owner := dialServer(t, "alice", addr)
	room := must[codec.RoomID](t)(owner.Register(t.Context(), client.RoomOptions{Policy: codec.PolicyLossless}))
	sub := must[*client.Subscription](t)(bob.Subscribe(t.Context(), room, client.SubscribeOptions{}))
	pub := must[*client.Publisher](t)(alice.Publish(t.Context(), room, client.PublishOptions{}))

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
	resumed := 0
	for left := false; !left; {
		ev, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Message:
			got.Write(ev.Payload)
		case *client.Resumed:
			resumed++
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
	if resumed == 0 {
		t.Error("the connection never broke")
	}
}

// However often the connections break: in a live room every frame arrives once and in order, or is in a gap.
func TestLiveOverBreakingConnections(t *testing.T) {
	addr, _ := serve(t)
	alice, bob := dialServer(t, "alice", flaky(t, addr, 8)), dialServer(t, "bob", flaky(t, addr, 8))
	owner := dialServer(t, "alice", addr)
	room := must[codec.RoomID](t)(owner.Register(t.Context(), client.RoomOptions{}))
	sub := must[*client.Subscription](t)(bob.Subscribe(t.Context(), room, client.SubscribeOptions{}))
	pub := must[*client.Publisher](t)(alice.Publish(t.Context(), room, client.PublishOptions{}))

	const messages = 3000
	done := make(chan error, 1)
	go func() {
		for i := range uint64(messages) {
			p := binary.BigEndian.AppendUint64(make([]byte, 0, 4000), i)
			kind := client.Delta
			if i%30 == 0 {
				kind = client.Key
			}
			if err := pub.Push(t.Context(), uint8(i%2), kind, p[:8+i*7%3000]); err != nil {
				done <- err
				return
			}
		}
		done <- pub.Close(t.Context())
	}()
	next := map[uint8]uint64{0: 1, 1: 1}
	for left := false; !left; {
		ev, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Message:
			if i := binary.BigEndian.Uint64(ev.Payload); i != 2*(ev.First-1)+uint64(ev.Dtype) {
				t.Fatalf("frame %d of dtype %d is message %d", ev.First, ev.Dtype, i)
			}
			if ev.First != next[ev.Dtype] {
				t.Fatalf("message %d, want %d", ev.First, next[ev.Dtype])
			}
			next[ev.Dtype] = ev.Last + 1
		case *client.Gap:
			if ev.From != next[ev.Dtype] {
				t.Fatalf("gap from %d, want %d", ev.From, next[ev.Dtype])
			}
			next[ev.Dtype] = ev.To + 1
		case *client.Left:
			left = true
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if next[0] != messages/2+1 || next[1] != messages/2+1 {
		t.Errorf("ends before %v", next)
	}
}

// A server that shuts down sends its clients away; what was in its rooms is gone, and they are told.
func TestServerShutsDown(t *testing.T) {
	first, shutdown := serve(t)
	second, _ := serve(t)
	proxy := flaky(t, first, 0) // the only way to the first, so that all start there
	alice := dialServer(t, "alice", proxy)
	room := must[codec.RoomID](t)(alice.Register(t.Context(), client.RoomOptions{}))
	other := dialServer(t, "alice", second)
	elsewhere := must[codec.RoomID](t)(other.Register(t.Context(), client.RoomOptions{}))

	var c *client.Client
	for { // random order: until it is the first server that has the client
		c = dialServer(t, "alice", first, second)
		if _, err := c.Stat(t.Context(), room); err == nil {
			break
		}
		c.Close(context.Background())
	}
	sub := must[*client.Subscription](t)(c.Subscribe(t.Context(), room, client.SubscribeOptions{}))
	pub := must[*client.Publisher](t)(c.Publish(t.Context(), room, client.PublishOptions{}))
	if err := pub.Push(t.Context(), 1, client.Delta, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if m := nextMessage(t, sub); string(m.Payload) != "x" {
		t.Fatalf("payload %q", m.Payload)
	}
	if err := pub.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	shutdown()
	for {
		_, err := sub.Next(t.Context())
		if err == nil {
			continue
		}
		var closed *client.ClosedError
		if !errors.As(err, &closed) {
			t.Errorf("next: %v", err)
		}
		break
	}
	// The client itself goes on, with the other server.
	if _, err := c.Stat(t.Context(), elsewhere); err != nil {
		t.Error(err)
	}
}

// A right that is taken back ends the publisher, also in the middle of a message that waits for a slow subscriber.
func TestRevokedInMessage(t *testing.T) {
	addr, _ := serve(t)
	alice, bob := dialServer(t, "alice", addr), dialServer(t, "bob", addr)
	room := must[codec.RoomID](t)(alice.Register(t.Context(), client.RoomOptions{Policy: codec.PolicyLossless}))
	if err := alice.Grant(t.Context(), room, "bob"); err != nil {
		t.Fatal(err)
	}
	sub := must[*client.Subscription](t)(alice.Subscribe(t.Context(), room, client.SubscribeOptions{}))
	pub := must[*client.Publisher](t)(bob.Publish(t.Context(), room, client.PublishOptions{}))
	done := make(chan error, 1)
	go func() { done <- pub.Push(t.Context(), 1, client.Delta, make([]byte, 8<<20)) }()
	for { // some of it has arrived
		if info := must[codec.Info](t)(alice.Stat(t.Context(), room)); info.Frames > 0 {
			break
		}
	}
	if err := alice.Revoke(t.Context(), room, "bob"); err != nil {
		t.Fatal(err)
	}
	err := <-done // what is told first
	if !errors.Is(err, &client.ClosedError{Code: codec.CodeRevoked}) &&
		!errors.Is(err, &client.RefusedError{Code: codec.CodeRevoked}) {
		t.Errorf("push: %v", err)
	}
	for {
		ev, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m, whole := ev.(*client.Message); whole {
			t.Fatalf("a message of %d bytes", len(m.Payload))
		}
		if left, ok := ev.(*client.Left); ok {
			if left.Code != codec.CodeRevoked || left.Account != "bob" {
				t.Errorf("left %+v", left)
			}
			return
		}
	}
}
