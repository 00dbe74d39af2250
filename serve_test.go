//go:build linux

package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// server is a timedge serve on ports of its own.
type server struct {
	*process
	addr, admin string
	secure      string // where clients connect with TLS, if a test has it so
	cluster     string // where other nodes join it; "" for a server on its own
}

func startServer(args ...string) (*server, error) {
	all := []string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	if !slices.Contains(args, "--config") { // which a flag would overrule
		all = append(all, "--drain", "5s")
	}
	p, err := start(nil, nil, append(all, args...)...)
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
			env.Setenv("TIMEDGE_WEB", "off")
			env.Setenv("GORACE", os.Getenv("GORACE"))
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
