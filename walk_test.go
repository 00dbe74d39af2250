//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/internal/beside"
)

// TestWalk goes the walk of docs/console.md: what stands there is typed as it stands, but for the ports, and the console's
// figures show what it says that one sees.
func TestWalk(t *testing.T) {
	w := newWalk(t)
	blocks := w.blocks("docs/console.md")
	if len(blocks) != 5 {
		t.Fatalf("the walk has %d blocks of commands: this test does not know all", len(blocks))
	}
	keys, nodes, stream, viewer, kill := blocks[0], blocks[1], blocks[2], blocks[3], blocks[4]
	for _, line := range keys[:2] {
		w.types(line).ends()
	}
	w.types(keys[2])
	two := w.types(nodes[0])
	w.types(nodes[1])
	w.sees("three boxes", func(all []admin.ClusterNode) bool { return len(all) == 3 && haveTold(all, "one", "two", "three") })

	room, ok := strings.CutPrefix(strings.TrimSpace(w.types(stream[0]).ends()), "room ")
	if !ok {
		t.Fatalf("no room: %q", room)
	}
	w.types(strings.ReplaceAll(stream[1], "ROOM", room))
	sub := w.types(strings.ReplaceAll(viewer[0], "ROOM", room))
	w.sees("a dot at two, and a line from there to the subscriber's node", func(all []admin.ClusterNode) bool {
		of := roles(all, room)
		return of["two"] == "relay" && (of["three"] == "edge" || of["one"] == "edge")
	})
	sub.goesOn()

	if len(kill) != 1 || !strings.HasPrefix(kill[0], "pkill ") || !strings.Contains(two.line, strings.Trim(kill[0][strings.LastIndex(kill[0], "-f ")+3:], "'")) {
		t.Errorf("%q does not kill %q", kill, two.line)
	}
	two.kill() // that alone, whatever else runs on this machine
	w.sees("two gone, and a line to who relays the room now", func(all []admin.ClusterNode) bool {
		of := roles(all, room)
		return len(all) == 2 && (of["one"] == "relay" || of["three"] == "relay")
	})
	sub.goesOn()

	w.types(nodes[0])
	w.sees("its box is whole", func(all []admin.ClusterNode) bool { return len(all) == 3 && haveTold(all, "two") })
	drain := regexp.MustCompile("`(bin/timedge drain .*?)`").FindStringSubmatch(w.text)
	if drain == nil {
		t.Fatal("nothing is drained")
	}
	w.types(drain[1]).ends()
	w.sees("three drained", func(all []admin.ClusterNode) bool {
		for _, n := range all {
			if n.Name == "three" && n.Figures != nil {
				return n.Figures.State == "draining" && n.Figures.Relayed == 0
			}
		}
		return false
	})
	sub.goesOn()
}

// haveTold reports whether these nodes have told their figures.
func haveTold(all []admin.ClusterNode, names ...string) bool {
	n := 0
	for _, node := range all {
		for _, name := range names {
			if node.Name == name && node.Figures != nil {
				n++
			}
		}
	}
	return n == len(names)
}

// roles returns what each node is for a room through which something flows.
func roles(all []admin.ClusterNode, room string) map[string]string {
	of := map[string]string{}
	for _, n := range all {
		if n.Figures != nil {
			for _, r := range n.Figures.Busiest {
				if r.ID == room && r.Frames > 0 {
					of[n.Name] = r.Role
				}
			}
		}
	}
	return of
}

// walk is somebody who types what a document says.
type walk struct {
	t     *testing.T
	dir   string
	text  string // with other ports
	env   []string
	admin string // the first node's
}

func newWalk(t *testing.T) *walk {
	w := &walk{t: t, dir: t.TempDir()}
	program, err := exec.LookPath("timedge")
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(w.dir, "bin"), 0o700)
	}
	if err == nil {
		err = os.Symlink(program, filepath.Join(w.dir, "bin", "timedge"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// blocks returns the commands of a document, block by block and line by line, with ports that nobody has.
func (w *walk) blocks(path string) (all [][]string) {
	w.t.Helper()
	ports := map[string]string{}
	at := func(addr string) string {
		if ports[addr] == "" {
			ports[addr] = beside.FreeAddr(w.t)
		}
		return ports[addr]
	}
	w.text = regexp.MustCompile(`127\.0\.0\.1:7\d\d\d`).ReplaceAllStringFunc(read(w.t, path), at)
	w.admin = at("127.0.0.1:7401")
	server := at("127.0.0.1:7400")
	w.env = append(os.Environ(), "TIMEDGE_WEB=off", "TIMEDGE_ADMIN="+w.admin, "TIMEDGE_LISTEN="+server, "TIMEDGE_SERVER="+server)
	for _, b := range regexp.MustCompile("(?s)\n```\n(.*?)\n```").FindAllStringSubmatch(w.text, -1) {
		all = append(all, strings.Split(b[1], "\n"))
	}
	return all
}

// typed is a command in a terminal of its own.
type typed struct {
	w    *walk
	line string
	cmd  *exec.Cmd

	over sync.Once // killed, or ended

	mu  sync.Mutex
	out bytes.Buffer
}

// Write implements io.Writer: the terminal.
func (x *typed) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.Write(b)
}

func (x *typed) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// types begins a command, which is killed with all that it has started when the test ends.
func (w *walk) types(line string) *typed {
	w.t.Helper()
	x := &typed{w: w, line: line, cmd: exec.Command("timeout", "-s", "KILL", fmt.Sprint(lifetime.Seconds()), "bash", "-c", line)}
	x.cmd.Dir, x.cmd.Env = w.dir, w.env
	x.cmd.Stdout, x.cmd.Stderr = x, x
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := beside.Start(x.cmd); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		x.kill()
		if w.t.Failed() {
			w.t.Logf("$ %s\n%s", line, x)
		}
	})
	return x
}

// kill ends the command and all that it has started.
func (x *typed) kill() {
	x.over.Do(func() {
		_ = syscall.Kill(-x.cmd.Process.Pid, syscall.SIGKILL)
		_ = x.cmd.Wait()
	})
}

// ends waits until the command has ended well, and returns what it said.
func (x *typed) ends() string {
	x.w.t.Helper()
	var err error
	x.over.Do(func() { err = x.cmd.Wait() })
	if err != nil {
		x.w.t.Fatalf("%s: %v\n%s", x.line, err, x)
	}
	return x.String()
}

// goesOn waits until some more lines are there.
func (x *typed) goesOn() {
	x.w.t.Helper()
	lines := func() int { return strings.Count(x.String(), "\n") }
	if at := lines(); !eventually(func() bool { return lines() > at+5 }) {
		x.w.t.Fatalf("%s: nothing comes any more", x.line)
	}
}

// sees waits until the first node's console has what it should have.
func (w *walk) sees(what string, is func([]admin.ClusterNode) bool) {
	w.t.Helper()
	var all []admin.ClusterNode
	if !eventually(func() bool {
		res, err := http.Get("http://" + w.admin + "/api/v1/cluster")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		all = nil
		return json.NewDecoder(res.Body).Decode(&all) == nil && is(all)
	}) {
		b, _ := json.Marshal(all)
		w.t.Fatalf("the console does not show %s: %s", what, b)
	}
}
