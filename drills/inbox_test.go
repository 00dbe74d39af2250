package drills

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/beside"
)

// transfer is a file on its way from account to account, by the commands.
type transfer struct {
	f           *fleet
	to, path    string
	inbox, send *exec.Cmd
	said        [2]bytes.Buffer
	feed        io.WriteCloser
}

// receive begins to receive what bob sends, at one node.
func (f *fleet) receive(to string, at int) *transfer {
	f.t.Helper()
	x := &transfer{f: f, to: to, path: filepath.Join(f.dir, to)}
	x.inbox = x.command(0, "inbox", "--server", f.nodes[at].listen, "--account", to, "--accept", "bob", "-o", x.path)
	x.start(x.inbox)
	return x
}

// sendFrom has bob begin to send, at another.
func (x *transfer) sendFrom(at int) {
	x.f.t.Helper()
	x.send = x.command(1, "send", "--server", x.f.nodes[at].listen, "--account", "bob", "--wait", patience.String(), x.to, "-")
	var err error
	if x.feed, err = x.send.StdinPipe(); err != nil {
		x.f.t.Fatal(err)
	}
	x.start(x.send)
}

func (x *transfer) command(i int, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Stderr = &x.said[i]
	return cmd
}

func (x *transfer) start(cmd *exec.Cmd) {
	x.f.t.Helper()
	if err := beside.Start(cmd); err != nil {
		x.f.t.Fatal(err)
	}
	x.f.t.Cleanup(func() { _ = cmd.Process.Kill() }) // of no consequence if it has ended
}

// has returns how much has been written at the other end.
func (x *transfer) has() int64 {
	info, err := os.Stat(x.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// end checks that both commands end well, and that the file is the same.
func (x *transfer) end(file []byte) {
	t := x.f.t
	t.Helper()
	for i, cmd := range []*exec.Cmd{x.send, x.inbox} {
		over := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v: %s", cmd.Args[1], err, x.said[1-i].String())
		}
		over.Stop()
	}
	got, err := os.ReadFile(x.path)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := sha256.Sum256(file), sha256.Sum256(got); a != b {
		at := 0
		for at < min(len(file), len(got)) && file[at] == got[at] {
			at++
		}
		t.Errorf("%d bytes with SHA-256 %x were sent, %d with %x arrived; they differ from byte %d on", len(file), a, len(got), b, at)
	}
}

// The relay of the recipient's inbox is killed while a file goes from account to account between clients of the two
// other nodes: this program, which is a file of some size.
func TestFileFromAccountToAccount(t *testing.T) {
	file, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, 3)
	names := 0
	for k := range *kills {
		// Where an inbox is relayed its name decides: one that is neither at the recipient's node nor at the sender's is to
		// be found.
		recipient, relay, inbox := k%3, -1, ""
		var x *transfer
		for relay < 0 || relay == recipient {
			if x != nil {
				_ = x.inbox.Process.Kill()
				_ = x.inbox.Wait()
			}
			to := fmt.Sprint("alice", names)
			names++
			x, inbox = f.receive(to, recipient), codec.InboxOf(to).String()
			f.until("the inbox is open", func() bool { return f.report(recipient, inbox).Relay != "" })
			relay = f.named(f.report(recipient, inbox).Relay)
		}
		sender := 3 - recipient - relay
		x.sendFrom(sender)
		const step = 64 << 10
		killed := false
		for at := 0; at < len(file); at += step {
			if _, err := x.feed.Write(file[at:min(at+step, len(file))]); err != nil {
				t.Fatalf("%v: %s", err, x.said[1].String())
			}
			if at > len(file)/3 && !killed {
				f.until("some of it has arrived", func() bool { return x.has() > 0 })
				f.kill(relay)
				killed = true
			}
		}
		x.feed.Close()
		x.end(file)
		if now := f.report(sender, inbox); now.Relay == f.nodes[relay].name || !slices.Contains([]string{f.nodes[sender].name, f.nodes[recipient].name}, now.Relay) {
			t.Errorf("the inbox is relayed by %q now; it was by %s", now.Relay, f.nodes[relay].name)
		}
		f.start(relay)
		f.await(3)
	}
}

// The recipient's node is killed while it receives a file, then the sender's; whatever these are to the inbox.
func TestFileWhoseNodesAreKilled(t *testing.T) {
	file, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, 3)
	for k := range max(3, *kills) {
		recipient, sender := k%3, (k+1+k/3%2)%3
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		defer cancel()
		to := fmt.Sprint("alice", k)
		alice, bob := f.client(recipient, to), f.client(sender, "bob")
		in, err := alice.OpenInbox(ctx, client.InboxOptions{Policy: codec.PolicyLossless, Accept: []string{"bob"}})
		if err != nil {
			t.Fatal(err)
		}
		pub, err := bob.PublishTo(ctx, to, client.PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fault := make(chan error, 1)
		var pushed atomic.Int64
		go func() {
			const step = 64 << 10
			for at := 0; at < len(file); at += step {
				if err := pub.Push(ctx, 0, client.Delta, file[at:min(at+step, len(file))]); err != nil {
					fault <- err
					return
				}
				pushed.Add(step)
			}
			fault <- pub.Close(ctx)
		}()
		victims := []int{recipient, sender}
		got := make([]byte, 0, len(file))
		for left := false; !left; {
			ev, err := in.Next(ctx)
			if err != nil {
				for _, i := range f.running() {
					t.Logf("%s: %+v", f.nodes[i].name, f.report(i, codec.InboxOf(to).String()))
				}
				t.Fatalf("file %d: after %d bytes, %d pushed: %v", k, len(got), pushed.Load(), err)
			}
			switch ev := ev.(type) {
			case *client.Message:
				got = append(got, ev.Payload...)
			case *client.Gap:
				t.Errorf("gap %d to %d: %v", ev.From, ev.To, ev.Reason)
			case *client.Left:
				left = true
			}
			if n := 3 - len(victims); len(victims) > 0 && len(got) > n*len(file)/3 {
				f.kill(victims[0])
				f.start(victims[0])
				f.await(3)
				victims = victims[1:]
			}
		}
		if err := <-fault; err != nil {
			t.Error(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(file) {
			t.Errorf("%d bytes were sent, %d others arrived", len(file), len(got))
		}
		alice.Close(context.Background())
		bob.Close(context.Background())
	}
}
