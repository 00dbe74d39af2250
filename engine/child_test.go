package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// Some tests need a second process: for its own descriptors, or to read its memory. It is the test binary itself, with
// what it is to do in the environment. It ends when its standard input does.

const childEnv = "TIMEDGE_ENGINE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "server":
		childServer()
	case "crowd":
		childCrowd()
	}
}

// child is a second process.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// spawn starts a child in a role; it ends with the test.
func spawn(t testing.TB, role string, env ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(append(os.Environ(), childEnv+"="+role), env...)
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	c.out.Buffer(nil, 1<<20)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.in.Close()
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("child %s: %v", role, err)
		}
	})
	return c
}

// line returns the next line that the child prints.
func (c *child) line() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("the child has ended: %v", c.out.Err())
	}
	return c.out.Text()
}

// expect reads lines until one contains want, and returns it.
func (c *child) expect(want string) string {
	c.t.Helper()
	for {
		if l := c.line(); strings.Contains(l, want) {
			return l
		}
	}
}

func (c *child) tell(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

// childServer serves until its input ends. It prints its addresses, and its log; NOFILE sets its descriptor limit,
// CLUSTER_KEY makes it a node of a cluster.
func childServer() {
	if n, err := strconv.ParseUint(os.Getenv("NOFILE"), 10, 64); err == nil {
		lim := unix.Rlimit{Cur: n, Max: n}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	cfg := engine.Config{
		Listen: []string{"127.0.0.1:0"}, Loops: 2, Node: "child", Log: zerolog.New(os.Stdout).Level(zerolog.InfoLevel),
		DrainSpread: time.Millisecond, MaxConns: 1 << 20, MaxHandshakes: 1 << 20,
	}
	if key, err := node.ParseKey(os.Getenv("CLUSTER_KEY")); err == nil {
		cfg.Cluster = &engine.ClusterConfig{Bind: "127.0.0.1:0", Keys: node.Keys{key}}
	}
	e, err := engine.Start(cfg)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening", e.Addrs()[0], e.ClusterAddr())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		childCommand(in.Text())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// childCommand does what a line of the server's input asks for.
func childCommand(line string) {
	switch line {
	case "rss":
		fmt.Println("rss", settledRSS())
	case "goroutines":
		fmt.Println("goroutines", runtime.NumGoroutine())
	case "collections": // that somebody asked for
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println("collections", m.NumForcedGC)
	}
}

// settledRSS returns the resident bytes of the process once what the collector can free is given back.
func settledRSS() int64 {
	runtime.GC() // twice: the first one empties the pools into their victims
	runtime.GC()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "VmRSS:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// childCrowd is many subscribers in one process. Each line of its input is "join ADDR ROOM N": it connects N sessions
// that subscribe to the room and prints "joined" when all are; "count N" prints "counted" when each session that has
// joined has got N stream frames in order, or what was wrong.
func childCrowd() {
	var all []*fan
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch f[0] {
		case "join":
			n, _ := strconv.Atoi(f[3])
			id, _ := strconv.ParseUint(f[2], 10, 64)
			fans, err := crowd(f[1], codec.RoomID(id), n, len(all))
			if err != nil {
				fmt.Println("failed:", err)
				os.Exit(1)
			}
			all = append(all, fans...)
			fmt.Println("joined")
		case "count":
			n, _ := strconv.ParseUint(f[1], 10, 64)
			for i, x := range all {
				if err := x.upTo(n); err != nil {
					fmt.Printf("failed: subscriber %d: %v\n", i, err)
					os.Exit(1)
				}
			}
			fmt.Println("counted")
		}
	}
}

// fan is a subscriber that reads what it is asked to count, and checks that it is in order.
type fan struct {
	c    net.Conn
	buf  []byte
	last uint64
}

// crowd connects fans, some at a time, and has them subscribe.
func crowd(addr string, room codec.RoomID, n, from int) ([]*fan, error) {
	fans := make([]*fan, n)
	var g errgroup.Group
	g.SetLimit(64)
	for i := range fans {
		g.Go(func() error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			b := enc((&codec.Hello{Account: "viewer", Instance: uint64(1000 + from + i)}).Append(codec.AppendClientPreface(nil, 1, 1)))
			if _, err := c.Write(enc((&codec.Subscribe{Req: 1, Room: room}).Append(b))); err != nil {
				return err
			}
			fans[i] = &fan{c: c}
			return fans[i].subscribed()
		})
	}
	return fans, g.Wait()
}

// read waits for more bytes and calls yield for every whole frame.
func (f *fan) read(yield func(b []byte, typ byte) error) error {
	var chunk [4096]byte
	_ = f.c.SetReadDeadline(time.Now().Add(6 * patience))
	n, err := f.c.Read(chunk[:])
	if err != nil {
		return err
	}
	f.buf = append(f.buf, chunk[:n]...)
	at := 0
	for {
		b, typ, err := codec.Next(f.buf[at:], codec.MaxFrame)
		if err == codec.ErrIncomplete {
			break
		}
		if err == nil {
			err = yield(b, typ)
		}
		if err != nil {
			return err
		}
		at += len(b)
	}
	f.buf = append([]byte(nil), f.buf[at:]...)
	return nil
}

func (f *fan) subscribed() error {
	preface := make([]byte, codec.PrefaceSize)
	if _, err := io.ReadFull(f.c, preface); err != nil {
		return err
	}
	for done := false; !done; {
		err := f.read(func(b []byte, typ byte) error {
			if typ == codec.TypeError || typ == codec.TypeRefused {
				return fmt.Errorf("frame %x", b)
			}
			done = done || typ == codec.TypeSubscribed
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fan) upTo(seq uint64) error {
	for f.last < seq {
		err := f.read(func(b []byte, typ byte) error {
			if typ&codec.TypeStream == 0 {
				return nil
			}
			var s codec.Stream
			if err := codec.ParseStream(b, &s); err != nil {
				return err
			}
			if s.Seq != f.last+1 {
				return fmt.Errorf("frame %d after %d", s.Seq, f.last)
			}
			f.last = s.Seq
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
