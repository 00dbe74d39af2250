package drills

import (
	"context"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

// steppedProgram is a build in which a signal steps what time.Now tells of the time of day, as NTP or an operator does
// to a computer's clock: an hour forward (SIGUSR1) or back (SIGUSR2). The even part of the clock, by which timers run,
// goes on as it does then.
func steppedProgram(t *testing.T) string {
	o := newOverlay(t)
	src := filepath.Join(o.goroot(), "src", "time")
	o.change(filepath.Join(src, "time.go"), "	sec, nsec, mono := runtimeNow()\n	if mono == 0 {\n		return Time{uint64(nsec), sec + unixToInternal, Local}\n	}\n	mono -= startNano\n",
		"	sec, nsec, mono := runtimeNow()\n	sec += stepped.Load()\n	if mono == 0 {\n		return Time{uint64(nsec), sec + unixToInternal, Local}\n	}\n	mono -= startNano\n")
	o.add(filepath.Join(src, "step.go"), `package time

import "sync/atomic"

var stepped atomic.Int64

// Step steps the time of day.
func Step(seconds int64) { stepped.Add(seconds) }
`)
	o.add(filepath.Join(o.root(), "step.go"), `package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	steps := make(chan os.Signal, 16)
	signal.Notify(steps, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range steps {
			if s == syscall.SIGUSR1 {
				time.Step(3600)
			} else {
				time.Step(-3600)
			}
			println("the clock steps", time.Now().String())
		}
	}()
}
`)
	return o.build()
}

// TestClockSteps: the computers' clocks step by an hour, both ways and apart from each other, and nobody notices: no
// frame is lost or comes twice, no link breaks, no room that is idle ends, nobody is refused, and who says nothing is
// closed in time.
func TestClockSteps(t *testing.T) {
	f := &fleet{t: t, program: steppedProgram(t)}
	f.begin(3)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1, 2, 2}}, pace)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	silent, err := f.client(0, "silent").Register(ctx, client.RoomOptions{Idle: 30 * time.Minute, Expire: 50 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	s.reach(200)
	lost := 0.0
	for i := range f.nodes {
		lost += f.metric(i, "timedge_links_lost_total")
	}
	for _, step := range [][]struct {
		node int
		sig  syscall.Signal
	}{
		{{0, syscall.SIGUSR1}, {1, syscall.SIGUSR1}, {2, syscall.SIGUSR1}}, // all forward
		{{0, syscall.SIGUSR2}, {1, syscall.SIGUSR2}, {2, syscall.SIGUSR2}}, // and back
		{{0, syscall.SIGUSR2}, {1, syscall.SIGUSR2}, {2, syscall.SIGUSR2}}, // an hour behind
		{{0, syscall.SIGUSR1}, {0, syscall.SIGUSR1}, {2, syscall.SIGUSR2}}, // an hour ahead, an hour behind, two behind
	} {
		mute, err := net.Dial("tcp", f.nodes[0].listen)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range step {
			f.signal(x.node, x.sig)
		}
		s.reach(1000) // two seconds
		for i := range f.nodes {
			c := f.clientOf([]int{i}, "new")
			if _, err := c.Register(ctx, client.RoomOptions{}); err != nil {
				t.Errorf("a new client of node %d: %v", i, err)
			}
			c.Close(context.Background())
		}
		if rep := f.report(2, silent.String()); !rep.Known {
			t.Error("the room that was silent has ended")
		}
		_ = mute.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, mute); err != nil {
			t.Errorf("a connection that says nothing is not closed: %v", err)
		}
		mute.Close()
	}
	s.finish()
	now := 0.0
	for i := range f.nodes {
		now += f.metric(i, "timedge_links_lost_total")
	}
	if now != lost {
		t.Errorf("%v links broke", now-lost)
	}
	// An operator is told: the doctor's own clock is right. (It rounds to ms, and an answer takes a while.)
	said, _ := exec.Command(program, "doctor", "--admin", f.nodes[1].admin, "--cluster", f.nodes[1].cluster, "--cluster-key-file", f.key).Output()
	if !regexp.MustCompile(`(?m)^fault clocks +the clock of node n3 is behind this machine's by (2h0m0|1h59m59)`).Match(said) {
		t.Errorf("the doctor does not say that n3's clock is behind:\n%s", said)
	}
}
