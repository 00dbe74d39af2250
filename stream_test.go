//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// TestVideo streams ten seconds of real video with sound, at its own speed, to two subscribers: both get the very file,
// and it decodes from the first frame to the last. A third joins in the middle: it starts with a clean picture, and has
// all that comes after.
func TestVideo(t *testing.T) {
	if os.Getenv("TIMEDGE_NO_FFMPEG") != "" {
		t.Skip("TIMEDGE_NO_FFMPEG is set")
	}
	if testing.Short() {
		t.Skip("takes as long as the video")
	}
	for _, test := range []struct {
		name, codecs string
		tolerated    string // of a late joiner's copy
	}{
		{"video.ts", "-c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p -c:a aac", ""},
		// A WebM file says how long it is, so ffmpeg misses what a late joiner does not have.
		{"video.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -g 25 -b:v 400k -c:a libopus", "File ended prematurely"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), test.name)
			const source = "-v error -f lavfi -i testsrc2=size=160x120:rate=25:duration=10 -f lavfi -i sine=duration=10 "
			ffmpeg(t, "", nil, append(strings.Fields(source+test.codecs), path)...)
			video, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			s := serve(t)
			push := s.run(t, nil, "push", "--realtime", "--wait", "2", path)
			room := roomLine(t, push)
			file := filepath.Join(t.TempDir(), "copy")
			toPipe, toFile := s.run(t, nil, "sub", room), s.run(t, nil, "sub", room, "-o", file)
			piped := make([]byte, len(video)/2)
			if _, err := io.ReadFull(toPipe.out, piped); err != nil {
				t.Fatal(err)
			}
			late := s.run(t, nil, "sub", room)
			rest, status := toPipe.end()
			expect(t, "the subscriber to a pipe", toPipe, status, exitOK)
			_, status = toFile.end()
			expect(t, "the subscriber to a file", toFile, status, exitOK)
			joined, status := late.end()
			expect(t, "the late subscriber", late, status, exitOK)
			_, status = push.end()
			expect(t, "the publisher", push, status, exitOK)

			filed, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for name, got := range map[string][]byte{"pipe": append(piped, rest...), "file": filed} {
				if sha256.Sum256(got) != sha256.Sum256(video) {
					t.Errorf("%s: %d bytes that are not those %d of the video", name, len(got), len(video))
				}
				ffmpeg(t, "", got, "-v", "error", "-xerror", "-i", "pipe:0", "-f", "null", "-")
			}

			tail := joined[min(len(joined), 16<<10):] // behind the init message
			if len(joined) < len(video)/4 || len(joined) == len(video) || !bytes.HasSuffix(video, tail) {
				t.Errorf("the late subscriber has %d bytes that are not the end of the video's %d", len(joined), len(video))
			}
			if said := late.errors.String(); !strings.Contains(said, "had begun: it comes from frame") {
				t.Errorf("the late subscriber is not told what it misses, but %q", said)
			}
			ffmpeg(t, test.tolerated, joined, "-v", "error", "-xerror", "-i", "pipe:0", "-f", "null", "-")
		})
	}
}

// ffmpeg runs it and fails on anything it has to say, but for lines with the text tolerated, if any.
func ffmpeg(t *testing.T, tolerated string, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.Command("ffmpeg", append([]string{"-y"}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if tolerated == "" || !strings.Contains(line, tolerated) {
			t.Errorf("ffmpeg says %s", line)
		}
	}
	if err != nil {
		t.Fatalf("ffmpeg: %v", err)
	}
}

// roomLine reads the first line of a push and returns the room's number.
func roomLine(t *testing.T, push *process) string {
	t.Helper()
	first, err := push.line()
	room, ok := strings.CutPrefix(first, "room ")
	if _, bad := codec.ParseRoomID(room); err != nil || !ok || bad != nil {
		_, status := push.end()
		t.Fatalf("push says %q first, and ends with %d:\n%s", first, status, push.errors.String())
	}
	return room
}

func expect(t *testing.T, who string, p *process, status, want int) {
	t.Helper()
	if status != want {
		t.Errorf("%s ended with %d, want %d:\n%s", who, status, want, p.errors.String())
	}
}

// TestCopy pushes a file larger than every queue and window as fast as it goes: its room is lossless without being
// told, so both subscribers have all of it.
func TestCopy(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	want := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{}).Read(want)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t)
	push := s.run(t, nil, "push", "--wait", "2", file)
	room := roomLine(t, push)
	stat := s.run(t, nil, "room", room)
	if shown, _ := stat.end(); !strings.Contains(string(shown), "lossless") {
		t.Errorf("the room is not lossless:\n%s", shown)
	}

	copied := filepath.Join(t.TempDir(), "copy")
	toFile, toPipe := s.run(t, nil, "sub", room, "-o", copied), s.run(t, nil, "sub", room)
	piped, status := toPipe.end()
	expect(t, "the subscriber to a pipe", toPipe, status, exitOK)
	_, status = toFile.end()
	expect(t, "the subscriber to a file", toFile, status, exitOK)
	_, status = push.end()
	expect(t, "the publisher", push, status, exitOK)
	filed, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"pipe": piped, "file": filed} {
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes that are not those %d of the file", name, len(got), len(want))
		}
	}
}

