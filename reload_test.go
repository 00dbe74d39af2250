//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/settings"
)

const operatorToken = "0123456789abcdef-operator"

// write puts a file into a test's directory.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// operate makes a request of a server's API with the token, and returns the status and the body.
func (s *server) operate(t *testing.T, method, path string) (int, []byte) {
	t.Helper()
	return s.request(t, method, path, "", operatorToken)
}

// request is operate with a body, and with another token, or none.
func (s *server) request(t *testing.T, method, path, body, token string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b
}

// flow is a stream that numbers its messages, and a subscriber that holds every one of them to its number.
type flow struct {
	pub   *client.Client
	sent  chan uint64 // how many, when pushing has ended
	got   chan error
	count chan uint64 // how many have come, as they come
	total atomic.Uint64
	stop  context.CancelFunc
}

func startFlow(t *testing.T, addr string) *flow {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	dial := func(account string) *client.Client {
		c, err := client.Dial(ctx, client.Options{Servers: []string{addr}, Account: account})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	pub, viewer := dial("pusher"), dial("viewer")
	room, err := pub.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := viewer.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pub.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	push, stop := context.WithCancel(ctx)
	f := &flow{pub: pub, sent: make(chan uint64, 1), got: make(chan error, 1), count: make(chan uint64, 1<<16), stop: stop}
	go func() {
		n := uint64(0)
		for ; push.Err() == nil; n++ {
			if err := p.Push(ctx, 1, client.Delta, fmt.Appendf(nil, "%d", n)); err != nil {
				break
			}
			time.Sleep(time.Millisecond) // its pace: some 500 a second
		}
		if err := p.Flush(ctx); err != nil && ctx.Err() == nil { // what has not arrived when the room is removed may be lost
			t.Errorf("not all that was pushed arrives: %v", err)
		}
		f.sent <- n
		_ = pub.Remove(ctx, room)
	}()
	go func() {
		n := uint64(0)
		for e, err := range sub.All(ctx) {
			if err != nil {
				f.got <- nil
				break
			}
			switch e := e.(type) {
			case *client.Message:
				if want := fmt.Sprintf("%d", n); string(e.Payload) != want {
					f.got <- fmt.Errorf("got %s, want %s", e.Payload, want)
					return
				}
				n++
				f.total.Store(n)
				select {
				case f.count <- n:
				default:
				}
			case *client.Gap:
				f.got <- fmt.Errorf("a gap: %+v", e)
				return
			}
		}
		close(f.count)
	}()
	return f
}

// further waits until a message has come that is newer than all that have come by now.
func (f *flow) further(t *testing.T) {
	t.Helper()
	for len(f.count) > 0 {
		<-f.count
	}
	select {
	case <-f.count:
	case err := <-f.got:
		t.Fatalf("the stream has ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing comes any more")
	}
}

// end stops pushing and holds all that has come to what was sent.
func (f *flow) end(t *testing.T) {
	t.Helper()
	f.stop()
	sent := <-f.sent
	if err := <-f.got; err != nil {
		t.Fatal(err)
	}
	if came := f.total.Load(); came != sent {
		t.Errorf("%d messages came of %d", came, sent)
	}
}

// otherwise returns another text for a setting than its default.
func otherwise(t *testing.T, s *settings.Setting) string {
	t.Helper()
	switch {
	case len(s.OneOf) > 0:
		return s.OneOf[0]
	case s.Name == "memory":
		return "2GiB"
	}
	switch s.To.(type) {
	case *time.Duration:
		return "7s"
	case *size:
		return "9MiB"
	case *int, *int64:
		return "4321"
	case *[]prefix:
		return "127.0.0.0/8,192.0.2.0/24"
	}
	t.Fatalf("%s: no other value of %T", s.Name, s.To)
	return ""
}

// TestReloadEverySetting changes every setting that can be taken up while it runs, one after the other, under a stream
// of which nothing is lost, and tries files that are wrong, which change nothing.
func TestReloadEverySetting(t *testing.T) {
	dir := t.TempDir()
	lines := []string{"listen = ['127.0.0.1:0']"}
	file := write(t, dir, "timedge.toml", lines[0])
	token := write(t, dir, "token", operatorToken+"\n")
	logs, audit := filepath.Join(dir, "log"), filepath.Join(dir, "audit")
	s := serve(t, "--config", file, "--admin-token-file", token, "--log-file", logs, "--audit-file", audit)
	f := startFlow(t, s.addr)
	f.further(t)
	table := settingsTable(&serveSettings{})
	reload := func() (int, admin.Reloaded, string) {
		t.Helper()
		status, b := s.operate(t, "POST", "/api/v1/reload")
		var r admin.Reloaded
		if status == http.StatusOK {
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
		}
		f.further(t)
		return status, r, string(b)
	}
	// The watcher of the file may be faster than the request, which has nothing left to do then; the log tells of both.
	taken := func(name string) bool {
		b, err := os.ReadFile(logs)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var l struct {
				Message  string
				Settings []string
			}
			if json.Unmarshal(line, &l) == nil && l.Message == "reloaded" && slices.Contains(l.Settings, name) {
				return true
			}
		}
		return false
	}
	changed := 0
	for i := range table.Rows {
		row := &table.Rows[i]
		if !row.Reload {
			continue
		}
		changed++
		lines = append(lines, fmt.Sprintf("%s = %q", row.Name, otherwise(t, row)))
		write(t, dir, "timedge.toml", strings.Join(lines, "\n"))
		status, r, body := reload()
		if status != http.StatusOK || len(r.Restart) > 0 || !slices.Contains(r.Taken, row.Name) && !eventually(func() bool { return taken(row.Name) }) {
			t.Errorf("%s: %d %s", row.Name, status, body)
		}
	}
	if changed < 25 {
		t.Errorf("%d settings were changed: this test does not see them", changed)
	}
	for name, wrong := range map[string]string{
		"a wrong value": "idle = 'x'", "an unknown key": "idel = '1m'", "one that two do not fit": "tls-cert = 'x'", "no TOML": "idle =",
	} {
		t.Run(name, func(t *testing.T) {
			write(t, dir, "timedge.toml", "conns = 1\nlimit-requests = 1\n"+wrong) // which nobody could go on with
			if status, _, body := reload(); status != http.StatusUnprocessableEntity {
				t.Errorf("%d %s", status, body)
			}
			startFlow(t, s.addr).end(t)
		})
	}
	t.Run("a wrong value by SIGHUP", func(t *testing.T) {
		said := func() int {
			b, err := os.ReadFile(logs)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for line := range bytes.Lines(b) {
				if bytes.Contains(line, []byte("SIGHUP")) && bytes.Contains(line, []byte("not reloaded")) {
					n++
				}
			}
			return n
		}
		before := said()
		write(t, dir, "timedge.toml", "conns = 1\nlimit-requests = 1\nlisten = 'nowhere'\nidle = 'x'")
		_ = s.cmd.Process.Signal(syscall.SIGHUP)
		if !eventually(func() bool { return said() > before }) {
			t.Error("nothing is said of it")
		}
		startFlow(t, s.addr).end(t)
	})
	t.Run("what takes a restart", func(t *testing.T) {
		write(t, dir, "timedge.toml", strings.Join(append(lines, "ping = '9s'"), "\n"))
		if status, r, body := reload(); status != http.StatusOK || !reflect.DeepEqual(r.Restart, []string{"ping"}) {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("a log that is moved away", func(t *testing.T) {
		if err := os.Rename(logs, logs+".1"); err != nil {
			t.Fatal(err)
		}
		_ = s.cmd.Process.Signal(syscall.SIGHUP)
		if !eventually(func() bool { b, err := os.ReadFile(logs); return err == nil && bytes.Contains(b, []byte("SIGHUP")) }) {
			t.Error("nothing is written into the new file")
		}
	})
	t.Run("another token", func(t *testing.T) {
		write(t, dir, "token", operatorToken+"-new")
		if !eventually(func() bool {
			status, _ := s.operate(t, "POST", "/api/v1/reload")
			return status == http.StatusUnauthorized
		}) {
			t.Error("the old token goes on")
		}
		write(t, dir, "token", operatorToken)
	})
	f.end(t)
	b, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"audit":"registered"`, `"audit":"removed"`, `"audit":"reload"`} {
		if !eventually(func() bool { b, _ = os.ReadFile(audit); return bytes.Contains(b, []byte(want)) }) {
			t.Errorf("the audit has no %s:\n%s", want, b)
		}
	}
}

// TestReloadTakesEffect: each setting that is said to be taken up while the server runs changes what the engine goes by,
// but for those few that are not the engine's.
func TestReloadTakesEffect(t *testing.T) {
	elsewhere := []string{"drain", "drain-delay", "log-level"} // of the process
	with := func(more settings.Given) engine.Config {
		t.Helper()
		g := &given{}
		g.init()
		of := settings.Given{"listen": "127.0.0.1:0", "web": "off", "node": "n"}
		maps.Copy(of, more)
		if _, err := g.table.Load(of, nil, settings.File{}); err != nil {
			t.Fatal(err)
		}
		who, err := auth.New("open", zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return g.engineConfig(zerolog.Nop(), who, nil)
	}
	e, err := engine.Start(with(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Shutdown(context.Background()) })
	inForce := func() string { return fmt.Sprintf("%+v", e.Config()) }
	table := settingsTable(&serveSettings{})
	for i := range table.Rows {
		row := &table.Rows[i]
		if !row.Reload {
			continue
		}
		if err := e.Reload(with(nil)); err != nil {
			t.Fatal(err)
		}
		before := inForce()
		if err := e.Reload(with(settings.Given{row.Name: otherwise(t, row)})); err != nil {
			t.Fatal(err)
		}
		if changed := inForce() != before; changed == slices.Contains(elsewhere, row.Name) {
			t.Errorf("%s is taken up: %v", row.Name, changed)
		}
	}
}

// eventually asks until it is so, for half a minute.
func eventually(is func() bool) bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return true
		}
	}
	return is()
}
