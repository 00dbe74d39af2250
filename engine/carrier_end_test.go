package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/clock"
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

func TestPagesOfOtherOriginsMayNotConnect(t *testing.T) {
	k := startCarried(t, func(c *engine.Config) { c.Origins = engine.Origins{"https://app.example.net", "https://*.example.com"} })
	for _, c := range []struct {
		origin, protocol string
		status           string
	}{
		{"", engine.SubProtocol, ""},
		{"https://example.org", engine.SubProtocol, ""}, // the host itself
		{"https://app.example.net", engine.SubProtocol, ""},
		{"https://a.example.com", engine.SubProtocol, ""},
		{"https://a.example.com", "chat, " + engine.SubProtocol, ""},
		{"https://app.example.net.evil.org", engine.SubProtocol, "403"},
		{"http://app.example.net", engine.SubProtocol, "403"},
		{"https://example.com", engine.SubProtocol, "403"},
		{"null", engine.SubProtocol, "403"},
		{"", "", "400"},
		{"", "chat", "400"},
	} {
		t.Run(c.origin+" "+c.protocol, func(t *testing.T) {
			conn, err := net.Dial("tcp", k.addrs["ws"])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			h := http.Header{"Sec-WebSocket-Extensions": {"permessage-deflate"}}
			if c.origin != "" {
				h.Set("Origin", c.origin)
			}
			if c.protocol != "" {
				h.Set("Sec-WebSocket-Protocol", c.protocol)
			}
			_, err = upgrade(conn, "example.org", h)
			switch {
			case c.status == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.status != "" && (err == nil || !strings.HasPrefix(err.Error(), c.status)):
				t.Errorf("answered %v, want %s", err, c.status)
			}
		})
	}
}

// logged is a log that tests read.
type logged struct {
	lines chan string
}

func (l logged) Write(b []byte) (int, error) {
	select {
	case l.lines <- string(b):
	default:
	}
	return len(b), nil
}

// TestProxyHeaders: what a balancer says of a client is believed, whatever it says before that; from others nothing is.
func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	lines := logged{make(chan string, 10_000)}
	k := startCarried(t, func(c *engine.Config) {
		c.Log = zerolog.New(lines)
		c.Limits.ConnRate, c.Limits.ConnBurst = 1, 3
		c.Limits.ConnExempt = []netip.Prefix{}
		c.Listen = []string{"127.0.0.1:0" + engine.ProxyOption}
		c.HelloTimeout = 3 * time.Second // what some of the bad headers wait for
	})
	addr := k.Addrs()[0].String()
	hello := enc((&codec.Hello{Account: "a", Instance: 1}).Append(codec.AppendClientPreface(nil, 1, 1)))
	try := func(head []byte) (welcome bool) {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write(append(bytes.Clone(head), hello...))
		w := &wire{t: t, c: c}
		if err := w.fill(); err != nil {
			return false
		}
		w.preface()
		_, ok := w.any().(*codec.Welcome)
		return ok
	}
	from := func(ip string, version byte) []byte {
		h := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 2})
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i := range 3 {
		if !try(from("198.51.100.1", byte(1+i%2))) {
			t.Fatalf("client %d of the balancer was not let in", i)
		}
	}
	if try(from("198.51.100.1", 2)) {
		t.Error("the true address was not limited")
	}
	for range 10 { // the balancer's own is not
		if !try([]byte("PROXY UNKNOWN\r\n")) {
			t.Fatal("a client whose address the balancer does not know was not let in")
		}
	}
	local := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC})
	b, err := local.Format()
	if err != nil {
		t.Fatal(err)
	}
	if !try(b) {
		t.Error("the balancer itself was not let in")
	}
	if !try(from("2001:db8::1", 1)) || !try(from("2001:db8:1::1", 2)) {
		t.Error("clients with IPv6 were not let in")
	}
	bad := map[string]string{
		"nothing": "", "version 1, cut": "PROXY TCP4 1.2.3.4\r\n", "no end": "PROXY TCP4 " + strings.Repeat("1", 200),
		"version 2, cut": string(from("198.51.100.2", 2)[:20]), "version 3": "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x00",
		"a port too high": "PROXY TCP4 1.2.3.4 1.2.3.5 70000 1\r\n", "much": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
	}
	for name, head := range bad {
		if try([]byte(head)) {
			t.Errorf("let in with a header of %s", name)
		}
	}
	for told := 0; told < len(bad); {
		if l := <-lines.lines; strings.Contains(l, "handshake failed") || strings.Contains(l, "session failed") { // the one that was cut took the hello in
			told++
		}
	}
	for _, head := range [][]byte{nil, b} { // health checks: in silence
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(head)
		_ = c.Close()
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	k.AwaitSessions(t, 0)
	for len(lines.lines) > 0 {
		if l := <-lines.lines; !strings.Contains(l, "session closed") {
			t.Errorf("a health check is told of: %s", l)
		}
	}
}

