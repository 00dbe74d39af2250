package carry

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// What people ask about the cluster: who is there, and who does what for a room.

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

// Edges returns how many rooms this node knows of that another relays.
func (n *Node) Edges() int { return len(n.edges) }

// Nodes returns who is there.
func (n *Node) Nodes() (ns []NodeReport) {
	for _, m := range n.core.View().Members {
		r := NodeReport{Name: m.Name, Addr: m.Addr, Draining: m.Draining, Self: m.Name == n.self}
		if r.Self {
			relayed, mirrored := n.core.Relayed(), 0
			for _, e := range n.edges {
				if e.mirror != nil {
					mirrored++
				}
			}
			r.Relayed, r.Mirrored, r.Linked = &relayed, &mirrored, true
		} else if p := n.peers[m.Name]; p != nil {
			r.Linked = p.up != nil
		}
		ns = append(ns, r)
	}
	return ns
}

// Room returns what this node knows of a room.
func (n *Node) Room(id codec.RoomID) RoomReport {
	rep := RoomReport{Room: id.String(), Node: n.self, Role: "none", Chain: n.core.Chain(id)}
	if st := n.core.State(id); st != nil {
		rep.Known, rep.Role, rep.Relay, rep.Epoch, rep.Version = true, "standby", st.Relay, st.Epoch, st.Version
		rep.Policy, rep.Owner = st.Policy.String(), st.Owner
		if st.Ended != 0 {
			rep.Ended = st.Ended.String()
		}
	}
	if n.edges[id] != nil {
		rep.Role, rep.Known = "edge", true
	}
	r, err := n.rooms.Get(id)
	if err != nil {
		return rep
	}
	rep.Here = r.Subscribers() - r.Tallied()
	if n.core.Relays(id) {
		rep.Role = "relay"
		r.Publishers(func(num uint16, account string, h room.Holder) bool {
			p := PublisherReport{Num: num, Account: account}
			if h != nil {
				p.Node = cmp.Or(h.Peer(), n.self)
			}
			rep.Publishers = append(rep.Publishers, p)
			return true
		})
	}
	return rep
}

// report is what another node is told of a room.
func (n *Node) report(id codec.RoomID) []byte {
	rep := n.Room(id)
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

// Inspect asks all nodes for what they know of a room, this one included, and calls yield for each answer, on the
// Node's goroutine. It returns how many answers there will be.
func (n *Node) Inspect(id codec.RoomID, now int64, yield func(rep RoomReport)) (answers int) {
	n.enter(now)
	own := n.Room(id)
	for _, name := range sorted(n.peers) {
		k := n.peers[name].up
		if k == nil {
			continue
		}
		answers++
		t := n.next()
		n.call(k, t, func(m codec.Control) {
			var rep RoomReport
			if m, ok := m.(*codec.Report); ok {
				_ = json.Unmarshal(m.JSON, &rep)
			}
			yield(rep)
		})
		n.do.Send(k.id, &codec.Inspect{Req: t.wire(), Room: id})
	}
	n.leave()
	yield(own)
	return answers + 1
}

// ErrNode says that there is no link to a node; ErrLevel that the version that it runs does nothing for others.
var (
	ErrNode  = errors.New("this node has no link to it")
	ErrLevel = errors.New("it runs a version that must be asked itself")
)

// Operate asks another node for what an operator wants, in JSON, and calls yield with its answer, on the Node's
// goroutine; with nil if the link breaks before.
func (n *Node) Operate(name string, wish []byte, now int64, yield func(answer []byte)) error {
	p := n.peers[name]
	switch {
	case p == nil || p.up == nil:
		return ErrNode
	case p.member.Level < node.LevelOperate:
		return ErrLevel
	}
	n.enter(now)
	t := n.next()
	n.call(p.up, t, func(m codec.Control) {
		var answer []byte
		if m, ok := m.(*codec.Report); ok {
			answer = m.JSON
		}
		yield(answer)
	})
	n.do.Send(p.up.id, &codec.Operate{Req: t.wire(), JSON: wish})
	n.leave()
	return nil
}

// Join puts together what the nodes know of a room; the first of all is this node's own word.
func Join(all []RoomReport) RoomReport {
	rep, known := all[0], false
	for _, r := range all { // the relay's word is the one that counts
		if r.Role == "relay" && (rep.Role != "relay" || r.Epoch > rep.Epoch) {
			rep = r
		}
		known = known || r.Known
	}
	rep.Known = known
	from := make(map[string]int)
	for _, p := range rep.Publishers {
		from[p.Node]++
	}
	for _, r := range all {
		if r.Node != "" && r.Role != "none" {
			rep.Nodes = append(rep.Nodes, EdgeReport{Node: r.Node, Role: r.Role, Subscribers: r.Here, Publishers: from[r.Node]})
		}
	}
	slices.SortFunc(rep.Nodes, func(a, b EdgeReport) int { return strings.Compare(a.Node, b.Node) })
	return rep
}
