package engine_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/testcert"
)

func withTLS(cert tls.Certificate) func(*engine.Config) {
	return func(c *engine.Config) {
		c.ListenTLS = []string{"127.0.0.1:0"}
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	}
}

func dialTLS(t testing.TB, e *engine.Engine, cfg *tls.Config) *wire {
	t.Helper()
	c, err := tls.Dial("tcp", e.Addrs()[1].String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t: t, c: c}
}

func TestTLSClientsShareRoomsWithPlainOnes(t *testing.T) {
	cert := testcert.New(1)
	pool := testcert.Pool(cert)
	e := start(t, withTLS(cert))
	plain := login(t, e, "alice", 1)
	room := plain.register(calm) // all frames arrive, however busy the machine is
	pub := plain.publish(room)

	viewer := dialTLS(t, e, &tls.Config{RootCAs: pool})
	if _, ok := helloWith(viewer, "viewer", "").(*codec.Welcome); !ok {
		t.Fatal("the viewer was not welcome")
	}
	viewer.subscribe(room)
	big := bytes.Repeat([]byte("0123456789abcdef"), 4000)
	for seq := uint64(1); seq <= 100; seq++ {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: pub.Pub}, Seq: seq, Payload: big}
		plain.write(enc(f.Append(nil)))
	}
	for seq := uint64(1); seq <= 100; seq++ {
		if f := next[*codec.Stream](viewer); f.Seq != seq || !bytes.Equal(f.Payload, big) {
			t.Fatalf("got frame %d with %d bytes, want %d", f.Seq, len(f.Payload), seq)
		}
	}
	m := &codec.Remove{}
	m.Req, m.Room = plain.nextReq(), room
	plain.send(m)
	if c := next[*codec.Closed](viewer); c.Code != codec.CodeRemoved {
		t.Fatalf("closed with %v, want removed", c.Code)
	}
}

func TestTLSTurnsAwayWhatIsNotTLS13(t *testing.T) {
	cert := testcert.New(1)
	pool := testcert.Pool(cert)
	e := start(t, withTLS(cert), func(c *engine.Config) { c.HelloTimeout = patience })
	quick := start(t, withTLS(cert), func(c *engine.Config) { c.HelloTimeout = 200 * time.Millisecond })
	addr := e.Addrs()[1].String()
	if c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}); err == nil {
		c.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{}); err == nil {
		c.Close()
		t.Error("an unknown authority was trusted: the test's certificate is not its own")
	}
	for name, send := range map[string][]byte{"plain timedge": codec.AppendClientPreface(nil, 1, 1), "nothing": nil} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", quick.Addrs()[1].String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(send); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			b := make([]byte, 1024)
			for {
				if _, err := c.Read(b); err != nil {
					if isTimeout(err) {
						t.Fatal("the connection stayed open")
					}
					return
				}
			}
		})
	}
	// And the server still serves.
	w := dialTLS(t, e, &tls.Config{RootCAs: pool})
	if _, ok := helloWith(w, "alice", "").(*codec.Welcome); !ok {
		t.Fatal("alice was not welcome")
	}
}

// BenchmarkTLS sets ten subscribers over TLS beside ten over plain TCP: an operation is a frame to all ten. It counts
// what the clients spend, too, since they run in the same process.
func BenchmarkTLS(b *testing.B) {
	for _, transport := range []string{"plain", "tls"} {
		b.Run("transport="+transport+"/payload=1024", func(b *testing.B) {
			cert := testcert.New(1)
			pool := testcert.Pool(cert)
			e := start(b, withTLS(cert))
			w := login(b, e, "alice", 1)
			room := w.register(codec.Register{Policy: codec.PolicyLive, QueueBytes: 64 << 20, QueueMillis: 60_000})
			p := w.publish(room)
			const subs, ahead = 10, 1 << 20
			var got [subs]atomic.Int64
			for i := range subs {
				var s *wire
				if transport == "tls" {
					s = dialTLS(b, e, &tls.Config{RootCAs: pool})
				} else {
					s = dial(b, e)
				}
				helloWith(s, "viewer", "")
				s.subscribe(room)
				next[*codec.Joined](s)
				got[i].Store(int64(len(s.buf)))
				go func() {
					buf := make([]byte, 256<<10)
					for {
						_ = s.c.SetReadDeadline(time.Time{})
						n, err := s.c.Read(buf)
						got[i].Add(int64(n))
						if err != nil {
							return
						}
					}
				}()
			}
			f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Payload: make([]byte, 1024)}
			size := int64(codec.StreamHeaderSize + len(f.Payload))
			await := func(total int64) {
				for i := range got {
					for got[i].Load() < total {
						runtime.Gosched()
					}
				}
			}
			go func() { _, _ = io.Copy(io.Discard, w.c) }() // acknowledgements
			var batch []byte
			sent := int64(0)
			b.SetBytes(subs * size)
			for b.Loop() {
				f.Seq++
				if batch = enc(f.Append(batch)); len(batch) > 64<<10 {
					w.write(batch)
					sent += int64(len(batch))
					batch = batch[:0]
					await(sent - ahead)
				}
			}
			w.write(batch)
			await(sent + int64(len(batch)))
		})
	}
}
