//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/internal/beside"
	"github.com/timedge/timedge/internal/settings"
)

// fleet is three nodes of a cluster, as deploy has them.
type fleet struct {
	nodes [3]*server
	args  [3][]string // with which each is started again at its own addresses
}

// behind returns the nodes as a balancer before them finds them.
func (f *fleet) behind() (all [3]beside.Node) {
	for i, n := range f.nodes {
		all[i] = beside.Node{Plain: n.addr, TLS: n.secure, Admin: strings.TrimPrefix(n.admin, "http://")}
	}
	return all
}

// balancers start one before nodes, by deploy's own files.
var balancers = map[string]func(testing.TB, string, [3]beside.Node, beside.Certificate) beside.Front{"haproxy": beside.HAProxy, "nginx": beside.Nginx}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// startFleet starts three nodes, which take clients from a balancer alone if they are behind one.
func startFleet(t *testing.T, behind bool) *fleet {
	t.Helper()
	dir := t.TempDir()
	key, err := start(nil, nil, "key")
	if err != nil {
		t.Fatal(err)
	}
	text, status := key.end()
	if status != 0 {
		t.Fatal("no key")
	}
	keys := write(t, dir, "key", string(text))
	token := write(t, dir, "token", operatorToken)
	f := &fleet{}
	for i := range f.nodes {
		common := []string{
			"--node", fmt.Sprintf("n%d", i), "--cluster-key-file", keys, "--admin-token-file", token, "--drain-delay", "4s",
			"--limit-hello", lifetime.String(), // a busy machine is no reason to refuse anybody
		}
		proxy := ""
		if behind {
			proxy = "/proxy"
			common = append(common, "--proxy-from", "127.0.0.1")
		}
		if i > 0 {
			common = append(common, "--join", f.nodes[0].cluster)
		}
		args := append([]string{"--listen", "127.0.0.1:0" + proxy, "--cluster", "127.0.0.1:0"}, common...)
		if f.nodes[i], err = startServer(args...); err != nil {
			t.Fatal(err)
		}
		_, f.nodes[i].addr, _ = strings.Cut(f.nodes[i].addr, ",") // before it is the one that startServer asks for
		f.args[i] = append([]string{
			"--listen", f.nodes[i].addr + proxy, "--admin", strings.TrimPrefix(f.nodes[i].admin, "http://"), "--cluster", f.nodes[i].cluster,
		}, common...)
	}
	f.args[0] = append(f.args[0], "--join", f.nodes[1].cluster)
	t.Cleanup(func() {
		for _, n := range f.nodes {
			n.cmd.Process.Kill()
			n.end()
		}
	})
	return f
}

// ready waits until a node takes clients and knows the others.
func (f *fleet) ready(t *testing.T, i int) {
	t.Helper()
	if !eventually(func() bool {
		res, err := http.Get(f.nodes[i].admin + "/readyz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		_, b := f.nodes[i].operate(t, "GET", "/api/v1/nodes")
		var nodes []admin.Node
		return res.StatusCode == http.StatusOK && json.Unmarshal(b, &nodes) == nil && len(nodes) == len(f.nodes)
	}) {
		t.Fatalf("node %d is not ready:\n%s", i, f.nodes[i].errors.String())
	}
}

// restart ends a node as a supervisor does, and starts it at the same addresses.
func (f *fleet) restart(t *testing.T, i int) {
	t.Helper()
	if status := f.nodes[i].stop(); status != 0 {
		t.Errorf("node %d ended with %d:\n%s", i, status, f.nodes[i].errors.String())
	}
	s, err := startServer(f.args[i]...)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = f.nodes[i].addr
	f.nodes[i] = s
	f.ready(t, i)
}

// visitors has one client after the other connect until end is called, each of which tries once. It is an error if one is
// refused.
func visitors(t *testing.T, addr string) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var coming sync.WaitGroup
	coming.Go(func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			c, err := client.Dial(context.Background(), client.Options{Servers: []string{addr}, Account: "visitor", DialTimeout: lifetime})
			if err != nil {
				t.Errorf("visitor %d is refused: %v", n, err)
				return
			}
			_ = c.Close(context.Background())
			time.Sleep(10 * time.Millisecond) // its pace
		}
		t.Logf("%d visitors, none refused", n)
	})
	end = func() { stop(); coming.Wait() }
	t.Cleanup(end)
	return end
}

