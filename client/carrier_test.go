//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	weak "math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/testcert"
)

// serveCarried starts a server that listens in every way, and returns its names and what its certificate is held to.
func serveCarried(t testing.TB, change ...func(*tls.Config)) (servers []string, trust *tls.Config) {
	t.Helper()
	cert := testcert.New(1)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, f := range change {
		f(cfg)
	}
	here := []string{"127.0.0.1:0"}
	e, err := engine.Start(engine.Config{
		Listen: here, ListenTLS: here, ListenWS: here, ListenWSS: here, Loops: 2, Log: zerolog.Nop(),
		DrainSpread: 10 * time.Millisecond, TLS: cfg,
	})
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
	return e.Servers(), &tls.Config{RootCAs: testcert.Pool(cert)}
}

// TestClientsByEveryName: whatever way a publisher and a subscriber come in, messages of all sizes arrive, both ways.
func TestClientsByEveryName(t *testing.T) {
	servers, trust := serveCarried(t)
	r := weak.New(weak.NewPCG(3, 4))
	var all []*client.Client
	for i, name := range servers {
		c, err := client.Dial(t.Context(), client.Options{Servers: []string{name}, Account: "account" + name[:2], TLS: trust})
		if err != nil {
			t.Fatalf("%s (%d): %v", name, i, err)
		}
		t.Cleanup(func() { c.Close(context.Background()) })
		all = append(all, c)
	}
	for i, from := range all {
		t.Run(servers[i], func(t *testing.T) {
			room := must[codec.RoomID](t)(from.Register(t.Context(), client.RoomOptions{Policy: codec.PolicyLossless}))
			var subs []*client.Subscription
			for _, to := range all {
				subs = append(subs, must[*client.Subscription](t)(to.Subscribe(t.Context(), room, client.SubscribeOptions{})))
			}
			var want [][]byte
			for n := range 60 {
				b := make([]byte, r.IntN(1<<(n%22)+1))
				for j := range b {
					b[j] = byte(r.Uint32())
				}
				want = append(want, b)
			}
			go func() {
				for _, b := range want {
					if err := from.Push(t.Context(), room, 1, b); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			done := make(chan int, len(subs))
			for j, s := range subs {
				go func() {
					defer func() { done <- j }()
					for n, b := range want {
						if m := nextMessage(t, s); !bytes.Equal(m.Payload, b) {
							t.Errorf("by %s: message %d has %d bytes, want %d", servers[j], n, len(m.Payload), len(b))
							return
						}
					}
				}()
			}
			for range subs {
				<-done
			}
			for _, s := range subs {
				s.Close()
			}
		})
	}
}

// TestSessionsAreResumed: a client whose connection broke comes back with the session ticket that it got before.
func TestSessionsAreResumed(t *testing.T) {
	resumed := make(chan bool, 10)
	servers, trust := serveCarried(t, func(c *tls.Config) {
		c.VerifyConnection = func(s tls.ConnectionState) error {
			resumed <- s.DidResume
			return nil
		}
	})
	conns := make(chan net.Conn, 10)
	c, err := client.Dial(t.Context(), client.Options{
		Servers: servers[1:2], Account: "ann", TLS: trust,
		Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				conns <- conn
			}
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if <-resumed {
		t.Error("the first connection resumed a session")
	}
	_ = (<-conns).Close()
	if !<-resumed {
		t.Error("the second connection did not resume the first one's session")
	}
}
