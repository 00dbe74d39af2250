//go:build linux

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// listenNotify returns an address like that of systemd, and what is told there, a datagram each.
func listenNotify(t *testing.T) (name string, told <-chan string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	all := make(chan string, 1000)
	go func() {
		defer close(all)
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			all <- string(b[:n])
		}
	}()
	return name, all
}

func hear(t *testing.T, told <-chan string, want string) {
	t.Helper()
	end := time.After(30 * time.Second)
	for {
		select {
		case s, ok := <-told:
			if !ok {
				t.Fatalf("nothing more is told; want %s", want)
			}
			if slices.Contains(strings.Split(s, "\n"), want) {
				return
			}
		case <-end:
			t.Fatalf("%s is not told", want)
		}
	}
}

// TestSupervised: the server says when it serves, that it is alive while it is, and when it is about to end.
func TestSupervised(t *testing.T) {
	name, told := listenNotify(t)
	p, err := start([]string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=20000"}, nil, "serve", "--listen", "127.0.0.1:0", "--admin", "")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{process: p}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.end() })
	hear(t, told, "READY=1")
	for range 3 {
		hear(t, told, "WATCHDOG=1")
	}
	if status := s.stop(); status != 0 {
		t.Errorf("ended with %d: %s", status, s.errors.String())
	}
	hear(t, told, "STOPPING=1")
}

// TestWatchdog: a server whose loops do not turn does not say that it is alive.
func TestWatchdog(t *testing.T) {
	name, told := listenNotify(t)
	s := supervisor{addr: &net.UnixAddr{Name: name, Net: "unixgram"}, watch: 2 * time.Millisecond}
	stop := make(chan struct{})
	asked, turned := 0, 0
	s.watchdog(func() bool {
		if asked++; asked == 20 {
			close(stop)
		}
		if asked%3 == 0 {
			turned++
		}
		return asked%3 == 0
	}, stop)
	if err := s.tell("STOPPING=1"); err != nil {
		t.Fatal(err)
	}
	for said := 0; ; said++ {
		if s := <-told; s == "STOPPING=1" {
			if said != turned {
				t.Errorf("told %d times that it is alive, which it was %d times", said, turned)
			}
			return
		}
	}
}

func TestSupervisorOf(t *testing.T) {
	at := func(name string) *net.UnixAddr { return &net.UnixAddr{Name: name, Net: "unixgram"} }
	for _, c := range []struct {
		name string
		env  map[string]string
		want supervisor
	}{
		{"nobody", nil, supervisor{}},
		{"a path", map[string]string{"NOTIFY_SOCKET": "/run/n"}, supervisor{addr: at("/run/n")}},
		{"an abstract name", map[string]string{"NOTIFY_SOCKET": "@n"}, supervisor{addr: at("@n")}},
		{"of another kind", map[string]string{"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "5"}, supervisor{}},
		{"with a watchdog", map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000"}, supervisor{at("/n"), 3 * time.Second}},
		{"a watchdog for this process", map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "7"}, supervisor{at("/n"), time.Microsecond}},
		{"a watchdog for another", map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"}, supervisor{addr: at("/n")}},
		{"no time", map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, supervisor{addr: at("/n")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := supervisorOf(func(k string) string { return c.env[k] }, 7); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
	if err := (supervisor{}).tell("READY=1"); err != nil {
		t.Errorf("nobody is told, and that fails: %v", err)
	}
	if err := (supervisor{addr: at(filepath.Join(t.TempDir(), "none"))}).tell("READY=1"); err == nil {
		t.Error("nobody listens, and nobody hears of it")
	}
}

// TestUnit has systemd itself read deploy's unit, and say how exposed the service is: 10 is a service without a unit's
// restrictions.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze on this machine: the unit is not verified")
	}
	b, err := os.ReadFile("deploy/systemd/timedge.service")
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("timedge") // where the unit's own is not installed
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, t.TempDir(), "timedge.service", strings.Replace(string(b), "/usr/local/bin/timedge", program, 1))
	if said, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("verify: %v\n%s", err, said)
	}
	if said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", path).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, said)
	}
	for _, want := range []string{"Type=notify\n", "WatchdogSec=", "LimitNOFILE=", "TimeoutStopSec="} {
		if !strings.Contains(string(b), want) {
			t.Errorf("it has no %s", want)
		}
	}
}
