package room

import (
	"crypto/rand"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// The level is the law of fair shares: cut down to it all fit, and nobody is cut down further than another one is left.
func TestLevel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Memory
		var shares []*Share
		total := int64(0)
		for i, n := range rapid.SliceOfN(rapid.Int64Range(0, 1<<30), 1, 50).Draw(t, "held") {
			s := m.Share(fmt.Sprint(i))
			s.Hold(int(n))
			shares, total = append(shares, s), total+n
		}
		nobody := rapid.Int64Range(0, 1<<28).Draw(t, "nobody's")
		m.held.Add(nobody)
		bound := rapid.Int64Range(1<<29, 1<<33).Draw(t, "bound")
		over := m.Weigh(bound, math.MaxInt64)
		fits, after := total+nobody <= bound, nobody
		level := m.level.Load()
		for _, s := range shares {
			if s.Over() != slices.Contains(over, s) {
				t.Fatalf("account %s: over %v, and in the list %v", s.Account, s.Over(), !s.Over())
			}
			if s.Over() {
				after += level
			} else {
				after += s.Held()
			}
		}
		switch {
		case fits && len(over) > 0:
			t.Fatalf("%d accounts have to give up something, and all fit", len(over))
		case !fits && len(over) == 0:
			t.Fatal("nobody has to give up anything, and all do not fit")
		case !fits && after > bound+int64(len(shares))*bound/1024:
			t.Fatalf("cut down to the level %d they hold %d, bound %d", level, after, bound)
		case !fits && after < bound-int64(len(shares)) && after > nobody:
			t.Fatalf("cut down to the level %d they hold %d only, bound %d", level, after, bound)
		}
	})
}

// member is a further room's owner and publisher.
func (x *bench) other(t *testing.T, owner string) *bench {
	t.Helper()
	y := *x
	var err error
	if y.room, err = x.table.Register(owner, &codec.Register{}, x.now); err != nil {
		t.Fatal(err)
	}
	y.loop = &fakeLoop{room: y.room, pool: x.pool, now: x.now}
	if y.pub, _, err = y.room.Publish(y.hold, owner, 1, false); err != nil {
		t.Fatal(err)
	}
	return &y
}

// One account fills the caches with rooms that nobody pushes into any more. Others go on, and those who join late get
// all that there is.
func TestCachesOfOneAccount(t *testing.T) {
	const all = 1 << 20
	x := newBench(t, Config{CacheAll: all, CacheRoom: all / 4}, codec.Register{})
	x.script(1, "1i", "2k", "3", "4")
	for range 10 {
		y := x.other(t, "mallory")
		for dtype := range 20 {
			for seq := uint64(1); seq <= 10; seq++ {
				flags := codec.Flags(0)
				if seq == 1 {
					flags = codec.FlagKey
				}
				y.push(y.message(nil, uint8(dtype), seq, flags, 1, 1000))
			}
		}
		x.table.Balance(1 << 40)
	}
	if n := x.table.CacheBytes(); n > all {
		t.Errorf("%d bytes are cached, bound %d", n, all)
	}
	if n := x.pool.Share("mallory").cached.Load(); n < all/2 {
		t.Errorf("%d bytes of mallory's are cached: more was given up than there was need for", n)
	}
	x.script(1, "5", "6k", "7")
	v := x.viewer(Join{Account: "late"})
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(x.key(1)).script); got != "[1i 2-5 joined 6k 7]" {
		t.Errorf("a late joiner gets %s", got)
	}
}

// Somebody who may push into a room and fills its cache pays for that, not the others who push there.
func TestCachesOfOneRoom(t *testing.T) {
	x := newBench(t, Config{CacheRoom: 256 << 10}, codec.Register{})
	if err := x.room.Grant("owner", "mallory"); err != nil {
		t.Fatal(err)
	}
	x.script(1, "1i", "2k", "3", "4")
	y := *x
	var err error
	if y.pub, _, err = x.room.Publish(&fakeHolder{}, "mallory", 1, false); err != nil {
		t.Fatal(err)
	}
	y.hold = (*y.pub.holder.Load()).(*fakeHolder)
	for dtype := range 200 {
		y.push(y.message(nil, uint8(dtype), 1, codec.FlagKey, 5, 1000))
	}
	x.script(1, "5")
	if n := x.room.cacheBytes; n > 256<<10 {
		t.Errorf("%d bytes are cached", n)
	}
	v := x.viewer(Join{Account: "late"})
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(x.key(1)).script); got != "[1i 2k 3 4 5]" {
		t.Errorf("a late joiner gets %s", got)
	}
}

