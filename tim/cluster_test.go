package tim

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// Nodes that are killed are processes of their own: the test binary, with what it is to do in the environment.
const childEnv = "TIMEDGE_TIM_TEST_CHILD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := childNode(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// childSpec is what a child is told.
type childSpec struct {
	Node string
	Key  string
	Join []string
}

// childNode serves until it is killed, or drains on SIGTERM. Its first line says its addresses: gateway, cluster,
// admin.
func childNode(text string) error {
	var spec childSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	key, err := node.ParseKey(spec.Key)
	if err != nil {
		return err
	}
	e, err := engine.Start(engine.Config{
		Listen: []string{"127.0.0.1:0"}, Loops: 2, Log: zerolog.Nop(), Node: spec.Node, DrainSpread: 10 * time.Millisecond,
		Cluster: &engine.ClusterConfig{Bind: "127.0.0.1:0", Keys: node.Keys{key}, Join: spec.Join},
	})
	if err != nil {
		return err
	}
	cfg := Defaults()
	cfg.Dial = func(_ context.Context, remote netip.AddrPort) (net.Conn, error) { return e.Connect(remote) }
	cfg.Admit = e.Admit
	g := New(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(admin, e.Handler()) }()
	go func() { _ = g.Serve(ln) }()
	fmt.Println(ln.Addr(), e.ClusterAddr(), admin.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = g.Shutdown(within, 10*time.Millisecond)
	return e.Shutdown(within)
}

// childProcess is a node, with the addresses of its gateway and its pages.
type childProcess struct {
	cmd        *exec.Cmd
	tim, admin string
}

// childNodes starts n nodes and returns when all see each other.
func childNodes(t *testing.T, n int) []*childProcess {
	t.Helper()
	key := node.NewKey()
	var all []*childProcess
	var join []string
	for i := range n {
		spec, err := json.Marshal(childSpec{Node: fmt.Sprint("n", i), Key: key.String(), Join: join})
		if err != nil {
			t.Fatal(err)
		}
		c := &childProcess{cmd: exec.Command(os.Args[0])}
		c.cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
		c.cmd.Stderr = os.Stderr
		out, err := c.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.cmd.Process.Kill()
			_ = c.cmd.Wait()
		})
		line, err := bufio.NewReader(out).ReadString('\n')
		words := strings.Fields(line)
		if err != nil || len(words) != 3 {
			t.Fatalf("a node said %q: %v", line, err)
		}
		c.tim, c.admin = words[0], words[2]
		join = append(join, words[1])
		all = append(all, c)
	}
	for _, c := range all {
		for !c.sees(t, n) {
			if t.Context().Err() != nil {
				t.Fatal("the nodes do not find each other")
			}
		}
	}
	return all
}

// sees reports whether a node has links to n nodes.
func (c *childProcess) sees(t *testing.T, n int) bool {
	t.Helper()
	r, err := http.Get("http://" + c.admin + "/nodes")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var members []engine.NodeReport
	if err := json.NewDecoder(r.Body).Decode(&members); err != nil {
		t.Fatal(err)
	}
	linked := 0
	for _, m := range members {
		if m.Linked {
			linked++
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return linked == n
}

// TestNodeOfRelay has the node that relays a room die, or leave, in the middle of a stream between clients at two other
// nodes.
func TestNodeOfRelay(t *testing.T) {
	for name, sig := range map[string]os.Signal{"killed": syscall.SIGKILL, "drained": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			nodes := childNodes(t, 3)
			owner := login(t, nodes[2].tim, manners[0], "owner")
			room := owner.do(opRegister, "", "") // at the node that registers it
			owner.do(opAddAuth, room, "pusher")
			push, read := login(t, nodes[0].tim, manners[0], "pusher"), login(t, nodes[1].tim, manners[2], "reader")
			read.do(opSubscribe, room, "")
			const pushes = 2000
			got := make(chan error, 1)
			go func() {
				for want := uint32(0); want < pushes; want++ {
					b, err := read.tryRead()
					if err != nil {
						got <- err
						return
					}
					d := parseDelivery(t, b[1:])
					if n := binary.BigEndian.Uint32(d.Body); n != want {
						got <- fmt.Errorf("got %d, want %d", n, want)
						return
					}
				}
				got <- nil
			}()
			for i := range uint32(pushes) {
				if i == pushes/4 {
					if err := nodes[2].cmd.Process.Signal(sig); err != nil {
						t.Fatal(err)
					}
				}
				push.push(room, 0, binary.BigEndian.AppendUint32(nil, i))
			}
			if err := <-got; err != nil {
				t.Fatal(err)
			}
		})
	}
}
