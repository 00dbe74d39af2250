package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Any node shows and operates all: what is asked under /api/v1/nodes/NODE/ this node asks that one, over the link
// between them, for what it has at /api/v1/. Who may is looked at here, so the other does not ask again.

// notAfar are the operations that are for a node itself alone: those that ask others, and those whose answers are long.
var notAfar = []string{"/api/v1/openapi.json", "/api/v1/cluster", "/api/v1/profile"}

// OfThisNode returns what does operations of other nodes' operators on this one.
func OfThisNode(server Server) func(ctx context.Context, o Operation) (status int, body []byte) {
	a := &api{server: server}
	mux := http.NewServeMux()
	for _, r := range routes {
		if !slices.Contains(notAfar, r.path) {
			mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { r.handle(a, w, req) })
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "there is no such operation on another node")
	})
	return func(ctx context.Context, o Operation) (int, []byte) {
		w := answer{status: http.StatusOK, header: http.Header{}}
		r, err := http.NewRequestWithContext(ctx, o.Method, o.Path, bytes.NewReader(o.Body))
		if err != nil {
			fail(&w, http.StatusBadRequest, "not a request")
		} else {
			r.RemoteAddr = o.By
			mux.ServeHTTP(&w, r)
		}
		return w.status, w.body.Bytes()
	}
}

// answer keeps what a handler answers.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *answer) Header() http.Header         { return w.header }
func (w *answer) WriteHeader(status int)      { w.status = status }
func (w *answer) Write(b []byte) (int, error) { return w.body.Write(b) }

// afar are the operations on another node. They are no routes, since their answers are those of routes.
func (a *api) afar(mux *http.ServeMux) {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		mux.HandleFunc(method+" /api/v1/nodes/{node}/{operation...}", a.guard(method == http.MethodGet, a.forward))
	}
}

// forward hands a request on to the node that it is for, and its answer back.
func (a *api) forward(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "the body is too long")
		return
	}
	// As it was escaped: an account's name may have a slash.
	path := "/api/v1/" + strings.SplitN(r.URL.EscapedPath(), "/", 6)[5]
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	status, answer, err := a.server.Operate(r.Context(), r.PathValue("node"), Operation{Method: r.Method, Path: path, By: by(r), Body: body})
	switch {
	case errors.Is(err, ErrUnreachable):
		fail(w, http.StatusBadGateway, err.Error())
	case errors.Is(err, ErrTooLong):
		fail(w, http.StatusRequestEntityTooLarge, err.Error())
	case err != nil:
		done(w, err)
	default:
		if len(answer) > 0 {
			w.Header().Set("Content-Type", "application/json")
		}
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	}
}

func (a *api) figures(w http.ResponseWriter, _ *http.Request) { reply(w, a.server.Figures()) }

// tell takes what the node says of itself.
func (n *ClusterNode) tell(f Figures) {
	n.Figures, n.Relayed, n.Mirrored = &f, &f.Relayed, &f.Mirrored
}

// cluster asks all nodes at once.
func (a *api) cluster(w http.ResponseWriter, r *http.Request) {
	nodes := a.server.Nodes()
	all := make([]ClusterNode, len(nodes))
	var asked sync.WaitGroup
	for i, n := range nodes {
		all[i].Node = n
		if n.Self {
			all[i].tell(a.server.Figures())
			continue
		}
		asked.Go(func() {
			status, body, err := a.server.Operate(r.Context(), n.Name, Operation{Method: http.MethodGet, Path: "/api/v1/figures", By: by(r)})
			var f Figures
			if err == nil && status != http.StatusOK {
				err = errors.New("it answered " + http.StatusText(status))
			}
			if err == nil {
				err = json.Unmarshal(body, &f)
			}
			if err != nil {
				all[i].Error = err.Error()
			} else {
				all[i].tell(f)
			}
		})
	}
	asked.Wait()
	reply(w, all)
}
