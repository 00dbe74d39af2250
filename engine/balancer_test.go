package engine_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/testcert"
)

// program finds a program that a test needs; where CI runs it must be there.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// background runs a program until the test ends. What it says is in the test's log if the test fails.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		said.Close()
		if b, _ := os.ReadFile(said.Name()); t.Failed() {
			t.Logf("%s: %s", name, b)
		}
	})
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// lines is a log whose lines a test looks through.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

func (l *lines) await(t *testing.T, parts ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) { // between two looks
		l.mu.Lock()
		for _, line := range l.all {
			if n := 0; strings.Contains(line, parts[0]) {
				for _, p := range parts {
					if strings.Contains(line, p) {
						n++
					}
				}
				if n == len(parts) {
					l.mu.Unlock()
					return
				}
			}
		}
		l.mu.Unlock()
	}
	t.Fatalf("the log has no line with %q", parts)
}

// keyPair writes a server's certificate and key into one file, as HAProxy wants them.
func keyPair(t *testing.T) (file string, pool *x509.CertPool) {
	t.Helper()
	cert := testcert.New(1)
	shown, key := testcert.PEM(cert)
	file = filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(file, append(shown, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, testcert.Pool(cert)
}

// streamThrough sends a stream to a client that comes in at addr by some way, and looks for the client's own address
// in the log.
func streamThrough(t *testing.T, k *carried, log *lines, addr, way string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // the balancer starts
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	owner := k.enter(t, "plain", "owner", 1)
	room := owner.register(calm)
	p := owner.publish(room)
	through := &carried{Engine: k.Engine, pool: k.pool, addrs: map[string]string{way: addr}}
	account := "guest-" + addr
	w := through.enter(t, way, account, 2)
	w.subscribe(room)
	for seq := uint64(1); seq <= 200; seq++ {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: seq, Payload: make([]byte, 1000)}
		owner.write(enc(f.Append(nil)))
	}
	for seq := uint64(1); seq <= 200; seq++ {
		if f := next[*codec.Stream](w); f.Seq != seq || len(f.Payload) != 1000 {
			t.Fatalf("frame %d, want %d", f.Seq, seq)
		}
	}
	me := socketOf(w.c).LocalAddr().String()
	w.c.Close()
	log.await(t, "session closed", account, `"peer_addr":"`+me+`"`)
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, line := range log.all {
		if strings.Contains(line, "handshake failed") || strings.Contains(line, `"warn"`) {
			t.Errorf("of a balancer's own connections it is said: %s", line)
		}
	}
}

func TestHAProxy(t *testing.T) {
	haproxy := program(t, "haproxy")
	both, pool := keyPair(t)
	log := &lines{}
	k := startCarried(t, func(c *engine.Config) { c.Log = zerolog.New(log) })
	for _, c := range []struct {
		name    string
		bind    string // further words of the frontend
		backend string // the way in behind it
		send    string
		way     string // of the client
	}{
		{"version 1", "", "plain/proxy", "send-proxy check inter 100ms", "plain"},
		{"version 2", "", "plain/proxy", "send-proxy-v2 check inter 100ms check-send-proxy", "plain"},
		{"TLS passed through", "", "tls/proxy", "send-proxy-v2 check inter 100ms", "tls"},
		{"TLS ended", "ssl crt " + both, "plain/proxy", "send-proxy-v2 check inter 100ms", "tls"},
		{"WebSocket", "", "ws/proxy", "send-proxy check inter 100ms", "ws"},
		{"WebSocket, TLS passed through", "", "wss/proxy", "send-proxy-v2-ssl check inter 100ms", "wss"},
		{"WebSocket, TLS ended", "ssl crt " + both, "ws/proxy", "send-proxy-v2 check inter 100ms", "wss"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := freeAddr(t)
			conf := filepath.Join(t.TempDir(), "haproxy.cfg")
			text := fmt.Sprintf("global\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"+
				"listen all\n bind %s %s\n server one %s %s\n", addr, c.bind, k.addrs[c.backend], c.send)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			background(t, haproxy, "-db", "-f", conf)
			through := *k
			if c.bind != "" {
				through.pool = pool
			}
			streamThrough(t, &through, log, addr, c.way)
		})
	}
}

