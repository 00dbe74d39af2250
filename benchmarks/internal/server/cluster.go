package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/timedge/timedge/engine"
)

// Node is a timedge server whose admin pages are known.
type Node struct {
	*Running
	Name  string
	admin string
}

// StartNode starts a timedge server on its own.
func StartNode(ctx context.Context, s Settings) (*Node, error) { return startNode(ctx, "alone", s) }

// StartCluster starts n nodes of one cluster, n1 and so on, and returns when each has links to all others. The caller
// stops them.
func StartCluster(ctx context.Context, n int, s Settings) (nodes []*Node, err error) {
	defer func() {
		if err != nil {
			for _, node := range nodes {
				node.Stop()
			}
		}
	}()
	key, err := exec.CommandContext(ctx, s.Binary, "key").Output()
	if err != nil {
		return nil, fmt.Errorf("timedge key: %w", err)
	}
	file := filepath.Join(s.Dir, "cluster.key")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return nil, err
	}
	var join []string
	for i := range n {
		port, err := freePort()
		if err != nil {
			return nodes, err
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		own, name := s, "n"+strconv.Itoa(i+1)
		own.Args = append([]string{"--node", name, "--cluster", addr, "--cluster-key-file", file}, join...)
		node, err := startNode(ctx, name, own)
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, node)
		join = append(join, "--join", addr)
	}
	for _, node := range nodes {
		if err := node.awaitLinks(ctx, n); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

func startNode(ctx context.Context, name string, s Settings) (*Node, error) {
	kind, err := Find("timedge")
	if err != nil {
		return nil, err
	}
	s.Dir = filepath.Join(s.Dir, name)
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.Admin = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	r, err := kind.Start(ctx, s)
	return &Node{Running: r, Name: name, admin: s.Admin}, err
}

// awaitLinks waits until the node is linked with all n members of the cluster, itself among them.
func (n *Node) awaitLinks(ctx context.Context, members int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		linked := 0
		if res, err := n.page(ctx, "/nodes"); err == nil {
			var seen []engine.NodeReport
			_ = json.NewDecoder(res.Body).Decode(&seen)
			_ = res.Body.Close()
			for _, m := range seen {
				if m.Linked {
					linked++
				}
			}
		}
		if linked == members {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is linked with %d of %d nodes: %w", n.Name, linked, members, ctx.Err())
		}
	}
}

func (n *Node) page(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

// Counters returns the node's own counters that have no label, by name.
func (n *Node) Counters(ctx context.Context) (map[string]float64, error) {
	res, err := n.page(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	c := make(map[string]float64)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil && strings.HasPrefix(name, "timedge_") {
			c[name] = v
		}
	}
	return c, lines.Err()
}