// TestRollingRestartBehindBalancer restarts every node behind HAProxy, and again behind nginx, with deploy's own files,
// under streams of which nothing is lost and nothing comes twice, while new clients come, none of whom is refused.
func TestRollingRestartBehindBalancer(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the time that balancers take to notice")
	}
	const streams = 4
	for name, start := range balancers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fl := startFleet(t, true)
			for i := range fl.nodes {
				fl.ready(t, i)
			}
			front := start(t, "deploy", fl.behind(), beside.Certificate{}).Plain
			var flows []*flow
			for range streams {
				flows = append(flows, startFlow(t, front))
			}
			further := func() {
				t.Helper()
				for _, f := range flows {
					f.further(t)
				}
			}
			further()
			// All have come through the balancer.
			if !eventually(func() bool {
				n := 0
				for _, node := range fl.nodes {
					_, b := node.operate(t, "GET", "/api/v1/sessions")
					var p admin.Page[admin.Session]
					if json.Unmarshal(b, &p) == nil {
						n += p.Total
					}
				}
				return n == 2*streams
			}) {
				t.Errorf("the nodes do not list %d sessions", 2*streams)
			}
			end := visitors(t, front)
			for i := range fl.nodes {
				fl.restart(t, i)
				further()
			}
			end()
			for _, f := range flows {
				f.end(t)
			}
		})
	}
}

// TestClientsBehindBalancers: behind deploy's own balancers, plainly, with TLS passed through and with TLS ended there,
// a stream flows, and limits, log, audit and API go by the client's own address. What a client says of another, the
// balancer does not pass on as its own word.
func TestClientsBehindBalancers(t *testing.T) {
	for name, start := range balancers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cert, key := writeCertificate(t, dir, 1)
			audit, log := filepath.Join(dir, "audit"), filepath.Join(dir, "log")
			const perAddress = 3
			s := serve(t, "--listen", "127.0.0.1:0/proxy", "--listen-tls", "127.0.0.1:0/proxy", "--tls-cert", cert, "--tls-key", key, "--proxy-from", "127.0.0.1",
				"--admin-token-file", write(t, dir, "token", operatorToken), "--audit-file", audit, "--log-file", log, "--log-level", "debug",
				"--limit-exempt", "127.0.0.1", "--limit-address-conns", fmt.Sprint(perAddress))
			addrs := strings.Split(s.addr, ",")
			s.addr, s.secure = addrs[1], strings.TrimPrefix(addrs[2], "tls://")
			f := &fleet{nodes: [3]*server{s, s, s}}
			front := start(t, "deploy", f.behind(), beside.Certificate{Cert: cert, Key: key})
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM([]byte(read(t, cert)))
			ctx, cancel := context.WithTimeout(t.Context(), lifetime)
			defer cancel()
			for i, way := range []struct{ name, to string }{
				{"plain", front.Plain}, {"TLS passed through", "tls://" + front.TLS}, {"TLS ended", "tls://" + front.Ended},
			} {
				t.Run(way.name, func(t *testing.T) {
					from := fmt.Sprintf("127.0.1.%d", i+1)
					dial := func(account, from string) (*client.Client, error) {
						d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
						return client.Dial(ctx, client.Options{
							Servers: []string{way.to}, Account: account, TLS: &tls.Config{RootCAs: pool}, DialTimeout: lifetime,
							Dialer: func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) },
						})
					}
					var all []*client.Client
					for n := range perAddress {
						c, err := dial(fmt.Sprint("client-", n), from)
						if err != nil {
							t.Fatal(err)
						}
						defer c.Close(context.Background())
						all = append(all, c)
					}
					room, err := all[0].Register(ctx, client.RoomOptions{})
					if err != nil {
						t.Fatal(err)
					}
					sub, err := all[1].Subscribe(ctx, room, client.SubscribeOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if err := all[0].Push(ctx, room, 1, []byte("hello")); err != nil {
						t.Fatal(err)
					}
					for {
						e, err := sub.Next(ctx)
						if err != nil {
							t.Fatal(err)
						}
						if m, is := e.(*client.Message); is && string(m.Payload) == "hello" {
							break
						}
					}
					audited(t, audit, map[string]string{"audit": "registered", "account": "client-0", "peer_addr": from + ":"})
					_, b := s.operate(t, "GET", "/api/v1/sessions?search="+from)
					var p admin.Page[admin.Session]
					if err := json.Unmarshal(b, &p); err != nil || p.Total != perAddress {
						t.Errorf("sessions: %s", b)
					}

					// One more of the same address is one too many, of another it is not.
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
					addr, secure := strings.CutPrefix(way.to, "tls://")
					extra, err := d.DialContext(ctx, "tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					defer extra.Close()
					if secure {
						_ = tls.Client(extra, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}).Handshake() // it may be ended before
					}
					_, _ = io.Copy(io.Discard, extra) // to its end
					turned := fmt.Sprintf("timedge_turned_away_total{reason=\"address_at_once\"} %d\n", i+1)
					if !eventually(func() bool { return strings.Contains(metrics(t, s), turned) }) {
						t.Error("it was not turned away because of its address")
					}
					other, err := dial("other", fmt.Sprintf("127.0.2.%d", i+1))
					if err != nil {
						t.Fatal(err)
					}
					other.Close(ctx)
					if !eventually(func() bool {
						for line := range bytes.Lines([]byte(read(t, log))) {
							if bytes.Contains(line, []byte(`"message":"session closed"`)) && bytes.Contains(line, fmt.Appendf(nil, `"peer_addr":"127.0.2.%d:`, i+1)) {
								return true
							}
						}
						return false
					}) {
						t.Error("the log does not name the client's address")
					}
				})
			}

			// Through the balancer, behind whose own word it comes, it is no PROXY header but a breach of the protocol.
			c, err := net.Dial("tcp", front.Plain)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if b, err := io.ReadAll(c); err != nil || !bytes.Contains(b, []byte("not a timedge connection")) {
				t.Errorf("answered with %q, %v", b, err)
			}
			if strings.Contains(read(t, log), "192.0.2.1") {
				t.Error("the log has an address that a client has invented")
			}
		})
	}
}

