package room

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// road is a Way that keeps what it is given, in order.
type road struct{ batches []*Batch }

func (w *road) Forward(b *Batch, _, _ uint64) { w.batches = append(w.batches, b.Retain()) }

// close drops what is on its way.
func (w *road) close() {
	for _, b := range w.batches {
		b.Release()
	}
	w.batches = nil
}

// deliver hands what has come to a publisher of the relay.
func (w *road) deliver(t rapid.TB, x *bench, n int) {
	t.Helper()
	for ; n > 0 && len(w.batches) > 0; n-- {
		b := w.batches[0]
		w.batches = w.batches[1:]
		var err error
		if b.Kind == KindStream {
			err = x.tryPush(b.B)
		} else {
			var g codec.Gap
			if err = g.Parse(b.B); err == nil {
				err = x.pub.PushGap(x.hold, g, x.now)
			}
		}
		b.Release()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// script returns what is on its way.
func (w *road) script() string {
	var words []string
	for _, b := range w.batches {
		if b.Kind != KindStream {
			words = append(words, fmt.Sprintf("%d-%d", gapOf(b).From, gapOf(b).To))
			continue
		}
		for raw := b.B; len(raw) > 0; {
			n, f, seq := frameAt(raw)
			word := fmt.Sprint(seq)
			if f&codec.FlagInit != 0 {
				word += "i"
			}
			words, raw = append(words, word), raw[n:]
		}
	}
	return strings.Join(words, " ")
}

func gapOf(b *Batch) (g codec.Gap) {
	_ = g.Parse(b.B)
	return g
}

// outward returns the outbound of a bench's publisher, held by a client and attached.
func (x *bench) outward(way Way, window uint32) (*Outbound, *fakeHolder) {
	o := NewOutbound(x.pool, "owner", 1, &codec.Publish{Room: x.room.ID}, func(*Outbound) {})
	if !o.Attach(way, &codec.Published{Room: x.room.ID, Pub: x.pub.Num, Window: window}) {
		x.t.Fatal("not attached")
	}
	h := &fakeHolder{}
	if _, ok := o.Hold(h); !ok {
		x.t.Fatal("not held")
	}
	return o, h
}

func (x *bench) pushBy(o *Outbound, h Holder, frames []byte) {
	x.t.Helper()
	for len(frames) > 0 {
		run, err := ScanRun(frames)
		if err != nil {
			x.t.Fatal(err)
		}
		if _, err := o.Push(h, run, x.now); err != nil {
			x.t.Fatal(err)
		}
		frames = frames[len(run.Raw):]
	}
}

// A new relay that was no mirror learns of a stream from the node of its publisher, which begins with the init message
// that the oldest frame goes by.
func TestOutboundBeginsWithInit(t *testing.T) {
	for _, c := range []struct {
		acked uint64 // and forgotten
		want  string
	}{
		{0, "1i 2 3 4i 5 6 7"},
		{2, "1i 2-2 3 4i 5 6 7"},
		{3, "1i 2-3 4i 5 6 7"},
		{4, "4i 5 6 7"},
		{6, "4i 5-6 7"},
	} {
		t.Run(fmt.Sprint(c.acked), func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{})
			way := &road{}
			o, h := x.outward(way, 1<<20)
			for seq := uint64(1); seq <= 7; seq++ {
				flags := codec.Flags(0)
				if seq == 1 || seq == 4 {
					flags = codec.FlagInit
				}
				x.pushBy(o, h, x.message(nil, 1, seq, flags, 1, 100))
			}
			o.Acked(way, 1, c.acked, 1)
			o.Forget(int64(keepFor) + 2)
			way.close()
			if !o.Attach(way, &codec.Published{Room: x.room.ID, Pub: x.pub.Num, Window: 1 << 20}) {
				t.Fatal("not attached")
			}
			if got := way.script(); got != c.want {
				t.Errorf("sends %s, want %s", got, c.want)
			}
			way.close()
			o.End(codec.CodeLeft)
		})
	}
}

// A client that was at another node meanwhile comes back: what was left here unacknowledged the relay has, and more.
func TestOutboundBehindItsRelay(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	way := &road{}
	o, h := x.outward(way, 1<<20)
	for seq := uint64(1); seq <= 3; seq++ {
		x.pushBy(o, h, x.message(nil, 1, seq, 0, 1, 100))
	}
	way.close()
	o.Unlink(way)
	if !o.Attach(way,
		&codec.Published{Room: x.room.ID, Pub: x.pub.Num, Window: 1 << 20,
			Streams: []codec.StreamNext{{Dtype: 1, Next: 9}}}) {
		t.Fatal("not attached")
	}
	again := &fakeHolder{}
	m, _ := o.Hold(again)
	if want := []codec.StreamNext{{Dtype: 1, Next: 9}}; !slices.Equal(m.Streams, want) {
		t.Fatalf("the client is to go on with %v, want %v", m.Streams, want)
	}
	x.pushBy(o, again, x.message(nil, 1, 9, 0, 1, 100))
	o.Acked(way, 1, 9, x.now)
	acked := uint64(0)
	o.Acks(again, func(_ codec.StreamKey, seq uint64) { acked = seq })
	if acked != 9 || o.unacked != 0 {
		t.Errorf("acknowledged up to %d, want 9; %d bytes are not", acked, o.unacked)
	}
	way.close()
	o.End(codec.CodeLeft)
}

