package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/clock"
)

// stepped is the system's clock, whose time of day steps.
type stepped struct {
	clock.Clock
	step atomic.Int64
}

// leaping is the system's clock, that a test moves on.
type leaping struct {
	clock.Clock
	ahead atomic.Int64 // ns
}

func (l *leaping) Now() int64 { return l.Clock.Now() + l.ahead.Load() }

func (l *leaping) leap(d time.Duration) { l.ahead.Add(int64(d)) }

func (s *stepped) Wall() time.Time { return s.Clock.Wall().Add(time.Duration(s.step.Load())) }

// TestOnlyTokensSeeTheWall: when the computer's clock steps past the end of a token its session ends, and nothing else
// happens.
func TestOnlyTokensSeeTheWall(t *testing.T) {
	path, withJWT := jwtAuth(t)
	c := &stepped{Clock: clock.System}
	e := start(t, withJWT, func(cfg *engine.Config) { cfg.Clock = c })
	alice := loginWith(t, e, "alice", sign(t, path, "alice", 3*time.Hour, everything), codec.CapToken)
	bob := loginWith(t, e, "bob", sign(t, path, "bob", 30*time.Minute, everything), codec.CapToken)
	room := alice.register(codec.Register{IdleMillis: 60_000, ExpireMillis: 60_000})
	src := newSource(alice, room)
	carol := loginWith(t, e, "carol", sign(t, path, "carol", 3*time.Hour, everything), 0)
	carol.subscribe(room)

	c.step.Store(-int64(time.Hour))
	for range 100 {
		src.push(1, codec.FlagKey, []byte("an hour behind"))
		if f := next[*codec.Stream](carol); f.Seq != src.seq[1] {
			t.Fatalf("frame %d", f.Seq)
		}
	}
	bob.send(&codec.Ping{Echo: 1})
	next[*codec.Pong](bob)

	c.step.Store(int64(time.Hour))
	for {
		x := bob.any()
		if m, ok := x.(*codec.Error); ok {
			if m.Code != codec.CodeTokenExpired {
				t.Errorf("closed with %v", m.Code)
			}
			break
		} else if x == nil {
			t.Fatal("closed without a word")
		}
	}
	for range 100 {
		src.push(1, codec.FlagKey, []byte("an hour ahead"))
		if f := next[*codec.Stream](carol); f.Seq != src.seq[1] {
			t.Fatalf("frame %d", f.Seq)
		}
	}
}

// TestTokenOfALongLife: the end of a token may be further away than a clock can count.
func TestTokenOfALongLife(t *testing.T) {
	path, withJWT := jwtAuth(t)
	e := start(t, withJWT)
	w := loginWith(t, e, "alice", sign(t, path, "alice", 280*365*24*time.Hour, everything), codec.CapToken)
	w.send(&codec.Ping{Echo: 7})
	for {
		switch m := w.any().(type) {
		case *codec.Pong:
			return
		default:
			t.Fatalf("%T", m)
		}
	}
}
