package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// nameServer is the system's network with a name server of the test's own.
type nameServer struct {
	system
	mu   sync.Mutex
	list map[string][]string
	err  map[string]error
	own  []netip.Addr
}

func (n *nameServer) set(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.list == nil {
		n.list = make(map[string][]string)
	}
	n.list[name] = addrs
}

func (n *nameServer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	n.mu.Lock()
	list, err := n.list[host], n.err[host]
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var as []netip.Addr
	for _, a := range list {
		as = append(as, netip.MustParseAddr(a))
	}
	if len(as) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return as, nil
}

func (n *nameServer) addresses() ([]netip.Addr, error) { return n.own, nil }

// startAt runs a node on an address of 127/8, with a name server.
func startAt(t *testing.T, n network, name, addr string, key Key, join ...string) *testNode {
	t.Helper()
	cfg, node := config(name, key, join...)
	cfg.Bind, cfg.net = addr, n
	c, err := Join(cfg)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	node.Cluster = c
	close(node.ready)
	t.Cleanup(func() { _ = c.Shutdown() })
	return node
}

// freePort returns a port that is free, by TCP and UDP, on all of 127/8.
func freePort(t *testing.T) string {
	t.Helper()
	tcp, udp, err := system{}.listen("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	_, _ = tcp.Close(), udp.Close()
	return port
}

// TestNames: nodes that know each other by a name find each other as soon as the name says where they are, whatever it
// said before: nothing, each node itself, or addresses at which nobody is.
func TestNames(t *testing.T) {
	for name, first := range map[string]func(i int) []string{
		"nobody":        func(int) []string { return nil },
		"each itself":   func(i int) []string { return []string{fmt.Sprintf("127.0.7.%d", i)} },
		"old addresses": func(int) []string { return []string{"127.0.7.77", "127.0.7.78"} },
		"all":           func(int) []string { return []string{"127.0.7.1", "127.0.7.2", "127.0.7.3"} },
	} {
		t.Run(name, func(t *testing.T) {
			key, port := NewKey(), freePort(t)
			var servers []*nameServer
			var nodes []*testNode
			for i := 1; i <= 3; i++ {
				n := new(nameServer)
				n.set("all", first(i)...)
				servers = append(servers, n)
				nodes = append(nodes, startAt(t, n, fmt.Sprintf("n%d", i), fmt.Sprintf("127.0.7.%d:%s", i, port), key, "all:"+port))
			}
			for _, n := range servers {
				n.set("all", "127.0.7.3", "127.0.7.1", "127.0.7.2")
			}
			for _, n := range nodes {
				n.await(t, "all", has("n1 n2 n3"))
			}
			waitFor(t, "nobody is missing", func() bool {
				return len(nodes[0].Missing())+len(nodes[1].Missing())+len(nodes[2].Missing()) == 0
			})
		})
	}
}

// TestNewAddresses: two of three come back with new addresses, which the name tells, while the third runs on; and one
// with a new name, too.
func TestNewAddresses(t *testing.T) {
	key, port, dns := NewKey(), freePort(t), new(nameServer)
	dns.set("all", "127.0.8.1", "127.0.8.2", "127.0.8.3")
	at := func(i int) string { return fmt.Sprintf("127.0.8.%d:%s", i, port) }
	a := startAt(t, dns, "a", at(1), key, "all:"+port)
	b := startAt(t, dns, "b", at(2), key, "all:"+port)
	c := startAt(t, dns, "c", at(3), key, "all:"+port)
	a.await(t, "all", has("a b c"))
	_, _ = b.Shutdown(), c.Shutdown()
	dns.set("all", "127.0.8.12", "127.0.8.13", "127.0.8.1")
	startAt(t, dns, "b", at(12), key, "all:"+port)
	startAt(t, dns, "d", at(13), key, "all:"+port)
	a.await(t, "b and d", func(v *View) bool {
		m, _ := v.Find("b")
		return names(v) == "a b d" && m.Addr == at(12)
	})
}

// TestMissing: a node that finds nobody runs, and says who is missing.
func TestMissing(t *testing.T) {
	port, dns := freePort(t), new(nameServer)
	dns.err = map[string]error{"slow": &net.DNSError{Err: "i/o timeout", IsTimeout: true}}
	n := startAt(t, dns, "a", "127.0.0.1:"+port, NewKey(), "127.0.0.1:1", "none:"+port, "slow:"+port, "127.0.0.1:"+port)
	n.await(t, "itself", has("a"))
	want := "127.0.0.1:1 (connection refused)\nnone:P (the name has no address)\nslow:P (no answer from the name server)"
	waitFor(t, "all that is missing is told", func() bool {
		return strings.ReplaceAll(strings.Join(n.Missing(), "\n"), ":"+port, ":P") == want
	})
	if len(n.fails) > 0 {
		t.Errorf("it gives up: %v", <-n.fails)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited until %s", what)
		}
	}
}

