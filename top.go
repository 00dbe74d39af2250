package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/timedge/timedge/admin"
)

type topCmd struct {
	adminFlags
	Every time.Duration `default:"1s" placeholder:"TIME" help:"How often (${default})."`
	Once  bool          `help:"Print it once, with the rates of that time, and end."`
}

// How many rows top shows of each.
const (
	topRooms    = 10
	topSessions = 10
	topEvents   = 6
)

// glance is what top has seen of a cluster at one moment.
type glance struct {
	nodes  []admin.ClusterNode
	behind []behind // the most behind first
}

// behind is a session that something waits for, at a node.
type behind struct {
	node string
	admin.Session
}

// Run shows what the nodes of a cluster do, again and again until it is interrupted.
func (c *topCmd) Run(ctx context.Context, std *streams) error {
	before, err := c.look(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-time.After(c.Every):
		case <-ctx.Done():
			return nil
		}
		now, err := c.look(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if std.toTerminal() && !c.Once {
			std.clear()
		}
		w := std.table()
		now.show(w, before)
		if err := w.flush(); err != nil || c.Once {
			return err
		}
		before = now
	}
}

// look asks the node for all of them, and those that are behind with somebody for whom.
func (c *topCmd) look(ctx context.Context) (*glance, error) {
	g := &glance{}
	if _, err := c.call(ctx, http.MethodGet, "/api/v1/cluster", &g.nodes); err != nil {
		return nil, err
	}
	for _, n := range g.nodes {
		if n.Figures == nil || n.Figures.QueuedBytes == 0 {
			continue
		}
		var p admin.Page[admin.Session]
		if _, err := c.get(ctx, "nodes/"+url.PathEscape(n.Name)+"/sessions", "", "-lag", topSessions, &p); err != nil {
			continue // it may have gone since
		}
		for _, s := range p.Items {
			if s.LagBytes > 0 {
				g.behind = append(g.behind, behind{n.Name, s})
			}
		}
	}
	slices.SortFunc(g.behind, func(a, b behind) int {
		return cmp.Or(cmp.Compare(b.LagMillis, a.LagMillis), cmp.Compare(b.LagBytes, a.LagBytes), cmp.Compare(a.Account, b.Account))
	})
	return g, nil
}

// figuresOf returns what a node told, or nil.
func (g *glance) figuresOf(node string) *admin.Figures {
	for i := range g.nodes {
		if g.nodes[i].Name == node {
			return g.nodes[i].Figures
		}
	}
	return nil
}

// pace turns counters of two answers of one process into rates. The process says how long lies between them.
type pace float64 // seconds; 0: they are not of one process

func paceOf(before, now *admin.Figures) pace {
	if before == nil || now == nil || now.UptimeMillis <= before.UptimeMillis {
		return 0
	}
	return pace(now.UptimeMillis-before.UptimeMillis) / 1000
}

func (p pace) rate(before, now uint64) float64 {
	if p == 0 || now < before {
		return 0
	}
	return float64(now-before) / float64(p)
}

func (p pace) times(before, now uint64) string { return fmt.Sprintf("%.0f", p.rate(before, now)) }
func (p pace) bytes(before, now uint64) string {
	return humanize.IBytes(uint64(p.rate(before, now))) + "/s"
}

