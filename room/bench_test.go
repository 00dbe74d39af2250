package room

import (
	"fmt"
	"testing"

	"github.com/timedge/timedge/codec"
)

// taker is an outlet whose subscribers' sockets take everything at once.
type taker struct{}

func (taker) Post(b *Batch) {
	b.Taken()
	b.Release()
}

// nobody is a member that nothing is done for.
type nobody struct{ _ byte } // not empty: members are told apart by their addresses

func (*nobody) Admit(rp *Replay)   { rp.Release() }
func (*nobody) Cut(codec.Code)     {}
func (*nobody) Elsewhere([]uint64) {}
func (*nobody) Acted(Outcome)      {}

// renumber writes new sequence numbers into the frames of a run, and returns the run.
func renumber(t testing.TB, frames []byte, next uint64) Run {
	for at := 0; at < len(frames); next++ {
		n, _, _ := frameAt(frames[at:])
		for i := range 6 {
			frames[at+14+i] = byte(next >> (8 * (5 - i)))
		}
		at += n
	}
	run, err := ScanRun(frames)
	if err != nil || len(run.Raw) != len(frames) {
		t.Fatalf("run of %d bytes, want %d: %v", len(run.Raw), len(frames), err)
	}
	return run
}

func (x *bench) run(frames, size int) []byte {
	var b []byte
	for i := range frames {
		b = x.message(b, 1, uint64(i+1), 0, 1, size)
	}
	return b
}

func TestPushAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	for _, c := range []struct{ frames, size int }{{1, 64}, {16, 64}, {1, 16 << 10}} {
		t.Run(fmt.Sprintf("frames=%d/size=%d", c.frames, c.size), func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{})
			x.room.outlets = []Outlet{taker{}}
			b, next := x.run(c.frames, c.size), uint64(1)
			push := func() {
				run := renumber(t, b, next)
				next += uint64(run.Frames)
				if _, err := x.pub.Push(x.hold, run, x.now); err != nil {
					t.Fatal(err)
				}
			}
			for range 50_000 { // beyond the first calibration of the pools of buffers
				push()
			}
			if n := testing.AllocsPerRun(1000, push); n != 0 {
				t.Errorf("%v allocations for a push", n)
			}
		})
	}
}

func TestQueueAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	x := newBench(t, Config{}, codec.Register{})
	v := x.newViewer()
	b := x.pool.Copy(KindStream, x.run(8, 64), nil)
	b.Key, b.First, b.Last = x.key(1), 1, 8
	heads := make([][]byte, 0, 64)
	if n := testing.AllocsPerRun(1000, func() {
		for range 16 {
			v.q.Push(&v.Sub, b, 0, len(b.B), x.now)
		}
		for !v.q.Empty() {
			heads = v.q.Head(heads[:0], 64)
			v.q.Advance((len(heads[0])+1)/2, x.now)
		}
	}); n != 0 {
		t.Errorf("%v allocations for 16 batches through a queue", n)
	}
	b.Release()
}