func TestProxyHeaderOfAStrangerIsRefused(t *testing.T) {
	k := startCarried(t, func(c *engine.Config) { c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	for _, way := range []string{"plain/proxy", "tls/proxy", "ws/proxy"} {
		c, err := net.Dial("tcp", k.addrs[way])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
			t.Errorf("%s: read %d bytes, %v", way, n, err)
		}
	}
	c, err := net.Dial("tcp", k.addrs["plain"]) // where none is asked for it is no preface
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &wire{t: t, c: c}
	w.write([]byte("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"))
	w.preface()
	if e := next[*codec.Error](w); e.Code != codec.CodeBadMagic {
		t.Errorf("closed with %v", e.Code)
	}
}

// TestHandshakesAndHelloHaveOneDeadline: a client that uses nearly all of its time for each step is cut off when the
// time for all is over.
func TestHandshakesAndHelloHaveOneDeadline(t *testing.T) {
	const limit = time.Hour
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			clk := &leaping{Clock: clock.System}
			k := startCarried(t, func(c *engine.Config) { c.HelloTimeout, c.Clock = limit, clk })
			c := k.connect(t, way, func(c net.Conn) net.Conn {
				return &slowStart{Conn: c, start: sync.OnceFunc(func() {
					k.AwaitAccepted(t, 1)
					clk.leap(limit * 3 / 4)
				})}
			})
			// A second time would begin with the end of the handshakes, and have most of an hour left.
			if way == "plain" {
				k.AwaitAccepted(t, 1)
				clk.leap(limit * 3 / 4)
			}
			clk.leap(limit * 3 / 8)
			awaitEnd(t, c)
		})
	}
}

// awaitEnd reads until the server closes the connection.
func awaitEnd(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); err != nil && isTimeout(err) {
		t.Fatal("not cut off")
	}
}

// slowStart does start before it writes for the first time.
type slowStart struct {
	net.Conn
	start func()
}

func (c *slowStart) Write(b []byte) (int, error) {
	c.start()
	return c.Conn.Write(b)
}

func (c *slowStart) NetConn() net.Conn { return c.Conn }

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

// TestCarriersHaveOneDescriptor: what --conns bounds is what connections cost.
func TestCarriersHaveOneDescriptor(t *testing.T) {
	k := startCarried(t)
	// While a connection is handed to its loop it has a second descriptor, for a moment that may outlast its welcome.
	settled := func(want func(n int) bool) int {
		n := descriptors(t)
		for deadline := time.Now().Add(patience); !want(n) && time.Now().Before(deadline); n = descriptors(t) {
			time.Sleep(time.Millisecond) // between two looks
		}
		return n
	}
	empty := descriptors(t)
	k.enter(t, "wss/proxy", "first", 1)
	before := settled(func(n int) bool { return n == empty+2 })
	const conns = 20
	for i := range conns {
		k.enter(t, ways[i%len(ways)], "guest", uint64(i+2))
	}
	// The client's and the server's.
	if each := settled(func(n int) bool { return n == before+2*conns }) - before; each != 2*conns {
		t.Errorf("%d descriptors for %d connections, both ends here", each, conns)
	}
}

