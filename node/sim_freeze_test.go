package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// This file is membership in memory: real Clusters, with memberlist and handshakes and all, on a network of their own
// and a clock that jumps. A host can be frozen: what it would read, write, accept or dial waits until it is thawed,
// while the others' packets and connections still reach it.

// hosts are those that reach each other.
type hosts struct {
	mu   sync.Mutex
	list map[string]*host // by host:port
}

type host struct {
	all  *hosts
	addr string

	mu      sync.Mutex
	thawed  sync.Cond
	frozen  bool
	packets chan packet
	backlog chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type packet struct {
	b    []byte
	from net.Addr
}

// oneWay is how long anything is on its way.
const oneWay = 250 * time.Microsecond

func (all *hosts) add(addr string) *host {
	h := &host{all: all, addr: addr, packets: make(chan packet, 4096), backlog: make(chan net.Conn, 4096), closed: make(chan struct{})}
	h.thawed.L = &h.mu
	return h
}

// freeze stops the host until thaw.
func (h *host) freeze(is bool) {
	h.mu.Lock()
	h.frozen = is
	h.mu.Unlock()
	if !is {
		h.thawed.Broadcast()
	}
}

// run waits while the host is frozen.
func (h *host) run() {
	h.mu.Lock()
	for h.frozen {
		h.thawed.Wait()
	}
	h.mu.Unlock()
}

func (h *host) tcp() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(h.addr)) }

func (h *host) listen(string) (net.Listener, net.PacketConn, error) {
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	h.all.list[h.addr] = h
	return (*hostListener)(h), (*hostPackets)(h), nil
}

func (h *host) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(name)
	return []netip.Addr{a}, err
}

func (h *host) addresses() ([]netip.Addr, error) { return nil, nil }

func (h *host) dial(ctx context.Context, addr string) (net.Conn, error) {
	h.run()
	time.Sleep(2 * oneWay)
	h.all.mu.Lock()
	to := h.all.list[addr]
	h.all.mu.Unlock()
	if to == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	near, far := net.Pipe()
	to.backlog <- &hostConn{far, to, h.tcp()}
	return &hostConn{near, h, to.tcp()}, ctx.Err()
}

// shut takes the host's port off the network.
func (h *host) shut() error {
	h.once.Do(func() {
		h.all.mu.Lock()
		delete(h.all.list, h.addr)
		h.all.mu.Unlock()
		close(h.closed)
	})
	return nil
}

type hostListener host

func (l *hostListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		(*host)(l).run()
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *hostListener) Close() error   { return (*host)(l).shut() }
func (l *hostListener) Addr() net.Addr { return (*host)(l).tcp() }

type hostPackets host

func (p *hostPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case got := <-p.packets:
		(*host)(p).run()
		return copy(b, got.b), got.from, nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *hostPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	h := (*host)(p)
	h.run()
	h.all.mu.Lock()
	other := h.all.list[to.String()]
	h.all.mu.Unlock()
	if other != nil {
		got := packet{append([]byte(nil), b...), h.tcp()}
		time.AfterFunc(oneWay, func() {
			select {
			case other.packets <- got:
			default:
			}
		})
	}
	return len(b), nil
}
func (p *hostPackets) Close() error                     { return (*host)(p).shut() }
func (p *hostPackets) LocalAddr() net.Addr              { return (*host)(p).tcp() }
func (p *hostPackets) SetDeadline(time.Time) error      { return nil }
func (p *hostPackets) SetReadDeadline(time.Time) error  { return nil }
func (p *hostPackets) SetWriteDeadline(time.Time) error { return nil }

// hostConn is a host's end of a connection.
type hostConn struct {
	net.Conn
	h    *host
	peer net.Addr
}

func (c *hostConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.h.run()
	return n, err
}

func (c *hostConn) Write(b []byte) (int, error) {
	c.h.run()
	return c.Conn.Write(b)
}
func (c *hostConn) RemoteAddr() net.Addr { return c.peer }

// freezer is a cluster whose hosts can be frozen.
type freezer struct {
	t     *testing.T
	hosts []*host
	nodes []*Cluster

	mu    sync.Mutex
	sizes []int                      // members in each node's newest view
	gone  []map[string]time.Duration // when each node took another out of its view, by name
	begun time.Time
}

