package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/codec"
)

func ok(req uint32) *codec.OK { return &codec.OK{Req: req} }

// Each answer finds its request by number, in whatever order they come.
func TestAnswersOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		stat := background(func() error {
			info, err := c.Stat(t.Context(), room)
			if err == nil && info.Owner != "alice" {
				err = errors.New("owner " + info.Owner)
			}
			return err
		})
		first := want[*codec.Stat](p)
		grant := background(func() error { return c.Grant(t.Context(), room, "bob") })
		second := want[*codec.Grant](p)
		register := background(func() error {
			id, err := c.Register(t.Context(), RoomOptions{
				Policy: codec.PolicyLossless, Idle: time.Second, Expire: time.Microsecond, QueueBytes: 5, QueueAge: time.Minute,
				MaxSubscribers: 3,
				History:        History{Bytes: 7, Age: time.Microsecond}, IdleUnlessOccupied: true,
			})
			if err == nil && id != 99 {
				err = errors.New("wrong room")
			}
			return err
		})
		third := want[*codec.Register](p)
		if got := *third; got != (codec.Register{
			Req: third.Req, Policy: codec.PolicyLossless, IdleMillis: 1000, ExpireMillis: 1, QueueBytes: 5, QueueMillis: 60_000,
			MaxSubs: 3,
			Keep:    codec.Keep{HistoryBytes: 7, HistoryMillis: 1, Occupied: true},
		}) {
			t.Errorf("register %+v", got)
		}
		registered := new(codec.Registered)
		registered.Req, registered.Room = third.Req, 99
		p.send(registered, ok(second.Req), ok(12345), &codec.Info{Req: first.Req, Room: room, Owner: "alice"})
		for _, done := range []<-chan error{stat, grant, register} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		done := background(func() error { return c.Remove(t.Context(), room) })
		p.send(&codec.Refused{Req: want[*codec.Remove](p).Req, Code: codec.CodeNotOwner, Text: "not yours"})
		err := <-done
		var no *RefusedError
		if !errors.As(err, &no) || no.Text != "not yours" || no.Retry() ||
			!errors.Is(err, &RefusedError{Code: codec.CodeNotOwner}) ||
			errors.Is(err, &RefusedError{Code: codec.CodeRoomUnknown}) ||
			!strings.Contains(err.Error(), "not_owner (201): not yours") {
			t.Errorf("error %v", err)
		}
		for name, err := range map[string]error{
			"account too long":  c.Grant(t.Context(), room, strings.Repeat("a", codec.MaxAccount+1)),
			"account not UTF-8": c.Revoke(t.Context(), room, "\xff"),
			"not subscribed":    c.Unsubscribe(t.Context(), room),
			"negative history": func() error {
				_, err := c.Register(t.Context(), RoomOptions{History: History{Bytes: -1}})
				return err
			}(),
			"a negative duration": func() error { _, err := c.Register(t.Context(), RoomOptions{Idle: -1}); return err }(),
		} {
			if !errors.As(err, &no) {
				t.Errorf("%s: %v", name, err)
			}
		}
		p.quiet() // nothing of that went to the server, which would close the connection
	})
}

