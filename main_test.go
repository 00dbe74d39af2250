package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		// What is built with the race detector sleeps for a second before it exits, and the tests start some hundred processes.
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
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
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/", "TIMEDGE_WEB=off", "GORACE=" + os.Getenv("GORACE")}, env...)
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
