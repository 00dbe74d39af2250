package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/timedge/timedge/admin"
)

// adminFlags are common to the commands that talk to a node's admin address.
type adminFlags struct {
	Admin     string `placeholder:"ADDR" default:"127.0.0.1:7401" env:"TIMEDGE_ADMIN" help:"The --admin address of a node (${default})."`
	TokenFile string `name:"admin-token-file" placeholder:"FILE" env:"TIMEDGE_ADMIN_TOKEN_FILE" help:"The node's token; needed for what changes something, and from other machines."`
}

type roomsCmd struct {
	adminFlags
	JSON   bool   `help:"Print JSON."`
	Sort   string `default:"-bytes" placeholder:"KEY" help:"id, bytes, frames, subscribers, publishers, age, idle or owner; - before it: the other way round (${default})."`
	Limit  int    `default:"50" placeholder:"N" help:"How many (${default})."`
	Search string `arg:"" optional:"" help:"Part of a number or an owner's name."`
}

type sessionsCmd struct {
	adminFlags
	JSON   bool   `help:"Print JSON."`
	Sort   string `default:"-lag" placeholder:"KEY" help:"id, lag, account, age, subscriptions or publications; - before it: the other way round (${default})."`
	Limit  int    `default:"50" placeholder:"N" help:"How many (${default})."`
	Search string `arg:"" optional:"" help:"Part of a number, an account's name or an address."`
}

type nodesCmd struct {
	adminFlags
	JSON bool `help:"Print JSON."`
}

// nodeFlag names the node that a command is for.
type nodeFlag struct {
	Node string `placeholder:"NAME" help:"Another node of the cluster, which the node at --admin asks for it (that node itself)."`
}

// query is the flag in a request.
func (f *nodeFlag) query() string {
	if f.Node == "" {
		return ""
	}
	return "?" + url.Values{"node": {f.Node}}.Encode()
}

type (
	drainCmd struct {
		adminFlags
		nodeFlag
	}
	undrainCmd struct {
		adminFlags
		nodeFlag
	}
	reloadCmd struct{ adminFlags }
)

type rebalanceCmd struct {
	adminFlags
	PerSecond int  `default:"20" placeholder:"N" help:"How many clients of each node are told to go in a second (${default})."`
	DryRun    bool `help:"Say what would be moved, and move nobody."`
	Stop      bool `help:"Move no more of them."`
}

// call makes a request of the API, and reads the answer's JSON into into, unless that is nil.
func (f *adminFlags) call(ctx context.Context, method, path string, into any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.Admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", err)
	}
	if f.TokenFile != "" {
		b, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--admin-token-file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(b)))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if _, ok := errors.AsType[*net.OpError](err); ok {
			return nil, fmt.Errorf("no node answers on its admin address %s: is it running, and is --admin the same?", f.Admin)
		}
		return nil, err
	}
	defer res.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 300 {
		var e admin.Error
		if json.Unmarshal(raw, &e) != nil || e.Error == "" {
			e.Error = strings.TrimSpace(string(raw))
		}
		return nil, errors.New(e.Error)
	}
	if into == nil {
		return raw, nil
	}
	return raw, json.Unmarshal(raw, into)
}

// get asks for a page of a list.
func (f *adminFlags) get(ctx context.Context, list, search, sort string, limit int, into any) ([]byte, error) {
	q := url.Values{"search": {search}, "sort": {sort}, "per_page": {fmt.Sprint(limit)}}
	return f.call(ctx, http.MethodGet, "/api/v1/"+list+"?"+q.Encode(), into)
}

// Run shows the members of a cluster as one of them sees it.
func (c *nodesCmd) Run(ctx context.Context, std *streams) error {
	var nodes []admin.Node
	raw, err := c.call(ctx, http.MethodGet, "/api/v1/nodes", &nodes)
	if err != nil {
		return err
	}
	if c.JSON {
		return std.page(raw)
	}
	w := std.table()
	w.row("NODE", "ADDRESS", "STATE", "ROOMS RELAYED", "MIRRORED")
	count := func(n *int) string {
		if n == nil {
			return ""
		}
		return fmt.Sprint(*n)
	}
	for _, n := range nodes {
		w.row(n.Name, n.Addr, stateOf(&n), count(n.Relayed), count(n.Mirrored))
	}
	return w.flush()
}

