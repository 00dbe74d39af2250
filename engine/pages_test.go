package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// showPage is what tests serve to browsers.
func showPage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/panic" {
		panic("planted")
	}
	_, _ = fmt.Fprintf(w, "page %s", r.URL.Path)
}

// TestPages: one address has pages, several of them over one connection, and WebSocket for them; plainly, within TLS,
// and behind a balancer.
func TestPages(t *testing.T) {
	k := startCarried(t)
	if at := k.PageAddrs(); len(at) != 4 || at[0] != "http://"+k.addrs["web"]+"/" || at[2] != "https://"+k.addrs["webs"]+"/" {
		t.Fatalf("pages at %v", at)
	}
	if to := strings.Join(k.Servers(), " "); strings.Contains(to, k.addrs["web"]) {
		t.Fatalf("pages are named among the servers: %v", to)
	}
	for _, way := range []string{"web", "webs", "web/proxy", "webs/proxy"} {
		t.Run(way, func(t *testing.T) {
			c := k.connect(t, way)
			_ = c.SetReadDeadline(time.Now().Add(patience))
			r := bufio.NewReader(c)
			for _, want := range []struct {
				path   string
				status int
				body   string
			}{
				{"/one", 200, "page /one"},
				{"/two?x", 200, "page /two"},
				{"/panic", 500, "a fault of this server; its log says more\n"},
				{"/three", 200, "page /three"},
			} {
				_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", want.path)
				a, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(a.Body); err != nil || a.StatusCode != want.status || string(body) != want.body {
					t.Fatalf("%s: %d %q, %v", want.path, a.StatusCode, body, err)
				}
			}
			up, err := upgrade(k.connect(t, way), "x", http.Header{"Origin": {"http://x"}, "Sec-WebSocket-Protocol": {engine.SubProtocol}})
			if err != nil {
				t.Fatal(err)
			}
			w := &wire{t: t, c: up}
			w.write(enc((&codec.Hello{Account: "page", Instance: 1}).Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax))))
			w.preface()
			next[*codec.Welcome](w)
			if _, err := upgrade(k.connect(t, way), "x", http.Header{"Origin": {"http://elsewhere"}, "Sec-WebSocket-Protocol": {engine.SubProtocol}}); err == nil {
				t.Fatal("a page of another origin may connect")
			}
		})
	}
}

// TestPagesEndWithTheServer: a browser that keeps its connection does not keep the server.
func TestPagesEndWithTheServer(t *testing.T) {
	k := startCarried(t)
	c := k.connect(t, "webs")
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "GET /kept HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	a, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, a.Body)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := k.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Fatalf("the connection did not end in good order: %v", err)
	}
}

// TestPagesAreBounded: browsers have a bounded number of connections, and their places are free again afterwards.
func TestPagesAreBounded(t *testing.T) {
	k := startCarried(t)
	ask := func() (open bool, end func()) {
		c := k.connect(t, "web")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err == nil, func() { c.Close() }
	}
	var ends []func()
	for i := range engine.MaxPageConns {
		open, end := ask()
		if !open {
			t.Fatalf("connection %d was refused", i)
		}
		ends = append(ends, end)
	}
	if open, _ := ask(); open {
		t.Fatal("there is no bound")
	}
	for _, end := range ends {
		end()
	}
	for deadline := time.Now().Add(patience); ; {
		if open, _ := ask(); open {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("places are not given back")
		}
	}
}

// TestPagesIfFree: a server whose pages may do without their address serves all the same if another has that, and says
// so; one that finds it free has pages there.
func TestPagesIfFree(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	lines := logged{make(chan string, 100)}
	at := func(c *engine.Config) {
		c.ListenWeb, c.Pages, c.WebIfFree = []string{ln.Addr().String()}, http.HandlerFunc(showPage), true
		c.Log = zerolog.New(lines)
	}
	e := start(t, at)
	if got := e.PageAddrs(); len(got) > 0 {
		t.Errorf("pages at %v, which another has", got)
	}
	if l := <-lines.lines; !strings.Contains(l, ln.Addr().String()) || !strings.Contains(l, "no pages") {
		t.Errorf("the log says %s", l)
	}
	login(t, e, "alice", 1)
	ln.Close()
	if got := start(t, at).PageAddrs(); len(got) != 1 {
		t.Errorf("pages at %v, at an address that nobody has", got)
	}
}
