package room

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

func TestBatchCounts(t *testing.T) {
	var pool Pool
	b := pool.encodeOwn(&codec.Joined{Room: 1, Pub: 1, Account: strings.Repeat("x", codec.MaxAccount)}, nil)
	if cap(b.B) <= classSizes[0] {
		t.Fatalf("the frame fits into %d bytes; this test wants one that does not", cap(b.B))
	}
	if got, want := pool.Held(), int64(b.cost()); got != want {
		t.Errorf("%d bytes alive, want %d", got, want)
	}
	huge := pool.Get(2<<20, nil)
	huge.Retain().Release()
	huge.Release()
	b.Release()
	if pool.Held() != 0 || pool.Outstanding() != 0 {
		t.Errorf("%d bytes alive in %d batches", pool.Held(), pool.Outstanding())
	}
	for i, f := range []func(){b.Release, func() { b.Retain() }} { // in this order: a retain counts before it panics
		t.Run([]string{"one release", "one retain"}[i]+" too many", func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func TestDisconnect(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{Policy: codec.PolicyDisconnect, QueueBytes: 64 << 10, QueueMillis: 1000})
	v := x.viewer(Join{})
	x.loop.now += 1e9 + 1 // it reads nothing
	for seq := uint64(1); !v.cutOff; seq++ {
		if v.live() > 64<<10 {
			t.Fatalf("%d bytes queued", v.live())
		}
		x.push(x.message(nil, 1, seq, 0, 1, 1000))
		x.loop.drain()
	}
	if v.live() <= 64<<10 {
		t.Errorf("cut off with %d bytes queued", v.live())
	}
	v.take(v.q.Bytes() - 1000)
	if v.q.Check(&v.Sub, x.loop.now+1e9).CutOff {
		t.Error("cut off for bytes of a second ago")
	}
	if !v.q.Check(&v.Sub, x.loop.now+1e9+1).CutOff {
		t.Error("not cut off for bytes of more than a second ago")
	}
	if !v.q.Relieve(&v.Sub, x.now).CutOff {
		t.Error("not cut off though the process holds too much")
	}
	v.take(1 << 30)
	if v.q.Relieve(&v.Sub, x.now).CutOff {
		t.Error("cut off with nothing queued")
	}
}

func TestLiveBounds(t *testing.T) {
	for _, c := range []struct {
		name   string
		frames string // of 8 KiB each, one a millisecond
		age    time.Duration
		want   string
	}{
		{"under the bound", "1k 2 3 4k 5", 0, "1k 2 3 4k 5"},
		{"all before the newest complete group goes", "1k 2 3k 4 5k 6 7 8 9", 0, "1-2 slow 3k 4 5k 6 7 8 9"},
		{"it stays up to twice the bound", "1k 2 3 4 5k 6 7 8 9 10", 0, "1k 2 3 4 5k 6 7 8 9 10"},
		{"over twice the bound the group in progress stays", "1k 2 3 4 5k 6 7 8 9 10 11 12 13 14 15 16 17", 0,
			"1-4 slow 5k 6 7 8 9 10 11 12 13 14 15 16 17"},
		{"unless that alone is too large", "1k 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", 0, "1-18 slow"},
		{"and comes back with a key", "1k 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18k 19", 0, "1-17 slow 18k 19"},
		{"what is too old goes likewise", "1k 2 3k 4 5k 6", time.Second, "1-2 slow 3k 4 5k 6"},
		{"without keys the oldest go, down to half the bound", "1 2 3 4 5 6 7 8 9", 0, "1-5 slow 6 7 8 9"},
		{"without keys the newest stays", "1 2 3", time.Second, "1-2 slow 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{QueueBytes: 64 << 10, QueueMillis: 500})
			v := x.viewer(Join{})
			x.loop.now += int64(600 * time.Millisecond) // it reads nothing
			for seq, word := range strings.Fields(c.frames) {
				flags := codec.Flags(0)
				if strings.HasSuffix(word, "k") {
					flags = codec.FlagKey
				}
				x.push(x.message(nil, 1, uint64(seq+1), flags, 1, 8<<10-codec.StreamHeaderSize))
				x.loop.now += 1e6
				x.loop.drain()
			}
			x.loop.now += int64(c.age)
			v.q.Check(&v.Sub, x.loop.now)
			v.q.Tell(&v.Sub, x.loop.now)
			v.take(1 << 30)
			if got := strings.Join(v.stream(x.key(1)).script, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNoticesOfAStalledSessionAreWidened(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	v := x.viewer(Join{})
	v.take(1 << 30)
	x.script(1, "1k", "2")
	x.loop.drain()
	v.q.Relieve(&v.Sub, x.now) // waits for a key
	for seq := 3; seq < 50; seq++ {
		x.script(1, fmt.Sprint(seq))
		x.loop.now += int64(TellEvery)
		x.loop.drain()
		v.q.Tell(&v.Sub, x.loop.now)
		if v.q.Bytes() != codec.GapSize {
			t.Fatalf("%d bytes queued, want one gap", v.q.Bytes())
		}
	}
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(x.key(1)).script); got != "[1-49 slow]" {
		t.Error(got)
	}
}

// TestLatestServesStreamsInTurn: a socket that takes one message in each round of states gets one of each stream in
// turn, the newest that there is.
func TestLatestServesStreamsInTurn(t *testing.T) {
	const streams, rounds = 5, 200
	for _, size := range []int{100, 3 * codec.MaxPiece} {
		t.Run(fmt.Sprint("size=", size), func(t *testing.T) {
			var pool Pool
			q := NewQueue(&pool, 0)
			r := &Room{ID: 1, set: Settings{Policy: codec.PolicyLatest, QueueBytes: 1 << 20, QueueAge: time.Second},
				kind: kindOf(codec.PolicyLatest), share: pool.Share("owner")}
			s := &modelSub{live: true, acted: func(Outcome) {}}
			s.Init(r, s)
			next := make(map[uint8]uint64)
			want, now := 0, int64(time.Hour)
			for round := range rounds {
				for d := range uint8(streams) {
					for left := size; left > 0; left -= codec.MaxPiece {
						f := codec.Stream{Room: 1, StreamKey: codec.StreamKey{Pub: 1, Dtype: d}, Seq: next[d] + 1,
							Payload: make([]byte, min(left, codec.MaxPiece))}
						if left < size {
							f.Flags |= codec.FlagCont
						}
						if left > codec.MaxPiece {
							f.Flags |= codec.FlagMore
						}
						next[d]++
						b := pool.Copy(KindStream, enc(f.Append(nil)), nil)
						b.Key, b.First, b.Last = f.StreamKey, f.Seq, f.Seq
						q.Push(&s.Sub, b, 0, len(b.B), now)
						b.Release()
					}
				}
				now += int64(time.Second / 60)
				q.Look(now)
				for whole := false; !whole; {
					frame, typ, err := codec.Next(q.Head(nil, 1)[0], codec.MaxFrame)
					if err != nil {
						t.Fatal(err)
					}
					q.Advance(len(frame), now)
					if typ&codec.TypeStream == 0 {
						continue
					}
					var f codec.Stream
					if err := codec.ParseStream(frame, &f); err != nil {
						t.Fatal(err)
					}
					if int(f.Dtype) != want {
						t.Fatalf("round %d: frame %d of stream %d, it is the turn of %d", round, f.Seq, f.Dtype, want)
					}
					if newest := next[f.Dtype] - uint64((size-1)/codec.MaxPiece); f.Flags.Start() && f.Seq != newest {
						t.Fatalf("round %d: message %d of stream %d, the newest is %d", round, f.Seq, f.Dtype, newest)
					}
					whole = f.Flags.End()
				}
				want = (want + 1) % streams
			}
			q.Clear()
		})
	}
}
