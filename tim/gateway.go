package tim

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/rs/zerolog"
)

// Config is what a gateway needs. All durations and sizes must be positive.
type Config struct {
	// Dial connects to the engine for a client at remote, whose address counts in the engine's log and for its
	// authenticator.
	Dial func(ctx context.Context, remote netip.AddrPort) (net.Conn, error)
	// Admit counts a connection from remote, or reports that there may be none now; release is called when it is over. It
	// must not block.
	Admit func(remote net.Addr) (release func(), ok bool)
	// Open says that the engine takes everybody for who they say they are. Passwords are tokens otherwise.
	Open bool
	// Node is the engine's name; clients are told a number that follows from it.
	Node string

	MaxMessage int           // bytes of one frame
	MaxPending int           // connections without a login at once
	Memory     int           // bytes that all connections together may hold: frames that come, and what waits for who does not read
	Login      time.Duration // how long a connection may be there without a login
	Idle       time.Duration // how long a client may say nothing
	Request    time.Duration // how long the engine may take for a request, or a push to find room
	Log        zerolog.Logger
}

// Defaults returns a configuration with everything but Dial and Admit filled in.
func Defaults() Config {
	return Config{
		Open: true, MaxMessage: 10 << 20, MaxPending: 1024, Memory: 256 << 20,
		Login: 10 * time.Second, Idle: 2 * time.Minute, Request: 10 * time.Second, Log: zerolog.Nop(),
	}
}

// Gateway serves clients of the older system. Its methods are safe for concurrent use.
type Gateway struct {
	cfg     Config
	log     zerolog.Logger
	direct  http.Server
	proxied http.Server // of listeners behind a balancer, whose connections say late who they are
	tokens  tokens
	stats   stats

	nextID    atomic.Uint64
	pending   atomic.Int64 // connections without a login
	gathering atomic.Int64 // bytes of unfinished frames, beyond 64 KiB each

	mu      sync.Mutex
	conns   map[*conn]struct{}
	ended   bool
	watched bool           // watch runs
	done    sync.WaitGroup // of conns
}

// New makes a gateway; Serve starts it.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, log: cfg.Log, conns: make(map[*conn]struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tim", g.webSocket)
	mux.HandleFunc("POST /tim2", g.call)
	for server, handler := range map[*http.Server]http.Handler{&g.direct: mux, &g.proxied: g.admitted(mux)} {
		server.Handler, server.ReadHeaderTimeout, server.IdleTimeout, server.MaxHeaderBytes = handler, cfg.Login, cfg.Idle, 16<<10
		server.ErrorLog = log.New(cfg.Log, "", 0)
	}
	return g
}

// Serve takes connections from ln until Shutdown, or until ln fails. It may be called for several listeners. It closes
// ln.
func (g *Gateway) Serve(ln net.Listener) error { return served(g.direct.Serve(&admitting{ln, g})) }

// ServeProxied is Serve for a listener behind a balancer: the remote address of a connection is known only when its
// first bytes have come, and may be asked for only then.
func (g *Gateway) ServeProxied(ln net.Listener) error { return served(g.proxied.Serve(ln)) }

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, ends every connection within spread, some at a time, so that not all come back elsewhere at
// once, and returns when all are gone, or with ctx's error after cutting off the rest.
func (g *Gateway) Shutdown(ctx context.Context, spread time.Duration) error {
	g.mu.Lock()
	g.ended = true
	var all []*conn
	for c := range g.conns {
		all = append(all, c)
	}
	g.mu.Unlock()
	stopped := make(chan error, 1)
	go func() { stopped <- errors.Join(g.direct.Shutdown(ctx), g.proxied.Shutdown(ctx)) }()
	begun := time.Now()
	for i, c := range all {
		wait := time.NewTimer(time.Until(begun.Add(spread * time.Duration(i) / time.Duration(len(all)))))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		c.hangUp(ws.StatusNormalClosure)
	}
	gone := make(chan struct{})
	go func() { g.done.Wait(); close(gone) }()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = ctx.Err()
		for _, c := range all {
			_ = c.c.Close()
		}
		<-gone
	}
	return errors.Join(err, <-stopped)
}

// admitting is a listener that turns away whom Config.Admit does not let in.
type admitting struct {
	net.Listener
	g *Gateway
}

func (a *admitting) Accept() (net.Conn, error) {
	for {
		c, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if release, ok := a.g.cfg.Admit(c.RemoteAddr()); ok {
			return &admittedConn{Conn: c, release: sync.OnceFunc(release)}, nil
		}
		a.g.stats.turnedAway.Add(1)
		_ = c.Close()
	}
}

// admittedConn gives its place back when it is closed.
type admittedConn struct {
	net.Conn
	release func()
}

func (c *admittedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// admitted is admitting for connections whose address is known by now.
func (g *Gateway) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		release, ok := g.cfg.Admit(net.TCPAddrFromAddrPort(remoteOf(r)))
		if !ok {
			g.stats.turnedAway.Add(1)
			w.Header().Set("Connection", "close")
			http.Error(w, "this address connects too often, or has too many connections", http.StatusTooManyRequests)
			return
		}
		defer release()
		next.ServeHTTP(w, r)
	})
}

// webSocket serves one connection; it returns when that is over. Compression is declined by not being mentioned. The
// Origin is not looked at: a client proves who it is within the connection, not by a cookie.
func (g *Gateway) webSocket(w http.ResponseWriter, r *http.Request) {
	if g.pending.Add(1) > int64(g.cfg.MaxPending) {
		g.pending.Add(-1)
		g.stats.turnedAway.Add(1)
		http.Error(w, "too many connections wait to log in", http.StatusServiceUnavailable)
		return
	}
	nc, rw, _, err := ws.UpgradeHTTP(r, w) // answers by itself if it cannot
	if err != nil {
		g.pending.Add(-1)
		return
	}
	c := newConn(g, nc, rw.Reader, remoteOf(r))
	if !g.add(c) {
		g.pending.Add(-1)
		_ = nc.Close()
		return
	}
	defer g.remove(c)
	c.serve()
}

func (g *Gateway) add(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.conns[c] = struct{}{}
	g.done.Add(1)
	if !g.watched {
		g.watched = true
		go g.watch()
	}
	return true
}

func (g *Gateway) remove(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	g.done.Done()
}

// maxCall is the largest body of an HTTP call, bytes.
const maxCall = 64 << 10

// call serves the two calls that come before a login, by HTTP. Its answer is never empty: some clients take that badly.
func (g *Gateway) call(w http.ResponseWriter, r *http.Request) {
	frame, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	if err != nil || len(frame) == 0 {
		http.Error(w, "a frame is expected", http.StatusBadRequest)
		return
	}
	typ, isJSON, body := split(frame)
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.Request)
	defer cancel()
	a := g.answerCall(ctx, typ, isJSON, body, remoteOf(r))
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(appendAck([]byte{typeAck}, a, isJSON))
}

// remoteOf returns the client's address, behind a balancer the one that the balancer told.
func remoteOf(r *http.Request) netip.AddrPort {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr) // net/http's own
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
