package engine

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What people ask about the cluster: who is there, and who does what for a room. It is answered as JSON on the admin address, by what the
// cluster goroutine knows at that moment.

// NodeReport is one member as this node sees it.
type NodeReport struct {
	Name     string `json:"name"`
	Addr     string `json:"addr"` // of gossip and links
	Self     bool   `json:"self,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	Linked   bool   `json:"linked"` // this node has a link to it
	Relayed  *int   `json:"rooms_relayed,omitempty"`
	Mirrored *int   `json:"rooms_mirrored,omitempty"`
}

// RoomReport is what one node knows of a room, or, put together, what all do.
type RoomReport struct {
	Room       string            `json:"room"`
	Node       string            `json:"node"`
	Role       string            `json:"role"` // relay, standby, edge, none
	Chain      []string          `json:"chain"`
	Relay      string            `json:"relay,omitempty"`
	Epoch      uint32            `json:"epoch,omitempty"`
	Version    uint64            `json:"version,omitempty"`
	Policy     string            `json:"policy,omitempty"`
	Owner      string            `json:"owner,omitempty"`
	Ended      string            `json:"ended,omitempty"`
	Publishers []PublisherReport `json:"publishers,omitempty"` // the relay's
	Nodes      []EdgeReport      `json:"nodes,omitempty"`      // put together: what each node has of it
	Here       int               `json:"subscribers"`          // of this node
	Known      bool              `json:"known"`
	Cut        bool              `json:"cut,omitempty"` // there are more publishers than are named
}

// PublisherReport is one publisher of a room.
type PublisherReport struct {
	Num     uint16 `json:"num"`
	Account string `json:"account"`
	Node    string `json:"node"` // where its client is connected; empty while it is away
}

// EdgeReport is one node's part in a room.
type EdgeReport struct {
	Node        string `json:"node"`
	Role        string `json:"role"`
	Subscribers int    `json:"subscribers"`
	Publishers  int    `json:"publishers"`
}

// inspectTimeout bounds how long other nodes are waited for.
const inspectTimeout = time.Second

// on runs f on the cluster goroutine and waits for it; false if that has ended.
func (c *cluster) on(f func()) bool {
	done := make(chan struct{})
	c.post(func() { f(); close(done) })
	select {
	case <-done:
		return true
	case <-c.stop:
		return false
	}
}

func (c *cluster) nodes() (ns []NodeReport) {
	for _, m := range c.core.View().Members {
		n := NodeReport{Name: m.Name, Addr: m.Addr, Draining: m.Draining, Self: m.Name == c.self}
		if n.Self {
			relayed, mirrored := c.core.Relayed(), 0
			for _, e := range c.edges {
				if e.room != nil {
					mirrored++
				}
			}
			n.Relayed, n.Mirrored, n.Linked = &relayed, &mirrored, true
		} else if p := c.peers[m.Name]; p != nil {
			n.Linked = p.up != nil
		}
		ns = append(ns, n)
	}
	return ns
}

// room returns what this node knows of a room.
func (c *cluster) room(id codec.RoomID) RoomReport {
	rep := RoomReport{Room: id.String(), Node: c.self, Role: "none", Chain: c.core.Chain(id)}
	if st := c.core.State(id); st != nil {
		rep.Known, rep.Role, rep.Relay, rep.Epoch, rep.Version = true, "standby", st.Relay, st.Epoch, st.Version
		rep.Policy, rep.Owner = st.Policy.String(), st.Owner
		if st.Ended != 0 {
			rep.Ended = st.Ended.String()
		}
	}
	if e := c.edges[id]; e != nil {
		rep.Role, rep.Known = "edge", true
	}
	r, err := c.e.rooms.Get(id)
	if err != nil {
		return rep
	}
	rep.Here = r.Subscribers() - r.Tallied()
	if c.core.Relays(id) {
		rep.Role = "relay"
		r.Publishers(func(num uint16, account string, h room.Holder) bool {
			p := PublisherReport{Num: num, Account: account}
			if pub, ok := h.(*publication); ok {
				p.Node = c.self
				if pub.s.link != nil {
					p.Node = pub.s.link.peer.name
				}
			}
			rep.Publishers = append(rep.Publishers, p)
			return true
		})
	}
	return rep
}

// report is what another node is told of a room.
func (c *cluster) report(id codec.RoomID) []byte {
	rep := c.room(id)
	for {
		b, err := json.Marshal(rep)
		switch {
		case err != nil:
			return []byte("{}")
		case len(b) <= codec.MaxReport:
			return b
		}
		// A name may be six times as long in JSON. What is left of a report without lists fits.
		rep.Cut = true
		if n := len(rep.Publishers); n > 0 {
			rep.Publishers = rep.Publishers[:n/2]
		} else {
			rep.Chain = rep.Chain[:len(rep.Chain)/2]
		}
	}
}

// inspect asks all nodes for what they know of a room and puts it together.
func (c *cluster) inspect(ctx context.Context, id codec.RoomID) RoomReport {
	var own RoomReport
	answers := make(chan RoomReport, 256)
	asked := 0
	c.on(func() {
		own = c.room(id)
		for _, p := range c.peers {
			if p.up == nil || asked == cap(answers) {
				continue
			}
			asked++
			c.callVia(p, func(req uint32) codec.Control { return &codec.Inspect{Req: req, Room: id} }, nil, func(m codec.Control) {
				var rep RoomReport
				if m, ok := m.(*codec.Report); ok {
					_ = json.Unmarshal(m.JSON, &rep)
				}
				answers <- rep
			})
		}
	})
	all := []RoomReport{own}
	for range asked {
		select {
		case rep := <-answers:
			if rep.Node != "" {
				all = append(all, rep)
			}
		case <-ctx.Done():
		}
	}
	rep := own
	for _, r := range all { // the relay's word is the one that counts
		if r.Role == "relay" && (rep.Role != "relay" || r.Epoch > rep.Epoch) {
			rep = r
		}
		if r.Known {
			own.Known = true
		}
	}
	rep.Known = own.Known
	from := make(map[string]int)
	for _, p := range rep.Publishers {
		from[p.Node]++
	}
	for _, r := range all {
		if r.Role != "none" {
			rep.Nodes = append(rep.Nodes, EdgeReport{Node: r.Node, Role: r.Role, Subscribers: r.Here, Publishers: from[r.Node]})
		}
	}
	slices.SortFunc(rep.Nodes, func(a, b EdgeReport) int { return strings.Compare(a.Node, b.Node) })
	return rep
}

// serveCluster adds the cluster's pages to the admin address.
func (e *Engine) serveCluster(mux *http.ServeMux) {
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) {
		var ns []NodeReport
		if e.cluster == nil || !e.cluster.on(func() { ns = e.cluster.nodes() }) {
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
