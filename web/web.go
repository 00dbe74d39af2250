// Package web holds the pages for browsers and the operators' console, as they were built from the TypeScript beside it,
// and serves them. Start at Handler and Console, which any number of goroutines may call at once.
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
	"time"
)

// What "make web" builds: the pages, and the console. They are committed, so that building the server takes no Node;
// "make test-web" fails if they are not what the sources give.
var (
	//go:embed dist
	dist embed.FS
	//go:embed console
	console embed.FS
)

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
	assets := embedded(dist, "dist")
	body, err := json.Marshal(about)
	if err != nil {
		panic(fmt.Sprintf("web: %v", err))
	}
	assets["/about.json"] = newAsset("/about.json", body)
	for _, at := range routes {
		assets[at] = assets["/index.html"]
	}
	return serve(assets, pagePolicy)
}

// Console serves the operators' console at /console/, beside the API at /api/v1/ that it asks.
func Console() http.Handler {
	assets := embedded(console, "console")
	assets["/"] = assets["/index.html"]
	return http.StripPrefix("/console", serve(assets, consolePolicy))
}

// embedded reads a folder.
func embedded(files embed.FS, root string) map[string]asset {
	assets := map[string]asset{}
	err := fs.WalkDir(files, root, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(at)
		assets[at[len(root):]] = newAsset(at, body)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("web: what is embedded cannot be read: %v", err))
	}
	return assets
}

func newAsset(at string, body []byte) asset {
	return asset{body, kinds[path.Ext(at)], fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(body))[:16])}
}

// serve answers with assets, under a policy for the host that the request names.
func serve(assets map[string]asset, policy func(host string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header(), policy(r.Host))
		a, ok := assets[r.URL.Path]
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

// policyEnd is common to all pages: they are in no frame, and send no form.
const policyEnd = "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pagePolicy lets pages connect to their own host. Some browsers do not count WebSockets of it as 'self', so it is named.
func pagePolicy(host string) string {
	connect := "'self'"
	if hosts.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	return "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob: data:; " +
		"media-src 'self' blob:; connect-src " + connect + policyEnd
}

// consolePolicy lets the console ask the API, and nothing else.
func consolePolicy(string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'" + policyEnd
}

// secure sets the headers that keep pages to themselves.
func secure(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(self), microphone=(self), display-capture=(self), screen-wake-lock=(self)")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
}
