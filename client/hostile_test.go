package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/codec"
)

// flood sends what make makes, n times, for as long as the client reads.
func (p *peer) flood(n int, make func(i int) []appender) {
	for i := range n {
		p.send(make(i)...)
	}
}

// held returns how many bytes are in use.
func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a hostile server, or publisher, makes a client hold of messages that do not end is bounded: in a subscription,
// and in all. Whole messages of others go on.
func TestUnfinishedMessages(t *testing.T) {
	const rooms, streams = 6, 40
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.AssemblyBuffer, o.MaxPayload = 4<<20, 1<<20
		c, p := f.connect(o)
		before := held()
		faults := 0
		for r := range rooms {
			id := codec.RoomID(100 + r)
			s, err := during(func() (*Subscription, error) { return c.Subscribe(context.Background(), id, SubscribeOptions{}) },
				func() { p.subscribed(codec.PolicyLive, 0) })
			if err != nil {
				t.Fatal(err)
			}
			piece := make([]byte, codec.MaxPiece)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for seq := range uint64(15) {
					for d := range streams {
						fr := &codec.Stream{Room: id, StreamKey: codec.StreamKey{Pub: 1, Dtype: uint8(d)}, Flags: codec.FlagMore,
							Seq: seq + 1, Payload: piece}
						if seq > 0 {
							fr.Flags |= codec.FlagCont
						}
						p.send(fr)
					}
				}
				for seq := range uint64(2) { // an honest publisher beside it
					fr := &codec.Stream{Room: id, StreamKey: codec.StreamKey{Pub: 2}, Flags: codec.FlagMore, Seq: seq + 1,
						Payload: piece[:100]}
					if seq == 1 {
						fr.Flags = codec.FlagCont
					}
					p.send(fr)
				}
			}()
			for {
				ev, err := s.Next(t.Context())
				var fault *StreamError
				if errors.As(err, &fault) {
					faults++
					continue
				}
				if m, ok := ev.(*Message); ok && m.Pub == 2 {
					break
				}
				t.Fatal(describeEvent(ev, err))
			}
			<-done
		}
		if faults == 0 {
			t.Error("nobody is told that messages were dropped")
		}
		if got := held() - before; got > 24<<20 {
			t.Errorf("%d bytes held", got)
		}
		if n := c.unfinished.held.Load(); n > c.unfinished.limit+rooms*minShare {
			t.Errorf("%d bytes of unfinished messages, at most %d", n, c.unfinished.limit)
		}
		for r := range rooms {
			c.mu.Lock()
			s := c.subs[codec.RoomID(100+r)]
			c.mu.Unlock()
			s.Close()
			want[*codec.Unsubscribe](p)
		}
		if n := c.unfinished.held.Load(); n != 0 {
			t.Errorf("%d bytes of unfinished messages are counted after the end", n)
		}
	})
}

// A server that says it takes huge messages does not make the client hold one.
func TestMaxPayloadNotTrusted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.maxPayload = 1<<31 - 1
		o := f.options()
		o.MaxPayload = 100_000
		c, p := f.connect(o)
		s := subscribe(c, p, codec.PolicyLive, 0)
		go p.send(pieces(3, string(make([]byte, 50_000)))...)
		wantEvents(t, s, "fault 3 not 3: a message above the largest size")
	})
}

// Publishers and streams that a server makes up end the subscription, at a bound.
func TestTooManyStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLive, 0)
		go p.flood(1<<16/256+1, func(i int) []appender {
			var out []appender
			for d := range 256 {
				out = append(out, &codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: uint16(i + 1), Dtype: uint8(d)},
					Seq: 1})
			}
			return out
		})
		for range maxStreams {
			if _, err := s.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := background(func() error { _, err := s.Next(context.Background()); return err })
		want[*codec.Unsubscribe](p)
		if err := <-got; !errors.Is(err, ErrTooManyStreams) {
			t.Error(err)
		}
		if _, err := s.Next(t.Context()); !errors.Is(err, ErrTooManyStreams) {
			t.Error(err)
		}
	})
}

// Acknowledgements for a server that sends and does not read are not piled up; it gets the newest when it reads.
func TestAcksOfADeafServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const frames = 100_000
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLossless, 1) // an acknowledgement for each message
		go p.flood(frames/1000, func(i int) []appender {
			var out []appender
			for n := range 1000 {
				out = append(out, frame(uint64(i*1000+n+1), 0, ""))
			}
			return out
		})
		for seq := range frames {
			wantEvents(t, s, fmt.Sprintf("message %d-%d", seq+1, seq+1))
		}
		next := background(func() error { _, err := s.Next(t.Context()); return err })
		synctest.Wait()
		c.mu.Lock()
		if n := len(c.link.control); n > maxBacklog+codec.MaxFrame {
			t.Errorf("%d bytes wait for the server", n)
		}
		c.mu.Unlock()
		for want[*codec.Ack](p).Seq != frames {
		}
		go p.send(&codec.Closed{Room: room, Code: codec.CodeRemoved})
		<-next
	})
}

// A window of gigabytes does not make a publisher hold as much.
func TestWindowNotTrusted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 1<<32-1, PublishOptions{})
		go func() {
			for p.fill() == nil {
				p.in = p.in[:0]
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		payload := make([]byte, 60_000)
		sum := 0
		for {
			if err := pub.Push(ctx, 1, Delta, payload); err != nil {
				break
			}
			if sum += len(payload); sum > maxWindow {
				t.Fatalf("%d bytes are pushed and not acknowledged", sum)
			}
		}
	})
}

// However often a server warns, or sends away, its client asks and dials at a bounded rate.
func TestPesteringServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		var asked atomic.Int64
		o.Token, o.TokenSource = "", func(context.Context) (string, error) { asked.Add(1); return "secret", nil }
		c, p := f.connect(o)
		_ = c
		go func() {
			for p.fill() == nil {
				p.in = p.in[:0]
			}
		}()
		begin := time.Now()
		for time.Since(begin) < 10*time.Second {
			p.send(&codec.Expiring{WithinMillis: 50, Code: codec.CodeTokenExpired})
			time.Sleep(time.Millisecond)
		}
		if asked.Load() > 15 {
			t.Errorf("the token source was asked %d times in 10 s", asked.Load())
		}
	})
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.down = func(addr string) bool { return addr != "one" }
		_, p := f.connect(f.options())
		var addrs []string
		for i := range 1000 {
			addrs = append(addrs, fmt.Sprintf("10.0.0.%d:1", i))
		}
		p.send(&codec.GoAway{Code: codec.CodeGoingAway, WithinMillis: 1000, Addrs: addrs[:codec.MaxAddrs]})
		p2 := f.accept()
		if n := len(f.tries()); n > 2*(maxElsewhere+1) {
			t.Errorf("%d addresses were dialed", n)
		}
		p.close()
		p2.close()
	})
}

// A server that names no ping time, or one of weeks, is given up all the same when it says nothing.
func TestSilenceNotTrusted(t *testing.T) {
	for _, ping := range []uint32{0, 1<<32 - 1} {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			f.ping = ping
			_, p := f.connect(f.options())
			go func() {
				for p.fill() == nil {
					p.in = p.in[:0]
				}
			}()
			begin := time.Now()
			f.accept()
			if d := time.Since(begin); d > 2*maxSilence {
				t.Errorf("given up after %v", d)
			}
		})
	}
}
