package room

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// TestManyAtOnce has publishers, subscribers and links on several loops, owners and the sweep work on the same rooms at
// once. Each subscriber checks what it gets; at the end nothing is left.
func TestManyAtOnce(t *testing.T) {
	const loops, pubs, frames = 3, 3, 300
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLatest, codec.PolicyLossless} {
		t.Run("policy="+policy.String(), func(t *testing.T) {
			pool := &Pool{}
			table := NewTable(Config{Window: 4 << 20, History: 4 << 10, Idle: 24 * time.Hour, Stall: 24 * time.Hour},
				rand.Reader, pool)
			r, err := table.Register("owner", &codec.Register{Policy: policy}, 1)
			if err != nil {
				t.Fatal(err)
			}
			var busy, idle sync.WaitGroup
			var done atomic.Bool
			for p := range pubs {
				account := fmt.Sprint("pub", p)
				if err := r.Grant("owner", account); err != nil {
					t.Fatal(err)
				}
				busy.Go(func() {
					for round := range 3 {
						h := &fakeHolder{}
						pub, _, err := r.Publish(h, account, uint64(round), p == 0)
						if err != nil {
							t.Error(err)
							return
						}
						x := &bench{t: t, room: r, pub: pub, hold: h, now: 1}
						for seq := uint64(1); seq <= frames; seq++ {
							flags := codec.Flags(0)
							if seq%10 == 1 {
								flags = codec.FlagKey
							}
							if err := x.tryPush(x.message(nil, uint8(p), seq, flags, 1, 64)); err != nil {
								if p == 1 && errors.Is(err, ErrRevoked) {
									break
								}
								t.Error(err)
								return
							}
							if seq%64 == 0 {
								pub.Acks(h, func(codec.StreamKey, uint64) {})
							}
						}
						if p == 1 {
							_ = r.Revoke("owner", account, 1)
							_ = r.Grant("owner", account)
						} else if round == 1 {
							pub.Detach(h, 1)
						} else if err := pub.Unpublish(h, 1); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all := make([]*fakeLoop, loops)
			for i := range all {
				l := &fakeLoop{room: r, pool: pool, now: 1}
				all[i] = l
				idle.Go(func() {
					x := &bench{t: failer{t}, pool: pool, room: r, loop: l}
					for n := 0; !done.Load(); n++ {
						l.drain()
						for _, v := range l.members {
							v.take(1 << 30)
							for k, s := range v.streams {
								if err := r.Ack(v, k, s.expected-1, 1); err != nil {
									t.Error(err)
								}
							}
						}
						switch {
						case n%50 == 0 && len(l.members) < 4:
							j := Join{Account: fmt.Sprint(i), Instance: uint64(n), Counts: n%100 == 0}
							if n%150 == 0 {
								j = Join{Link: fmt.Sprint("node ", i, n)}
							}
							if err := l.subscribe(x.newViewer(), j); err != nil {
								t.Error(err)
							}
						case n%170 == 0 && len(l.members) > 1:
							v := l.members[0]
							l.unsubscribe(v, n%340 == 0)
							v.q.Clear()
						}
						r.Info(1)
					}
				})
			}
			idle.Go(func() {
				for now := int64(1); !done.Load(); now += int64(10 * time.Millisecond) {
					table.Sweep(now)
				}
			})
			busy.Wait()
			done.Store(true)
			idle.Wait()
			if err := table.Remove(r.ID, "owner"); err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				l.drain()
				for _, v := range l.members {
					v.take(1 << 30)
					if v.closed != codec.CodeRemoved {
						t.Errorf("closed with %v", v.closed)
					}
				}
			}
			tidy(pool)
			if n := pool.Outstanding(); n != 0 {
				t.Errorf("%d batches outstanding", n)
			}
			if n := pool.Held(); n != 0 {
				t.Errorf("%d bytes alive", n)
			}
			if n := table.CacheBytes(); n != 0 {
				t.Errorf("%d bytes cached", n)
			}
		})
	}
}

// failer makes Fatalf usable in a goroutine that the test has started.
type failer struct{ *testing.T }

func (f failer) Fatalf(format string, args ...any) { f.Errorf(format, args...) }

// TestRolesAtOnce has a node lose and get a room again and again while publishers push, subscribers come and go, and a
// link of another node acknowledges. Nobody in the room misses anything by it.
func TestRolesAtOnce(t *testing.T) {
	const loops, pubs, frames, flips = 2, 2, 2000, 200
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		t.Run("policy="+policy.String(), func(t *testing.T) {
			pool := &Pool{}
			table := NewTable(Config{Window: 4 << 20, Idle: 24 * time.Hour, Stall: 24 * time.Hour, Linger: 24 * time.Hour},
				rand.Reader, pool)
			r, err := table.Register("owner", &codec.Register{Policy: policy, QueueBytes: 64 << 20, QueueMillis: 60_000}, 1)
			if err != nil {
				t.Fatal(err)
			}
			var busy, idle sync.WaitGroup
			var done atomic.Bool
			keys := make([]codec.StreamKey, pubs)
			all := make([]*fakeLoop, loops)
			first := make([]*viewer, loops)
			for i := range all {
				l := &fakeLoop{room: r, pool: pool, now: 1}
				x := &bench{t: failer{t}, pool: pool, room: r, loop: l}
				all[i], first[i] = l, x.newViewer()
				if err := l.subscribe(first[i], Join{Account: "first", Instance: uint64(i)}); err != nil {
					t.Fatal(err)
				}
				idle.Go(func() {
					for n := 0; !done.Load(); n++ {
						l.drain()
						for _, v := range l.members {
							v.take(1 << 30)
							for k, s := range v.streams {
								if err := r.Ack(v, k, s.expected-1, 1); err != nil {
									t.Error(err)
								}
							}
						}
						switch {
						case n%40 == 1 && len(l.members) < 4:
							j := Join{Account: "v", Instance: uint64(n*loops + i)}
							if n%80 == 1 {
								j = Join{Link: fmt.Sprint("node ", i, n)}
							}
							if err := l.subscribe(x.newViewer(), j); err != nil {
								t.Error(err)
							}
						case n%60 == 59 && len(l.members) > 1:
							v := l.members[1]
							l.unsubscribe(v, n%120 == 59)
							v.q.Clear()
						}
					}
				})
			}
			for i := range pubs {
				busy.Go(func() {
					for next := uint64(1); next <= frames; {
						h := &fakeHolder{}
						pub, known, err := r.Publish(h, "owner", uint64(i+1), false)
						if errors.Is(err, ErrNotRelay) {
							runtime.Gosched()
							continue
						} else if err != nil {
							t.Error(err)
							return
						}
						x := &bench{t: t, room: r, pub: pub, hold: h, now: 1}
						if keys[i] = x.key(1); len(known) > 0 {
							next = known[0].Next
						}
						for ; next <= frames; next++ {
							if err = x.tryPush(x.message(nil, 1, next, 0, 1, 64)); err != nil {
								break
							}
							pub.Acks(h, func(codec.StreamKey, uint64) {})
						}
						if err != nil && !errors.Is(err, ErrNotRelay) {
							t.Error(err)
							return
						}
					}
				})
			}
			busy.Go(func() {
				for n := range flips {
					r.Demote(1)
					st := r.State()
					st.Epoch, st.Birth = uint32(n), 1
					if got, err := table.Restore(st, 1); err != nil || got != r {
						t.Error(got, err)
					}
					table.Sweep(int64(n) * int64(20*time.Millisecond))
				}
			})
			busy.Wait()
			done.Store(true)
			idle.Wait()
			for i, l := range all {
				l.drain()
				first[i].take(1 << 30)
				for _, k := range keys {
					if s := first[i].stream(k); s.expected != frames+1 || len(s.script) != frames {
						t.Errorf("stream %v ends at %d after %d frames and gaps", k, s.expected-1, len(s.script))
					}
				}
			}
			table.EndAll(codec.CodeRemoved)
			for _, l := range all {
				l.drain()
				for _, v := range l.members {
					v.q.Clear()
				}
			}
			tidy(pool)
			if n := pool.Outstanding(); n != 0 || table.CacheBytes() != 0 || table.Len() != 0 {
				t.Errorf("%d batches outstanding, %d bytes cached, %d rooms", n, table.CacheBytes(), table.Len())
			}
		})
	}
}
