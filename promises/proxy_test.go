package promises

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// proxy stands between one client and a server and breaks their connections.
type proxy struct {
	addr, server string
	ln           net.Listener

	mu     sync.Mutex
	rnd    *rand.Rand
	life   int // a connection breaks after at most so many bytes, in both directions together; 0: never
	held   bool
	ended  bool
	conns  map[*proxied]struct{}
	broken int
	done   sync.WaitGroup
}

// proxied is one connection through a proxy.
type proxied struct {
	client, server *net.TCPConn
	left           int // bytes to live, -1: for ever; under the proxy's mutex
}

// through starts a proxy to a server, for the length of the test.
func through(t testing.TB, server string, rnd *rand.Rand) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), server: server, ln: ln, rnd: rnd, conns: make(map[*proxied]struct{})}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		ln.Close()
		p.cut()
		p.done.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.server)
		if err != nil {
			c.Close()
			continue
		}
		x := &proxied{c.(*net.TCPConn), s.(*net.TCPConn), -1}
		p.mu.Lock()
		if p.held || p.ended {
			p.end(x)
		} else {
			p.conns[x] = struct{}{}
			if p.life > 0 {
				x.left = p.rnd.IntN(p.life)
			}
			p.done.Go(func() { p.carry(x, x.client, x.server) })
			p.done.Go(func() { p.carry(x, x.server, x.client) })
		}
		p.mu.Unlock()
	}
}

// carry copies one direction until the connection breaks. The bytes that its life does not reach for are lost.
func (p *proxy) carry(x *proxied, from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		if x.left >= 0 {
			n = min(n, x.left)
			x.left -= n
		}
		dead := err != nil || x.left == 0
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				dead = true
			}
		}
		if dead {
			p.mu.Lock()
			p.end(x)
			p.mu.Unlock()
			return
		}
	}
}

// end breaks a connection, at times politely, at times by a reset that also throws away what is on its way. p.mu held.
func (p *proxy) end(x *proxied) {
	if _, ok := p.conns[x]; ok {
		delete(p.conns, x)
		p.broken++
		if p.rnd.IntN(2) == 0 {
			_ = x.client.SetLinger(0)
			_ = x.server.SetLinger(0)
		}
	}
	x.client.Close()
	x.server.Close()
}

// cut breaks all connections there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for x := range p.conns {
		p.end(x)
	}
}

// hold breaks all connections and every new one until release.
func (p *proxy) hold() {
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
}

// setLife makes connections break by themselves from now on; 0: not any more.
func (p *proxy) setLife(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life = n
	for x := range p.conns {
		if x.left = -1; n > 0 {
			x.left = p.rnd.IntN(n)
		}
	}
}

func (p *proxy) breaks() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}