// stateOf says what a member is, to people.
func stateOf(n *admin.Node) string {
	state := strings.ReplaceAll(n.State, "_", " ")
	switch {
	case n.Self && n.State == "ready":
		return "this node"
	case n.Self:
		return "this node, " + state
	}
	return state
}

// Run lists the rooms of a node.
func (c *roomsCmd) Run(ctx context.Context, std *streams) error {
	var p admin.Page[admin.Room]
	raw, err := c.get(ctx, "rooms", c.Search, c.Sort, c.Limit, &p)
	if err != nil {
		return err
	}
	if c.JSON {
		return std.page(raw)
	}
	w := std.table()
	w.row("ROOM", "OWNER", "POLICY", "ROLE", "SUBSCRIBERS", "PUBLISHERS", "FRAMES", "BYTES", "LAST PUSH")
	for _, r := range p.Items {
		w.row(r.ID, r.Owner, r.Policy, r.Role, r.Subscribers, r.Publishers, r.Frames, humanize.IBytes(r.Bytes), ago(r.IdleMillis))
	}
	return more(std, w, p.Total, len(p.Items))
}

// Run lists the sessions of a node.
func (c *sessionsCmd) Run(ctx context.Context, std *streams) error {
	var p admin.Page[admin.Session]
	raw, err := c.get(ctx, "sessions", c.Search, c.Sort, c.Limit, &p)
	if err != nil {
		return err
	}
	if c.JSON {
		return std.page(raw)
	}
	w := std.table()
	w.row("SESSION", "ACCOUNT", "ADDRESS", "BY", "SINCE", "SUBSCRIBES", "PUBLISHES", "LAG", "QUEUED")
	for _, s := range p.Items {
		w.row(s.ID, s.Account, s.Addr, s.Transport, ago(s.AgeMillis), s.Subscriptions, s.Publications, time.Duration(s.LagMillis)*time.Millisecond,
			humanize.IBytes(uint64(s.LagBytes)))
	}
	return more(std, w, p.Total, len(p.Items))
}

func more(std *streams, w *table, total, shown int) error {
	if err := w.flush(); err != nil || shown == total {
		return err
	}
	return std.say("%d of %d; see --limit and --sort", shown, total)
}

func ago(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// Run has a node hand its rooms over and send its clients away.
func (c *drainCmd) Run(ctx context.Context, std *streams) error {
	if _, err := c.call(ctx, http.MethodPut, "/api/v1/drain"+c.query(), nil); err != nil {
		return err
	}
	return std.say("the node hands its rooms over; timedge undrain takes that back")
}

// Run has nodes that have more clients than the mean send what is above it elsewhere.
func (c *rebalanceCmd) Run(ctx context.Context, std *streams) error {
	if c.Stop {
		if _, err := c.call(ctx, http.MethodDelete, "/api/v1/rebalance", nil); err != nil {
			return err
		}
		return std.say("no more clients are told to go")
	}
	var all []admin.NodeStatus
	q := url.Values{"per_second": {fmt.Sprint(c.PerSecond)}, "dry_run": {fmt.Sprint(c.DryRun)}}
	if _, err := c.call(ctx, http.MethodPut, "/api/v1/rebalance?"+q.Encode(), &all); err != nil {
		return err
	}
	w := std.table()
	w.row("NODE", "STATE", "CLIENTS", "SENT ELSEWHERE", "")
	for _, n := range all {
		w.row(n.Node, strings.ReplaceAll(n.State, "_", " "), n.Clients, n.Moves, n.Error)
	}
	return w.flush()
}

// Run takes a drain back.
func (c *undrainCmd) Run(ctx context.Context, std *streams) error {
	if _, err := c.call(ctx, http.MethodDelete, "/api/v1/drain"+c.query(), nil); err != nil {
		return err
	}
	return std.say("the node is there again")
}

// Run has a node take up its settings and files.
func (c *reloadCmd) Run(ctx context.Context, std *streams) error {
	var r admin.Reloaded
	if _, err := c.call(ctx, http.MethodPost, "/api/v1/reload", &r); err != nil {
		return mistaken(err)
	}
	none := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, ", ")
	}
	if err := std.say("settings taken up: %s", none(r.Taken)); err != nil || len(r.Restart) == 0 {
		return err
	}
	return std.say("a restart is needed for: %s", none(r.Restart))
}
