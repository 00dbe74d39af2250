package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// serve starts a server of the test's own and returns its address.
func serve(t testing.TB) string {
	t.Helper()
	e, err := engine.Start(engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return e.Addrs()[0].String()
}

func dialServer(t testing.TB, addr, account string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Servers: []string{addr}, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
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
			addr := serve(t)
			alice, bob := dialServer(t, addr, "alice"), dialServer(t, addr, "bob")
			room := must[codec.RoomID](t)(alice.Register(t.Context(), client.RoomOptions{Policy: policy, QueueBytes: 64 << 20, QueueAge: time.Minute}))
			sub := must[*client.Subscription](t)(bob.Subscribe(t.Context(), room, client.SubscribeOptions{}))
			pub := must[*client.Publisher](t)(alice.Publish(t.Context(), room, client.PublishOptions{}))

			var sent [][]byte
			for _, n := range []int{0, 1, 1000, codec.MaxPiece - 1, codec.MaxPiece, codec.MaxPiece + 1, 2 << 20, 5 << 20, 10} {
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(rand.Uint32())
				}
				sent = append(sent, p)
			}
			done := make(chan error, 1)
			go func() {
				for i, p := range sent {
					if err := pub.Push(t.Context(), 7, client.Kind(i%3), p); err != nil {
						done <- fmt.Errorf("push %d: %w", i, err)
						return
					}
				}
				done <- pub.Close(t.Context())
			}()
			seq := uint64(1)
			for i, p := range sent {
				m := nextMessage(t, sub)
				if m.First != seq || m.Publisher != "alice" || m.Dtype != 7 || m.Kind != client.Kind(i%3) || !bytes.Equal(m.Payload, p) {
					t.Fatalf("message %d: first %d, kind %v, %d bytes; want first %d, %d bytes", i, m.First, m.Kind, len(m.Payload), seq, len(p))
				}
				seq = m.Last + 1
			}
			if policy == codec.PolicyLossless { // what was consumed is acknowledged by the next call
				ev, err := sub.Next(t.Context())
				if _, left := ev.(*client.Left); !left {
					t.Fatalf("got %T, %v; want Left", ev, err)
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err := alice.Remove(t.Context(), room); err != nil {
				t.Fatal(err)
			}
			for {
				_, err := sub.Next(t.Context())
				if err == nil {
					continue
				}
				if !errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) {
					t.Fatalf("after remove: %v", err)
				}
				return
			}
		})
	}
}
