package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/codec"
)

// TestOperate: what an operator asks of one node for another that one does, and its answer comes back whole, or why not.
func TestOperate(t *testing.T) {
	nodes := startCluster(t, "a", "b")
	o := admin.Operation{Method: "PUT", Path: "/api/v1/drain", By: "192.0.2.1:5", Body: []byte("body")}
	ask := func(node string) (int, []byte, error) { return nodes[0].Operate(t.Context(), node, o) }
	if status, _, err := ask("b"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("before it can: %d, %v", status, err)
	}
	for i, name := range []string{"a", "b"} {
		nodes[i].Operated(func(_ context.Context, o admin.Operation) (int, []byte) {
			switch string(o.Body) {
			case "long":
				return 200, []byte(`"` + strings.Repeat("x", codec.MaxReport) + `"`)
			case "panic":
				panic("planted")
			}
			b, _ := json.Marshal(name + " " + o.Method + " " + o.Path + " " + o.By + " " + string(o.Body))
			return 201, b
		})
	}
	for name, by := range map[string]string{"a": "192.0.2.1:5", "b": "a for 192.0.2.1:5"} {
		want := `"` + name + " PUT /api/v1/drain " + by + ` body"`
		if status, body, err := ask(name); err != nil || status != 201 || string(body) != want {
			t.Errorf("%s: %d %s, %v, want %s", name, status, body, err, want)
		}
	}
	if _, _, err := ask("c"); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("of a node that there is not: %v", err)
	}
	o.Body = []byte("long")
	if status, body, err := ask("b"); err != nil || status != http.StatusRequestEntityTooLarge || !strings.Contains(string(body), "per_page") {
		t.Errorf("too long an answer: %d %s, %v", status, body, err)
	}
	o.Body = []byte("panic")
	if status, _, err := ask("b"); err != nil || status != http.StatusInternalServerError {
		t.Errorf("a fault: %d, %v", status, err)
	}
	o.Body = make([]byte, codec.MaxOperate)
	if _, _, err := ask("b"); !errors.Is(err, admin.ErrTooLong) {
		t.Errorf("too long a request: %v", err)
	}
}

// TestFigures: a node tells of its rooms with the nodes that carry them, and of what has happened.
func TestFigures(t *testing.T) {
	nodes := startCluster(t, "a", "b")
	id := login(t, nodes[0], "alice", 1).register(codec.Register{}).String()
	f := nodes[0].Figures()
	if f.Node != "a" || f.Relayed != 1 || f.Mirrored != 0 || len(f.Busiest) != 1 || f.Busiest[0].ID != id || !slices.Equal(f.Busiest[0].Chain, []string{"a", "b"}) {
		t.Errorf("%+v", f)
	}
	if !slices.ContainsFunc(f.Events, func(e admin.Event) bool { return e.Text == "linked" && e.Node == "b" && e.Seq > 0 }) {
		t.Errorf("no word of the link: %+v", f.Events)
	}
	if f := nodes[1].Figures(); f.Relayed != 0 || len(f.Busiest) != 0 {
		t.Errorf("the other node: %+v", f)
	}
	alone := start(t).Figures()
	if alone.Events == nil || alone.Busiest == nil || len(alone.Events) != 0 {
		t.Errorf("a node on its own: %+v", alone)
	}
}
