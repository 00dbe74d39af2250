package main

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// TestVideo streams ten seconds of real video with sound, at its own speed, to two subscribers: both get the very file, and it
// decodes from the first frame to the last.
func TestVideo(t *testing.T) {
	if os.Getenv("TIMEDGE_NO_FFMPEG") != "" {
		t.Skip("TIMEDGE_NO_FFMPEG is set")
	}
	if testing.Short() {
		t.Skip("takes as long as the video")
	}
	for _, test := range []struct{ name, codecs string }{
		{"video.ts", "-c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p -c:a aac"},
		{"video.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -g 25 -b:v 400k -c:a libopus"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), test.name)
			const source = "-v error -f lavfi -i testsrc2=size=160x120:rate=25:duration=10 -f lavfi -i sine=duration=10 "
			ffmpeg(t, nil, append(strings.Fields(source+test.codecs), path)...)
			video, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			s := serve(t)
			push := s.run(t, nil, "push", "--realtime", "--wait", "2", path)
			room := roomLine(t, push)
			file := filepath.Join(t.TempDir(), "copy")
			subs := []*process{s.run(t, nil, "sub", room), s.run(t, nil, "sub", room, "-o", file)}
			piped, status := subs[0].end()
			expect(t, "the subscriber to a pipe", subs[0], status, exitOK)
			_, status = subs[1].end()
			expect(t, "the subscriber to a file", subs[1], status, exitOK)
			_, status = push.end()
			expect(t, "the publisher", push, status, exitOK)

			filed, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for name, got := range map[string][]byte{"pipe": piped, "file": filed} {
				if sha256.Sum256(got) != sha256.Sum256(video) {
					t.Errorf("%s: %d bytes that are not those %d of the video", name, len(got), len(video))
				}
				ffmpeg(t, got, "-v", "error", "-xerror", "-i", "pipe:0", "-f", "null", "-")
			}
		})
	}
}

// ffmpeg runs it and fails on anything it has to say.
func ffmpeg(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.Command("ffmpeg", append([]string{"-y"}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
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

// TestPipe pushes what is written to standard input, as it comes, until the end.
func TestPipe(t *testing.T) {
	s := serve(t)
	r, w := io.Pipe()
	push := s.run(t, r, "push", "--policy", "lossless", "--wait", "1", "-")
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

// TestInterrupt: a push that is interrupted says so, and takes its room with it; a subscriber has what came until then.
func TestInterrupt(t *testing.T) {
	s := serve(t)
	r, w := io.Pipe()
	defer w.Close()
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
	w.Close() // the test's own pipe keeps Wait from returning
	_, status := push.end()
	expect(t, "the publisher", push, status, exitInterrupted)
	if got := push.errors.String(); got != "timedge: interrupted\n" {
		t.Errorf("the publisher says %q", got)
	}
	_, status = sub.end()
	expect(t, "the subscriber", sub, status, exitOK)
	stat := s.run(t, nil, "room", room)
	_, status = stat.end()
	expect(t, "timedge room", stat, status, exitFailed)
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
