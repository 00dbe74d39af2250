package node

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// tape is a network that records what comes to a node.
type tape struct {
	system
	mu      sync.Mutex
	packets [][]byte
	streams []*bytes.Buffer
}

func (p *tape) listen(addr string) (net.Listener, net.PacketConn, error) {
	tcp, udp, err := p.system.listen(addr)
	return tapedListener{tcp, p}, tapedPackets{udp, p}, err
}

type tapedListener struct {
	net.Listener
	p *tape
}

func (l tapedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	b := new(bytes.Buffer)
	l.p.streams = append(l.p.streams, b)
	return tapedConn{c, l.p, b}, nil
}

type tapedConn struct {
	net.Conn
	p *tape
	b *bytes.Buffer
}

func (c tapedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.b.Write(b[:n])
	return n, err
}

type tapedPackets struct {
	net.PacketConn
	p *tape
}

func (u tapedPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := u.PacketConn.ReadFrom(b)
	u.p.mu.Lock()
	defer u.p.mu.Unlock()
	u.p.packets = append(u.p.packets, bytes.Clone(b[:n]))
	return n, from, err
}

// recorded returns what has come until now.
func (p *tape) recorded() (packets, streams [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		streams = append(streams, bytes.Clone(s.Bytes()))
	}
	return append([][]byte(nil), p.packets...), streams
}

// replay plays what was recorded to a node again.
func replay(t *testing.T, to string, packets, streams [][]byte) {
	t.Helper()
	u, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for i, b := range packets {
		_, _ = u.Write(b)
		if i%50 == 49 {
			time.Sleep(time.Millisecond) // its socket holds so many
		}
	}
	for _, b := range streams {
		c, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = c.Write(b); _ = c.(*net.TCPConn).CloseWrite() }()
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
}

// TestReplayedGossip: what was recorded of a cluster, played again when all of its nodes have been restarted under their
// names, and have forgotten, makes no process of the one before, brings nobody who is gone, and costs nobody its place.
// What begins as a link is turned away.
func TestReplayedGossip(t *testing.T) {
	for name, c := range map[string]struct{ gone, elsewhere bool }{
		"all are back":               {},
		"one is back, and elsewhere": {elsewhere: true},
		"one is gone":                {gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			key, p := NewKey(), new(tape)
			run := func(name string, n network, at string, join ...string) *testNode {
				cfg, node := config(name, key, join...)
				cfg.net, cfg.Bind = n, at
				var err error
				if node.Cluster, err = Join(cfg); err != nil {
					t.Fatal(err)
				}
				close(node.ready)
				t.Cleanup(func() { _ = node.Shutdown() })
				return node
			}
			const any = "127.0.0.1:0"
			olds := []*testNode{run("a", p, any)}
			a := olds[0]
			for _, name := range []string{"b", "c"} {
				n := run(name, nil, any, a.Addr())
				olds = append(olds, n)
				a.await(t, name, func(v *View) bool { _, is := v.Find(name); return is })
				if l, err := n.Dial(a.Self(), time.Second); err != nil {
					t.Error(err)
				} else {
					_ = l.Close()
				}
				for range 3 { // it says anew that it lives, so that gossip of it counts for more than that of the next one
					for _, draining := range []bool{true, false} {
						if err := n.setDraining(draining); err != nil {
							t.Fatal(err)
						}
						a.await(t, "it draining, or not", func(v *View) bool { m, _ := v.Find(name); return m.Draining == draining })
					}
				}
			}
			for _, n := range olds {
				_ = n.Shutdown()
			}
			packets, streams := p.recorded()

			a = run("a", nil, any)
			news := []*testNode{a, run("b", nil, olds[1].Addr(), a.Addr())}
			switch {
			case c.elsewhere:
				news = append(news, run("c", nil, any, a.Addr()))
			case !c.gone:
				news = append(news, run("c", nil, olds[2].Addr(), a.Addr()))
			}
			is := func(v *View) bool { // those who are there, and nobody else
				for _, n := range news {
					if m, is := v.Find(n.Name()); !is || m.Birth != n.birth || m.Addr != n.Addr() {
						return false
					}
				}
				return len(v.Members) == len(news)
			}
			a.await(t, "all", is)
			replay(t, a.Addr(), packets, streams)
			replay(t, a.Addr(), packets, streams)
			if err := news[1].Drain(); err != nil {
				t.Fatal(err)
			}
			a.await(t, "b draining, and all to the end", func(v *View) bool {
				if !is(v) {
					t.Fatalf("a sees %+v", v.Members)
				}
				m, _ := v.Find("b")
				return m.Draining
			})
			for end := time.Now().Add(20 * time.Second); a.Rumors().Stale == 0 && time.Now().Before(end); {
				time.Sleep(5 * time.Millisecond) // until those who were called have answered
			}
			if log := a.log.String(); !strings.Contains(log, "link refused") || a.Rumors().Stale == 0 || a.Rumors().Nonsense > 0 {
				t.Errorf("%+v; the log is\n%s", a.Rumors(), log)
			}
		})
	}
}

// TestOneNameTwice: of two processes that are started under one name at once, at two nodes or in two halves of a cluster
// that meet later, one ends and says why, and the other is everybody's member.
func TestOneNameTwice(t *testing.T) {
	key := NewKey()
	for name, halves := range map[string]bool{"at once": false, "in two halves": true} {
		t.Run(name, func(t *testing.T) {
			a := startNode(t, "a", key)
			var join []string
			if !halves {
				join = []string{a.Addr()}
			}
			d := startNode(t, "d", key, join...)
			if !halves {
				a.await(t, "both", has("a d"))
			}
			var twins [2]*testNode
			var both sync.WaitGroup
			for i, at := range []*testNode{a, d} {
				both.Go(func() { twins[i] = startNode(t, "b", key, at.Addr()) })
			}
			both.Wait()
			if halves {
				a.await(t, "its b", has("a b"))
				d.await(t, "its b", has("b d"))
				startNode(t, "e", key, a.Addr(), d.Addr())
			}
			stays, goes := twins[0], twins[1]
			var why error
			select {
			case why = <-goes.fails:
			case why = <-stays.fails:
				stays, goes = goes, stays
			case <-time.After(time.Minute):
				t.Fatalf("neither ends\n%s\n%s", stays.log, goes.log)
			}
			if !strings.Contains(why.Error(), "a node named b runs at "+stays.Addr()+" already") {
				t.Error(why)
			}
			if halves && stays.birth > goes.birth {
				t.Error("the one with the lower birth has ended")
			}
			_ = goes.Shutdown()
			for _, n := range []*testNode{a, d} {
				n.await(t, "the b that stays", func(v *View) bool { m, _ := v.Find("b"); return m.Birth == stays.birth && m.Addr == stays.Addr() })
			}
			select {
			case err := <-stays.fails:
				t.Error("both end:", err)
			default:
			}
		})
	}
}