// What an account may have of publishers and streams is bounded, over all rooms, and what it gives back it may have
// again.
func TestBoundsOfAnAccount(t *testing.T) {
	x := newBench(t, Config{MaxPublishersPerAccount: 3, MaxStreamsPerAccount: 4}, codec.Register{})
	y := x.other(t, "owner")
	z := x.other(t, "owner")
	r, err := x.table.Register("owner", &codec.Register{}, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Publish(x.hold, "owner", 1, false); err != ErrManyPubs {
		t.Errorf("a fourth publisher: %v", err)
	}
	for i, b := range []*bench{x, y, z, x} {
		b.push(b.message(nil, uint8(i), 1, 0, 1, 10))
	}
	if err := y.tryPush(y.message(nil, 9, 1, 0, 1, 10)); err != ErrManyStreams {
		t.Errorf("a fifth stream: %v", err)
	}
	if err := y.tryPush(y.message(nil, 1, 2, 0, 1, 10)); err != nil {
		t.Errorf("a stream that is there: %v", err)
	}
	if err := x.table.Remove(z.room.ID, "owner"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Publish(x.hold, "owner", 1, false); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	if err := y.tryPush(y.message(nil, 9, 1, 0, 1, 10)); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

// heap returns the bytes that are in use after f, less those before it, and keeps what f returns.
func heap(f func() any) (n int64, kept any) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept = f()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc), kept
}

// What is counted is no less than what is held, and not much more.
func TestCosts(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's own memory counts")
	}
	const n = 5000
	for _, c := range []struct {
		name string
		make func(x *bench)
	}{
		{"rooms", func(x *bench) {
			for range n {
				if _, err := x.table.Register("owner", &codec.Register{}, x.now); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"lossless rooms with a publisher", func(x *bench) {
			for range n {
				r, err := x.table.Register("owner", &codec.Register{Policy: codec.PolicyLossless}, x.now)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := r.Publish(x.hold, "owner", 1, false); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"streams of a frame", func(x *bench) {
			for i := range n / 250 {
				if err := x.room.Grant("owner", fmt.Sprint("p", i)); err != nil {
					t.Fatal(err)
				}
				y := *x
				y.pub, _, _ = x.room.Publish(x.hold, fmt.Sprint("p", i), 1, false)
				for dtype := range 250 {
					y.push(y.message(nil, uint8(dtype), 1, codec.FlagKey, 1, 10))
				}
			}
		}},
		{"tiny frames of two streams", func(x *bench) {
			for seq := uint64(1); seq <= 2*n; seq++ {
				for dtype := range uint8(2) {
					x.push(x.message(nil, dtype, seq, 0, 1, 0))
				}
			}
		}},
		{"grants", func(x *bench) {
			for i := range n {
				if err := x.room.Grant("owner", fmt.Sprintf("account %d", i)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"seats", func(x *bench) {
			x.script(1, "1")
			x.script(2, "1")
			x.room.kind = kindOf(codec.PolicyLossless)
			x.room.seated()
			for i := range n {
				j := Join{Member: new(nobody), Account: "viewer", Instance: uint64(i)}
				if err := x.room.Subscribe(discard{}, j, x.now); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"a stalled queue", func(x *bench) {
			v := x.viewer(Join{Account: "viewer"})
			v.q.Own(x.pool.Share("viewer"))
			x.loop.members = nil // so that the room's end need not empty it
			b := x.pool.Copy(KindStream, x.run(1, 8), nil)
			for range 20 * n {
				v.q.Append(b, 0, len(b.B), x.now)
			}
			x.stuck = append(x.stuck, v.q)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var counted int64
			held, kept := heap(func() any {
				x := &bench{t: t, pool: &Pool{}, hold: &fakeHolder{}, now: 1e9}
				x.table = NewTable(Config{MaxStreamsPerAccount: 1 << 20, History: 1 << 30}, rand.Reader, x.pool)
				x.room, _ = x.table.Register("owner", &codec.Register{}, x.now)
				x.loop = &fakeLoop{room: x.room, pool: x.pool, now: x.now}
				x.pub, _, _ = x.room.Publish(x.hold, "owner", 1, false)
				c.make(x)
				counted = x.pool.Held()
				return x
			})
			held -= 64 << 10 // the table's maps, before anything is in them
			t.Logf("%d bytes held, %d counted", held, counted)
			if counted < held || counted > 3*held {
				t.Errorf("%d bytes are held and %d counted", held, counted)
			}
			runtime.KeepAlive(kept)
		})
	}
}

// discard is an outlet without members.
type discard struct{}

func (discard) Post(b *Batch) { b.Taken(); b.Release() }
