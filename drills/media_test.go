package drills

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/client/media/footage"
	"github.com/timedge/timedge/internal/beside"
)

var allInputs = flag.Bool("inputs", false, "push all inputs at full length, instead of short forms of some")

// TestInputs pushes files such as people have at their own speed. Who is there from the beginning gets every byte; who
// joins in the middle gets what decodes, to the end; it takes as long as the stream lasts, or is refused at once; and
// what was recognised is said.
func TestInputs(t *testing.T) {
	if os.Getenv("TIMEDGE_NO_FFMPEG") != "" {
		t.Skip("TIMEDGE_NO_FFMPEG is set")
	}
	inputs := footage.Inputs[:footage.Shown]
	if *allInputs {
		inputs = footage.Inputs
	}
	made := footage.New(t.TempDir(), !*allInputs)
	var making sync.Mutex // inputs are made of each other
	f := newFleet(t, 1)
	t.Run("all", func(t *testing.T) {
		for _, in := range inputs {
			t.Run(in.Name, func(t *testing.T) {
				t.Parallel()
				making.Lock()
				path, err := made.File(in.Name)
				making.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				pushInput(t, f.nodes[0].listen, &in, path, time.Duration(made.Seconds(&in)*float64(time.Second)))
			})
		}
	})
}

func pushInput(t *testing.T, server string, in *footage.Input, path string, lasts time.Duration) {
	push := begin(t, server, "push", "--realtime", "--wait", "1", path)
	line, err := bufio.NewReader(push.out).ReadString('\n')
	if in.Refused {
		if status := push.end(); err != io.EOF || status != 1 || !strings.Contains(push.said.String(), "--realtime cannot keep time") {
			t.Errorf("push prints %q, ends with %d and says %q", line, status, push.said.String())
		}
		return
	}
	room, ok := strings.CutPrefix(strings.TrimSpace(line), "room ")
	if err != nil || !ok {
		t.Fatalf("push prints %q, ends with %d and says %q", line, push.end(), push.said.String())
	}
	dir := t.TempDir()
	early, late := filepath.Join(dir, "early"), filepath.Join(dir, "late")
	began := time.Now()
	first := begin(t, server, "sub", room, "-o", early)
	select { // when about half of it is over; nothing depends on when exactly
	case <-time.After(lasts * 6 / 10):
	case <-t.Context().Done():
	}
	second := begin(t, server, "sub", room, "-o", late)
	if status := push.end(); status != 0 {
		t.Errorf("push ends with %d: %s", status, push.said.String())
	}
	if took := time.Since(began); took < lasts*8/10-time.Second {
		t.Errorf("push takes %v for what lasts %v", took, lasts)
	}
	for _, s := range []*command{first, second} {
		if status := s.end(); status != 0 {
			t.Errorf("sub ends with %d: %s", status, s.said.String())
		}
	}
	said := push.said.String()
	if !strings.Contains(said, in.Format) || !strings.Contains(said, "key frames so far") {
		t.Errorf("push says %q, not what it recognised", said)
	}

	whole, got, part := read(t, path), read(t, early), read(t, late)
	if !bytes.Equal(got, whole) {
		t.Errorf("who is there from the beginning has %d bytes, which are not those %d of the file: %s", len(got), len(whole), first.said.String())
	}
	if in.NoLate {
		for who, said := range map[string]string{"push": said, "the late sub": second.said.String()} {
			if !strings.Contains(said, "default_base_moof") {
				t.Errorf("%s says %q, not what is to be mended", who, said)
			}
		}
		return
	}
	if tail := part[max(0, len(part)-512):]; len(part) == 0 || !bytes.HasSuffix(whole, tail) {
		t.Errorf("who joins late has %d bytes of %d, and not the end: %s", len(part), len(whole), second.said.String())
	}
	for _, line := range in.Faults(dir, part, whole) {
		t.Errorf("who joins late has a decoder say: %s", line)
	}
}

// command is a timedge of its own that talks to a server.
type command struct {
	cmd  *exec.Cmd
	out  io.Reader
	said bytes.Buffer // its standard error; read it after end
}

func begin(t *testing.T, server string, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	c := &command{cmd: exec.CommandContext(ctx, program, args...)}
	c.cmd.Env = append(os.Environ(), "TIMEDGE_SERVER="+server)
	c.cmd.Stderr = &c.said
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = out
	if err := beside.Start(c.cmd); err != nil {
		t.Fatal(err)
	}
	return c
}

// end waits until it has ended and returns its exit status.
func (c *command) end() int {
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