// TestForeignName: a name that leads to another cluster is the name's fault, and passes.
func TestForeignName(t *testing.T) {
	key, port, dns := NewKey(), freePort(t), new(nameServer)
	startAt(t, dns, "x", "127.0.9.9:"+port, NewKey())
	a := startAt(t, dns, "a", "127.0.9.1:"+port, key)
	dns.set("all", "127.0.9.9")
	b := startAt(t, dns, "b", "127.0.9.2:"+port, key, "all:"+port)
	waitFor(t, "b says what is wrong", func() bool { return strings.Contains(strings.Join(b.Missing(), ""), "cluster key") })
	dns.set("all", "127.0.9.1")
	b.await(t, "both", has("a b"))
	a.await(t, "both", has("a b"))
	if len(b.fails) > 0 {
		t.Error(<-b.fails)
	}
}

// TestAdvertised: what the others are told.
func TestAdvertised(t *testing.T) {
	for name, c := range map[string]struct {
		own, bound, want string
		is, err          string
	}{
		"bound to one":          {own: "10.0.0.1 10.0.0.2", bound: "10.0.0.2:7500", is: "10.0.0.2:7500"},
		"all, one":              {own: "127.0.0.1 10.0.0.1 ::1 fe80::1", bound: "0.0.0.0:7500", is: "10.0.0.1:7500"},
		"all, one of each":      {own: "127.0.0.1 fd00::1 10.0.0.1", bound: "0.0.0.0:7500", is: "10.0.0.1:7500"},
		"all of IPv6":           {own: "127.0.0.1 fd00::1 10.0.0.1", bound: "[::]:7500", is: "[fd00::1]:7500"},
		"all, IPv6 only":        {own: "127.0.0.1 ::1 fd00::1 fe80::1", bound: "0.0.0.0:7500", is: "[fd00::1]:7500"},
		"all, several":          {own: "127.0.0.1 10.0.0.1 10.0.0.2", bound: "0.0.0.0:7500", err: "several addresses (10.0.0.1, 10.0.0.2)"},
		"all, loopback only":    {own: "127.0.0.1 ::1", bound: "0.0.0.0:7500", is: "127.0.0.1:7500"},
		"none at all":           {own: "", bound: "0.0.0.0:7500", err: "no address"},
		"said":                  {own: "10.0.0.1 10.0.0.2", bound: "0.0.0.0:7500", want: "10.0.0.2", is: "10.0.0.2:7500"},
		"said, with a port":     {own: "10.0.0.1", bound: "10.0.0.1:7500", want: "203.0.113.9:17500", is: "203.0.113.9:17500"},
		"said, IPv6":            {own: "fd00::1", bound: "[::]:7500", want: "fd00::1", is: "[fd00::1]:7500"},
		"said, IPv6 in [ ]":     {own: "fd00::1", bound: "[::]:7500", want: "[fd00::1]", is: "[fd00::1]:7500"},
		"said, IPv6 and port":   {own: "fd00::1", bound: "[::]:7500", want: "[fd00::1]:7", is: "[fd00::1]:7"},
		"said, a name":          {own: "10.0.0.2", bound: "0.0.0.0:7500", want: "me", is: "10.0.0.2:7500"},
		"said, a name and port": {own: "10.0.0.9", bound: "0.0.0.0:7500", want: "me:7", is: "10.0.0.1:7"},
		"said, an unknown name": {own: "10.0.0.2", bound: "0.0.0.0:7500", want: "who", err: "--advertise: who: the name has no address"},
		"said, no port":         {own: "10.0.0.2", bound: "0.0.0.0:7500", want: "me:x", err: `"x" is no port`},
		"said, everything":      {own: "10.0.0.2", bound: "0.0.0.0:7500", want: "0.0.0.0", err: "nobody can be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			n := new(nameServer)
			n.set("me", "10.0.0.1", "10.0.0.2")
			for _, a := range strings.Fields(c.own) {
				n.own = append(n.own, netip.MustParseAddr(a))
			}
			is, err := advertised(t.Context(), n, netip.MustParseAddrPort(c.bound), c.want)
			switch {
			case c.err == "" && err != nil, c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v", err)
			case c.err == "" && is.String() != c.is:
				t.Errorf("%v", is)
			}
		})
	}
}

