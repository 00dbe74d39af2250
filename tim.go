//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/tim"
)

// timFlags say where clients of the older system connect: docs/tim.md.
type timFlags struct {
	Tim    []string `placeholder:"ADDR" env:"TIMEDGE_TIM" help:"Where clients of tim connect: timgo, atim, timjs (nowhere)."`
	TimTLS []string `name:"tim-tls" placeholder:"ADDR" env:"TIMEDGE_TIM_TLS" help:"The same, with TLS (nowhere)."`
}

// timGateway serves clients of the older system beside an engine. Nil: it is not asked for.
type timGateway struct {
	*tim.Gateway
	listeners []net.Listener
	engine    *engine.Engine
	serving   sync.WaitGroup
	log       zerolog.Logger
}

// timOverhead is how much longer than its payload a frame may be, bytes. JSON makes a payload a third longer, so one that is close to the
// largest fits in compact encoding only.
const timOverhead = 64 << 10

// timSpread is over how long clients are told to go, as the engine's are.
const timSpread = time.Second

// open opens the listeners, and adds the gateway's metrics to the engine's. Serving begins when there is an engine.
func (f *timFlags) open(log zerolog.Logger, who auth.Authenticator, secure *tls.Config, e *engine.Config) (*timGateway, error) {
	if len(f.Tim)+len(f.TimTLS) == 0 {
		return nil, nil
	}
	if len(f.TimTLS) > 0 && secure == nil {
		return nil, errors.New("--tim-tls needs --tls-cert FILE and --tls-key FILE")
	}
	g := &timGateway{log: log}
	cfg := tim.Defaults()
	cfg.Open, cfg.Node, cfg.MaxMessage, cfg.Log = auth.IsOpen(who), e.Node, e.Rooms.MaxPayload+timOverhead, log
	cfg.Memory = int(min(e.MemoryBound/4, int64(cfg.Memory)))
	cfg.Dial = func(_ context.Context, remote netip.AddrPort) (net.Conn, error) { return g.engine.Connect(remote) }
	cfg.Admit = func(remote net.Addr) bool { return g.engine.Admit(remote) }
	g.Gateway = tim.New(cfg)
	for i, addr := range append(f.Tim, f.TimTLS...) {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			g.closeListeners()
			return nil, fmt.Errorf("--tim: %w", explainListen(err))
		}
		if i >= len(f.Tim) {
			ln = tls.NewListener(ln, secure)
		}
		g.listeners = append(g.listeners, ln)
	}
	e.Metrics = append(e.Metrics, g)
	return g, nil
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
			if err := g.Serve(ln); err != nil {
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
