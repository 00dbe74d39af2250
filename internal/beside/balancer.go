//go:build linux

package beside

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Node is where a balancer finds a node: its addresses that want a PROXY header, and the one for operators.
type Node struct {
	Plain string
	TLS   string // empty: it has none
	Admin string
}

// Front is where clients connect to a balancer.
type Front struct {
	Plain string
	TLS   string // which is passed through
	Ended string // TLS that ends here; empty without a certificate
}

// Certificate is a certificate and its key, each in a file. The zero value is none.
type Certificate struct{ Cert, Key string }

// HAProxy runs HAProxy before three nodes until the test ends, by the files in a folder deploy.
func HAProxy(t testing.TB, deploy string, nodes [3]Node, c Certificate) Front {
	t.Helper()
	f := Front{Plain: FreeAddr(t), TLS: FreeAddr(t)}
	env := []string{"FRONT=" + f.Plain, "FRONT_TLS=" + f.TLS}
	for i, n := range nodes {
		_, port, _ := net.SplitHostPort(n.Admin)
		env = append(env, fmt.Sprintf("NODE_%d=%s", i+1, n.Plain), fmt.Sprintf("TLS_%d=%s", i+1, cmp.Or(n.TLS, n.Plain)), fmt.Sprintf("ADMIN_%d=%s", i+1, port))
	}
	args := []string{"-db", "-f", filepath.Join(deploy, "haproxy", "haproxy.cfg")}
	if c.Cert != "" {
		f.Ended = FreeAddr(t)
		both := file(t, "both.pem", text(t, c.Cert)+text(t, c.Key))
		env = append(env, "FRONT_TERMINATED="+f.Ended, "CERTIFICATE="+both)
		args = append(args, "-f", filepath.Join(deploy, "haproxy", "terminated.cfg"))
	}
	Run(t, f.Plain, env, "haproxy", args...)
	return f
}

// Nginx is HAProxy with nginx.
func Nginx(t testing.TB, deploy string, nodes [3]Node, c Certificate) Front {
	t.Helper()
	f := Front{Plain: FreeAddr(t), TLS: FreeAddr(t)}
	conf := strings.NewReplacer("127.0.0.1:7000", f.Plain, "127.0.0.1:7001", f.TLS).Replace(text(t, filepath.Join(deploy, "nginx", "stream.conf")))
	for i, n := range nodes {
		conf = strings.Replace(conf, fmt.Sprintf("127.0.0.1:74%d0", i), n.Plain, 1)
		conf = strings.Replace(conf, fmt.Sprintf("127.0.0.1:74%d3", i+4), cmp.Or(n.TLS, n.Plain), 1)
	}
	if c.Cert != "" {
		f.Ended = FreeAddr(t)
		ended := strings.NewReplacer("127.0.0.1:7002", f.Ended, "/etc/timedge/cert.pem", c.Cert, "/etc/timedge/key.pem", c.Key)
		conf = conf[:strings.LastIndex(conf, "}")] + ended.Replace(text(t, filepath.Join(deploy, "nginx", "terminated.conf"))) + "}\n"
	}
	dir := t.TempDir()
	head := fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents { worker_connections 4096; }\n", dir)
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so" // Debian has it in a package of its own
	if _, err := os.Stat(module); err == nil {
		head = "load_module " + module + ";\n" + head
	}
	Run(t, f.Plain, nil, "nginx", "-c", file(t, "nginx.conf", head+conf), "-p", dir, "-e", "stderr")
	return f
}

func text(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
