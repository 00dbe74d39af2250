package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestServersAreNamedInFourWays(t *testing.T) {
	for name, want := range map[string]address{
		"example.org:7400":          {hostPort: "example.org:7400"},
		"[::1]:7400":                {hostPort: "[::1]:7400"},
		"tls://example.org:7443":    {hostPort: "example.org:7443", host: "example.org", path: "/", tls: true},
		"tls://[::1]:7443/":         {hostPort: "[::1]:7443", host: "::1", path: "/", tls: true},
		"ws://example.org":          {hostPort: "example.org:80", host: "example.org", path: "/", sock: true},
		"ws://example.org:81/a/b?c": {hostPort: "example.org:81", host: "example.org", path: "/a/b?c", sock: true},
		"wss://example.org/streams": {hostPort: "example.org:443", host: "example.org", path: "/streams", tls: true,
			sock: true},
		"wss://[2001:db8::1]:8443/s": {hostPort: "[2001:db8::1]:8443", host: "2001:db8::1", path: "/s", tls: true,
			sock: true},
	} {
		if got, err := parseAddress(name); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"tls://example.org", "tls://example.org:1/path", "http://example.org", "ws://",
		"wss://user@example.org", "ws://a:b:c"} {
		if a, err := parseAddress(name); err == nil {
			t.Errorf("%s: taken for %+v", name, a)
		}
	}
}

// proxyFor is an HTTP proxy that does CONNECT for who has the password, and counts.
func proxyFor(t *testing.T, password string) (at *url.URL, asked chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	asked = make(chan string, 16)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				auth := &http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}
				if _, pw, _ := auth.BasicAuth(); pw != password {
					io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
					return
				}
				asked <- req.Method + " " + req.RequestURI
				far, err := net.Dial("tcp", req.RequestURI)
				if err != nil {
					io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
					return
				}
				defer far.Close()
				io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
				go func() { io.Copy(far, r); far.(*net.TCPConn).CloseWrite() }()
				io.Copy(c, far)
			}()
		}
	}()
	return &url.URL{Scheme: "http", Host: ln.Addr().String(), User: url.UserPassword("me", password)}, asked
}

func TestProxyIsAskedForTheServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // says something first: nothing of it may get lost
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "first word")
			c.Close()
		}
	}()
	proxy, asked := proxyFor(t, "secret")
	c, err := dialProxy(t.Context(), proxy, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-asked; got != "CONNECT "+ln.Addr().String() {
		t.Errorf("asked %q", got)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(c); err != nil || string(b) != "first word" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, ok := socketOf(c).(*net.TCPConn); !ok {
		t.Errorf("no socket below %T", c)
	}
	proxy.User = url.UserPassword("me", "guess")
	if _, err := dialProxy(t.Context(), proxy, ln.Addr().String()); err == nil || !strings.Contains(err.Error(), "407") ||
		strings.Contains(err.Error(), "guess") {
		t.Errorf("a proxy that refuses: %v", err)
	}
}

func TestProxyIsOfTheEnvironment(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// It is not asked for this machine's own addresses; that is what all other tests here rely on.
	if _, err := dialTCP(ctx, "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("dialed: %v", err)
	}
}

// scripted is a server within WebSocket of which every byte is given.
func scripted(t *testing.T, said []byte) (*webSocket, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	go func() { far.Write(said); far.Close() }()
	return &webSocket{Conn: near}, far
}

func TestWebSocketReadsWhatServersMaySend(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 70_000)
	for name, c := range map[string]struct {
		said string
		want string
		fail bool
	}{
		"messages":                 {said: "\x82\x03abc\x82\x02de", want: "abcde"},
		"an empty message":         {said: "\x82\x00\x82\x01a", want: "a"},
		"fragments":                {said: "\x02\x01a\x00\x01b\x80\x01c", want: "abc"},
		"16 bits":                  {said: "\x82\x7e\x01\x00" + string(long[:256]), want: string(long[:256])},
		"64 bits":                  {said: "\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + string(long), want: string(long)},
		"a pong that nobody wants": {said: "\x8a\x01p\x82\x01a", want: "a"},
		"closed":                   {said: "\x82\x01a\x88\x02\x03\xe8\x82\x01b", want: "a"},
		"closed without a code":    {said: "\x82\x01a\x88\x00", want: "a"},
		"closed for a reason":      {said: "\x82\x01a\x88\x05\x03\xeawhy", want: "a", fail: true},
		"masked":                   {said: "\x82\x81abcda", fail: true},
		"text":                     {said: "\x81\x01a", fail: true},
		"reserved bits":            {said: "\xc2\x01a", fail: true},
		"a long ping":              {said: "\x89\x7e\x00\x80" + string(long[:128]), fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := scripted(t, []byte(c.said))
			got, err := io.ReadAll(w)
			if string(got) != c.want || (err != nil) != c.fail {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestWebSocketAnswersPings(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	w := &webSocket{Conn: near}
	go func() { far.Write([]byte("\x89\x04ping\x82\x01a")) }()
	read := make(chan string, 1)
	go func() {
		var b [8]byte
		n, _ := w.Read(b[:])
		read <- string(b[:n])
	}()
	pong := make([]byte, 2+4+4)
	if _, err := io.ReadFull(far, pong); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		pong[6+i] ^= pong[2+i]
	}
	if pong[0] != opPong || pong[1] != 0x84 || string(pong[6:]) != "ping" {
		t.Errorf("answered %x", pong)
	}
	if got := <-read; got != "a" {
		t.Errorf("read %q", got)
	}
}

func FuzzWebSocketRead(f *testing.F) {
	for _, s := range []string{"\x82\x03abc", "\x02\x01a\x80\x01b", "\x82\x7e\x01\x00", "\x88\x02\x03\xe8", "\x89\x7d"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		w := &webSocket{Conn: &readOnly{r: bytes.NewReader(said)}}
		n, _ := io.Copy(io.Discard, w)
		if n > int64(len(said)) {
			t.Fatalf("%d bytes in %d", n, len(said))
		}
	})
}

// readOnly takes all that is written and lets nothing be found of it.
type readOnly struct {
	net.Conn
	r io.Reader
}

func (c *readOnly) Read(b []byte) (int, error)  { return c.r.Read(b) }
func (c *readOnly) Write(b []byte) (int, error) { return len(b), nil }

// Whoever has come by TLS, or by WebSocket, is reached likewise at the address that a go-away names.
func TestSibling(t *testing.T) {
	for _, c := range [][3]string{
		{"one:1", "two:2", "two:2"}, {"tls://one:1", "two:2", "tls://two:2"}, {"ws://one", "[::1]:2", "ws://[::1]:2"},
		{"wss://one/live?x=1", "two:2", "wss://two:2/live?x=1"},
	} {
		if got := sibling(c[0], c[1]); got != c[2] {
			t.Errorf("at %s, from %s: %s, want %s", c[1], c[0], got, c[2])
		}
	}
}
