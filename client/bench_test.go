package client

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/timedge/timedge/codec"
)

// sink is a server on loopback that takes one publisher and acknowledges a quarter of its window at a time, or one
// subscriber whom it sends the same frames over and over. It allocates nothing per frame, so that what is measured is
// the client's.
func sink(tb testing.TB, payload int) *Client {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serveSink(conn, payload)
	}()
	c, err := Dial(context.Background(), Options{Servers: []string{ln.Addr().String()}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close(context.Background())
		ln.Close()
		<-done
	})
	return c
}

func serveSink(conn net.Conn, payload int) {
	const window = 1 << 20
	buf, end := make([]byte, 256<<10), 0
	out := codec.AppendServerPreface(make([]byte, 0, 1024), 1)
	out = enc((&codec.Welcome{MaxPayload: 16 << 20}).Append(out))
	if n, err := conn.Read(buf); n == 0 || err != nil {
		return
	}
	var s codec.Stream
	unacked := 0
	for {
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		n, err := conn.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
		b := buf[:end]
		for {
			frame, typ, err := codec.Next(b, codec.MaxFrame)
			if err != nil {
				break
			}
			b = b[len(frame):]
			switch {
			case typ&codec.TypeStream != 0:
				if codec.ParseStream(frame, &s) != nil {
					return
				}
				if unacked += len(frame); unacked >= window/4 || len(b) == 0 {
					unacked = 0
					ack := codec.Ack{Room: s.Room, StreamKey: s.StreamKey, Seq: s.Seq}
					out = enc(ack.Append(out))
				}
			case typ == codec.TypePublish:
				var m codec.Publish
				m.Parse(frame)
				out = enc((&codec.Published{Req: m.Req, Room: m.Room, Pub: 1, Window: window}).Append(out))
			case typ == codec.TypeSubscribe:
				var m codec.Subscribe
				m.Parse(frame)
				pour(conn, enc((&codec.Subscribed{Req: m.Req, Room: m.Room}).Append(nil)), payload)
				return
			}
		}
		end = copy(buf, b)
	}
}

// pour sends frames with rising numbers until the connection breaks.
func pour(conn net.Conn, out []byte, payload int) {
	p := make([]byte, payload)
	for seq := uint64(1); ; {
		for len(out) < 128<<10 {
			f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 1}, Seq: seq, Payload: p}
			out = enc(f.Append(out))
			seq++
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

// BenchmarkPush pushes from one goroutine through loopback to a server that takes everything.
func BenchmarkPush(b *testing.B) {
	for _, n := range []int{64, 1 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("payload=%d", n), func(b *testing.B) {
			c := sink(b, 0)
			p, err := c.Publish(b.Context(), room, PublishOptions{})
			if err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, n)
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if err := p.Push(b.Context(), 1, Delta, payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkNext takes messages as fast as a server on loopback sends them.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{64, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("payload=%d", n), func(b *testing.B) {
			c := sink(b, n)
			s, err := c.Subscribe(b.Context(), room, SubscribeOptions{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if _, err := s.Next(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fewAllocs is what a thousand messages of 1 KiB may allocate: chunks of 64 KiB, where the garbage collector has
// emptied their pool on both sides, and far from one for each message.
const fewAllocs = 50

// TestHotPathAllocs: pushing and taking messages allocates nothing once the pools are filled.
func TestHotPathAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates on its own")
	}
	ctx := context.Background()
	t.Run("Push", func(t *testing.T) {
		p, err := sink(t, 0).Publish(ctx, room, PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, 1024)
		if n := testing.AllocsPerRun(50, func() {
			for range 1000 {
				if err := p.Push(ctx, 1, Delta, payload); err != nil {
					t.Fatal(err)
				}
			}
		}); n > fewAllocs {
			t.Errorf("%v allocations for 1,000 messages pushed", n)
		}
	})
	t.Run("PushBatch", func(t *testing.T) {
		p, err := sink(t, 0).Publish(ctx, room, PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		batch := make([][]byte, 100)
		for i := range batch {
			batch[i] = make([]byte, 1024)
		}
		if n := testing.AllocsPerRun(50, func() {
			for range 10 {
				if n, err := p.PushBatch(ctx, 1, Delta, batch...); n != len(batch) || err != nil {
					t.Fatal(n, err)
				}
			}
		}); n > fewAllocs {
			t.Errorf("%v allocations for 1,000 messages pushed in batches", n)
		}
	})
	t.Run("Next", func(t *testing.T) {
		s, err := sink(t, 1024).Subscribe(ctx, room, SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(50, func() {
			for range 1000 {
				if _, err := s.Next(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}); n > fewAllocs {
			t.Errorf("%v allocations for 1,000 messages taken", n)
		}
	})
}
