//go:build linux

// Package examples runs the examples against a server, as they are.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/engine"
)

// serve starts a server and returns what the examples need in their environment to find it.
func serve(t *testing.T) (addr string) {
	t.Helper()
	e, err := engine.Start(engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 1, Log: zerolog.Nop(),
		DrainSpread: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = e.Shutdown(ctx)
	})
	return e.Addrs()[0].String()
}

// example builds one, and makes a command of it.
func example(t *testing.T, name string) func(addr string, args ...string) *exec.Cmd {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return func(addr string, args ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		t.Cleanup(cancel)
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Env = append(os.Environ(), client.ServerEnv+"="+addr)
		cmd.Stderr = os.Stderr
		return cmd
	}
}

func TestChat(t *testing.T) {
	addr := serve(t)
	chat := example(t, "chat")
	ann := chat(addr, "-name", "ann")
	typed, err := ann.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := ann.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ann.Start(); err != nil {
		t.Fatal(err)
	}
	screen := bufio.NewReader(shown)
	line, err := screen.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	bob := chat(addr, "-name", "bob", strings.TrimSpace(strings.TrimPrefix(line, "room ")))
	bob.Stdin = strings.NewReader("hello\nbye\n")
	if err := bob.Run(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"* bob is here\n", "bob: \"hello\"\n", "bob: \"bye\"\n", "* bob is gone\n"} {
		if got, err := screen.ReadString('\n'); got != want {
			t.Errorf("ann sees %q, %v; want %q", got, err, want)
		}
	}
	typed.Close()
	if err := ann.Wait(); err != nil {
		t.Error(err)
	}
}

func TestGameState(t *testing.T) {
	out, err := example(t, "gamestate")(serve(t), "-players", "5", "-for", "3").Output()
	if err != nil || !bytes.Contains(out, []byte("states, the oldest")) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestFileDrop(t *testing.T) {
	addr := serve(t)
	drop := example(t, "filedrop")
	file := make([]byte, 10<<20+7)
	rand.Read(file)
	alice := drop(addr, "-name", "alice", "-from", "bob")
	var copied bytes.Buffer
	alice.Stdout = &copied
	if err := alice.Start(); err != nil {
		t.Fatal(err)
	}
	bob := drop(addr, "-name", "bob", "-to", "alice")
	bob.Stdin = bytes.NewReader(file)
	if err := bob.Run(); err != nil {
		t.Error(err)
	}
	if err := alice.Wait(); err != nil || !bytes.Equal(copied.Bytes(), file) {
		t.Errorf("%d bytes of %d, %v", copied.Len(), len(file), err)
	}
}

func TestTranscode(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skip("needs ffmpeg")
	}
	addr, ctx := serve(t), t.Context()
	video, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30", "-t", "3",
		"-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "30", "-f", "mpegts", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(ctx, client.Options{Servers: []string{addr}, Account: "source"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	room, err := c.Register(ctx, client.RoomOptions{Policy: client.PolicyLossless})
	if err != nil {
		t.Fatal(err)
	}
	bot := example(t, "transcode")(addr, room.String())
	says, err := bot.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bot.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(says).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.ParseRoomID(strings.TrimSpace(strings.TrimPrefix(line, "room ")))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := c.Subscribe(ctx, made, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	source, err := c.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for r := bytes.NewReader(video); r.Len() > 0; {
			b := make([]byte, 100*188)
			n, _ := io.ReadFull(r, b)
			if source.Push(ctx, 0, client.Delta, b[:n]) != nil {
				return
			}
		}
		_ = source.Close(ctx)
		_ = c.Remove(ctx, room)
	}()
	sum := 0
	for ev, err := range sub.All(ctx) {
		if err != nil {
			break // the bot has removed its room
		}
		if m, ok := ev.(*client.Message); ok {
			sum += len(m.Payload)
		}
	}
	if err := bot.Wait(); err != nil || sum == 0 {
		t.Errorf("%d bytes were made, %v", sum, err)
	}
}