// metrics returns a server's page of metrics.
func metrics(t *testing.T, s *server) string {
	t.Helper()
	res, err := http.Get(s.admin + "/metrics")
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// TestForgedProxyHeader: who is no balancer is not believed, nor served where balancers connect.
func TestForgedProxyHeader(t *testing.T) {
	s := serve(t, "--listen", "127.0.0.1:0/proxy", "--proxy-from", "127.0.0.2")
	_, addr, _ := strings.Cut(s.addr, ",")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("answered with %d bytes, %v", n, err)
	}
	res, err := http.Get(s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(b), `timedge_turned_away_total{reason="proxy"} 1`) {
		t.Error("it is not counted")
	}
}

// TestDeployFiles holds the files of deploy to the settings that there are.
func TestDeployFiles(t *testing.T) {
	known := map[string]bool{}
	for _, v := range settingVariables() {
		known[v] = true
	}
	variable := regexp.MustCompile(`\bTIMEDGE_[A-Z_]+`)
	for _, pattern := range []string{"deploy/*/*.yaml", "deploy/*/*.service", "deploy/*/Dockerfile"} {
		files, err := filepath.Glob(pattern)
		if err != nil || files == nil {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range variable.FindAllString(string(b), -1) {
				if !known[v] {
					t.Errorf("%s: there is no %s", path, v)
				}
			}
		}
	}
}

// TestDeploySettings: a node starts with what Compose and Kubernetes put into its environment.
func TestDeploySettings(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		p, err := start(nil, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		text, status := p.end()
		if status != 0 {
			t.Fatalf("%v: %s", args, p.errors.String())
		}
		return string(text)
	}
	write(t, dir, "cluster.key", run("key"))
	write(t, dir, "admin-token", operatorToken)
	run("token", "add", filepath.Join(dir, "accounts"), "alice")
	there := strings.NewReplacer("/run/secrets/", dir+"/", "/etc/timedge/", dir+"/", "$(POD_IP)", "192.0.2.1")
	for name, env := range map[string]map[string]string{"compose": composeEnvironment(t, "two"), "kubernetes": podEnvironment(t)} {
		t.Run(name, func(t *testing.T) {
			var all []string
			for k, v := range env {
				all = append(all, k+"="+there.Replace(v))
			}
			if len(all) < 8 {
				t.Fatalf("%v: this test does not see what there is", env)
			}
			g := &given{}
			g.init()
			_, err := g.table.Load(nil, g.table.Environ(all), settings.File{})
			if err = errors.Join(err, g.check()); err != nil {
				t.Error(err)
			}
			if len(g.Join) == 0 || g.KeyFile == "" || g.DrainDelay == 0 {
				t.Errorf("%+v", g.serveSettings)
			}
		})
	}
}

// composeEnvironment is that of a service of deploy's Compose file.
func composeEnvironment(t *testing.T, service string) map[string]string {
	t.Helper()
	var f struct {
		Services map[string]struct{ Environment map[string]string }
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/docker/compose.yaml")), &f); err != nil {
		t.Fatal(err)
	}
	return f.Services[service].Environment
}

// podEnvironment is that of deploy's pods.
func podEnvironment(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"TIMEDGE_NODE": "timedge-0"} // by name of the pod
	for d := yaml.NewDecoder(strings.NewReader(read(t, "deploy/kubernetes/timedge.yaml"))); ; {
		var f struct {
			Kind string
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Env []struct{ Name, Value string }
						}
					}
				}
			}
		}
		if err := d.Decode(&f); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if f.Kind == "StatefulSet" {
			for _, e := range f.Spec.Template.Spec.Containers[0].Env {
				if e.Value != "" {
					all[e.Name] = e.Value
				}
			}
		}
	}
}
