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

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// clusterFlags make a server a node of a cluster.
type clusterFlags struct {
	Cluster string   `placeholder:"ADDR" env:"TIMEDGE_CLUSTER" help:"Where other nodes reach this one, by TCP and UDP; makes it a node of a cluster (none)."`
	Join    []string `placeholder:"ADDR" env:"TIMEDGE_JOIN" help:"Nodes of the cluster to ask first; several, comma-separated (the first node needs none)."`
	KeyFile string   `name:"cluster-key-file" placeholder:"FILE" env:"TIMEDGE_CLUSTER_KEY_FILE" help:"The key that all nodes share; make one with: timedge key."`
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}

// config returns nil for a node on its own.
func (c *clusterFlags) config(log zerolog.Logger) (*engine.ClusterConfig, error) {
	switch {
	case c.Cluster == "" && len(c.Join) == 0 && c.KeyFile == "":
		return nil, nil
	case c.Cluster == "":
		return nil, errors.New("--cluster is missing: it says where the other nodes reach this one")
	case c.KeyFile == "":
		return nil, errors.New("--cluster-key-file is missing; make a key with: timedge key > FILE")
	}
	if host, _, err := net.SplitHostPort(c.Cluster); err != nil || host == "" || unspecified(host) {
		return nil, fmt.Errorf("--cluster: %q is not how other nodes reach this one; write HOST:PORT, with a host or address of this machine", c.Cluster)
	}
	for _, addr := range c.Join {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("--join: %q is no HOST:PORT, such as another node has as its --cluster", addr)
		}
	}
	key, err := node.ReadKey(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("--cluster-key-file: %w", err)
	}
	if fi, err := os.Stat(c.KeyFile); err == nil && fi.Mode().Perm()&0o007 != 0 {
		log.Warn().Str("file", c.KeyFile).Msg("everybody on this machine can read the cluster key, and so be a node: chmod 600 it")
	}
	return &engine.ClusterConfig{Bind: c.Cluster, Join: c.Join, Key: key}, nil
}

// nodeName is a node's name by default: the host's with the port, since there may be several on one host.
func nodeName(cluster string) string {
	host, _ := os.Hostname()
	_, port, _ := net.SplitHostPort(cluster)
	return host + ":" + port
}

type keyCmd struct{}

// Run prints a new cluster key. A file that it is redirected into becomes its owner's alone.
func (*keyCmd) Run(std *streams) error {
	if fi, err := std.out.Stat(); err == nil && fi.Mode().IsRegular() {
		if err := std.out.Chmod(0o600); err != nil {
			return fmt.Errorf("a key is for its owner's eyes: %w", err)
		}
	}
	return std.say("%s", node.NewKey())
}

type nodesCmd struct {
	Admin string `placeholder:"ADDR" default:"127.0.0.1:7401" env:"TIMEDGE_ADMIN" help:"The --admin address of any node (${default})."`
	JSON  bool   `help:"Print JSON."`
}

// Run shows the members of a cluster as one of them sees it.
func (c *nodesCmd) Run(ctx context.Context, std *streams) error {
	var nodes []engine.NodeReport
	raw, err := askAdmin(ctx, c.Admin, "/nodes", &nodes)
	if err != nil {
		return err
	}
	if c.JSON {
		return std.page(raw)
	}
	w := std.table()
	w.row("NODE", "ADDRESS", "STATE", "ROOMS RELAYED", "MIRRORED")
	for _, n := range nodes {
		state, relayed, mirrored := "linked", "", ""
		switch {
		case n.Draining:
			state = "draining"
		case n.Self:
			state = "this node"
		case !n.Linked:
			state = "out of reach"
		}
		if n.Relayed != nil {
			relayed, mirrored = fmt.Sprint(*n.Relayed), fmt.Sprint(*n.Mirrored)
		}
		w.row(n.Name, n.Addr, state, relayed, mirrored)
	}
	return w.flush()
}

// showNodes prints what the nodes of a cluster know of a room. It prints nothing if the admin address does not answer or its node is in
// no cluster, unless somebody named it.
func (r *roomCmd) showNodes(ctx context.Context, std *streams) error {
	var rep engine.RoomReport
	raw, err := askAdmin(ctx, r.Admin, "/rooms/"+url.PathEscape(r.Room.String()), &rep)
	switch {
	case err != nil && !r.JSON:
		return nil
	case err != nil:
		return err
	case r.JSON:
		return std.page(raw)
	}
	w := std.table()
	w.row()
	w.row("relay", rep.Relay)
	w.row("epoch", rep.Epoch)
	w.row("chain", strings.Join(rep.Chain, " "))
	w.row()
	w.row("NODE", "ROLE", "SUBSCRIBERS", "PUBLISHERS")
	for _, n := range rep.Nodes {
		w.row(n.Node, n.Role, n.Subscribers, n.Publishers)
	}
	if len(rep.Publishers) > 0 {
		w.row()
		w.row("PUBLISHER", "ACCOUNT", "NODE")
	}
	for _, p := range rep.Publishers {
		node := p.Node
		if node == "" {
			node = "(away)"
		}
		w.row(p.Num, p.Account, node)
	}
	return w.flush()
}

// askAdmin gets a page of a node's admin address and reads it as JSON.
func askAdmin(ctx context.Context, addr, page string, into any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+page, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if _, ok := errors.AsType[*net.OpError](err); ok {
			return nil, fmt.Errorf("no node answers on its admin address %s: is it running, and is --admin the same?", addr)
		}
		return nil, err
	}
	defer res.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(raw)))
	}
	return raw, json.Unmarshal(raw, into)
}
