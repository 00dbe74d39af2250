package drills

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/beside"
)

var (
	kills       = flag.Int("kills", 2, "how often drills with a figure repeat what they do")
	rooms       = flag.Int("rooms", 4, "rooms that carry streams at once in drills of many")
	idle        = flag.String("idle", "300", "rooms without a stream whose relay is killed beside some with; several numbers with commas between them")
	cpuProfiles = flag.String("cpuprofiles", "", "a folder for what the others spend their processors on when the relay of many rooms is killed")
	keepLog     = flag.Bool("logs", false, "print the nodes' and the clients' logs when a drill fails")
)

// patience bounds every wait; on a busy machine things take long, and how long is no promise.
const patience = time.Minute

// silence is how long the clients of a drill bear a node that says nothing. Pauses below 300 ms are none of their
// business; one that is frozen they have left, for another that answers, when five eighths of it are over.
const silence = 800 * time.Millisecond

var program string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		return // "make test" runs them by themselves
	}
	_ = os.Setenv("TIMEDGE_WEB", "off")
	dir, err := os.MkdirTemp("", "timedge-drills")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "timedge")
	out, err := exec.Command("go", "build", "-o", program, "..").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s", out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// fleet is a cluster of real processes.
type fleet struct {
	t       *testing.T
	dir     string
	key     string
	nodes   []*node
	program string                 // what the nodes run; "": program
	extra   []string               // arguments for serve
	first   []string               // of the first node, beside these
	env     func(n *node) []string // what a node finds in its environment beside the test's own; nil: nothing
	net     *network               // nil: all on loopback

	clients int      // so many have been made
	said    *os.File // the clients' log
}

type node struct {
	name, listen, admin, cluster string
	space                        string    // network namespace; "": the test's own
	bind                         string    // --cluster; "": cluster, which is where the others reach it
	join                         []string  // --join; nil: all that run
	args                         []string  // more arguments for serve
	cmd                          *exec.Cmd // nil while it does not run
	log                          string
}

// newFleet starts n nodes and waits until all see all.
func newFleet(t *testing.T, n int, extra ...string) *fleet {
	t.Helper()
	return (&fleet{t: t, extra: extra}).begin(n)
}

// newFleetApart starts n nodes, each in a network namespace of its own, so that the network between them can fail.
func newFleetApart(t *testing.T, n int, extra ...string) *fleet {
	t.Helper()
	return (&fleet{t: t, extra: append(extra, "--insecure-open"), net: newNetwork(t, n)}).begin(n)
}