// What is acknowledged is kept within one bound, however many streams it belongs to.
func TestOutboundKeepsABoundedRest(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	way := &road{}
	o, h := x.outward(way, 4<<20)
	for dtype := range 256 {
		x.pushBy(o, h, x.message(nil, uint8(dtype), 1, 0, 16, 60<<10))
		o.Acked(way, uint8(dtype), 16, x.now)
		way.close()
	}
	if n := x.pool.Held(); n > 2*keepCost {
		t.Errorf("%d KiB are held", n>>10)
	}
	o.End(codec.CodeLeft)
}

// Whatever happens to links, sessions and relays, the relay gets every frame once and in order, the client hears of
// each, and nothing stays behind.
func TestOutboundModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := openBench(t, Config{Window: 1 << 20}, codec.Register{})
		way := &road{}
		o, h := x.outward(way, 1<<20)
		next := map[uint8]uint64{}
		attached := true
		attach := func() {
			p, streams, err := x.room.Renew(x.hold, "owner", 1, false)
			if err != nil {
				t.Fatal(err)
			}
			x.pub = p
			way = &road{}
			if !o.Attach(way, &codec.Published{Room: x.room.ID, Pub: p.Num, Window: 1 << 20, Streams: streams}) {
				t.Fatal("not attached")
			}
			attached = true
		}
		acks := func() {
			x.loop.drain()
			x.pub.Acks(x.hold, func(key codec.StreamKey, seq uint64) { o.Acked(way, key.Dtype, seq, x.now) })
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				dtype := rapid.Uint8Range(1, 3).Draw(t, "dtype")
				n := rapid.IntRange(1, 3).Draw(t, "pieces")
				flags := codec.Flags(0)
				if rapid.IntRange(0, 5).Draw(t, "init") == 0 {
					flags = codec.FlagInit
				}
				x.pushBy(o, h, x.message(nil, dtype, next[dtype]+1, flags, n, 100))
				next[dtype] += uint64(n)
			},
			"gap": func(t *rapid.T) {
				dtype := rapid.Uint8Range(1, 3).Draw(t, "dtype")
				g := codec.Gap{StreamKey: codec.StreamKey{Dtype: dtype}, From: next[dtype] + 1, To: next[dtype] + 4}
				if err := o.PushGap(h, g, x.now); err != nil {
					t.Fatal(err)
				}
				next[dtype] += 4
			},
			"deliver": func(t *rapid.T) {
				if attached {
					way.deliver(t, x, rapid.IntRange(1, 9).Draw(t, "batches"))
				}
			},
			"ack": func(*rapid.T) {
				if attached {
					acks()
				}
			},
			"cut": func(*rapid.T) {
				way.close()
				o.Unlink(way)
				attached = false
			},
			"attach": func(*rapid.T) {
				if !attached {
					attach()
				}
			},
			"another session": func(*rapid.T) {
				was := h
				h = &fakeHolder{}
				if _, ok := o.Hold(h); !ok || len(was.cuts) != 1 {
					t.Fatal("not held, or the older one not cut off")
				}
			},
			"another relay": func(*rapid.T) { // that knows nothing of the streams
				way.close()
				o.Unlink(way)
				st := x.room.State()
				x.table.EndAll(codec.CodeMoved)
				x.loop.drain()
				x.table = NewTable(x.table.Config(), nil, x.pool)
				r, err := x.table.Restore(st, x.now)
				if err != nil {
					t.Fatal(err)
				}
				x.room, x.loop = r, &fakeLoop{room: r, pool: x.pool, now: x.now}
				attach()
			},
			"": func(t *rapid.T) {
				if o.kept > keepCost || o.unacked < 0 {
					t.Fatalf("%d kept, %d not acknowledged", o.kept, o.unacked)
				}
			},
		})
		if !attached {
			attach()
		}
		way.deliver(t, x, len(way.batches))
		acks()
		told := map[uint8]uint64{}
		o.told = false
		for _, s := range o.streams {
			s.told = 0
		}
		o.Acks(h, func(key codec.StreamKey, seq uint64) { told[key.Dtype] = seq })
		for dtype, n := range next {
			if s, err := x.pub.find(dtype); err != nil || s.next != n+1 {
				t.Fatalf("stream %d: the relay does not expect %d", dtype, n+1)
			}
			if told[dtype] != n {
				t.Fatalf("stream %d: %d of %d acknowledged", dtype, told[dtype], n)
			}
		}
		o.End(codec.CodeLeft)
		x.end()
	})
}
