package drills

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/internal/beside"
)

// newFleetBehind starts three nodes that a balancer speaks to, with addresses of their own for it.
func newFleetBehind(t *testing.T) (f *fleet, behind [3]beside.Node) {
	t.Helper()
	f = (&fleet{t: t}).begin(0)
	for i := range behind {
		f.add(fmt.Sprintf("n%d", i+1))
		behind[i] = beside.Node{Plain: freeAddr(t), Admin: f.nodes[i].admin}
		f.nodes[i].args = []string{"--listen", behind[i].Plain + "/proxy", "--proxy-from", "127.0.0.1"}
		f.start(i)
	}
	f.await(3)
	return f, behind
}

// follow subscribes to a stream by way of some address alone.
func (f *fleet) follow(s *stream, addr string) *viewer {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	f.clients++
	c, err := client.Dial(ctx, client.Options{
		Servers: []string{addr}, Account: "viewer", Silence: time.Second, Logger: slog.New(slog.NewJSONHandler(f.said, nil)).With("client", f.clients),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close(context.Background()) })
	v := &viewer{c: c, dtype: s.dtype}
	sub, err := c.Subscribe(ctx, s.room, client.SubscribeOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	s.done.Go(func() { v.watch(f.t.Context(), sub) })
	return v
}

// leadsTo reports whether a balancer sends a new client to node i.
func (f *fleet) leadsTo(front string, i int) bool {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Servers: []string{front}, Account: "visitor"})
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close(context.Background())
	at, ok := c.Server()
	return ok && at.Node == f.nodes[i].name
}

// behindViewers is how many viewers come by way of a balancer.
const behindViewers = 30

// balancers start what stands before three nodes.
var balancers = map[string]func(testing.TB, string, [3]beside.Node, beside.Certificate) beside.Front{"haproxy": beside.HAProxy, "nginx": beside.Nginx}

// A node behind a balancer is killed: its clients, who know the balancer alone, go on with the others. It says how long
// they stood still.
func TestNodeKilledBehindBalancer(t *testing.T) {
	for name, start := range balancers {
		t.Run(name, func(t *testing.T) {
			behindBalancer(t, start, "killed", (*fleet).kill, func(f *fleet, victim int) { f.start(victim) })
		})
	}
}

// behindBalancer has something happen to a node behind a balancer that streams go through, and undoes it.
func behindBalancer(t *testing.T, start func(testing.TB, string, [3]beside.Node, beside.Certificate) beside.Front, what string, happen, undo func(f *fleet, victim int)) {
	f, behind := newFleetBehind(t)
	front := start(t, "../deploy", behind, beside.Certificate{}).Plain
	var pauses []time.Duration
	frames := uint64(0)
	for k := range *kills {
		victim := k % 3
		relay := (victim + k/3%2) % 3                                        // now and then the relay of what they see
		s := f.run(place{relay: relay, publisher: (victim + 1) % 3}, 5*pace) // so that its history lasts longer than a busy machine
		for range behindViewers {
			s.subs = append(s.subs, f.follow(s, front))
		}
		s.reach(50)
		var there []*viewer
		for _, v := range s.subs {
			if at, ok := v.c.Server(); ok && at.Node == f.nodes[victim].name {
				there = append(there, v)
			}
			v.pause.Store(0)
		}
		if len(there) == 0 {
			t.Fatal("the balancer has sent nobody to the node")
		}
		happen(f, victim)
		s.reach(100)
		for _, v := range there {
			pauses = append(pauses, time.Duration(v.pause.Load()))
			if at, ok := v.c.Server(); !ok || at.Node == f.nodes[victim].name {
				t.Errorf("a client says that it is at %v, which is %s", at, what)
			}
		}
		s.finish()
		frames += s.pushed.Load() * uint64(len(s.subs))
		undo(f, victim)
		f.await(3)
		f.until("the balancer sends clients to the node again", func() bool { return f.leadsTo(front, victim) })
	}
	slices.Sort(pauses)
	at := func(q float64) time.Duration {
		return pauses[min(len(pauses)-1, int(q*float64(len(pauses))))].Round(100 * time.Microsecond)
	}
	t.Logf("node behind a balancer %s: %d clients moved, %d frames to all viewers: 0 lost, 0 twice; their pause p50 %v, p99 %v, worst %v",
		what, len(pauses), frames, at(0.5), at(0.99), at(1))
}
