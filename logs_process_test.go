//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// loggingTo starts a server whose standard output and error go to a pipe of the test's, as under a supervisor that
// collects both.
func loggingTo(t *testing.T, pipe *os.File) (cmd *exec.Cmd, addr, admin string) {
	t.Helper()
	addr, admin = freeAddr(t), freeAddr(t)
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, "timedge", "serve", "--listen", addr, "--admin", admin, "--log-level", "debug", "--drain", "5s")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "TIMEDGE_WEB=off"}
	cmd.Stdout, cmd.Stderr = pipe, pipe
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, addr, admin
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// garbage makes a server log something, n times, and returns when it has turned the last connection away.
func garbage(t *testing.T, addr string, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("garbagegarbagegarbage"))
		io.Copy(io.Discard, conn)
		conn.Close()
	}
}

// serves checks that a server still answers, and ends it, which must not take longer than a drain.
func serves(t *testing.T, cmd *exec.Cmd, addr string) {
	t.Helper()
	p, err := start([]string{"TIMEDGE_SERVER=" + addr}, nil, "register")
	if err != nil {
		t.Fatal(err)
	}
	if out, status := p.end(); status != 0 {
		t.Errorf("register ended with %d: %s%s", status, out, p.errors.String())
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

// A reader of the log that goes away costs its lines, which are counted, and nothing else. Nor does SIGHUP end a
// server.
func TestLogReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd, addr, admin := loggingTo(t, w)
	w.Close()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	garbage(t, addr, 1)
	r.Close()
	cmd.Process.Signal(syscall.SIGHUP)
	garbage(t, addr, 50)
	res, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !regexp.MustCompile(`(?m)^timedge_log_lines_dropped_total [1-9]`).Match(page) {
		t.Error("no dropped lines are counted")
	}
	serves(t, cmd, addr)
}

// A reader that does not read blocks nothing: neither clients, nor the end.
func TestLogReaderStops(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd, addr, _ := loggingTo(t, w)
	if _, err := bufio.NewReaderSize(r, 16).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	// From here on the pipe is full, whatever the server writes. The test's end has a description of its own, which alone
	// does not block.
	full, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for err == nil {
		_, err = syscall.Write(full, []byte{'x'})
	}
	syscall.Close(full)
	garbage(t, addr, 200)
	serves(t, cmd, addr)
}
