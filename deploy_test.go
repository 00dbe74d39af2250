//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/client"
)

// fleet is three nodes of a cluster, as deploy has them.
type fleet struct {
	nodes [3]*server
	args  [3][]string // with which each is started again at its own addresses

	cert, key string            // files, where there is TLS
	fronts    map[string]string // where clients connect with TLS
}

// front returns where the balancer takes clients of a kind.
func (f *fleet) front(kind string, t *testing.T) string {
	if f.fronts == nil {
		f.fronts = map[string]string{}
	}
	if f.fronts[kind] == "" {
		f.fronts[kind] = unusedAddr(t)
	}
	return f.fronts[kind]
}

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

// unusedAddr returns an address at which nobody listens.
func unusedAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// balancer runs a program until the test ends, and waits until it listens at addr.
func balancer(t *testing.T, addr string, env []string, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
	if !eventually(func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}) {
		t.Fatalf("%s does not listen", name)
	}
}

func haproxy(t *testing.T, f *fleet) string {
	front := unusedAddr(t)
	env := []string{"FRONT=" + front, "FRONT_TLS=" + f.front("TLS", t)}
	for i, n := range f.nodes {
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(n.admin, "http://"))
		env = append(env, fmt.Sprintf("NODE_%d=%s", i+1, n.addr), fmt.Sprintf("TLS_%d=%s", i+1, cmp.Or(n.secure, n.addr)), fmt.Sprintf("ADMIN_%d=%s", i+1, port))
	}
	args := []string{"-db", "-f", "deploy/haproxy/haproxy.cfg"}
	if f.cert != "" {
		both := write(t, t.TempDir(), "both.pem", read(t, f.cert)+read(t, f.key))
		env = append(env, "FRONT_TERMINATED="+f.front("TLS ended", t), "CERTIFICATE="+both)
		args = append(args, "-f", "deploy/haproxy/terminated.cfg")
	}
	balancer(t, front, env, "haproxy", args...)
	return front
}

func nginx(t *testing.T, f *fleet) string {
	b, err := os.ReadFile("deploy/nginx/stream.conf")
	if err != nil {
		t.Fatal(err)
	}
	front, dir := unusedAddr(t), t.TempDir()
	conf := strings.NewReplacer("127.0.0.1:7000", front, "127.0.0.1:7001", f.front("TLS", t)).Replace(string(b))
	for i, n := range f.nodes {
		conf = strings.Replace(conf, fmt.Sprintf("127.0.0.1:74%d0", i), n.addr, 1)
		if n.secure != "" {
			conf = strings.Replace(conf, fmt.Sprintf("127.0.0.1:74%d3", i+4), n.secure, 1)
		}
	}
	if f.cert != "" {
		b, err := os.ReadFile("deploy/nginx/terminated.conf")
		if err != nil {
			t.Fatal(err)
		}
		ended := strings.NewReplacer("127.0.0.1:7002", f.front("TLS ended", t), "/etc/timedge/cert.pem", f.cert, "/etc/timedge/key.pem", f.key).Replace(string(b))
		conf = conf[:strings.LastIndex(conf, "}")] + ended + "}\n"
	}
	head := fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents {}\n", dir)
	if module := "/usr/lib/nginx/modules/ngx_stream_module.so"; fileExists(module) {
		head = "load_module " + module + ";\n" + head
	}
	path := write(t, dir, "nginx.conf", head+conf)
	balancer(t, front, nil, "nginx", "-c", path, "-p", dir, "-e", "stderr")
	return front
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestRollingRestartBehindBalancer restarts every node behind HAProxy, and again behind nginx, with deploy's own files,
// under a stream of which nothing is lost and nothing comes twice.
func TestRollingRestartBehindBalancer(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the time that balancers take to notice")
	}
	for name, c := range map[string]struct {
		start func(*testing.T, *fleet) string
		nodes []int
	}{"haproxy": {haproxy, []int{0, 1, 2}}, "nginx": {nginx, []int{0, 1, 2}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fl := startFleet(t, true)
			for i := range fl.nodes {
				fl.ready(t, i)
			}
			front := c.start(t, fl)
			f := startFlow(t, front)
			f.further(t)
			// Both have come through the balancer.
			if !eventually(func() bool {
				n := 0
				for _, node := range fl.nodes {
					_, b := node.operate(t, "GET", "/api/v1/sessions")
					var p admin.Page[admin.Session]
					if json.Unmarshal(b, &p) == nil {
						n += p.Total
					}
				}
				return n == 2
			}) {
				t.Error("the nodes do not list two sessions")
			}
			for _, i := range c.nodes {
				fl.restart(t, i)
				f.further(t)
			}
			f.end(t)
		})
	}
}

// TestClientsBehindBalancers: behind deploy's own balancers, plainly, with TLS passed through and with TLS ended there,
// a stream flows, and limits, log, audit and API go by the client's own address. What a client says of another, the
// balancer does not pass on as its own word.
func TestClientsBehindBalancers(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *fleet) string{"haproxy": haproxy, "nginx": nginx} {
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
			f := &fleet{nodes: [3]*server{s, s, s}, cert: cert, key: key}
			front := start(t, f)
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM([]byte(read(t, cert)))
			ctx, cancel := context.WithTimeout(t.Context(), lifetime)
			defer cancel()
			for i, way := range []struct{ name, to string }{
				{"plain", front}, {"TLS passed through", "tls://" + f.front("TLS", t)}, {"TLS ended", "tls://" + f.front("TLS ended", t)},
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
			c, err := net.Dial("tcp", front)
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