// TestPipe pushes what is written to standard input, as it comes, until the end.
func TestPipe(t *testing.T) {
	t.Parallel()
	s := serve(t)
	r, w := pipe(t)
	push := s.run(t, r, "push", "--wait", "1", "-")
	sub := s.run(t, nil, "sub", roomLine(t, push))
	for _, line := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			t.Fatal(err)
		}
		// It is here before the next is written: nothing waits for a buffer to fill.
		if got, err := sub.line(); err != nil || got != line {
			t.Fatalf("got %q, %v, want %q", got, err, line)
		}
	}
	w.Close()
	_, status := push.end()
	expect(t, "the publisher", push, status, exitOK)
	_, status = sub.end()
	expect(t, "the subscriber", sub, status, exitOK)
}

// pipe returns a pipe whose reading end can be a process's standard input. It is closed after the test.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// TestInterrupt: a push that is interrupted while it waits for input says so, and takes its room with it; a subscriber
// has what came until then.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	s := serve(t)
	r, w := pipe(t)
	push := s.run(t, r, "push", "-")
	room := roomLine(t, push)
	sub := s.run(t, nil, "sub", room)
	s.awaitSubscriber(t, room)
	if _, err := io.WriteString(w, "first line\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := sub.line(); err != nil || got != "first line" {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := push.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, status := push.end()
	expect(t, "the publisher", push, status, exitInterrupted)
	if got := push.errors.String(); !strings.HasSuffix(got, "timedge: interrupted\n") {
		t.Errorf("the publisher says %q", got)
	}
	_, status = sub.end()
	expect(t, "the subscriber", sub, status, exitOK)
	stat := s.run(t, nil, "room", room)
	_, status = stat.end()
	expect(t, "timedge room", stat, status, exitFailed)
}

// TestNobody: a file that was pushed to nobody is said to be, for its room is gone.
func TestNobody(t *testing.T) {
	t.Parallel()
	s := serve(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("some bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	push := s.run(t, nil, "push", file)
	room := roomLine(t, push)
	_, status := push.end()
	expect(t, "the publisher", push, status, exitOK)
	if got, want := push.errors.String(), "nobody subscribed: what was pushed went to nobody, and room "+room+" ends now"; !strings.Contains(got, want) {
		t.Errorf("the publisher says %q, not %q", got, want)
	}

	push = s.run(t, nil, "push", "--wait", "1", file)
	sub := s.run(t, nil, "sub", roomLine(t, push))
	_, status = sub.end()
	expect(t, "the subscriber", sub, status, exitOK)
	_, status = push.end()
	expect(t, "the publisher", push, status, exitOK)
	if got := push.errors.String(); strings.Contains(got, "nobody") {
		t.Errorf("the publisher says %q", got)
	}
}

// TestRoomGone: a push whose room is removed ends, though there is no input to push.
func TestRoomGone(t *testing.T) {
	t.Parallel()
	s := serve(t)
	r, _ := pipe(t)
	push := s.run(t, r, "push", "-")
	room := roomLine(t, push)
	remove := s.run(t, nil, "remove", room)
	_, status := remove.end()
	expect(t, "timedge remove", remove, status, exitOK)
	_, status = push.end()
	expect(t, "the publisher", push, status, exitFailed)
	if got, want := push.errors.String(), "timedge: room "+room+" ended for you: its owner removed it\n"; got != want {
		t.Errorf("the publisher says %q, want %q", got, want)
	}
}

// awaitSubscriber returns when the room has one: a second publisher can wait for that.
func (s *server) awaitSubscriber(t *testing.T, room string) {
	t.Helper()
	p := s.run(t, nil, "push", "--room", room, "--wait", "1", os.DevNull)
	_, status := p.end()
	expect(t, "the one that waits", p, status, exitOK)
}

// TestAdmin asks for the pages of the admin listener.
func TestAdmin(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for page, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": "timedge_rooms 0",
	} {
		res, err := http.Get(s.admin + page)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v, without %q:\n%.200s", page, res.Status, err, want, body)
		}
	}
}