// show adds a picture: rates are since before.
func (g *glance) show(w *table, before *glance) {
	for _, n := range g.nodes {
		if f := n.Figures; n.Self && f != nil {
			w.row(fmt.Sprintf("timedge %s  node %s  up %s  %d takeovers, %d cut off, %d panics; %s of %s held",
				f.Version, f.Node, ago(f.UptimeMillis), f.Takeovers, f.CutOff, f.Panics, humanize.IBytes(uint64(f.MemoryBytes)), humanize.IBytes(uint64(f.MemoryBound))))
		}
	}
	w.row()
	w.row("NODE", "STATE", "SESSIONS", "RELAYED", "MIRRORED", "IN", "", "OUT", "", "DROPPED", "QUEUED", "MEMORY")
	for _, n := range g.nodes {
		f, was := n.Figures, before.figuresOf(n.Name)
		if f == nil {
			w.row(n.Name, stateOf(&n.Node))
			continue
		}
		p := paceOf(was, f)
		if was == nil {
			was = f
		}
		w.row(n.Name, stateOf(&n.Node), f.Sessions, f.Relayed, f.Mirrored, p.times(was.FramesIn, f.FramesIn)+"/s", p.bytes(was.BytesIn, f.BytesIn),
			p.times(was.Deliveries, f.Deliveries)+"/s", p.bytes(was.BytesOut, f.BytesOut), p.times(was.Dropped, f.Dropped)+"/s",
			humanize.IBytes(uint64(f.QueuedBytes)), humanize.IBytes(uint64(f.MemoryBytes)))
	}
	w.row()
	w.row("BUSIEST ROOMS", "OWNER", "RELAY", "ALSO AT", "SUBSCRIBERS", "FRAMES", "BYTES")
	for _, r := range g.busiest(before) {
		w.row(r.ID, r.Owner, r.relay, strings.Join(r.edges, " "), r.Subscribers, fmt.Sprintf("%.0f/s", r.frames), humanize.IBytes(uint64(r.bytes))+"/s")
	}
	if len(g.behind) > 0 {
		w.row()
		w.row("MOST BEHIND", "ACCOUNT", "NODE", "ADDRESS", "LAG", "QUEUED")
		for _, s := range g.behind[:min(len(g.behind), topSessions)] {
			w.row(s.ID, s.Account, s.node, s.Addr, time.Duration(s.LagMillis)*time.Millisecond, humanize.IBytes(uint64(s.LagBytes)))
		}
	}
	w.row()
	w.row("WHAT HAS HAPPENED", "NODE", "")
	for _, e := range g.lately() {
		w.row(ago(e.AgoMillis)+" ago", e.at, e.String())
	}
}

// flowing is a room with what flows through it.
type flowing struct {
	admin.FlowingRoom
	relay         string
	edges         []string
	frames, bytes float64 // a second
}

// busiest returns the rooms of all nodes through which most flows.
func (g *glance) busiest(before *glance) (all []flowing) {
	edges := map[string][]string{}
	for _, n := range g.nodes {
		if n.Figures == nil {
			continue
		}
		was := map[string]admin.FlowingRoom{}
		if f := before.figuresOf(n.Name); f != nil {
			for _, r := range f.Busiest {
				was[r.ID] = r
			}
		}
		p := paceOf(before.figuresOf(n.Name), n.Figures)
		for _, r := range n.Figures.Busiest {
			if r.Role != "relay" {
				edges[r.ID] = append(edges[r.ID], n.Name)
				continue
			}
			f := flowing{FlowingRoom: r, relay: n.Name}
			if b, ok := was[r.ID]; ok && b.Role == r.Role {
				f.frames, f.bytes = p.rate(b.Frames, r.Frames), p.rate(b.Bytes, r.Bytes)
			}
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b flowing) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ID, b.ID))
	})
	all = all[:min(len(all), topRooms)]
	for i := range all {
		all[i].edges = edges[all[i].ID]
	}
	return all
}

// told is something that has happened, and the node that tells of it.
type told struct {
	admin.Event
	at string
}

// String says it in one line.
func (e *told) String() string {
	text := e.Text
	for _, more := range []string{e.Node, e.Room} {
		if more != "" {
			text += " " + more
		}
	}
	for _, n := range []int{e.Rooms, e.Members} {
		if n != 0 {
			text += fmt.Sprintf(" (%d)", n)
		}
	}
	return text
}

// lately returns what has happened last at all nodes, the newest first.
func (g *glance) lately() (all []told) {
	for _, n := range g.nodes {
		if n.Figures != nil {
			for _, e := range n.Figures.Events {
				all = append(all, told{e, n.Name})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b told) int {
		return cmp.Or(cmp.Compare(a.AgoMillis, b.AgoMillis), cmp.Compare(a.at, b.at), cmp.Compare(b.Seq, a.Seq))
	})
	return all[:min(len(all), topEvents)]
}
