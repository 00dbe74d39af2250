package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, host, at string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, at, nil)
	r.Host = host
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler(About{Version: "v1", Open: true}).ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	for _, c := range []struct {
		name, method, at string
		status           int
		kind             string
	}{
		{"the home page", "GET", "/", 200, "text/html; charset=utf-8"},
		{"a page of the shell", "GET", "/file", 200, "text/html; charset=utf-8"},
		{"a script", "GET", "/shell.js", 200, "text/javascript; charset=utf-8"},
		{"styles", "HEAD", "/shell.css", 200, "text/css; charset=utf-8"},
		{"what the server is", "GET", "/about.json", 200, "application/json"},
		{"no such page", "GET", "/files/", 404, ""},
		{"out of the tree", "GET", "/../web.go", 404, ""},
		{"a change", "POST", "/", 405, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := get(t, c.method, "example.org", c.at)
			if r.StatusCode != c.status {
				t.Fatalf("status %d, want %d", r.StatusCode, c.status)
			}
			if c.kind != "" && r.Header.Get("Content-Type") != c.kind {
				t.Errorf("content type %q", r.Header.Get("Content-Type"))
			}
			if r.Header.Get("Content-Security-Policy") == "" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error("an answer without its policy")
			}
		})
	}
}

func TestAbout(t *testing.T) {
	var a About
	if err := json.NewDecoder(get(t, "GET", "h", "/about.json").Body).Decode(&a); err != nil || a != (About{Version: "v1", Open: true}) {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestUnchangedPagesAreNotSentAgain(t *testing.T) {
	tag := get(t, "GET", "h", "/shell.js").Header.Get("ETag")
	if tag == "" {
		t.Fatal("no tag")
	}
	if r := get(t, "GET", "h", "/shell.js", "If-None-Match", tag); r.StatusCode != http.StatusNotModified {
		t.Fatalf("status %d", r.StatusCode)
	}
}

// TestPolicy: pages talk to their own host and to nobody else, and a host that is none does not get into the policy.
func TestPolicy(t *testing.T) {
	for _, c := range []struct{ name, host, want string }{
		{"a name", "live.example.org", "connect-src 'self' ws://live.example.org wss://live.example.org;"},
		{"a port", "127.0.0.1:7402", "connect-src 'self' ws://127.0.0.1:7402 wss://127.0.0.1:7402;"},
		{"IPv6", "[::1]:7402", "connect-src 'self' ws://[::1]:7402 wss://[::1]:7402;"},
		{"a policy", "x; script-src *", "connect-src 'self';"},
		{"spaces", "a b", "connect-src 'self';"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := get(t, "GET", c.host, "/").Header.Get("Content-Security-Policy")
			if !strings.Contains(p, c.want) || !strings.HasPrefix(p, "default-src 'none';") || strings.Contains(p, "unsafe") {
				t.Errorf("%s", p)
			}
		})
	}
}

// TestRoutes: the server knows the pages that the shell has.
func TestRoutes(t *testing.T) {
	source, err := os.ReadFile("pages/shell/routes.ts")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`path: "([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		if r := get(t, "GET", "h", m[1]); r.StatusCode != 200 {
			t.Errorf("%s: status %d", m[1], r.StatusCode)
		}
	}
}

// TestConsole: the console is there, and asks nobody but its own node, by the API alone.
func TestConsole(t *testing.T) {
	for _, c := range []struct {
		name, at string
		status   int
		kind     string
	}{
		{"the page", "/console/", 200, "text/html; charset=utf-8"},
		{"its script", "/console/console.js", 200, "text/javascript; charset=utf-8"},
		{"its styles", "/console/console.css", 200, "text/css; charset=utf-8"},
		{"what the pages have", "/console/shell.js", 404, ""},
		{"elsewhere", "/shell.js", 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			Console().ServeHTTP(w, httptest.NewRequest("GET", c.at, nil))
			if w.Code != c.status || c.kind != "" && w.Header().Get("Content-Type") != c.kind {
				t.Fatalf("%d, %s", w.Code, w.Header().Get("Content-Type"))
			}
			p := w.Header().Get("Content-Security-Policy")
			if c.status == 200 && (!strings.Contains(p, "connect-src 'self';") || !strings.HasPrefix(p, "default-src 'none';") || strings.Contains(p, "unsafe")) {
				t.Errorf("%s", p)
			}
		})
	}
}
