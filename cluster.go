//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// config returns nil for a node on its own.
func (c *clusterFlags) config(log zerolog.Logger) (*engine.ClusterConfig, error) {
	switch {
	case c.Cluster == "" && len(c.Join) == 0 && c.KeyFile == "" && c.Advertise == "":
		return nil, nil
	case c.Cluster == "":
		return nil, errors.New("--cluster is missing: it says where the other nodes reach this one")
	case c.KeyFile == "":
		return nil, errors.New("--cluster-key-file is missing; make a key with: timedge key > FILE")
	}
	if _, port, err := net.SplitHostPort(c.Cluster); err != nil || port == "" {
		return nil, fmt.Errorf("--cluster: %q is not how other nodes reach this one; write HOST:PORT, or 0.0.0.0:PORT for all addresses of this machine", c.Cluster)
	}
	for _, addr := range c.Join {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("--join: %q is no HOST:PORT, such as another node has as its --cluster", addr)
		}
	}
	keys, err := node.ReadKeys(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("--cluster-key-file: %w", err)
	}
	if fi, err := os.Stat(c.KeyFile); err == nil && fi.Mode().Perm()&0o007 != 0 {
		log.Warn().Str("file", c.KeyFile).Msg("everybody on this machine can read the cluster key, and so be a node: chmod 600 it")
	}
	return &engine.ClusterConfig{Bind: c.Cluster, Advertise: c.Advertise, Join: c.Join, Keys: keys}, nil
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
