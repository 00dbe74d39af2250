package engine

import (
	"context"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// alone starts a node on its own, which ends with the test.
func alone(t *testing.T, cfg Config) *Engine {
	t.Helper()
	cfg.Listen, cfg.Node, cfg.Log = []string{"127.0.0.1:0"}, "test", zerolog.Nop()
	e, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return e
}

// A loop that does not turn is found out, by its number, and the others are not blamed; one that turns again is well.
func TestHealthz(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a loop must have stood still for some seconds")
	}
	e := alone(t, Config{Loops: 3})
	ask := func() (int, string) {
		w := httptest.NewRecorder()
		e.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	if code, text := ask(); code != 200 || text != "ok" {
		t.Errorf("%d %s", code, text)
	}
	release := make(chan struct{})
	e.loops[1].post(item{kind: itemDo, do: func() { <-release }})
	began := time.Now()
	code, text := ask()
	if took := time.Since(began); code != 503 || text != "event loops that have not turned for 5s: [1]" || took < loopDeadAfter {
		t.Errorf("%d %s, after %v", code, text, took)
	}
	close(release)
	if code, text := ask(); code != 200 {
		t.Errorf("it turns again: %d %s", code, text)
	}
}

// A node says why it gets no new clients, every reason, and is ready again once none is left.
func TestReadyz(t *testing.T) {
	t.Parallel()
	e := alone(t, Config{Loops: 1, MaxConns: 1})
	const full, drains = "over limits: 1 connections of 1", "draining: an operator has asked for it"
	wants := func(when string, reasons ...string) {
		t.Helper()
		want, code := strings.Join(reasons, "\n"), 503
		if len(reasons) == 0 {
			want, code = "ready", 200
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
			if w.Code == code && strings.TrimSpace(w.Body.String()) == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d %s, want %d %s", when, w.Code, w.Body, code, want)
			}
		}
	}
	wants("at first")
	conn, err := net.Dial("tcp", e.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	wants("full", full)
	e.leaving.Store(true) // as Drain does, which a node by itself refuses; testdata/script/drain.txtar has all of it
	wants("full, and drained", drains, full)
	conn.Close()
	wants("drained", drains)
	e.leaving.Store(false)
	wants("at last")
}
