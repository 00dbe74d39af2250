//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/room"
)

// The nodes leave one after the other while a file is pushed into a lossless room, and while one is sent to an account:
// the publisher's, the subscriber's and the relay among them. When nothing has come for a minute the test says what
// everybody waits for.
func TestNodesLeave(t *testing.T) {
	for _, to := range []string{"room", "inbox"} {
		t.Run(to, func(t *testing.T) {
			var x leaving
			nodes, addrs, shutdown := startCluster(t, 3, engine.Config{Log: x.logger()})
			x.nodes, x.alice, x.bob = nodes, x.dial(t, "alice", addrs), x.dial(t, "bob", addrs)
			ctx := t.Context()
			var in interface {
				Next(context.Context) (client.Event, error)
			}
			if to == "inbox" {
				in = must[*client.Inbox](t)(x.alice.OpenInbox(ctx,
					client.InboxOptions{Policy: codec.PolicyLossless, Accept: []string{"bob"}}))
				x.pub = must[*client.Publisher](t)(x.bob.PublishTo(ctx, "alice", client.PublishOptions{}))
			} else {
				id := must[codec.RoomID](t)(x.bob.Register(ctx, client.RoomOptions{Policy: codec.PolicyLossless}))
				in = must[*client.Subscription](t)(x.alice.Subscribe(ctx, id, client.SubscribeOptions{}))
				x.pub = must[*client.Publisher](t)(x.bob.Publish(ctx, id, client.PublishOptions{}))
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
					x.does("pushes %d bytes, up to %d", len(p), n)
					if err := x.pub.Push(ctx, 0, client.Delta, p); err != nil {
						done <- fmt.Errorf("push at %d: %w", n, err)
						return
					}
					if gone < 2 && n > (gone+1)*size/3 {
						x.does("waits for n%d to leave", gone)
						shutdown[gone]()
						gone++
					}
				}
				x.does("closes the publisher")
				done <- x.pub.Close(ctx)
			}()
			for left := false; !left; {
				waits, cancel := context.WithTimeout(ctx, time.Minute)
				ev, err := in.Next(waits)
				cancel()
				if err != nil {
					select {
					case err := <-done:
						t.Error(err)
					default:
					}
					t.Fatalf("%v\n%s", err, x.String())
				}
				switch ev := ev.(type) {
				case *client.Message:
					got.Write(ev.Payload)
					x.got = fmt.Sprint("message ", ev.First, " to ", ev.Last)
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

// patient is how long nodes wait for a subscriber that has lost its connection, where nobody is to be waited for.
var patient = room.Config{Stall: time.Hour}

// A subscriber of a lossless room that goes on with another node, while the one before lives, is not waited for there:
// whichever of them relays the room, or neither.
func TestSubscriberMovesOn(t *testing.T) {
	for relay := range 3 {
		t.Run(fmt.Sprintf("a room of n%d", relay), func(t *testing.T) {
			var x leaving
			nodes, addrs, _ := startCluster(t, 3, engine.Config{Rooms: patient, Log: x.logger()})
			x.nodes, x.alice, x.bob = nodes, x.dial(t, "alice", addrs), x.dial(t, "bob", addrs[relay:relay+1])
			id := must[codec.RoomID](t)(x.bob.Register(t.Context(), client.RoomOptions{Policy: codec.PolicyLossless}))
			sub := must[*client.Subscription](t)(x.alice.Subscribe(t.Context(), id, client.SubscribeOptions{}))
			x.pub = must[*client.Publisher](t)(x.bob.Publish(t.Context(), id, client.PublishOptions{}))
			moved := make(chan struct{}, 1)
			got := make(chan string)
			go func() {
				defer close(got)
				for {
					switch ev, err := sub.Next(t.Context()); ev := ev.(type) {
					case nil:
						x.does("%v", err)
						return
					case *client.Message:
						got <- string(ev.Payload)
					case *client.Gap:
						t.Errorf("gap %d to %d: %v", ev.From, ev.To, ev.Reason)
					case *client.Resumed:
						moved <- struct{}{}
					}
				}
			}()
			for k := range 6 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				push := func(text string) {
					t.Helper()
					err := x.pub.Push(ctx, 0, client.Delta, []byte(text))
					select {
					case s := <-got:
						if err != nil || s != text {
							t.Fatalf("%v; got %q, want %q\n%s", err, s, text, x.String())
						}
					case <-ctx.Done():
						t.Fatalf("%q does not come: %v\n%s", text, err, x.String())
					}
				}
				push("before")
				at, _ := x.alice.Server()
				i := slices.IndexFunc(addrs, func(a string) bool { return a == at.Addr })
				if err := nodes[i].CutSession(at.Session, "the test"); err != nil {
					t.Fatal(err)
				}
				x.does("pushes on after alice was sent away by n%d, the %dth time", i, k)
				select {
				case <-moved:
				case <-ctx.Done():
					t.Fatalf("alice does not come back\n%s", x.String())
				}
				push("behind")
				if err := x.pub.Flush(ctx); err != nil {
					t.Fatalf("%v\n%s", err, x.String())
				}
				if now, _ := x.alice.Server(); now.Node == at.Node {
					t.Fatal("alice has not moved")
				}
			}
		})
	}
}

// leaving is what there is to say of a test that stands still.
type leaving struct {
	log        tail
	nodes      []*engine.Engine
	alice, bob *client.Client
	pub        *client.Publisher
	got        string // alice's last event

	mu    sync.Mutex
	doing string // what bob does
}

func (x *leaving) logger() zerolog.Logger {
	to := zerolog.ConsoleWriter{Out: &x.log, NoColor: true, TimeFormat: time.StampMilli}
	return zerolog.New(to).Level(zerolog.InfoLevel).With().Timestamp().Logger()
}

func (x *leaving) dial(t testing.TB, account string, addrs []string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{
		Servers: addrs, Account: account, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&x.log, nil)).With("client", account),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (x *leaving) does(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.doing = fmt.Sprintf(format, args...)
}

// String says where each side stands: the clients, what each node knows of the room, whom its publisher waits for, what
// was logged last, and where the goroutines of this package and of the clients are.
func (x *leaving) String() string {
	var b strings.Builder
	x.mu.Lock()
	fmt.Fprintf(&b, "bob %s\nalice has had %s\n", x.doing, x.got)
	x.mu.Unlock()
	for name, c := range map[string]*client.Client{"alice": x.alice, "bob": x.bob} {
		at, connected := c.Server()
		fmt.Fprintf(&b, "%s: connected %v, %+v; %+v\n", name, connected, at, c.Stats())
	}
	fmt.Fprintf(&b, "bob's publisher of %v: acknowledged %d, %d bytes wait\n", x.pub.Room(), x.pub.Acked(0), x.pub.Buffered())
	for i, e := range x.nodes {
		name := fmt.Sprint("n", i)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		asked := make(chan string, 1)
		go func() {
			d, err := e.Room(ctx, x.pub.Room())
			text, _ := json.MarshalIndent(d, "", " ")
			asked <- fmt.Sprintf("%s: %v %s", name, err, text)
		}()
		select {
		case text := <-asked:
			fmt.Fprintln(&b, text)
		case <-ctx.Done(): // it has left
		}
		cancel()
	}
	fmt.Fprintf(&b, "last logged:\n%s", x.log.String())
	stacks := make([]byte, 8<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "/client.") || strings.Contains(g, "/client_test.") {
			fmt.Fprintf(&b, "\n%s\n", g)
		}
	}
	return b.String()
}

// tail keeps the last of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b = append(t.b, p...); len(t.b) > 64<<10 {
		t.b = append(t.b[:0], t.b[len(t.b)-32<<10:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
