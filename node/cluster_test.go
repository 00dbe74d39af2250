package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNode is a real member on loopback.
type testNode struct {
	*Cluster
	views chan *View
	links chan Peer
	ready chan struct{} // closed when Cluster is set
	fails chan error    // what OnFail was called with
	log   *logBuffer
}

// logBuffer takes lines from many goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func config(name string, key Key, join ...string) (Config, *testNode) {
	n := &testNode{views: make(chan *View, 1000), links: make(chan Peer, 100), ready: make(chan struct{}), fails: make(chan error, 9), log: new(logBuffer)}
	cfg := Config{Name: name, Bind: "127.0.0.1:0", Join: join, Keys: Keys{key}, Log: zerolog.New(n.log), OnFail: func(err error) { n.fails <- err }}
	cfg.OnView = func(v *View) {
		select {
		case <-n.ready:
			n.list.Members() // would hang under memberlist's lock
		default:
		}
		n.views <- v
	}
	cfg.OnLink = func(c *Link, p Peer) {
		n.links <- p
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}
	return cfg, n
}

func startNode(t *testing.T, name string, key Key, join ...string) *testNode {
	t.Helper()
	cfg, n := config(name, key, join...)
	c, err := Join(cfg)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	n.Cluster = c
	close(n.ready)
	t.Cleanup(func() { _ = c.Shutdown() })
	return n
}

// await waits for a view that is as wanted.
func (n *testNode) await(t *testing.T, what string, ok func(*View) bool) *View {
	t.Helper()
	var last *View
	timeout := time.After(20 * time.Second)
	for {
		select {
		case v := <-n.views:
			if last = v; ok(v) {
				return v
			}
		case <-timeout:
			t.Fatalf("%s: no view with %s; the last is %+v\n%s", n.Name(), what, last, n.log)
		}
	}
}

func names(v *View) string {
	var s []string
	for _, m := range v.Members {
		s = append(s, m.Name)
	}
	return strings.Join(s, " ")
}

func has(want string) func(*View) bool { return func(v *View) bool { return names(v) == want } }

