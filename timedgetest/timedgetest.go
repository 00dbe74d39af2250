// Package timedgetest starts timedge servers in tests of programs that use the SDK: real ones, within the test's
// process, on loopback. It is a module of its own, so that the SDK brings no dependencies with it.
//
//	func TestChat(t *testing.T) {
//		s := timedgetest.Start(t)
//		c, err := client.Dial(t.Context(), client.Options{Servers: s.Addrs, Account: "alice"})
//		...
//	}
package timedgetest

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// Servers are one server, or the nodes of a cluster.
type Servers struct {
	Addrs []string // where clients connect, one for each; any will do, and all together are what a client should be given

	nodes []*engine.Engine
}

// endTime bounds the end of a server.
const endTime = 5 * time.Second

// Start starts one server, which ends with the test. Clients are who they say they are.
func Start(t testing.TB) *Servers {
	t.Helper()
	s := new(Servers)
	t.Cleanup(s.end)
	s.add(t, nil)
	return s
}

// StartCluster starts a cluster of n nodes, which end with the test, and returns when each knows the others.
func StartCluster(t testing.TB, n int) *Servers {
	t.Helper()
	s := new(Servers)
	t.Cleanup(s.end)
	keys := node.Keys{node.NewKey()}
	for range n {
		c := &engine.ClusterConfig{Bind: "127.0.0.1:0", Keys: keys}
		if len(s.nodes) > 0 {
			c.Join = []string{s.nodes[0].ClusterAddr()}
		}
		s.add(t, c)
	}
	return s
}

func (s *Servers) add(t testing.TB, c *engine.ClusterConfig) {
	t.Helper()
	cfg := engine.Config{
		Listen: []string{"127.0.0.1:0"}, Loops: 1, Log: zerolog.Nop(), DrainSpread: time.Millisecond, Cluster: c,
	}
	if c != nil {
		cfg.Node = "node" + string(rune('1'+len(s.nodes)))
	}
	e, err := engine.Start(cfg)
	if err != nil {
		t.Fatalf("timedgetest: %v", err)
	}
	s.nodes = append(s.nodes, e)
	s.Addrs = append(s.Addrs, e.Addrs()[0].String())
}

// Stop ends one of the servers as SIGTERM would: its rooms go to the others, and its clients are told to leave.
func (s *Servers) Stop(t testing.TB, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if err := s.nodes[i].Shutdown(ctx); err != nil {
		t.Errorf("timedgetest: server %d: %v", i, err)
	}
}

func (s *Servers) end() {
	for _, e := range s.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		_ = e.Shutdown(ctx)
		cancel()
	}
}
