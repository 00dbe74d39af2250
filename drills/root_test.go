package drills

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/internal/beside"
)

// An image that holds nothing but the program, whose processes are nobody and may write nowhere.
func TestNothingButTheProgram(t *testing.T) {
	switch {
	case os.Getuid() != 0:
		t.Skip("another root takes root")
	case *kills <= 2:
		t.Skip("the program is built anew, without cgo, which takes a minute: only in make drill")
	}
	root := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(root, "timedge"), "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	listen, admin := freeAddr(t), freeAddr(t)
	cmd := exec.Command("/timedge", "serve", "--listen", listen, "--admin", admin)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", []string{"TIMEDGE_WEB=off"}, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := beside.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	fail := func(what string, err error) {
		b, _ := os.ReadFile(log.Name())
		t.Fatalf("%s: %v\n%s", what, err, b)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // it starts
		res, err := http.Get("http://" + admin + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(deadline) {
			fail("it is not ready", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Servers: []string{listen}, Account: "owner"})
	if err != nil {
		fail("nobody gets in", err)
	}
	defer c.Close(context.Background())
	id, err := c.Register(ctx, client.RoomOptions{})
	if err != nil {
		fail("no room", err)
	}
	sub, err := c.Subscribe(ctx, id, client.SubscribeOptions{})
	if err != nil {
		fail("nobody may subscribe", err)
	}
	pub, err := c.Publish(ctx, id, client.PublishOptions{})
	if err != nil {
		fail("nobody may publish", err)
	}
	if err := pub.Push(ctx, 0, client.Key, []byte("hello")); err != nil {
		fail("push", err)
	}
	for got := false; !got; {
		ev, err := sub.Next(ctx)
		if err != nil {
			fail("what was pushed does not come", err)
		}
		m, is := ev.(*client.Message)
		got = is && string(m.Payload) == "hello"
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			fail("it ends", err)
		}
	case <-time.After(patience):
		fail("it does not end", nil)
	}
}
