package node

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// knock connects to a node's port from an address of 127/8, and says something.
func knock(t *testing.T, from, to string, say []byte) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, _ = c.Write(say)
	return c
}

// ended reports whether the node closes a connection, and has said nothing.
func ended(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := io.Copy(io.Discard, c)
	var e net.Error
	return n == 0 && !(errors.As(err, &e) && e.Timeout())
}

func announce(size uint32, more int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{sealed}, size), make([]byte, more)...)
}

func (t *transport) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

// TestUnprovedStreams: who announces more than may be held before it is proved is turned away at once, as is who does
// not seal what it says. The others have so many places that any address can hold, and who comes later, from the same
// address even, takes the place of the oldest: a node gets in.
func TestUnprovedStreams(t *testing.T) {
	key := NewKey()
	a := startNode(t, "a", key)
	for name, say := range map[string][]byte{
		"20 MiB":            announce(20<<20, 1<<16),
		"a byte too much":   announce(maxUnproved+1, 100),
		"all there are":     announce(1<<32-1, 100),
		"in the clear":      {6, 0x83, 0xa5},
		"a label":           {244, 3, 'a', 'b', 'c', sealed},
		"half a head":       {sealed, 0, 0},
		"half a link":       []byte("TDG"),
		"what nobody seals": announce(0, 0),
	} {
		c := knock(t, "127.0.0.2", a.Addr(), say)
		if name == "half a head" || name == "half a link" {
			_ = c.(*net.TCPConn).CloseWrite()
		}
		if name != "what nobody seals" && !ended(c) { // memberlist says what is wrong with that
			t.Errorf("%s: the node keeps the connection", name)
		}
	}
	var first net.Conn
	for i := range 2 * maxPlacesPer {
		c := knock(t, "127.0.0.2", a.Addr(), announce(maxUnproved, maxUnproved-1))
		if i == 0 {
			first = c
		}
		if n := a.trans.count(); n > maxPlacesPer+1 {
			t.Fatalf("%d places are held by one address", n)
		}
	}
	if !ended(first) {
		t.Error("the oldest has kept its place")
	}
	for range 2 * maxPlacesPer { // from the address that nodes come from
		knock(t, "127.0.0.1", a.Addr(), announce(maxUnproved, 100))
	}
	b := startNode(t, "b", key, a.Addr())
	b.await(t, "both", has("a b"))
	a.await(t, "both", has("a b"))
}

// TestPlaces: addresses that hold most lose theirs first when all places are taken.
func TestPlaces(t *testing.T) {
	tr := &transport{places: make(map[netip.Prefix][]*guest)}
	from := func(ip string) *guest { return tr.admit(&fakeConn{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}) }
	var many []*guest
	for range maxPlacesPer {
		many = append(many, from("2001:db8:1:2::1"), from("2001:db8:1:3::1"))
	}
	for i := tr.count(); i < maxPlaces; i++ {
		from(net.IPv4(10, 0, byte(i>>8), byte(i)).String())
	}
	one := from("192.0.2.1")
	if tr.count() != maxPlaces {
		t.Errorf("%d places are held", tr.count())
	}
	out := 0
	for _, g := range many {
		if g.Conn.(*fakeConn).closed {
			out++
		}
	}
	if out != 1 || one.Conn.(*fakeConn).closed {
		t.Errorf("%d of those that hold most have lost their places", out)
	}
	if same := from("2001:db8:1:2:ffff::7"); origin(same.RemoteAddr()) != origin(many[0].RemoteAddr()) {
		t.Error("a /64 is not one address")
	}
	for _, g := range many {
		g.leave()
		g.leave()
	}
}

type fakeConn struct {
	net.Conn
	addr   net.Addr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.addr }
func (c *fakeConn) Close() error         { c.closed = true; return nil }
