package engine

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A loop that does not turn is found out, by its number, and the others are not blamed; one that turns again is well.
func TestHealthz(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a loop must have stood still for some seconds")
	}
	e, err := Start(Config{Listen: []string{"127.0.0.1:0"}, Loops: 3, Node: "test", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}()
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
