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
	"strings"
	"time"
)

// roomReport is what the commands read of a node's admin pages; engine.RoomReport tells all of it.
type roomReport struct {
	Chain      []string          `json:"chain"`
	Relay      string            `json:"relay"`
	Epoch      uint32            `json:"epoch"`
	Publishers []publisherReport `json:"publishers"`
	Nodes      []edgeReport      `json:"nodes"`
}

type publisherReport struct {
	Num     uint16 `json:"num"`
	Account string `json:"account"`
	Node    string `json:"node"`
}

type edgeReport struct {
	Node        string `json:"node"`
	Role        string `json:"role"`
	Subscribers int    `json:"subscribers"`
	Publishers  int    `json:"publishers"`
}

// showNodes prints what the nodes of a cluster know of a room. It prints nothing if the admin address does not answer
// or its node is in no cluster, unless somebody named it.
func (r *roomCmd) showNodes(ctx context.Context, std *streams) error {
	var rep roomReport
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
