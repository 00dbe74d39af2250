package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"timedge": main})
}

// process is a timedge of its own that runs beside the test.
type process struct {
	cmd    *exec.Cmd
	out    *bufio.Reader // its standard output
	errors bytes.Buffer  // its standard error; read it after end
	cancel func()
}

// lifetime is when a process is killed: clients would wait for a server that crashed until the tests' own end.
const lifetime = 2 * time.Minute

// start starts a timedge. What it needs of the environment goes in env.
func start(env []string, stdin io.Reader, args ...string) (*process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	p := &process{cmd: exec.CommandContext(ctx, "timedge", args...), cancel: cancel}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, env...)
	p.cmd.Stdin, p.cmd.Stderr = stdin, &p.errors
	pipe, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(pipe)
	return p, p.cmd.Start()
}

// line reads the next line of its output that is not empty.
func (p *process) line() (string, error) {
	for {
		s, err := p.out.ReadString('\n')
		if s = strings.TrimSpace(s); s != "" || err != nil {
			return s, err
		}
	}
}

// end waits for the process and returns the rest of its output, and its exit status.
func (p *process) end() (rest []byte, status int) {
	rest, _ = io.ReadAll(p.out)
	_ = p.cmd.Wait()
	p.cancel()
	return rest, p.cmd.ProcessState.ExitCode()
}

// server is a timedge serve on ports of its own.
type server struct {
	*process
	addr, admin string
	cluster     string // where other nodes join it; "" for a server on its own
}

func startServer(args ...string) (*server, error) {
	all := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain", "5s"}, args...)
	p, err := start(nil, nil, all...)
	if err != nil {
		return nil, err
	}
	s := &server{process: p}
	first, err := p.line()
	second, err2 := p.line()
	if err != nil || err2 != nil {
		_, status := p.end()
		return nil, &exitError{status, p.errors.String()}
	}
	s.addr = strings.TrimPrefix(first, "timedge serves on ")
	s.admin, _, _ = strings.Cut(strings.TrimPrefix(second, "health and metrics are on "), " ")
	if slices.Contains(args, "--cluster") {
		third, err := p.line()
		_, join, ok := strings.Cut(third, " --join ")
		if err != nil || !ok {
			_, status := p.end()
			return nil, &exitError{status, third + "\n" + p.errors.String()}
		}
		s.cluster, _, _ = strings.Cut(join, " ")
	}
	return s, nil
}

type exitError struct {
	status int
	said   string
}

func (e *exitError) Error() string { return "timedge ended early: " + e.said }

// stop drains the server and returns its exit status.
func (s *server) stop() int {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_, status := s.end()
	return status
}

// serve starts a server for a Go test, which must end with status 0.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	s, err := startServer(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if status := s.stop(); status != 0 {
			t.Errorf("the server ended with %d:\n%s", status, s.errors.String())
		}
	})
	return s
}

// run starts a client command for a Go test.
func (s *server) run(t *testing.T, stdin io.Reader, args ...string) *process {
	t.Helper()
	p, err := start([]string{"TIMEDGE_SERVER=" + s.addr}, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestScripts runs the commands as a person types them. The scripts have these commands beside testscript's own:
//
//	server [flag...]   starts a server, and sets TIMEDGE_SERVER, TIMEDGE_ADMIN and, if it is a node of a cluster, JOIN
//	stopserver         drains the last one; it must end with status 0; what it logged is in server.log
//	room NAME          sets NAME to the room's number that the last command printed
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values["server"] = new(*server)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": func(ts *testscript.TestScript, _ bool, args []string) {
				s, err := startServer(args...)
				ts.Check(err)
				*ts.Value("server").(**server) = s
				ts.Defer(func() { s.stop() })
				ts.Setenv("TIMEDGE_SERVER", s.addr)
				ts.Setenv("TIMEDGE_ADMIN", strings.TrimPrefix(s.admin, "http://"))
				ts.Setenv("JOIN", s.cluster)
			},
			"stopserver": func(ts *testscript.TestScript, _ bool, _ []string) {
				s := *ts.Value("server").(**server)
				if status := s.stop(); status != 0 {
					ts.Fatalf("the server ended with %d:\n%s", status, s.errors.String())
				}
				ts.Check(os.WriteFile(ts.MkAbs("server.log"), s.errors.Bytes(), 0o600))
			},
			"room": func(ts *testscript.TestScript, _ bool, args []string) {
				number, ok := strings.CutPrefix(strings.TrimSpace(ts.ReadFile("stdout")), "room ")
				if !ok || len(args) != 1 {
					ts.Fatalf("usage: room NAME, after a command that printed a room's number")
				}
				ts.Setenv(args[0], number)
			},
		},
	})
}
