// Package web holds the pages for browsers, as they were built from the TypeScript beside it, and serves them. Start at
// Handler, which any number of goroutines may call at once.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"time"
)

// dist is what "make web" builds. It is committed, so that building the server takes no Node; "make test-web" fails if
// it is not what the sources give.
//
//go:embed dist
var dist embed.FS

// About is what pages ask of their server before anybody has logged in. It is served as /about.json.
type About struct {
	Version string `json:"version"`
	Open    bool   `json:"open"`   // anybody may be anyone: a name will do
	Guests  bool   `json:"guests"` // clients without a token may subscribe
}

// routes are the paths at which the shell shows a page: see pages/shell/routes.ts.
var routes = []string{"/", "/live", "/meeting", "/file", "/state"}

// asset is a file that is served.
type asset struct {
	body []byte
	kind string // its Content-Type
	tag  string // its ETag
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".json": "application/json",
}

// Handler serves the pages. They ask nobody but this server for anything.
func Handler(about About) http.Handler {
	assets := map[string]asset{}
	add := func(at string, body []byte) {
		assets[at] = asset{body, kinds[path.Ext(at)], fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(body))[:16])}
	}
	err := fs.WalkDir(dist, "dist", func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := dist.ReadFile(at)
		add(at[len("dist"):], body)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("web: what is embedded cannot be read: %v", err))
	}
	body, err := json.Marshal(about)
	if err != nil {
		panic(fmt.Sprintf("web: %v", err))
	}
	add("/about.json", body)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header(), r.Host)
		at := r.URL.Path
		if slices.Contains(routes, at) {
			at = "/index.html"
		}
		a, ok := assets[at]
		switch {
		case !ok:
			http.Error(w, "there is no such page", http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "pages are read", http.StatusMethodNotAllowed)
		default:
			w.Header().Set("Content-Type", a.kind)
			w.Header().Set("ETag", a.tag)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body)) // which answers If-None-Match
		}
	})
}

// hosts are those that may stand in a policy as they are.
var hosts = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$`)

// secure sets the headers that keep pages to themselves. Some browsers do not count WebSockets of the page's own host
// as 'self', so the host is named.
func secure(h http.Header, host string) {
	connect := "'self'"
	if hosts.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob: data:; "+
		"media-src 'self' blob:; connect-src "+connect+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(self), microphone=(self), display-capture=(self), screen-wake-lock=(self)")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
}
