package engine_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/clock"
)

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