func BenchmarkPush(b *testing.B) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		for _, c := range []struct{ frames, size int }{{1, 64}, {64, 64}, {1, 1 << 10}, {3, 16 << 10}} {
			b.Run(fmt.Sprintf("policy=%v/frames=%d/size=%d", policy, c.frames, c.size), func(b *testing.B) {
				x := newBench(b, Config{}, codec.Register{Policy: policy})
				x.room.outlets = []Outlet{taker{}, taker{}}
				frames, next := x.run(c.frames, c.size), uint64(1)
				b.SetBytes(int64(len(frames)))
				b.ReportAllocs()
				for b.Loop() {
					run := renumber(b, frames, next)
					next += uint64(run.Frames)
					if _, err := x.pub.Push(x.hold, run, x.now); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkScanRun(b *testing.B) {
	x := newBench(b, Config{}, codec.Register{})
	for _, c := range []struct{ frames, size int }{{1, 64}, {64, 64}, {600, 64}, {3, 16 << 10}} {
		b.Run(fmt.Sprintf("frames=%d/size=%d", c.frames, c.size), func(b *testing.B) {
			frames := x.run(c.frames, c.size)
			b.SetBytes(int64(len(frames)))
			for b.Loop() {
				if run, err := ScanRun(frames); err != nil || run.Frames != c.frames {
					b.Fatal(run.Frames, err)
				}
			}
		})
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("op=through/size=%d", size), func(b *testing.B) {
			x := newBench(b, Config{}, codec.Register{})
			v := x.newViewer()
			batch := x.pool.Copy(KindStream, x.run(1, size), nil)
			defer batch.Release()
			batch.Key, batch.First, batch.Last = x.key(1), 1, 1
			var heads [][]byte
			b.ReportAllocs()
			for b.Loop() {
				for range 8 {
					v.q.Push(&v.Sub, batch, 0, len(batch.B), x.now)
				}
				for !v.q.Empty() {
					heads = v.q.Head(heads[:0], 64)
					n := 0
					for _, h := range heads {
						n += len(h)
					}
					v.q.Advance(n, x.now)
				}
			}
		})
	}
}

// BenchmarkShed pushes to a subscriber that takes nothing, so that its queue is shed again and again.
func BenchmarkShed(b *testing.B) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLatest} {
		for _, streams := range []int{1, 1000} {
			for _, group := range []uint64{0, 30} {
				b.Run(fmt.Sprintf("policy=%v/streams=%d/group=%d", policy, streams, group), func(b *testing.B) {
					x := newBench(b, Config{}, codec.Register{Policy: policy, QueueBytes: 1 << 20})
					v := x.newViewer()
					next := make([]uint64, streams)
					stuck := x.pool.Copy(KindStream, x.run(1, 64), nil) // it has taken nothing for long
					v.q.Append(stuck, 0, len(stuck.B), x.now)
					stuck.Release()
					now := x.now + 10e9
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						s := i % streams
						next[s]++
						f := codec.Stream{Room: x.room.ID, StreamKey: codec.StreamKey{Pub: uint16(s + 1)}, Seq: next[s],
							Payload: make([]byte, 0, 64)[:64]}
						if group != 0 && next[s]%group == 1 {
							f.Flags = codec.FlagKey
						}
						batch := x.pool.Get(128, nil)
						batch.B = enc(f.Append(batch.B))
						batch.Kind, batch.Key, batch.First, batch.Last, batch.Keyed = KindStream, f.StreamKey, f.Seq, f.Seq,
							group != 0 && policy == codec.PolicyLive
						now += 1000
						v.q.Push(&v.Sub, batch, 0, len(batch.B), now)
						batch.Release()
					}
					v.q.Clear()
				})
			}
		}
	}
}

func BenchmarkSubscribe(b *testing.B) {
	for _, members := range []int{0, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			x := newBench(b, Config{}, codec.Register{})
			x.script(1, "1i", "2k", "3", "4")
			o, m := taker{}, new(nobody)
			for range members {
				if err := x.room.Subscribe(o, Join{Member: new(nobody)}, x.now); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := x.room.Subscribe(o, Join{Member: m, Account: "v"}, x.now); err != nil {
					b.Fatal(err)
				}
				x.room.Unsubscribe(o, m, false, false, false, x.now)
			}
		})
	}
}

// stalledIn returns a queue whose session takes nothing, with frames of so many rooms waiting, and its subscriptions.
func stalledIn(tb testing.TB, x *bench, rooms, frames int) (q *Queue, subs []*viewer, b *Batch) {
	tb.Helper()
	q = NewQueue(x.pool, 0)
	b = x.pool.Copy(KindStream, x.run(1, 1000), nil)
	b.Key, b.First, b.Last, b.Keyed = x.key(1), 1, 1, true
	for range rooms {
		v := &viewer{q: q, loop: x.loop}
		v.Init(x.room, v)
		subs = append(subs, v)
	}
	for range frames {
		for _, v := range subs {
			q.Push(&v.Sub, b, 0, len(b.B), x.now)
		}
	}
	return q, subs, b
}

// BenchmarkStalledInManyRooms is what a loop does at a tick for a session that takes nothing and is in many rooms, all
// of them over their bounds.
func BenchmarkStalledInManyRooms(b *testing.B) {
	for _, rooms := range []int{16, 256, 4096} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			x := newBench(b, Config{}, codec.Register{QueueBytes: 64 << 10})
			frames := 65536 / rooms
			for b.Loop() {
				b.StopTimer()
				q, _, batch := stalledIn(b, x, rooms, frames)
				now := x.now + 10e9
				b.StartTimer()
				q.Look(now)
				b.StopTimer()
				q.Clear()
				batch.Release()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkCutOffInManyRooms is what it costs to cut such a session off from all of its rooms.
func BenchmarkCutOffInManyRooms(b *testing.B) {
	for _, rooms := range []int{16, 256, 4096} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			x := newBench(b, Config{}, codec.Register{QueueBytes: 64 << 10})
			for b.Loop() {
				b.StopTimer()
				q, subs, batch := stalledIn(b, x, rooms, 65536/rooms)
				b.StartTimer()
				for _, s := range subs {
					q.Forget(&s.Sub)
				}
				q.Head(nil, 64)
				b.StopTimer()
				q.Clear()
				batch.Release()
				b.StartTimer()
			}
		})
	}
}
