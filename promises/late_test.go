package promises

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// TestLateViewers has viewers join at random moments of a video, while it goes on. What each of them gets decodes
// without an error, from its first picture on, to the very pictures of the video's end.
func TestLateViewers(t *testing.T) {
	if testing.Short() {
		t.Skip("makes and decodes videos")
	}
	for _, test := range []struct {
		container string
		viewers   int
	}{
		{"ts", 100},
		{"webm", 100},
	} {
		t.Run(test.container, func(t *testing.T) {
			_, rnd := seeded(t)
			video, err := os.ReadFile(makeVideo(t, test.container, "160x120", 6, 10, "-b:v 500k"))
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t)
			got := joinLate(t, s.addr, split(t, video), test.viewers, rnd)

			all, err := decode(video)
			if err != nil {
				t.Fatal(err)
			}
			distinct := make(map[string][]uint64) // what those who joined in the same group have is the same: decode it once
			for _, v := range got {
				distinct[string(v.data)] = append(distinct[string(v.data)], v.first)
			}
			t.Logf("%d viewers have %d different beginnings", len(got), len(distinct))
			var g errgroup.Group
			g.SetLimit(2)
			for data, first := range distinct {
				g.Go(func() error {
					seen, err := decode([]byte(data))
					if err != nil {
						return fmt.Errorf("viewers from frames %v: %w", first, err)
					}
					if len(seen) == 0 || len(seen) > len(all) || !slices.Equal(seen, all[len(all)-len(seen):]) {
						return fmt.Errorf("viewers from frames %v: %d pictures that are not the last of the video's %d", first, len(seen), len(all))
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// joinLead is how many messages the publisher may push while a viewer joins: it waits for no viewer to be there.
const joinLead = 20

// joinLate pushes a video and has viewers join on their way. It returns what each of them got; first is the frame that
// it got first behind the init message.
func joinLate(t *testing.T, addr string, units []unit, viewers int, rnd *rand.Rand) []unit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	owner := dialAs(t, addr, "alice")
	room := must(owner.Register(ctx, client.RoomOptions{}))(t)
	pub := must(owner.Publish(ctx, room, client.PublishOptions{}))(t)

	joinAt := make([]int, viewers) // before which message the viewer begins to join, in order
	firstKey := slices.IndexFunc(units, func(u unit) bool { return u.kind == client.Key })
	lastKey := len(units) - 1
	for units[lastKey].kind != client.Key {
		lastKey--
	}
	for i := range joinAt { // whoever joins at the very end may find nothing to see
		joinAt[i] = firstKey + 1 + rnd.IntN(lastKey-firstKey)
	}
	slices.Sort(joinAt)

	got := make([]unit, viewers)
	subscribed := make([]chan struct{}, viewers)
	var g errgroup.Group
	next, awaited := 0, 0
	for i, u := range units {
		for ; next < viewers && joinAt[next] == i; next++ {
			v, done := next, make(chan struct{})
			subscribed[v] = done
			c := dialAs(t, addr, fmt.Sprint("viewer", v))
			g.Go(func() (err error) {
				defer c.Close(context.Background())
				sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{})
				close(done)
				if err == nil {
					got[v], err = watch(ctx, sub)
				}
				if err != nil {
					return fmt.Errorf("viewer %d, from message %d: %w", v, i, err)
				}
				return nil
			})
		}
		for ; awaited < next && joinAt[awaited]+joinLead <= i; awaited++ {
			<-subscribed[awaited]
		}
		if err := pub.Push(ctx, 0, u.kind, u.data); err != nil {
			t.Fatal(err)
		}
	}
	for ; awaited < next; awaited++ {
		<-subscribed[awaited]
	}
	if err := pub.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := owner.Remove(ctx, room); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return got
}

// watch returns all that a subscription brings, joined. After the gaps of joining there may be none.
func watch(ctx context.Context, sub *client.Subscription) (all unit, err error) {
	for {
		e, err := sub.Next(ctx)
		if errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		switch e := e.(type) {
		case *client.Gap:
			if e.Reason != codec.GapJoined || all.first != 0 {
				return all, fmt.Errorf("gap %d to %d: %v", e.From, e.To, e.Reason)
			}
		case *client.Message:
			if all.first == 0 && e.Kind != client.Init {
				if all.first = e.First; e.Kind != client.Key {
					return all, fmt.Errorf("begins with message %d, which is no key message", e.First)
				}
			}
			all.data = append(all.data, e.Payload...)
		}
	}
}
