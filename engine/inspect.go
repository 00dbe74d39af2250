package engine

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
)

// What people ask about the cluster: who is there, and who does what for a room. It is answered as JSON on the admin
// address, by what the cluster goroutine knows at that moment.

// Reports, as the admin address gives them.
type (
	NodeReport      = carry.NodeReport
	RoomReport      = carry.RoomReport
	PublisherReport = carry.PublisherReport
	EdgeReport      = carry.EdgeReport
)

// inspectTimeout bounds how long other nodes are waited for.
const inspectTimeout = time.Second

// inspect asks all nodes for what they know of a room and puts it together.
func (c *cluster) inspect(ctx context.Context, id codec.RoomID) RoomReport {
	answers := make(chan RoomReport, 1024)
	all, left := make([]RoomReport, 1), 0
	c.on(func() {
		all[0] = c.node.Room(id)
		left = c.node.Inspect(id, c.e.now(), func(rep RoomReport) {
			select {
			case answers <- rep:
			default: // nobody waits any more
			}
		})
	})
	for range left {
		select {
		case rep := <-answers:
			if rep.Node != "" && rep.Node != c.self {
				all = append(all, rep)
			}
		case <-ctx.Done():
		}
	}
	return carry.Join(all)
}

// serveCluster adds the cluster's pages to the admin address.
func (e *Engine) serveCluster(mux *http.ServeMux) {
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) {
		var ns []NodeReport
		if e.cluster == nil || !e.cluster.on(func() { ns = e.cluster.node.Nodes() }) {
			http.Error(w, "this node is in no cluster", http.StatusNotFound)
			return
		}
		reply(w, ns)
	})
	mux.HandleFunc("GET /rooms/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := codec.ParseRoomID(r.PathValue("id"))
		switch {
		case err != nil:
			http.Error(w, "not a room number", http.StatusBadRequest)
			return
		case e.cluster == nil:
			http.Error(w, "this node is in no cluster", http.StatusNotFound)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), inspectTimeout)
		defer cancel()
		rep := e.cluster.inspect(ctx, id)
		if !rep.Known {
			http.Error(w, "no such room", http.StatusNotFound)
			return
		}
		reply(w, rep)
	})
}