// TestCluster takes real nodes through a life: join, drain, death, return under the same name elsewhere, leave.
func TestCluster(t *testing.T) {
	key := NewKey()
	nodes := []*testNode{startNode(t, "b", key)}
	for _, name := range []string{"d", "a", "c"} {
		nodes = append(nodes, startNode(t, name, key, nodes[0].Addr()))
	}
	b, d, a, c := nodes[0], nodes[1], nodes[2], nodes[3]
	var first *View
	for _, n := range nodes {
		v := n.await(t, "all", has("a b c d"))
		if first == nil {
			first = v
		}
		if fmt.Sprint(v.Members) != fmt.Sprint(first.Members) {
			t.Errorf("%s sees %v, %s sees %v", n.Name(), v.Members, b.Name(), first.Members)
		}
	}
	if m, ok := first.Find("c"); !ok || m.Addr != c.Addr() || m.Birth != c.birth || m.Draining {
		t.Errorf("c is seen as %+v, listens on %s", m, c.Addr())
	}
	if _, ok := first.Find("bb"); ok {
		t.Error("found a node that there is not")
	}

	if err := d.Drain(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*testNode{a, b, c} {
		v := n.await(t, "d draining", func(v *View) bool { m, _ := v.Find("d"); return m.Draining })
		for room := range uint64(1000) {
			if m, ok := v.Ring.Relay(room + 1); !ok || m.Name == "d" {
				t.Fatalf("room %d is placed on %q", room+1, m.Name)
			}
		}
	}

	if err := c.Shutdown(); err != nil { // without a word to the others
		t.Fatal(err)
	}
	if err := c.Shutdown(); err != nil {
		t.Error("shutting down again:", err)
	}
	for _, n := range []*testNode{a, b, d} {
		n.await(t, "c gone", has("a b d"))
	}

	again := startNode(t, "c", key, a.Addr())
	for _, n := range []*testNode{a, b, d} {
		v := n.await(t, "c back", has("a b c d"))
		if m, _ := v.Find("c"); m.Addr != again.Addr() || m.Birth == c.birth {
			v = n.await(t, "the new c", func(v *View) bool { m, _ := v.Find("c"); return m.Birth == again.birth })
			if m, _ := v.Find("c"); m.Addr != again.Addr() {
				t.Errorf("%s sees c at %s, it is at %s", n.Name(), m.Addr, again.Addr())
			}
		}
	}

	if err := again.Leave(); err != nil {
		t.Fatal(err)
	}
	a.await(t, "c left", has("a b d"))
}

// TestLinks: links share the port with gossip, and only members that prove the key get one.
func TestLinks(t *testing.T) {
	key := NewKey()
	a := startNode(t, "a", key)
	b := startNode(t, "b", key, a.Addr())
	v := b.await(t, "both", has("a b"))
	m, _ := v.Find("a")
	conn, err := b.Dial(m, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := <-a.links; p != (Peer{"b", b.birth}) {
		t.Errorf("a has a link from %v", p)
	}
	echo := make([]byte, 5)
	if _, err := conn.Write([]byte("frame")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, echo); err != nil || string(echo) != "frame" {
		t.Errorf("%q, %v came back", echo, err)
	}

	for name, c := range map[string]struct {
		to  Member
		err error
	}{
		"restarted since":        {Member{Name: "a", Addr: a.Addr(), Birth: a.birth + 1}, ErrNotMember},
		"another at the address": {Member{Name: "x", Addr: a.Addr(), Birth: a.birth}, ErrNotMember},
		"itself":                 {Member{Name: "b", Addr: b.Addr(), Birth: b.birth}, ErrSelf},
	} {
		if _, err := b.Dial(c.to, time.Second); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStrangers: neither a node with another key nor garbage gets in or does harm.
func TestStrangers(t *testing.T) {
	key := NewKey()
	a := startNode(t, "a", key)
	a.await(t, "itself", has("a"))

	x := startNode(t, "x", NewKey(), a.Addr())
	if err := <-x.fails; !errors.Is(err, ErrStranger) || !strings.Contains(err.Error(), a.Addr()) {
		t.Errorf("a node with another key: %v", err)
	}
	x.await(t, "itself", has("x"))
	cfg, _ := config("", key)
	if _, err := Join(cfg); err == nil {
		t.Error("a node without a name was taken")
	}
	cfg, _ = config("x", key)
	cfg.Bind = a.Addr()
	if _, err := Join(cfg); err == nil {
		t.Error("two nodes share a port")
	}

	for name, said := range map[string][]byte{
		"nothing":        nil,
		"zeros":          make([]byte, 4096),
		"HTTP":           []byte("GET / HTTP/1.1\r\n\r\n"),
		"half the magic": []byte("TD"),
		"almost a link":  []byte("TDGE\x01\x01\x00\x00"),
		"a false link":   append(appendPreface(nil), make([]byte, 4096)...),
		"a newer link":   []byte("TDGL\x02\x01b"),
	} {
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(said)
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
		u, err := net.Dial("udp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = u.Write(said)
		_ = u.Close()
	}
	b := startNode(t, "b", key, a.Addr())
	b.await(t, "both", has("a b"))
	a.await(t, "both", has("a b"))
	if len(a.links) > 0 {
		t.Errorf("%v got a link", <-a.links)
	}
	if log := a.log.String(); !strings.Contains(log, `"link refused"`) || strings.Contains(log, "[ERR]") || strings.Contains(log, "[WARN]") {
		t.Errorf("the log is\n%s", log)
	}
}

// TestSameName: a name is for one node. Whoever comes later is told who has it; not if that one is dead, as soon as the
// others know.
func TestSameName(t *testing.T) {
	key := NewKey()
	a := startNode(t, "a", key)
	b := startNode(t, "b", key, a.Addr())
	a.await(t, "both", has("a b"))
	for _, join := range []string{a.Addr(), b.Addr()} {
		second := startNode(t, "b", key, join)
		if err := <-second.fails; err == nil || !strings.Contains(err.Error(), "a node named b runs at "+b.Addr()+" already") {
			t.Errorf("a second b: %v", err)
		}
		_ = second.Shutdown()
	}
	if log := a.log.String(); strings.Contains(log, "link refused") || strings.Count(log, "Conflicting address") > 4 {
		t.Errorf("the log is\n%s", log)
	}
	if err := b.Shutdown(); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, "b", key, a.Addr())
	a.await(t, "the new b", func(v *View) bool { m, _ := v.Find("b"); return m.Birth == again.birth })
}

// TestOtherVersion: a node that says other things on links is in no view.
func TestOtherVersion(t *testing.T) {
	f := &aliveFilter{}
	for name, c := range map[string]struct {
		meta []byte
		err  error
	}{
		"same":    {[]byte{LinkVersion, 0, 1, 2, 3, 4, 5, 6, 7, 8}, nil},
		"newer":   {[]byte{LinkVersion + 1}, ErrVersion},
		"nothing": {nil, ErrVersion},
	} {
		if err := f.NotifyAlive(nodeOf(c.meta)); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJoinOtherVersion: a node says at once that those whom it is to join speak another version, whether or not gossip
// with them works.
func TestJoinOtherVersion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(append([]byte(LinkMagic), LinkVersion+1))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	x := startNode(t, "x", NewKey(), l.Addr().String())
	if err := <-x.fails; !errors.Is(err, ErrVersion) {
		t.Errorf("joining a node of another version: %v", err)
	}
}

func nodeOf(meta []byte) *memberlist.Node {
	return &memberlist.Node{Name: "x", Addr: net.IPv4(127, 0, 0, 1), Port: 1, Meta: meta}
}
