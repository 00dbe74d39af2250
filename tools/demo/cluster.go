package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// cluster is some nodes, each a process that listens on ports of its own on this machine.
type cluster struct {
	program string         // path of timedge
	dir     string         // for the key and the logs
	running sync.WaitGroup // processes; they end with the context that they were started with
	nodes   []*node
}

type node struct {
	name                   string
	listen, admin, cluster string // addresses
	process                *os.Process
	gone                   chan struct{} // closed when the process has ended
}

// command prepares a process that is killed with ctx, and with this one.
func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.program, args...)
	// A Ctrl-C is this process's alone, and whoever tries the demo may have settings for other servers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "TIMEDGE_") })
	return cmd
}

// start runs nodes with these names and waits until all have links to all.
func (c *cluster) start(ctx context.Context, names ...string) error {
	key, err := c.command(ctx, "key").Output()
	if err != nil {
		return fmt.Errorf("timedge key: %w", err)
	}
	if err := os.WriteFile(c.keyFile(), key, 0o600); err != nil {
		return err
	}
	for _, name := range names {
		if err := c.add(ctx, name); err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
	}
	for _, n := range c.nodes {
		err := until(ctx, n.name+" has links to all", func() bool {
			linked := 0
			for _, m := range n.view(ctx) {
				if m.Linked {
					linked++
				}
			}
			return linked == len(names)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) keyFile() string { return filepath.Join(c.dir, "key") }

// add runs one more node, which joins the others. The system chooses its ports, and the node says which these are.
func (c *cluster) add(ctx context.Context, name string) error {
	const anywhere = "127.0.0.1:0"
	args := []string{"serve", "--node", name, "--listen", anywhere, "--admin", anywhere, "--cluster", anywhere, "--cluster-key-file", c.keyFile(),
		"--web", "off"}
	for _, o := range c.nodes {
		args = append(args, "--join", o.cluster)
	}
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.command(ctx, args...)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n := &node{name: name, process: cmd.Process, gone: make(chan struct{})}
	said := bufio.NewReader(stdout)
	first, _ := said.ReadString('\n')
	second, _ := said.ReadString('\n')
	c.running.Go(func() {
		_ = cmd.Wait() // killed
		close(n.gone)
	})
	var listens, administers bool
	n.listen, listens = strings.CutPrefix(strings.TrimSpace(first), "timedge serves on ")
	n.admin, administers = strings.CutPrefix(second, "health and metrics are on http://")
	if !listens || !administers {
		return errors.New("it does not say where it listens; see its log")
	}
	n.admin, _, _ = strings.Cut(n.admin, " ")
	c.nodes = append(c.nodes, n)
	return until(ctx, name+" knows itself", func() bool {
		for _, m := range n.view(ctx) {
			if m.Self {
				n.cluster = m.Addr
			}
		}
		return n.cluster != ""
	})
}

// kill ends a node at once, as kill -9 does, and waits until it is gone.
func (c *cluster) kill(name string) error {
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
	if err := c.nodes[i].process.Kill(); err != nil {
		return err
	}
	<-c.nodes[i].gone
	return nil
}

// until waits for something that is to come true.
func until(ctx context.Context, what string, is func() bool) error {
	ask := time.NewTicker(10 * time.Millisecond)
	defer ask.Stop()
	for !is() {
		select {
		case <-ask.C:
		case <-ctx.Done():
			return fmt.Errorf("waited until %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// view returns what a node says of the members, nothing if it does not answer.
func (n *node) view(ctx context.Context) (members []engine.NodeReport) {
	n.ask(ctx, "/nodes", &members)
	return members
}

// ask reads a page of a node's admin address.
func (n *node) ask(ctx context.Context, page string, into any) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+page, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(into) == nil
}

// relay is who relays a room.
type relay struct {
	node  string
	epoch uint32
}

func (r relay) String() string { return fmt.Sprintf("%s relays it (epoch %d)", r.node, r.epoch) }

// relay asks node n who relays a room, until that is another than the one who did.
func (c *cluster) relay(ctx context.Context, n *node, room codec.RoomID, did string) (r relay, err error) {
	err = until(ctx, fmt.Sprintf("another node than %q relays room %v", did, room), func() bool {
		var rep engine.RoomReport
		n.ask(ctx, "/rooms/"+room.String(), &rep)
		r = relay{rep.Relay, rep.Epoch}
		return r.node != did && r.node != ""
	})
	return r, err
}

// dial connects to node home, and to any other when that one fails. Each connection made is told to on, which may be
// nil.
func (c *cluster) dial(ctx context.Context, account string, home *node, on func(*node)) (*client.Client, error) {
	servers := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		servers[i] = n.listen
	}
	var begun atomic.Bool
	return client.Dial(ctx, client.Options{
		Servers: servers, Account: account, Silence: time.Second,
		Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
			if !begun.Swap(true) {
				addr = home.listen
			}
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil && on != nil {
				on(c.nodes[slices.Index(servers, addr)])
			}
			return conn, err
		},
	})
}

// register opens a room at a node, and leaves.
func (c *cluster) register(ctx context.Context, home *node, account string) (codec.RoomID, error) {
	cl, err := c.dial(ctx, account, home, nil)
	if err != nil {
		return 0, err
	}
	defer cl.Close(context.Background())
	return cl.Register(ctx, client.RoomOptions{})
}

// push has a process push a file at a node. The channel gives its error, then, as also when all is delivered, nil.
func (c *cluster) push(ctx context.Context, home *node, account string, room codec.RoomID, path string) <-chan error {
	cmd := c.command(ctx, "push", "--realtime", "--server", home.listen, "--account", account, "--room", room.String(), path)
	var said strings.Builder
	cmd.Stderr = &said
	ended := make(chan error, 1)
	c.running.Go(func() {
		defer close(ended)
		if err := cmd.Run(); err != nil {
			ended <- fmt.Errorf("timedge push: %w: %s", err, strings.TrimSpace(said.String()))
		}
	})
	return ended
}
