//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// supervisor is who has started the server and wants to hear of its state: systemd, by the protocol of sd_notify(3). The
// zero value is nobody, and is told nothing.
type supervisor struct {
	addr  *net.UnixAddr
	watch time.Duration // it ends a process that has not said for so long that it is alive; 0: it does not
}

// supervisorOf reads who that is from the environment.
func supervisorOf(env func(string) string, pid int) supervisor {
	name := env("NOTIFY_SOCKET")
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") { // others are of no kind that we know
		return supervisor{}
	}
	s := supervisor{addr: &net.UnixAddr{Name: name, Net: "unixgram"}}
	who := env("WATCHDOG_PID")
	if us, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 && (who == "" || who == strconv.Itoa(pid)) {
		s.watch = time.Duration(us) * time.Microsecond
	}
	return s
}

// tell sends the supervisor variables, one a line. It is no reason to end that nobody hears them.
func (s supervisor) tell(state ...string) error {
	if s.addr == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, s.addr)
	if err != nil {
		return fmt.Errorf("telling the supervisor: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(state, "\n"))); err != nil {
		return fmt.Errorf("telling the supervisor: %w", err)
	}
	return nil
}

// watchdog says that the server is alive for as long as alive says so, at half the time after which the supervisor would
// end it, until stop is closed. alive may block.
func (s supervisor) watchdog(alive func() bool, stop <-chan struct{}) {
	if s.watch == 0 {
		return
	}
	t := time.NewTicker(s.watch / 2)
	defer t.Stop()
	for {
		if alive() {
			_ = s.tell("WATCHDOG=1")
		}
		select {
		case <-t.C:
		case <-stop:
			return
		}
	}
}

// supervised is the one that this process has.
func supervised() supervisor { return supervisorOf(os.Getenv, os.Getpid()) }