func (f *fleet) begin(n int) *fleet {
	t := f.t
	t.Helper()
	f.dir, f.program = t.TempDir(), cmp.Or(f.program, program)
	key, err := exec.Command(f.program, "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	f.key = f.file("key", string(key))
	if f.said, err = os.Create(filepath.Join(f.dir, "clients.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	for i := range n {
		f.add(fmt.Sprintf("n%d", i+1))
		f.start(i)
	}
	f.await(n)
	return f
}

func (f *fleet) file(name, text string) string {
	p := filepath.Join(f.dir, name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return p
}

func (f *fleet) add(name string) {
	if f.net != nil {
		i := len(f.nodes)
		ip := f.net.ip(i)
		f.nodes = append(f.nodes, &node{
			name: name, space: f.net.space(i), listen: ip + ":7400", admin: ip + ":7401", cluster: ip + ":7500", log: filepath.Join(f.dir, name+".log"),
		})
		return
	}
	f.nodes = append(f.nodes, &node{
		name: name, listen: freeAddr(f.t), admin: freeAddr(f.t), cluster: freeAddr(f.t), log: filepath.Join(f.dir, name+".log"),
	})
}

func freeAddr(t *testing.T) string { return beside.FreeAddr(t) }

// start runs node i. It is told of all others, as an operator would have it.
func (f *fleet) start(i int) {
	f.t.Helper()
	n := f.nodes[i]
	f.launch(i)
	f.until("node "+n.name+" is ready", func() bool { return f.ready(i) != "" })
}

// ready returns what node i says while it is ready, "" while it is not.
func (f *fleet) ready(i int) string {
	res, err := http.Get("http://" + f.nodes[i].admin + "/readyz")
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// launch runs node i and waits for nothing.
func (f *fleet) launch(i int) {
	f.t.Helper()
	n := f.nodes[i]
	args := []string{
		"serve", "--node", n.name, "--listen", n.listen, "--admin", n.admin, "--cluster", cmp.Or(n.bind, n.cluster), "--cluster-key-file", f.key,
	}
	join := n.join
	for _, o := range f.nodes {
		if n.join == nil && o != n && o.cmd != nil {
			join = append(join, o.cluster)
		}
	}
	if len(join) > 0 {
		args = append(args, "--join", strings.Join(join, ","))
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	if args = append(append(args, f.extra...), n.args...); i == 0 {
		args = append(args, f.first...)
	}
	if n.cmd = exec.Command(f.program, args...); n.space != "" {
		n.cmd = exec.Command("ip", append([]string{"netns", "exec", n.space, f.program}, args...)...)
	}
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if f.env != nil {
		n.cmd.Env = append(os.Environ(), f.env(n)...)
	}
	if err := beside.Start(n.cmd); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) signal(i int, s syscall.Signal) {
	f.t.Helper()
	if err := f.nodes[i].cmd.Process.Signal(s); err != nil {
		f.t.Fatal(err)
	}
}

// kill ends node i at once.
func (f *fleet) kill(i int) {
	f.signal(i, syscall.SIGKILL)
	f.gone(i)
}

// stop ends node i as an operator does, and waits until it has drained.
func (f *fleet) stop(i int) {
	f.signal(i, syscall.SIGTERM)
	f.gone(i)
}

func (f *fleet) gone(i int) {
	_ = f.nodes[i].cmd.Wait()
	f.nodes[i].cmd = nil
}

func (f *fleet) close() {
	for i, n := range f.nodes {
		if n.cmd != nil {
			_ = n.cmd.Process.Signal(syscall.SIGCONT)
			f.kill(i)
		}
		if f.t.Failed() && *keepLog {
			b, _ := os.ReadFile(n.log)
			f.t.Logf("%s:\n%s", n.name, b)
		}
	}
	f.said.Close()
	if f.t.Failed() && *keepLog {
		b, _ := os.ReadFile(f.said.Name())
		f.t.Logf("clients:\n%s", b)
	}
}

// until waits for something that is to come true.
func (f *fleet) until(what string, is func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			f.t.Fatalf("in vain waited until %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running returns the numbers of the nodes that run.
func (f *fleet) running() (is []int) {
	for i, n := range f.nodes {
		if n.cmd != nil {
			is = append(is, i)
		}
	}
	return is
}

// view returns what node i says of the members.
func (f *fleet) view(i int) (ns []engine.NodeReport) {
	f.get(i, "/nodes", &ns)
	return ns
}

func (f *fleet) get(i int, page string, into any) bool {
	c := http.Client{Timeout: 5 * time.Second}
	res, err := c.Get("http://" + f.nodes[i].admin + page)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(into) == nil
}

// await waits until every node that runs sees n members and has links to all of them.
func (f *fleet) await(n int) {
	f.t.Helper()
	for _, i := range f.running() {
		f.until(fmt.Sprintf("%s sees %d members", f.nodes[i].name, n), func() bool {
			linked := 0
			for _, m := range f.view(i) {
				if m.Linked {
					linked++
				}
			}
			return linked == n
		})
	}
}

// report returns what the cluster says of a room, asked by way of node i.
func (f *fleet) report(i int, room string) (rep engine.RoomReport) {
	f.get(i, "/rooms/"+room, &rep)
	return rep
}

// metric returns a number of node i, by its name and labels; -1 if there is none.
func (f *fleet) metric(i int, name string) float64 {
	res, err := http.Get("http://" + f.nodes[i].admin + "/metrics")
	if err != nil {
		return -1
	}
	defer res.Body.Close()
	for in := bufio.NewScanner(res.Body); in.Scan(); {
		if value, is := strings.CutPrefix(in.Text(), name+" "); is {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				return v
			}
		}
	}
	return -1
}

// client connects to node home first, and to any other if that one fails.
func (f *fleet) client(home int, account string) *client.Client {
	f.t.Helper()
	nodes := []int{home}
	for i := range f.nodes {
		if i != home {
			nodes = append(nodes, i)
		}
	}
	return f.clientOf(nodes, account)
}

// clientOf connects to the first of some nodes, and to any other of them if that one fails.
func (f *fleet) clientOf(nodes []int, account string) *client.Client {
	f.t.Helper()
	var servers []string
	for _, i := range nodes {
		servers = append(servers, f.nodes[i].listen)
	}
	f.clients++
	var begun atomic.Bool
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{
		Servers: servers, Account: account, Silence: silence,
		Logger: slog.New(slog.NewJSONHandler(f.said, nil)).With("client", f.clients),
		Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
			if addr != servers[0] && !begun.Load() {
				return nil, errors.New("not at home")
			}
			begun.Store(true)
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}
