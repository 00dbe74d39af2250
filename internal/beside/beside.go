//go:build linux

// Package beside runs programs beside a test: nodes, and the balancers of deploy before them.
//
// Start at [Start] for a process, at [HAProxy] and [Nginx] for a balancer. Only tests import it.
package beside

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; on a busy machine things take long, and how long is no promise.
const patience = time.Minute

// starts are to be run on a thread that lasts as long as this process: Pdeathsig kills a process when the thread ends
// that has started it, as a thread does whose goroutine has locked itself to it.
var starts = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// Start starts a process that ends with this one, whatever ends this one.
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error)
	starts() <- func() { done <- cmd.Start() }
	return <-done
}

// Run runs a program until the test ends, and waits until something listens at an address. What the program said is in
// the test's log if the test fails.
func Run(t testing.TB, listens string, env []string, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name) // a user's PATH need not have it
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", listens); err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen at %s", name, listens)
		}
	}
}

// given are the ports that FreeAddr has returned.
var given sync.Map

// FreeAddr returns an address on loopback at which nobody listens at the moment, by TCP and UDP, another one each time.
// Its port is below those that connections are given, so that none has it when somebody comes to listen.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(12_000+rand.IntN(20_000)))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		pc, err := net.ListenPacket("udp", addr)
		_ = ln.Close()
		if err != nil {
			continue
		}
		_ = pc.Close()
		if _, again := given.LoadOrStore(addr, true); !again {
			return addr
		}
	}
	t.Fatal("there is no address to listen at")
	return ""
}
