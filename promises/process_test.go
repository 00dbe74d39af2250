package promises

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// patience is how long a test waits for what must come. It bounds a test that hangs and asserts nothing.
const patience = 30 * time.Second

// long asks for the long form of the tests that have one.
var long = os.Getenv("TIMEDGE_LONG") != ""

var seedFlag = flag.Uint64("seed", 0, "seed of what is random in a test; 0: a new one each time")

// seeded returns the run's seed and a source for it.
func seeded(t testing.TB) (uint64, *rand.Rand) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("again with: go test ./promises -run '^%s$' -seed=%d", t.Name(), seed)
	return seed, rand.New(rand.NewPCG(seed, 0))
}

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	if dir, err := binDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(status)
}

var binDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "promises") })

// program builds the timedge command, without the race detector even where the test has it: its memory is measured.
var program = sync.OnceValues(func() (string, error) {
	dir, err := binDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "timedge")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/timedge/timedge")
	if out, err := build.CombinedOutput(); err != nil {
		return "", &saidError{err, out}
	}
	return path, nil
})

type saidError struct {
	err  error
	said []byte
}

func (e *saidError) Error() string { return e.err.Error() + ": " + string(e.said) }

// process is a timedge that runs beside the test. It is killed when the test ends, if it still runs then.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    *bufio.Reader
	said   bytes.Buffer // its standard error; read it after end
	waited bool
}

// start starts a timedge with its standard input from in, which may be nil. server is where it connects, empty for a
// server.
func start(t testing.TB, server string, in io.Reader, args ...string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(path, args...)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "TIMEDGE_ACCOUNT=alice", "TIMEDGE_WEB=off"}
	if server != "" {
		p.cmd.Env = append(p.cmd.Env, "TIMEDGE_SERVER="+server)
	}
	p.cmd.Stdin, p.cmd.Stderr = in, &p.said
	p.cmd.WaitDelay = patience
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.waited {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// end waits until the process has ended with status 0, and returns what it said on standard error.
func (p *process) end() string {
	p.t.Helper()
	_, _ = io.Copy(io.Discard, p.out)
	p.waited = true
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("timedge %s: %v\n%s", p.cmd.Args[1], err, &p.said)
	}
	return p.said.String()
}

// endMissing is end of a subscriber that must say, by its status, that something is missing.
func (p *process) endMissing() string {
	p.t.Helper()
	_, _ = io.Copy(io.Discard, p.out)
	p.waited = true
	const exitMissing = 3
	if _ = p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != exitMissing {
		p.t.Errorf("timedge %s: %v, though something is missing\n%s", p.cmd.Args[1], p.cmd.ProcessState, &p.said)
	}
	return p.said.String()
}

// line returns the rest of the first line that begins with prefix.
func (p *process) line(prefix string) string {
	p.t.Helper()
	for {
		s, err := p.out.ReadString('\n')
		if rest, ok := strings.CutPrefix(strings.TrimSpace(s), prefix); ok {
			return rest
		}
		if err != nil {
			p.waited = true
			_ = p.cmd.Wait()
			p.t.Fatalf("timedge %s ended without %q:\n%s", p.cmd.Args[1], prefix, &p.said)
		}
	}
}

// room returns the room's number that a push or register prints.
func (p *process) room() codec.RoomID {
	p.t.Helper()
	room, err := codec.ParseRoomID(p.line("room "))
	if err != nil {
		p.t.Fatal(err)
	}
	return room
}

// server is a timedge serve of the test's own.
type server struct {
	*process
	addr string
}

// serve starts a server. It is drained at the end of the test and must then end with status 0.
func serve(t testing.TB, args ...string) *server {
	t.Helper()
	all := append([]string{"serve", "--listen=127.0.0.1:0", "--admin=", "--drain=5s", "--log-level=warn"}, args...)
	s := &server{process: start(t, "", nil, all...)}
	s.addr = s.line("timedge serves on ")
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		s.end()
	})
	return s
}

// serveHere runs a server within the test, for settings that the command line does not have and for the race detector
// to watch, and returns its address.
func serveHere(t testing.TB, cfg engine.Config) string {
	t.Helper()
	cfg.Listen, cfg.Loops, cfg.Log, cfg.DrainSpread = []string{"127.0.0.1:0"}, 2, zerolog.Nop(), time.Millisecond
	e, err := engine.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return e.Addrs()[0].String()
}

// status returns a figure of the process's /proc/PID/status in bytes: VmRSS is its resident memory, VmHWM the most that
// ever was.
func (p *process) status(field string) int {
	p.t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) == 3 && f[0] == field+":" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				p.t.Fatal(err)
			}
			return n << 10
		}
	}
	p.t.Fatalf("no %s in /proc/PID/status", field)
	return 0
}

// dial connects a client of the SDK, which is closed at the end of the test.
func dial(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	if o.BackoffMin == 0 {
		o.BackoffMin, o.BackoffMax = time.Millisecond, 50*time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func dialAs(t testing.TB, addr, account string) *client.Client {
	t.Helper()
	return dial(t, client.Options{Servers: []string{addr}, Account: account})
}

// must returns v, or ends the test.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const mib = 1 << 20
