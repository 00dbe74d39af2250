package engine_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// endings are the ways in which a client may end, each as bad as another that is legal.
var endings = map[string]func(c net.Conn){
	"close":     func(c net.Conn) { c.Close() },
	"half":      func(c net.Conn) { _ = socketOf(c).CloseWrite() },
	"reset":     func(c net.Conn) { _ = socketOf(c).SetLinger(0); socketOf(c).Close() },
	"announced": announce,
	"announced, half": func(c net.Conn) {
		announce(c)
		_ = socketOf(c).CloseWrite()
	},
}

// announce says the carrier's last word and leaves the socket open.
func announce(c net.Conn) {
	switch c := c.(type) {
	case *tls.Conn:
		_ = c.CloseWrite()
	case *wsConn:
		_, _ = c.Conn.Write(clientFrame(0x88, []byte{3, 0xe8}))
		announce(c.Conn)
	case *net.TCPConn:
		_ = c.CloseWrite() // all that there is to announce with
	}
}

func socketOf(c net.Conn) *net.TCPConn {
	for {
		switch x := c.(type) {
		case *net.TCPConn:
			return x
		case *tls.Conn:
			c = x.NetConn()
		case *wsConn:
			c = x.Conn
		case *inCuts:
			c = x.Conn
		default:
			panic(fmt.Sprintf("no socket below %T", c))
		}
	}
}

// TestEveryEndAtEveryMoment: whatever way a client comes in and ends, and when, what it pushed before it ended
// arrives, its session is gone soon, and nothing of it is left.
func TestEveryEndAtEveryMoment(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			k := startCarried(t, func(c *engine.Config) { c.Loops = 1 })
			owner := k.enter(t, "plain", "owner", 1)
			room := owner.register(codec.Register{Policy: codec.PolicyLive, QueueBytes: 64 << 20, QueueMillis: 60_000})
			grant := &codec.Grant{}
			grant.Req, grant.Room, grant.Account = owner.nextReq(), room, "guest"
			owner.send(grant)
			next[*codec.OK](owner)
			owner.subscribe(room)
			instance := uint64(10)
			for name, end := range endings {
				for _, moment := range []string{"connected", "hello", "published", "pushed", "pushed much", "stalled"} {
					if name == "reset" && (moment == "pushed" || moment == "pushed much") {
						continue // takes with it what was on its way
					}
					t.Run(name+"/"+moment, func(t *testing.T) {
						instance++
						if moment == "connected" {
							end(k.connect(t, way))
							return
						}
						w := k.enter(t, way, "guest", instance)
						if moment == "hello" {
							end(w.c)
							return
						}
						if moment == "stalled" { // what is for the client waits, in its queue and sealed
							w.subscribe(room)
							p := owner.publish(room)
							f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Payload: make([]byte, 60_000)}
							for f.Seq = 1; f.Seq < 120; f.Seq++ {
								owner.write(enc(f.Append(nil)))
							}
							end(w.c)
							un := &codec.Unpublish{}
							un.Req, un.Room = owner.nextReq(), room
							owner.send(un)
							for next[*codec.Left](owner).Pub != p.Pub {
							}
							return
						}
						p := w.publish(room)
						count := map[string]int{"published": 0, "pushed": 3, "pushed much": 3000}[moment]
						var out []byte
						for seq := 1; seq <= count; seq++ {
							f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: uint64(seq), Payload: []byte("x")}
							out = enc(f.Append(out))
						}
						w.write(out)
						end(w.c)
						for seq := 1; seq <= count; {
							if f := next[*codec.Stream](owner); f.Pub == p.Pub {
								if f.Seq != uint64(seq) {
									t.Fatalf("frame %d, want %d", f.Seq, seq)
								}
								seq++
							}
						}
					})
				}
			}
			k.AwaitSessions(t, 1)
			if n := k.Sealed(); n != 0 {
				t.Errorf("%d bytes sealed for nobody", n)
			}
		})
	}
}

// TestServerEndsInGoodOrder: a client that is closed hears why, in the words of the protocol and of its carrier,
// before the end.
func TestServerEndsInGoodOrder(t *testing.T) {
	k := startCarried(t)
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			w := k.enter(t, way, "guest", 1)
			w.write([]byte{0, 1, 0x7f}) // no such frame
			if e := next[*codec.Error](w); e.Code == 0 {
				t.Error("closed for nothing")
			}
			for {
				if err := w.fill(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("the end is %v, not in good order", err)
				}
			}
			if ws, ok := w.c.(*wsConn); ok {
				last := ws.said[len(ws.said)-1]
				if last.op != 8 || binary.BigEndian.Uint16([]byte(last.payload)) != 1008 {
					t.Errorf("the WebSocket was closed with %x", last)
				}
			}
		})
	}
}

