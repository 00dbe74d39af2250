package drills

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

// newFleetBehind starts three nodes that a balancer speaks to, with addresses of their own for it.
func newFleetBehind(t *testing.T) (f *fleet, behind []string) {
	t.Helper()
	f = (&fleet{t: t}).begin(0)
	for i := range 3 {
		f.add(fmt.Sprintf("n%d", i+1))
		behind = append(behind, freeAddr(t))
		f.nodes[i].args = []string{"--listen", behind[i] + "/proxy", "--proxy-from", "127.0.0.1"}
		f.start(i)
	}
	f.await(3)
	return f, behind
}

// balance runs a balancer until the drill ends, and waits until it listens.
func (f *fleet) balance(listens string, env []string, name string, args ...string) {
	f.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if f.t.Failed() {
			f.t.Logf("%s said:\n%s", name, said.String())
		}
	})
	f.until(name+" listens", func() bool {
		c, err := net.Dial("tcp", listens)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// haproxy and nginx start a balancer as deploy has it, and return where clients connect.
func (f *fleet) haproxy(behind []string) string {
	f.t.Helper()
	front := freeAddr(f.t)
	env := []string{"FRONT=" + front, "FRONT_TLS=" + freeAddr(f.t)}
	for i, n := range f.nodes {
		_, port, _ := net.SplitHostPort(n.admin)
		env = append(env, fmt.Sprintf("NODE_%d=%s", i+1, behind[i]), fmt.Sprintf("TLS_%d=%s", i+1, behind[i]), fmt.Sprintf("ADMIN_%d=%s", i+1, port))
	}
	f.balance(front, env, "haproxy", "-db", "-f", "../deploy/haproxy/haproxy.cfg")
	return front
}

func (f *fleet) nginx(behind []string) string {
	f.t.Helper()
	b, err := os.ReadFile("../deploy/nginx/stream.conf")
	if err != nil {
		f.t.Fatal(err)
	}
	front := freeAddr(f.t)
	conf := strings.NewReplacer("127.0.0.1:7000", front, "127.0.0.1:7001", freeAddr(f.t)).Replace(string(b))
	for i := range f.nodes {
		conf = strings.ReplaceAll(conf, fmt.Sprintf("127.0.0.1:74%d0", i), behind[i])
	}
	head := fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents { worker_connections 4096; }\n", f.dir)
	if module := "/usr/lib/nginx/modules/ngx_stream_module.so"; exists(module) {
		head = "load_module " + module + ";\n" + head
	}
	f.balance(front, nil, "nginx", "-c", f.file("nginx.conf", head+conf), "-p", f.dir, "-e", "stderr")
	return front
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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

// A node behind a balancer is killed: its clients, who know the balancer alone, go on with the others. It says how long
// they stood still.
func TestNodeKilledBehindBalancer(t *testing.T) {
	for name, start := range map[string]func(*fleet, []string) string{"haproxy": (*fleet).haproxy, "nginx": (*fleet).nginx} {
		t.Run(name, func(t *testing.T) {
			f, behind := newFleetBehind(t)
			front := start(f, behind)
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
				f.kill(victim)
				s.reach(100)
				for _, v := range there {
					pauses = append(pauses, time.Duration(v.pause.Load()))
					if at, ok := v.c.Server(); !ok || at.Node == f.nodes[victim].name {
						t.Errorf("a client says that it is at %v, which was killed", at)
					}
				}
				s.finish()
				frames += s.pushed.Load() * uint64(len(s.subs))
				f.start(victim)
				f.await(3)
				f.until("the balancer sends clients to the node again", func() bool { return f.leadsTo(front, victim) })
			}
			slices.Sort(pauses)
			at := func(q float64) time.Duration {
				return pauses[min(len(pauses)-1, int(q*float64(len(pauses))))].Round(100 * time.Microsecond)
			}
			t.Logf("node killed behind %s: %d clients moved, %d frames to all viewers: 0 lost, 0 twice; their pause p50 %v, p99 %v, worst %v",
				name, len(pauses), frames, at(0.5), at(0.99), at(1))
		})
	}
}
