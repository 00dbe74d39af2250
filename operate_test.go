//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// auditOf reads an audit, one map a line.
func auditOf(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		m := map[string]any{}
		if json.Unmarshal(line, &m) == nil { // the last may not be whole yet
			lines = append(lines, m)
		}
	}
	return lines
}

// audited waits for a line that has all the given fields: a prefix of each, as text.
func audited(t *testing.T, path string, want map[string]string) {
	t.Helper()
	fits := func(m map[string]any) bool {
		for k, v := range want {
			if got, ok := m[k]; !ok || !strings.HasPrefix(fmt.Sprint(got), v) {
				return false
			}
		}
		return true
	}
	if !eventually(func() bool {
		for _, m := range auditOf(t, path) {
			if fits(m) {
				return true
			}
		}
		return false
	}) {
		t.Errorf("the audit has no %v:\n%v", want, auditOf(t, path))
	}
}

// TestOperators does to rooms and sessions what operators can, at a real node on its own, at a room's relay, and by way
// of another node, and holds what clients see and the audit to it.
func TestOperators(t *testing.T) {
	for _, where := range []string{"alone", "at the relay", "by way of another node"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			token := write(t, dir, "token", operatorToken)
			var nodes []*server
			var audits []string
			more := []string{}
			if where != "alone" {
				p, err := start(nil, nil, "key")
				if err != nil {
					t.Fatal(err)
				}
				text, _ := p.end()
				more = []string{"--cluster", "127.0.0.1:0", "--cluster-key-file", write(t, dir, "key", string(text))}
			}
			for i := range min(2, 1+len(more)) {
				audits = append(audits, filepath.Join(dir, fmt.Sprint("audit", i)))
				args := append([]string{"--node", fmt.Sprint("n", i), "--admin-token-file", token, "--audit-file", audits[i]}, more...)
				if i > 0 {
					args = append(args, "--join", nodes[0].cluster)
				}
				nodes = append(nodes, serve(t, args...))
			}
			at, audit := nodes[0], audits[0]
			if len(nodes) > 1 {
				acquainted(t, nodes...)
			}
			if where == "by way of another node" {
				at, audit = nodes[1], audits[1]
			}
			ctx, cancel := context.WithTimeout(t.Context(), lifetime)
			defer cancel()
			dial := func(account string) *client.Client { // to the room's relay
				c, err := client.Dial(ctx, client.Options{Servers: []string{nodes[0].addr}, Account: account})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close(context.Background()) })
				return c
			}
			ann, bob, viewer := dial("ann"), dial("bob"), dial("viewer")
			room, err := ann.Register(ctx, client.RoomOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sub, err := viewer.Subscribe(ctx, room, client.SubscribeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			operate := func(want int, method, path string) string {
				t.Helper()
				status, b := at.operate(t, method, path)
				if status != want {
					t.Fatalf("%s %s: %d %s", method, path, status, b)
				}
				return string(b)
			}
			next := func(is func(client.Event) bool) {
				t.Helper()
				for {
					e, err := sub.Next(ctx)
					if err != nil {
						t.Fatal(err)
					}
					if is(e) {
						return
					}
				}
			}
			message := func(text string) func(client.Event) bool {
				return func(e client.Event) bool { m, is := e.(*client.Message); return is && string(m.Payload) == text }
			}

			// A grant, which the client that is refused before can use at once.
			if err := bob.Push(ctx, room, 1, []byte("refused")); err == nil {
				t.Fatal("pushes without a grant")
			}
			audited(t, audits[0], map[string]string{"audit": "refused", "account": "bob", "code": "not_granted", "peer_addr": "127.0.0.1:"})
			operate(http.StatusNoContent, "PUT", "/api/v1/rooms/"+room.String()+"/grants/bob")
			if err := bob.Push(ctx, room, 1, []byte("granted")); err != nil {
				t.Fatal(err)
			}
			next(message("granted"))
			by := map[string]string{"audit": "room_granted", "operator": "127.0.0.1:", "room": room.String(), "owner": "ann"}
			audited(t, audit, by)

			// Taken back: its publisher is cut off, in the middle of what it pushes.
			operate(http.StatusNoContent, "DELETE", "/api/v1/rooms/"+room.String()+"/grants/bob")
			next(func(e client.Event) bool {
				l, is := e.(*client.Left)
				return is && l.Account == "bob" && l.Code == codec.CodeRevoked
			})
			by["audit"] = "room_revoked"
			audited(t, audit, by)

			// What clients do themselves, and what they are refused, is there with their names.
			if err := ann.Grant(ctx, room, "carol"); err != nil {
				t.Fatal(err)
			}
			audited(t, audits[0], map[string]string{"audit": "granted", "account": "ann", "room": room.String(), "names": "[carol]"})
			if err := bob.Grant(ctx, room, "dave"); err == nil {
				t.Fatal("grants in another's room")
			}
			audited(t, audits[0], map[string]string{"audit": "refused", "account": "bob", "of": "granted", "code": "not_owner", "names": "[dave]"})

			// A session that is cut: the client comes back, and its subscription goes on.
			var p admin.Page[admin.Session]
			_, b := nodes[0].operate(t, "GET", "/api/v1/sessions?search=viewer")
			if err := json.Unmarshal(b, &p); err != nil || p.Total != 1 {
				t.Fatalf("%s", b)
			}
			path := fmt.Sprint("/api/v1/sessions/", p.Items[0].ID)
			if status, b := nodes[0].operate(t, "DELETE", path); status != http.StatusNoContent {
				t.Fatalf("%d %s", status, b)
			}
			next(func(e client.Event) bool { _, is := e.(*client.Resumed); return is })
			if err := ann.Push(ctx, room, 1, []byte("after the cut")); err != nil {
				t.Fatal(err)
			}
			next(message("after the cut"))
			audited(t, audits[0], map[string]string{"audit": "session_cut", "operator": "127.0.0.1:", "account": "viewer"})
			if status, b := nodes[0].operate(t, "DELETE", path); status != http.StatusNotFound {
				t.Errorf("cut again: %d %s", status, b)
			}

			// What cannot be.
			none := codec.RoomID(12345).String()
			operate(http.StatusNotFound, "PUT", "/api/v1/rooms/"+none+"/grants/bob")
			operate(http.StatusNotFound, "DELETE", "/api/v1/rooms/"+none)
			operate(http.StatusConflict, "DELETE", "/api/v1/rooms/"+room.String()+"/grants/ann") // its owner always may

			// The room's end.
			operate(http.StatusNoContent, "DELETE", "/api/v1/rooms/"+room.String())
			for {
				_, err := sub.Next(ctx)
				if closed, is := errors.AsType[*client.ClosedError](err); is {
					if closed.Code != codec.CodeRemoved {
						t.Errorf("closed with %v", closed.Code)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			by["audit"] = "room_closed"
			audited(t, audit, by)
			for _, method := range []string{"DELETE", "GET"} {
				if !eventually(func() bool {
					status, _ := at.operate(t, method, "/api/v1/rooms/"+room.String())
					return status == http.StatusNotFound
				}) {
					t.Errorf("%s finds it still", method)
				}
			}
		})
	}
}

// TestSecondSignal: a server that waits for balancers to notice, or for slow clients, ends at once when it is told
// again.
func TestSecondSignal(t *testing.T) {
	for name, flag := range map[string][]string{
		"while balancers are to notice": {"--drain-delay", "100s"},
		"while it drains":               {"--drain", "100s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := startServer(flag...)
			if err != nil {
				t.Fatal(err)
			}
			if name == "while it drains" {
				stall(t, s.addr)
			}
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			if !eventually(func() bool {
				res, err := http.Get(s.admin + "/readyz")
				if err != nil {
					return false
				}
				res.Body.Close()
				return res.StatusCode == http.StatusServiceUnavailable
			}) {
				t.Error("it is still ready")
			}
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			over := make(chan int, 1)
			go func() { _, status := s.end(); over <- status }()
			select {
			case <-over:
				if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
					t.Errorf("ended with %v:\n%s", s.cmd.ProcessState, s.errors.String())
				}
			case <-time.After(60 * time.Second): // less than it would drain for
				s.cmd.Process.Kill()
				t.Error("it does not end")
			}
		})
	}
}

// stall connects a subscriber that does not read, for which a lot waits.
func stall(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lifetime)
	t.Cleanup(cancel)
	pub, err := client.Dial(ctx, client.Options{Servers: []string{addr}, Account: "pusher"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = pub.Close(ctx) })
	room, err := pub.Register(ctx, client.RoomOptions{Policy: codec.PolicyLossless})
	if err != nil {
		t.Fatal(err)
	}
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	slow, err := small.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close() })
	b, err := (&codec.Hello{Account: "slow", Instance: 1}).Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax))
	if err == nil {
		b, err = (&codec.Subscribe{Req: 1, Room: room}).Append(b)
	}
	if err == nil {
		_, err = slow.Write(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { info, err := pub.Stat(ctx, room); return err == nil && info.Subscribers == 1 }) {
		t.Fatal("nobody subscribes")
	}
	p, err := pub.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for p.TryPush(1, client.Key, make([]byte, 64<<10)) == nil { // until the window is full
	}
}
