//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/internal/beside"
)

// statuses asks a node how all of its cluster are.
func (s *server) statuses(t *testing.T) (all []admin.NodeStatus) {
	t.Helper()
	if _, b := s.operate(t, "GET", "/api/v1/statuses"); json.Unmarshal(b, &all) != nil {
		t.Fatalf("no statuses: %s", b)
	}
	return all
}

// acquainted waits until nodes are all ready, and reach each other.
func acquainted(t *testing.T, nodes ...*server) {
	t.Helper()
	for _, n := range nodes {
		if !eventually(func() bool {
			ready := 0
			for _, s := range n.statuses(t) {
				if s.State == "ready" && s.Error == "" {
					ready++
				}
			}
			return ready == len(nodes)
		}) {
			t.Fatalf("the nodes do not find each other: %+v", n.statuses(t))
		}
	}
}

// TestRebalance: a node that comes to one with all the clients is sent its half of them, by way of either node, and no
// more; a stream through all that loses nothing; the audit has it.
func TestRebalance(t *testing.T) {
	dir := t.TempDir()
	key, err := start(nil, nil, "key")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := key.end()
	keys, token := write(t, dir, "key", string(text)), write(t, dir, "token", operatorToken)
	audit := filepath.Join(dir, "audit")
	node := func(name, listen string, more ...string) *server {
		return serve(t, append([]string{
			"--node", name, "--listen", listen, "--cluster", "127.0.0.1:0", "--cluster-key-file", keys, "--admin-token-file", token,
		}, more...)...)
	}
	later := beside.FreeAddr(t)
	one := node("one", "127.0.0.1:0", "--audit-file", audit)
	_, first, _ := strings.Cut(one.addr, ",")
	ctx, cancel := context.WithTimeout(t.Context(), lifetime)
	defer cancel()
	f := startFlow(t, first) // two clients that know no other node
	const clients = 40
	for i := range clients {
		c, err := client.Dial(ctx, client.Options{Servers: []string{first, later}, Account: fmt.Sprint("client-", i)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
	}
	two := node("two", later, "--join", one.cluster)
	acquainted(t, one, two)

	// What would be is said, and is not done.
	var plan []admin.NodeStatus
	_, b := two.operate(t, "PUT", "/api/v1/rebalance?dry_run=true&per_second=1000")
	if err := json.Unmarshal(b, &plan); err != nil || len(plan) != 2 || plan[0].Clients != clients+2 || plan[0].Moves != (clients+2)/2 || plan[1].Moves != 0 {
		t.Fatalf("%s", b)
	}
	if all := one.statuses(t); all[0].Clients != clients+2 {
		t.Errorf("%d clients are left after it was asked what would be", all[0].Clients)
	}
	if status, b := two.operate(t, "PUT", "/api/v1/rebalance?per_second=1000"); status != 200 {
		t.Fatalf("%d %s", status, b)
	}
	if !eventually(func() bool {
		all := two.statuses(t)
		return all[0].Clients+all[1].Clients == clients+2 && all[1].Clients >= clients/2-2 // the two that know no other node may be among those
	}) {
		t.Errorf("%+v", two.statuses(t))
	}
	if all := one.statuses(t); all[1].Clients > clients/2+2 {
		t.Errorf("more went than the half: %+v", all)
	}
	f.further(t)
	f.end(t)
	if !eventually(func() bool {
		b, err := os.ReadFile(audit)
		return err == nil && strings.Contains(string(b), `"audit":"rebalance","operator":"two for 127.0.0.1:`)
	}) {
		t.Error("the audit does not tell of it")
	}
	for _, wrong := range []string{"per_second=0", "per_second=x", "dry_run=perhaps"} {
		if status, _ := one.operate(t, "PUT", "/api/v1/rebalance?"+wrong); status != 400 {
			t.Errorf("%s: %d", wrong, status)
		}
	}
}