// TestKernelTakesLittleOfEveryCarrier: the bound on what the kernel takes unsent is on every client's socket.
func TestKernelTakesLittleOfEveryCarrier(t *testing.T) {
	k := startCarried(t, func(c *engine.Config) { c.SendBuffer = 5 << 10 })
	for i, way := range ways {
		k.enter(t, way, "guest", uint64(i+1))
		n, err := unix.GetsockoptInt(k.Descriptor("guest", uint64(i+1)), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		if err != nil || n != 5<<10 {
			t.Errorf("%s: %d, %v", way, n, err)
		}
	}
}

// TestStalledReadersGetTheirGaps: a reader that stops and goes on is told what it missed, in every way, and what was
// sealed for it was bounded.
func TestStalledReadersGetTheirGaps(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			k := startCarried(t)
			owner := k.enter(t, "plain", "owner", 1)
			room := owner.register(codec.Register{Policy: codec.PolicyLive, QueueBytes: 1 << 20, QueueMillis: 60_000})
			p := owner.publish(room)
			w := k.enter(t, way, "reader", 2)
			_ = socketOf(w.c).SetReadBuffer(16 << 10)
			w.subscribe(room)
			const frames = 3000
			go func() {
				f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Payload: make([]byte, 8000)}
				acked := uint64(0)
				for f.Seq = 1; f.Seq <= frames; f.Seq++ {
					if f.Flags = 0; f.Seq%10 == 1 {
						f.Flags = codec.FlagKey
					}
					owner.write(enc(f.Append(nil)))
					for f.Seq > acked+100 {
						acked = next[*codec.Ack](owner).Seq
					}
				}
			}()
			k.AwaitPolicy(t)
			if n := k.Sealed(); n > 256<<10 {
				t.Errorf("%d bytes are sealed for one reader", n)
			}
			want, gaps := uint64(1), 0
			for want <= frames {
				switch f := w.any().(type) {
				case *codec.Stream:
					if f.Seq != want {
						t.Fatalf("frame %d, want %d", f.Seq, want)
					}
					want++
				case *codec.Gap:
					if f.From != want {
						t.Fatalf("a gap from %d, want %d", f.From, want)
					}
					want, gaps = f.To+1, gaps+1
				case nil:
					t.Fatal("closed")
				}
			}
			if gaps == 0 {
				t.Error("nothing was dropped")
			}
		})
	}
}

// TestKeysMayBeUpdated: openssl changes its keys, and asks for new ones of ours, in the middle of a stream both ways.
func TestKeysMayBeUpdated(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	k := startCarried(t)
	cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", k.addrs["tls"], "-tls1_3")
	words, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	owner := k.enter(t, "plain", "owner", 1)
	room := owner.register(calm)
	grant := &codec.Grant{}
	grant.Req, grant.Room, grant.Account = owner.nextReq(), room, "ssl"
	owner.send(grant)
	next[*codec.OK](owner)
	owner.subscribe(room)
	write := func(b []byte) {
		t.Helper()
		if _, err := in.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	b := enc((&codec.Hello{Account: "ssl", Instance: 2}).Append(codec.AppendClientPreface(nil, 1, 1)))
	write(enc((&codec.Publish{Req: 1, Room: room}).Append(b)))
	p := next[*codec.Joined](owner)
	said, updates := bufio.NewScanner(words), 0
	for seq := uint64(1); seq <= 60; seq++ {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: seq, Payload: bytes.Repeat([]byte{'.'}, int(seq)*100)}
		write(enc(f.Append(nil)))
		if got := next[*codec.Stream](owner); got.Seq != seq {
			t.Fatalf("frame %d, want %d", got.Seq, seq)
		}
		command := []string{"", "k\n", "K\n"}[seq%3] // nothing, new keys of its own, and of ours as well
		if write([]byte(command)); command != "" {
			for said.Scan() && !strings.Contains(said.Text(), "KEYUPDATE") {
			}
			updates++
		}
	}
	if err := said.Err(); err != nil || updates != 40 {
		t.Errorf("%d new keys, %v", updates, err)
	}
}
