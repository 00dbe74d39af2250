//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/tim"
)

// timGateway serves clients of the older system beside an engine. Nil: it is not asked for.
type timGateway struct {
	*tim.Gateway
	listeners []timListener
	engine    *engine.Engine
	serving   sync.WaitGroup
	log       zerolog.Logger
}

// timOverhead is how much longer than its payload a frame may be, bytes. JSON makes a payload a third longer, so one
// that is close to the largest fits in compact encoding only.
const timOverhead = 64 << 10

// leastMemory is what an engine needs, bytes.
const leastMemory = 16 << 20

// timSpread is over how long clients are told to go, as the engine's are.
const timSpread = time.Second

// open opens the listeners, and adds the gateway's metrics to the engine's. Serving begins when there is an engine.
func (c *serveCmd) openTim(log zerolog.Logger, secure *tls.Config, e *engine.Config) (*timGateway, error) {
	if len(c.Tim)+len(c.TimTLS) == 0 {
		return nil, nil
	}
	g := &timGateway{log: log}
	cfg := tim.Defaults()
	cfg.Open, cfg.Node, cfg.MaxMessage, cfg.Log = auth.IsOpen(e.Auth), e.Node, e.Rooms.MaxPayload+timOverhead, log
	cfg.Memory = int(min(e.MemoryBound/4, int64(cfg.Memory)))
	e.MemoryBound = max(e.MemoryBound-int64(cfg.Memory), min(e.MemoryBound, leastMemory)) // what they hold is part of the bound
	cfg.Dial = func(_ context.Context, remote netip.AddrPort) (net.Conn, error) { return g.engine.Connect(remote) }
	cfg.Admit = func(remote net.Addr) (release func(), ok bool) { return g.engine.Admit(remote) }
	g.Gateway = tim.New(cfg)
	for i, addr := range append(slices.Clone(c.Tim), c.TimTLS...) {
		if cfg.Open && !c.Insecure && !engine.Loopback(strings.TrimSuffix(addr, engine.ProxyOption)) {
			g.closeListeners()
			return nil, fmt.Errorf("--tim: %s can be reached from elsewhere, and without an authenticator anybody may be anyone there", addr)
		}
		ln, err := listenTim(addr, prefixes(c.ProxyFrom))
		if err != nil {
			g.closeListeners()
			return nil, fmt.Errorf("--tim: %w", explainListen(err))
		}
		if i >= len(c.Tim) {
			ln.Listener = tls.NewListener(ln.Listener, secure)
		}
		g.listeners = append(g.listeners, ln)
	}
	e.Metrics = append(e.Metrics, g)
	return g, nil
}

func isProxied(addr string) bool { return strings.HasSuffix(addr, engine.ProxyOption) }

// timListener is where tim clients connect.
type timListener struct {
	net.Listener
	proxied bool
}

// listenTim opens one, with what reads PROXY headers before it if the address asks for that.
func listenTim(addr string, from []netip.Prefix) (ln timListener, err error) {
	addr, ln.proxied = strings.CutSuffix(addr, engine.ProxyOption)
	if ln.Listener, err = net.Listen("tcp", addr); err != nil || !ln.proxied {
		return ln, err
	}
	if len(from) == 0 {
		_ = ln.Close()
		return ln, fmt.Errorf("%s%s needs --proxy-from NETWORK", addr, engine.ProxyOption)
	}
	var trusted []string
	for _, p := range from {
		trusted = append(trusted, p.String())
	}
	policy, err := proxyproto.TrustProxyHeaderFromRanges(trusted)
	if err != nil {
		_ = ln.Close()
		return ln, err
	}
	ln.Listener = &proxyproto.Listener{Listener: ln.Listener, ReadHeaderTimeout: tim.Defaults().Login, ConnPolicy: policy}
	return ln, nil
}

func (g *timGateway) closeListeners() {
	if g == nil {
		return
	}
	for _, ln := range g.listeners {
		_ = ln.Close()
	}
}

// serve begins to serve clients with the engine.
func (g *timGateway) serve(e *engine.Engine) {
	if g == nil {
		return
	}
	g.engine = e
	for _, ln := range g.listeners {
		g.serving.Go(func() {
			serve := g.Serve
			if ln.proxied {
				serve = g.ServeProxied
			}
			if err := serve(ln); err != nil {
				g.log.Error().Err(err).Stringer("listen", ln.Addr()).Msg("a listener for tim clients failed")
			}
		})
	}
}

// greet says where its clients connect.
func (g *timGateway) greet(std *streams) {
	if g == nil {
		return
	}
	for _, ln := range g.listeners {
		_ = std.say("tim clients connect to %s", ln.Addr()) // nobody need read it
	}
}

// shutdown tells clients to go, spread over time, while the engine drains; what it returns says when they are gone.
func (g *timGateway) shutdown(ctx context.Context) <-chan error {
	gone := make(chan error, 1)
	if g == nil {
		gone <- nil
		return gone
	}
	go func() {
		err := g.Shutdown(ctx, timSpread)
		g.serving.Wait()
		gone <- err
	}()
	return gone
}