// TestWebSocketClosesAreAnswered: what is wrong is told by a close code, and a close is answered by one; nothing
// follows it.
func TestWebSocketClosesAreAnswered(t *testing.T) {
	k := startCarried(t)
	for _, c := range []struct {
		name string
		sent []byte
		code uint16
	}{
		{"close", clientFrame(0x88, []byte{3, 0xe8}), 1000},
		{"close without a code", clientFrame(0x88, nil), 1000},
		{"going away", clientFrame(0x88, []byte{3, 0xe9}), 1001},
		{"text", clientFrame(0x81, []byte("a")), 1003},
		{"reserved bits", clientFrame(0xc2, []byte("a")), 1002},
		{"no mask", []byte{0x82, 1, 'a'}, 1002},
		{"a reason that is not UTF-8", clientFrame(0x88, []byte{3, 0xe8, 0xff}), 1007},
		{"too long", []byte{0x82, 0xff, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0, 0}, 1009},
	} {
		for _, way := range []string{"ws", "wss"} {
			t.Run(way+"/"+c.name, func(t *testing.T) {
				w := k.enter(t, way, "guest", 1)
				ws := w.c.(*wsConn)
				if _, err := ws.Conn.Write(append(clientFrame(0x89, []byte("are you there")), c.sent...)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, ws); err != nil {
					t.Fatal(err)
				}
				if len(ws.said) != 2 || ws.said[0] != (wsFrame{10, "are you there"}) || ws.said[1].op != 8 {
					t.Fatalf("said %q", ws.said)
				}
				if code := binary.BigEndian.Uint16([]byte(ws.said[1].payload)); code != c.code {
					t.Errorf("closed with %d, want %d", code, c.code)
				}
				if n, err := ws.r.Read(make([]byte, 1)); n > 0 || err != io.EOF {
					t.Errorf("behind the close frame: %d bytes, %v", n, err)
				}
			})
		}
	}
}

// TestShutdownWaitsForNoHandshake: half-done handshakes of every kind do not hold a server up, and one that ends at
// that very moment does not either.
func TestShutdownWaitsForNoHandshake(t *testing.T) {
	for range 5 {
		k := startCarried(t, func(c *engine.Config) { c.HelloTimeout = time.Minute })
		for i := range 200 {
			way := ways[1:][i%7]
			c, err := net.Dial("tcp", k.addrs[way])
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write([]byte("\x16\x03\x01\x02\x00\x01")[:i%7])
		}
		var dialed atomic.Int64
		stop := make(chan struct{})
		ended := make(chan struct{})
		go func() { // handshakes end all the time
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := tls.Dial("tcp", k.addrs["tls"], &tls.Config{RootCAs: k.pool})
				if err != nil {
					return
				}
				dialed.Add(1)
				defer c.Close()
			}
		}()
		for dialed.Load() < 5 {
			time.Sleep(time.Millisecond) // between two looks
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := k.Shutdown(ctx)
		cancel()
		close(stop)
		<-ended
		if err != nil || ctx.Err() == context.DeadlineExceeded {
			t.Fatalf("shut down: %v", err)
		}
	}
}

func TestShutdownMayBeCalledTwice(t *testing.T) {
	k := startCarried(t)
	k.enter(t, "wss", "guest", 1)
	both := make(chan error, 2)
	for range 2 {
		go func() { both <- k.Shutdown(t.Context()) }()
	}
	for range 2 {
		if err := <-both; err != nil {
			t.Error(err)
		}
	}
	if err := k.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestShutdownIsOverInTime: readers that take nothing, in every way, are given until the deadline and no longer.
func TestShutdownIsOverInTime(t *testing.T) {
	k := startCarried(t)
	owner := k.enter(t, "plain", "owner", 1)
	room := owner.register(calm)
	p := owner.publish(room)
	for i := range 24 {
		w := k.enter(t, ways[i%len(ways)], "stalled", uint64(i+2))
		_ = socketOf(w.c).SetReadBuffer(4096)
		w.subscribe(room)
	}
	f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Payload: make([]byte, 60_000)}
	for f.Seq = 1; f.Seq <= 60; f.Seq++ {
		owner.write(enc(f.Append(nil)))
	}
	for next[*codec.Ack](owner).Seq < 60 {
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := k.Shutdown(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shut down with frames queued: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}