// What becomes of a request whose connection breaks before the answer.
func TestBreakBeforeAnswer(t *testing.T) {
	type test struct {
		call  func(ctx context.Context, c *Client) error
		again bool // asked again on the next connection
		err   error
	}
	cases := map[string]test{
		"register": {func(ctx context.Context, c *Client) error { _, err := c.Register(ctx, RoomOptions{}); return err },
			false, ErrUnanswered},
		"remove": {func(ctx context.Context, c *Client) error { return c.Remove(ctx, room) }, false, ErrUnanswered},
		"grant":  {func(ctx context.Context, c *Client) error { return c.Grant(ctx, room, "bob") }, true, nil},
		"revoke": {func(ctx context.Context, c *Client) error { return c.Revoke(ctx, room, "bob") }, true, nil},
		"stat":   {func(ctx context.Context, c *Client) error { _, err := c.Stat(ctx, room); return err }, true, nil},
		"subscribe": {func(ctx context.Context, c *Client) error {
			_, err := c.Subscribe(ctx, room, SubscribeOptions{})
			return err
		}, true, nil},
		"publish": {func(ctx context.Context, c *Client) error {
			_, err := c.Publish(ctx, room, PublishOptions{})
			return err
		}, true, nil},
	}
	answer := func(p *peer) {
		switch m := p.read().(type) {
		case *codec.Grant:
			p.send(ok(m.Req))
		case *codec.Revoke:
			p.send(ok(m.Req))
		case *codec.Remove:
			p.send(ok(m.Req))
		case *codec.Register:
			r := new(codec.Registered)
			r.Req, r.Room = m.Req, room
			p.send(r)
		case *codec.Stat:
			p.send(&codec.Info{Req: m.Req, Room: room})
		case *codec.Subscribe:
			p.send(&codec.Subscribed{Req: m.Req, Room: room})
		case *codec.Publish:
			p.send(&codec.Published{Req: m.Req, Room: room, Pub: 1, Window: codec.MaxFrame})
		default:
			p.t.Errorf("unexpected %T", m)
		}
	}
	named(t, cases, func(t *testing.T, test test) {
		f := newFake(t)
		c, p := f.connect(f.options())
		done := background(func() error { return test.call(t.Context(), c) })
		p.read()
		p.close()
		p = f.accept()
		if test.again {
			answer(p)
		} else {
			p.quiet()
		}
		if err := <-done; !errors.Is(err, test.err) {
			t.Errorf("error %v, want %v", err, test.err)
		}
	})
	// One that was made while there was no connection has certainly not been carried out.
	for name, test := range cases {
		t.Run(name+" before the connection", func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				c, p := f.connect(f.options())
				p.close()
				synctest.Wait()
				done := background(func() error { return test.call(t.Context(), c) })
				synctest.Wait()
				answer(f.accept())
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A room that nobody waits for any more is removed.
func TestRegisterAbandoned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		ctx, cancel := context.WithCancel(t.Context())
		done := background(func() error { _, err := c.Register(ctx, RoomOptions{}); return err })
		m := want[*codec.Register](p)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		r := new(codec.Registered)
		r.Req, r.Room = m.Req, 55
		p.send(r)
		if m := want[*codec.Remove](p); m.Room != 55 {
			t.Errorf("removes %d", m.Room)
		}
	})
}

// Giving up a publish or a subscribe takes it back, whatever the server made of it.
func TestAbandonedPartIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		ctx, cancel := context.WithCancel(t.Context())
		pub := background(func() error { _, err := c.Publish(ctx, room, PublishOptions{}); return err })
		m := want[*codec.Publish](p)
		sub := background(func() error { _, err := c.Subscribe(ctx, room, SubscribeOptions{}); return err })
		n := want[*codec.Subscribe](p)
		cancel()
		for _, done := range []<-chan error{pub, sub} {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		var unpublish, unsubscribe bool
		for range 2 {
			switch p.read().(type) {
			case *codec.Unpublish:
				unpublish = true
			case *codec.Unsubscribe:
				unsubscribe = true
			}
		}
		if !unpublish || !unsubscribe {
			t.Error("not taken back")
		}
		// The answers come late, with frames, while the room is subscribed to anew: those frames are not the new one's.
		p.send(&codec.Published{Req: m.Req, Room: room, Pub: 1, Window: codec.MaxFrame},
			&codec.Subscribed{Req: n.Req, Room: room},
			frame(1, 0, "old"))
		s := subscribe(c, p, codec.PolicyLive, 0)
		p.send(gap(1, 4, codec.GapJoined), frame(5, 0, "new"))
		wantEvents(t, s, "gap 1-4 joined", "message 5-5 new")
	})
}