func newFreezer(t *testing.T, n int) *freezer {
	f := &freezer{t: t, sizes: make([]int, n), begun: time.Now()}
	all := &hosts{list: make(map[string]*host)}
	key := NewKey()
	var join []string
	for i := range n {
		h := all.add(fmt.Sprintf("10.0.0.%d:7500", i+1))
		f.hosts, f.gone = append(f.hosts, h), append(f.gone, make(map[string]time.Duration))
		last := map[string]bool{}
		c, err := Join(Config{
			Name: fmt.Sprintf("n%02d", i), Bind: h.addr, Join: join, Keys: Keys{key}, Log: zerolog.Nop(), net: h,
			OnView: func(v *View) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.sizes[i] = len(v.Members)
				now := map[string]bool{}
				for _, m := range v.Members {
					now[m.Name] = true
				}
				for name := range last {
					if !now[name] {
						f.gone[i][name] = time.Since(f.begun)
					}
				}
				last = now
			},
			OnLink: func(l *Link, _ Peer) { _ = l.Close() },
		})
		if err != nil {
			t.Fatal(err)
		}
		f.nodes = append(f.nodes, c)
		join = append(join, h.addr)
	}
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		if f.whole(n) {
			return f
		}
	}
	t.Fatalf("no cluster: %v", f.sizes)
	return nil
}

func (f *freezer) whole(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, size := range f.sizes {
		if size != n {
			return false
		}
	}
	return true
}

// deaths returns how often anybody was taken out of a view, and forgets.
func (f *freezer) deaths() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.gone {
		n += len(g)
		clear(g)
	}
	return n
}

func (f *freezer) close() {
	for i, c := range f.nodes {
		f.hosts[i].freeze(false)
		_ = c.Shutdown()
	}
}

// TestPauses freezes hosts for a moment, again and again, and one of them for good: nobody dies of a pause below 300
// ms, and who is frozen is out of all views within 0.7 s. On a clock that jumps, so what it finds does not depend on
// the machine, but on chance: who asks whom when is drawn by memberlist, and cannot be seeded. So the second half is a
// statement about all freezes. Of 580 with 3 and 5 nodes the time was 417 ms in the mean, with a deviation of 58; of 40
// with 10 nodes, 452 and 62; of 180 with all three, 436 ms, and once above 0.7 s. The bounds are four deviations of the
// mean away, and as many late ones as come by chance, at 2 in 1,000 each, once in 20,000 runs. Probes each 100 ms
// instead of 90 take 447 ms with 3 and 5 nodes, so that the long form finds them; the short one finds what is far off.
func TestPauses(t *testing.T) {
	pauses, freezes, bound, mayBeLate := 60, 100, 450*time.Millisecond, 5
	if testing.Short() || raceEnabled {
		pauses, freezes, bound, mayBeLate = 15, 5, 500*time.Millisecond, 2
	}
	var all, worst time.Duration // of the times until a frozen node was out of all views
	late, count := 0, 0
	for _, n := range []int{3, 5, 10} {
		t.Run(fmt.Sprintf("nodes=%d", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFreezer(t, n)
				defer f.close()
				rng := rand.New(rand.NewPCG(uint64(n), 300))
				time.Sleep(5 * time.Second)
				f.deaths()
				for _, pause := range []time.Duration{100, 200, 250, 280, 295} {
					for range pauses {
						h := f.hosts[rng.IntN(n)]
						time.Sleep(time.Duration(500+rng.IntN(1000)) * time.Millisecond)
						h.freeze(true)
						time.Sleep(pause * time.Millisecond)
						h.freeze(false)
					}
					time.Sleep(2 * time.Second)
					if dead := f.deaths(); dead > 0 {
						t.Errorf("%d deaths by %d pauses of %d ms", dead, pauses, pause)
					}
				}
				for range freezes {
					i := rng.IntN(n)
					time.Sleep(time.Duration(3000+rng.IntN(1000)) * time.Millisecond)
					f.deaths()
					at := time.Since(f.begun)
					f.hosts[i].freeze(true)
					time.Sleep(2 * time.Second)
					f.mu.Lock()
					var last time.Duration
					for o := range f.nodes {
						if o == i {
							continue
						}
						out, is := f.gone[o][f.nodes[i].Name()]
						if !is {
							t.Errorf("n%02d still counts a frozen node", o)
						} else if len(f.gone[o]) > 1 {
							t.Errorf("n%02d takes out %v", o, f.gone[o])
						}
						last = max(last, out-at)
					}
					f.mu.Unlock()
					all, count = all+last, count+1
					if worst = max(worst, last); last > 700*time.Millisecond {
						late++
					}
					f.hosts[i].freeze(false)
					for range 200 {
						if time.Sleep(100 * time.Millisecond); f.whole(n) {
							break
						}
					}
					if !f.whole(n) {
						t.Fatal("a thawed node is not taken back")
					}
				}
			})
		})
	}
	if count == 0 { // none of the subtests was asked for
		return
	}
	mean := all / time.Duration(count)
	t.Logf("%d frozen nodes were out of all views after %v in the mean, %v at worst", count, mean, worst)
	if mean > bound || late > mayBeLate {
		t.Errorf("the mean may be %v; %d were out after 0.7 s only, and %d may be", bound, late, mayBeLate)
	}
}