func TestNginxStream(t *testing.T) {
	nginx := program(t, "nginx")
	log := &lines{}
	k := startCarried(t, func(c *engine.Config) { c.Log = zerolog.New(log) })
	for _, way := range []string{"plain", "tls", "ws", "wss"} {
		t.Run(way, func(t *testing.T) {
			addr, dir := freeAddr(t), t.TempDir()
			conf := filepath.Join(dir, "nginx.conf")
			load := ""
			if module := "/usr/lib/nginx/modules/ngx_stream_module.so"; exists(module) {
				load = "load_module " + module + ";\n"
			}
			text := fmt.Sprintf("%sdaemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents {}\nstream {\n server { listen %s; proxy_pass %s; "+
				"proxy_protocol on; }\n}\n", load, dir, addr, k.addrs[way+"/proxy"])
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			background(t, nginx, "-c", conf, "-p", dir, "-e", "stderr")
			streamThrough(t, k, log, addr, way)
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// page connects by WebSocket as a program in a browser does, subscribes, and posts what came of it. Its protocol is
// as little as that takes.
const page = `<!doctype html><title>timedge</title><script>
const bytes = s => Uint8Array.from(atob(s), c => c.charCodeAt(0))
const verdict = v => fetch("/verdict", {method: "POST", body: v})
const s = new WebSocket(%q, "timedge.v1")
s.binaryType = "arraybuffer"
let rest = new Uint8Array(0), preface = false, got = 0, messages = 0, done = false
s.onopen = () => s.send(bytes(%q))
s.onerror = () => { if (!done) verdict("refused") }
s.onmessage = e => {
	messages++
	const b = new Uint8Array(rest.length + e.data.byteLength)
	b.set(rest)
	b.set(new Uint8Array(e.data), rest.length)
	const v = new DataView(b.buffer)
	let at = 0
	if (!preface) {
		if (b.length < %d) { rest = b; return }
		at = %d
		preface = true
	}
	while (b.length - at >= 2) {
		const n = 2 + v.getUint16(at)
		if (b.length - at < n) break
		if (b[at + 2] & %d) {
			const number = v.getUint32(at + %d)
			if (number !== got + 1) { done = true; verdict("message " + number + " after " + got) ; s.close(); return }
			if (++got === %d) { done = true; s.close(); verdict("all in order by " + s.protocol + "; messages: " + messages) }
		}
		at += n
	}
	rest = b.slice(at)
}
</script>`

// TestBrowser: a page in Chromium gets 10,000 messages in order, by WebSocket and by WebSocket within TLS; a page of
// another origin gets none.
func TestBrowser(t *testing.T) {
	chromium := program(t, "chromium")
	if testing.Short() {
		t.Skip("starts a browser")
	}
	verdicts := make(chan string, 4)
	var html atomic.Pointer[[]byte]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(*html.Load())
	})
	mux.HandleFunc("POST /verdict", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		verdicts <- string(b)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: mux}
	go func() { _ = web.Serve(ln) }()
	t.Cleanup(func() { web.Close() })
	origin := "http://" + ln.Addr().String()
	elsewhere := "http://" + strings.Replace(ln.Addr().String(), "127.0.0.1", "localhost", 1)
	k := startCarried(t, func(c *engine.Config) { c.Origins = engine.Origins{origin} })
	const count = 10_000
	for _, c := range []struct{ way, from, want string }{
		{"ws", origin, "all in order by timedge.v1"}, {"wss", origin, "all in order by timedge.v1"}, {"ws", elsewhere, "refused"},
	} {
		t.Run(c.way+" from "+c.from, func(t *testing.T) {
			owner := k.enter(t, "plain", "owner", 1)
			room := owner.register(calm)
			p := owner.publish(room)
			say := enc((&codec.Hello{Account: "page", Instance: 7}).Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)))
			say = enc((&codec.Subscribe{Req: 1, Room: room}).Append(say))
			filled := fmt.Appendf(nil, page, c.way+"://"+k.addrs[c.way]+"/", base64.StdEncoding.EncodeToString(say), codec.PrefaceSize, codec.PrefaceSize,
				codec.TypeStream, codec.StreamHeaderSize, count)
			html.Store(&filled)
			profile, err := os.MkdirTemp("", "chromium")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(profile) }) // its children may still write there
			background(t, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--ignore-certificate-errors",
				"--user-data-dir="+profile, "--no-proxy-server", c.from+"/")
			if c.want != "refused" {
				r, err := k.Rooms().Get(room)
				if err != nil {
					t.Fatal(err)
				}
				for r.Subscribers() == 0 {
					time.Sleep(time.Millisecond) // between two looks
				}
				f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Payload: make([]byte, 200)}
				acked := uint64(0)
				for f.Seq = 1; f.Seq <= count; f.Seq++ {
					binary.BigEndian.PutUint32(f.Payload, uint32(f.Seq))
					owner.write(enc(f.Append(nil)))
					for f.Seq > acked+1000 {
						acked = next[*codec.Ack](owner).Seq
					}
				}
			}
			select {
			case v := <-verdicts:
				if t.Log(v); !strings.HasPrefix(v, c.want) {
					t.Errorf("the page says %q", v)
				}
			case <-time.After(60 * time.Second):
				t.Error("the page says nothing")
			}
		})
	}
}