// TestKeysChange: a cluster changes its key in three steps, node by node, and nobody is lost on the way; afterwards the
// old key is worth nothing.
func TestKeysChange(t *testing.T) {
	before, after := NewKey(), NewKey()
	a := startNode(t, "a", before)
	b := startNode(t, "b", before, a.Addr())
	c := startNode(t, "c", before, a.Addr())
	nodes := []*testNode{a, b, c}
	for _, n := range nodes {
		n.await(t, "all", has("a b c"))
	}
	m, _ := newView([]Member{a.Self(), b.Self()}).Find("a")
	link, err := b.Dial(m, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if peer, self := b.Current(link); !peer || !self {
		t.Error("a new link is not current")
	}
	for _, step := range []Keys{{before, after}, {after, before}, {after}} {
		for _, n := range nodes {
			if err := n.SetKeys(step); err != nil {
				t.Fatal(err)
			}
			for _, from := range nodes {
				for _, to := range nodes {
					if from != to {
						if err := from.Probe(to.Self()); err != nil {
							t.Errorf("%s to %s: %v", from.Name(), to.Name(), err)
						}
						if n, err := from.list.Join([]string{to.Addr()}); n != 1 {
							t.Errorf("gossip from %s to %s: %v", from.Name(), to.Name(), err)
						}
					}
				}
			}
		}
	}
	if peer, self := b.Current(link); peer || self {
		t.Error("a link that was proved by the old key is current")
	}
	old := startNode(t, "old", before, a.Addr())
	if err := <-old.fails; !errors.Is(err, ErrStranger) {
		t.Errorf("a node with the old key: %v", err)
	}
	d := startNode(t, "d", after, a.Addr())
	d.await(t, "all", has("a b c d"))
}

// TestParseKeys reads files of keys.
func TestParseKeys(t *testing.T) {
	one, two := NewKey(), NewKey()
	many := ""
	for range maxKeys + 1 {
		many += NewKey().String() + "\n"
	}
	for name, c := range map[string]struct {
		text string
		want Keys
		err  string
	}{
		"one":          {one.String(), Keys{one}, ""},
		"two":          {one.String() + "\n" + two.String() + "\n", Keys{one, two}, ""},
		"with remarks": {"# the new one\n\n  " + two.String() + "\r\n# the old one\n" + one.String(), Keys{two, one}, ""},
		"one twice":    {one.String() + "\n" + one.String(), Keys{one}, ""},
		"nothing":      {"\n# none\n", nil, ErrKey.Error()},
		"half a file":  {one.String() + "\n" + two.String()[:20], nil, "line 2: " + ErrKey.Error()},
		"too many":     {many, nil, "a node holds 8 at most"},
	} {
		got, err := ParseKeys([]byte(c.text))
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	path := t.TempDir() + "/keys"
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file without a key: %v", err)
	}
}

// TestRepeats: what is said again and again is in the log less and less often, and every time with how often it was
// left out.
func TestRepeats(t *testing.T) {
	var r repeats
	now := time.Unix(1e9, 0)
	var at []time.Duration
	for d := time.Duration(0); d < 4*time.Hour; d += time.Second {
		if _, ok := r.allow("udp", now.Add(d)); ok {
			at = append(at, d)
		}
	}
	want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183}
	if len(at) != len(want) {
		t.Fatalf("said after %v", at)
	}
	for i := range want {
		if at[i] != want[i]*time.Minute {
			t.Fatalf("said after %v", at)
		}
	}
	if left, ok := r.allow("other", now); !ok || left != 0 {
		t.Error("one thing keeps another out of the log")
	}
	if _, ok := r.allow("udp", now.Add(9*time.Hour)); !ok {
		t.Error("what was over is not told when it begins again")
	}
	for i := range 10 * maxSayings {
		r.allow(fmt.Sprint(i), now)
	}
	if len(r.said) > maxSayings+1 {
		t.Errorf("%d kinds are remembered", len(r.said))
	}
	w := &logWriter{log: zerolog.New(new(logBuffer)), quiet: new(repeats)}
	log := new(logBuffer)
	w.log = zerolog.New(log)
	for port := 40000; port < 40100; port++ {
		fmt.Fprintf(w, "[ERR] memberlist: Failed fallback TCP ping: read tcp 10.0.0.1:%d->10.0.0.2:7500: i/o timeout", port)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines of one kind:\n%s", n, log)
	}
}
