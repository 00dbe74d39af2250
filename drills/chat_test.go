package drills

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/internal/beside"
)

// chatter is the chat of the examples, with somebody at the keyboard.
type chatter struct {
	f     *fleet
	name  string
	cmd   *exec.Cmd
	typed io.WriteCloser
	out   *bufio.Scanner
	said  int           // lines typed; read it when still is closed
	still chan struct{} // closed when all was typed
	seen  atomic.Int64  // lines of the other
	fault chan string   // what was seen that must not be; "" at the end
}

// chat starts one, in a room or, with "", in one of its own.
func (f *fleet) chat(program, name, room string) *chatter {
	f.t.Helper()
	x := &chatter{f: f, name: name, still: make(chan struct{}), fault: make(chan string, 1)}
	x.cmd = exec.Command(program, "-name", name, room)
	if room == "" {
		x.cmd = exec.Command(program, "-name", name)
	}
	var servers []string
	for _, n := range f.nodes {
		servers = append(servers, n.listen)
	}
	x.cmd.Env = append(os.Environ(), client.ServerEnv+"="+strings.Join(servers, ","))
	x.cmd.Stderr = f.said
	var err error
	if x.typed, err = x.cmd.StdinPipe(); err != nil {
		f.t.Fatal(err)
	}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	x.out = bufio.NewScanner(out)
	if err := beside.Start(x.cmd); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = x.cmd.Process.Kill() }) // of no consequence if it has ended
	return x
}

// line returns the next line on the screen.
func (x *chatter) line() string {
	x.f.t.Helper()
	if !x.out.Scan() {
		x.f.t.Fatalf("%s has ended: %v", x.name, x.out.Err())
	}
	return x.out.Text()
}

// types types numbers until it is told to stop.
func (x *chatter) types(stop chan struct{}) {
	defer close(x.still)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := fmt.Fprintln(x.typed, x.said+1); err != nil {
				return
			}
			x.said++
		case <-stop:
			return
		}
	}
}

// watches reads the screen: every line of the other's once, in order, until the other is gone.
func (x *chatter) watches(other string) {
	for x.out.Scan() {
		switch text := x.out.Text(); text {
		case fmt.Sprintf("%s: \"%d\"", other, x.seen.Load()+1):
			x.seen.Add(1)
		case "* " + other + " is gone":
			x.fault <- ""
			return
		default:
			x.fault <- fmt.Sprintf("%q behind line %d", text, x.seen.Load())
			return
		}
	}
	x.fault <- fmt.Sprintf("its end behind line %d", x.seen.Load())
}

// Two people chat while the nodes of their cluster are killed in turn, and started again: each sees every line of the
// other's once, in order.
func TestChatWhileNodesAreKilled(t *testing.T) {
	f := newFleet(t, 3)
	program := filepath.Join(f.dir, "chat")
	if out, err := exec.Command("go", "build", "-o", program, "../examples/chat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ann := f.chat(program, "ann", "")
	bob := f.chat(program, "bob", strings.TrimPrefix(ann.line(), "room "))
	for _, want := range []string{"room ", "* ann is here"} {
		if got := bob.line(); !strings.HasPrefix(got, want) {
			t.Fatalf("bob sees %q, want %q", got, want)
		}
	}
	if got := ann.line(); got != "* bob is here" {
		t.Fatalf("ann sees %q", got)
	}
	stop := make(chan struct{})
	go ann.watches("bob")
	go bob.watches("ann")
	go ann.types(stop)
	go bob.types(stop)
	goesOn := func() {
		t.Helper()
		a, b := ann.seen.Load()+50, bob.seen.Load()+50
		f.until("both have seen 50 lines more", func() bool {
			for _, x := range []*chatter{ann, bob} {
				select {
				case fault := <-x.fault:
					t.Fatalf("%s sees %s", x.name, fault)
				default:
				}
			}
			return ann.seen.Load() >= a && bob.seen.Load() >= b
		})
	}
	for range max(1, *kills/2) {
		for i := range f.nodes {
			goesOn()
			f.kill(i)
			goesOn()
			f.start(i)
			f.await(3)
		}
	}
	goesOn()
	close(stop)
	<-ann.still
	<-bob.still
	f.until("ann has seen all", func() bool { return ann.seen.Load() == int64(bob.said) })
	ann.typed.Close() // says goodbye
	if fault := <-bob.fault; fault != "" || bob.seen.Load() != int64(ann.said) {
		t.Errorf("bob sees %d lines of %d, and %s", bob.seen.Load(), ann.said, fault)
	}
	t.Logf("%d and %d lines", ann.said, bob.said)
}
