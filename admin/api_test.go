package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// fake is a server of two rooms and two sessions, which notes what is asked of it.
type fake struct {
	did  []string
	fail error
}

func (f *fake) do(format string, args ...any) error {
	f.did = append(f.did, fmt.Sprintf(format, args...))
	return f.fail
}

func (*fake) Overview() Overview { return Overview{Node: "a", State: "ready", Reasons: []string{}} }
func (*fake) Nodes() []Node {
	return []Node{{Name: "a", Self: true, State: "ready"}, {Name: "b", State: "linked"}, {Name: "c", State: "out_of_reach"}}
}
func (*fake) Rooms() []Room {
	return []Room{{ID: "1111", Owner: "ann", Bytes: 5}, {ID: "2222", Owner: "bob", Bytes: 7}, {ID: "3333", Owner: "Bobby", Bytes: 6}}
}

func (f *fake) Room(_ context.Context, id codec.RoomID) (RoomDetail, error) {
	return RoomDetail{
		Room: Room{ID: id.String()}, Chain: []string{}, Nodes: []RoomNode{{Node: "a"}}, Streams: []Stream{{}}, Readers: []Subscriber{{}}, Writers: []Publisher{{}},
	}, f.fail
}
func (*fake) Sessions() []Session { return []Session{{ID: 1, Account: "ann"}, {ID: 2, Account: "bob"}} }
func (f *fake) Session(id uint64) (SessionDetail, error) {
	return SessionDetail{Session: Session{ID: id}, SubscribesTo: []string{}}, f.fail
}

func (f *fake) CloseRoom(_ context.Context, id codec.RoomID, by string) error {
	return f.do("close %v", id)
}

func (f *fake) Grant(_ context.Context, id codec.RoomID, account, by string) error {
	return f.do("grant %v %s", id, account)
}

func (f *fake) Revoke(_ context.Context, id codec.RoomID, account, by string) error {
	return f.do("revoke %v %s", id, account)
}
func (f *fake) CutSession(id uint64, by string) error { return f.do("cut %d", id) }
func (f *fake) DrainNode(_ context.Context, node, by string) error {
	return f.do("%s", strings.TrimSpace("drain "+node))
}

func (f *fake) UndrainNode(_ context.Context, node, by string) error {
	return f.do("%s", strings.TrimSpace("undrain "+node))
}
func (f *fake) Statuses(context.Context) []NodeStatus {
	return []NodeStatus{{Node: "a", State: "ready", Clients: 2}}
}
func (f *fake) Rebalance(_ context.Context, perSecond int, dry bool, by string) ([]NodeStatus, error) {
	return []NodeStatus{{Node: "a", State: "ready", Clients: 2, Moves: 1}}, f.do("rebalance %d %v", perSecond, dry)
}
func (f *fake) Stay(context.Context, string) error { return f.do("stay") }
func (f *fake) SetLogLevel(level, by string) error { return f.do("level %s", level) }
func (f *fake) Reload(by string) (Reloaded, error) {
	return Reloaded{Taken: []string{"idle"}, Restart: []string{}}, f.do("reload")
}

func (f *fake) Figures() Figures {
	return Figures{Overview: f.Overview(), Busiest: []FlowingRoom{{Room: f.Rooms()[0], Chain: []string{"a", "b"}}}, Events: []Event{{Seq: 1, Text: "linked"}}}
}

// Operate is node b, which is one like this.
func (f *fake) Operate(ctx context.Context, node string, o Operation) (int, []byte, error) {
	if len(o.Path) > 2000 {
		return 0, nil, fmt.Errorf("%w: the path", ErrTooLong)
	}
	if node == "c" {
		return 0, nil, fmt.Errorf("%w: no link", ErrUnreachable)
	}
	if node != "b" {
		return 0, nil, fmt.Errorf("node %s: %w", node, ErrNotFound)
	}
	status, body := OfThisNode(f)(ctx, o)
	return status, body, nil
}

const (
	token  = "a-token-of-some-length"
	roomID = "NGhMpCbk2wQ"
)

// ask makes one request as somebody.
func ask(h http.Handler, method, target, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:7401"+target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:5000"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func withToken(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }

func path(p string) string {
	return strings.NewReplacer("{room}", roomID, "{account}", "bob", "{session}", "2").Replace(p)
}

// TestAccess tries who may do what with every operation.
func TestAccess(t *testing.T) {
	remote := func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5000" }
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	both := func(fs ...func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			for _, f := range fs {
				f(r)
			}
		}
	}
	cases := []struct {
		name        string
		as          func(*http.Request)
		read, write int // statuses; 0: as it is with the token
	}{
		{"this machine", nil, 0, http.StatusUnauthorized},
		{"this machine with the token", withToken, 0, 0},
		{"elsewhere", remote, http.StatusUnauthorized, http.StatusUnauthorized},
		{"elsewhere with the token", both(remote, withToken), 0, 0},
		{"a wrong token", both(remote, header("Authorization", "Bearer "+token+"x")), http.StatusUnauthorized, http.StatusUnauthorized},
		{"no scheme", both(remote, header("Authorization", token)), http.StatusUnauthorized, http.StatusUnauthorized},
		{"a page of another origin", both(withToken, header("Origin", "http://evil.example")), http.StatusForbidden, http.StatusForbidden},
		{"a page without an origin", both(withToken, header("Origin", "null")), http.StatusForbidden, http.StatusForbidden},
		{"another site's request", both(withToken, header("Sec-Fetch-Site", "cross-site")), http.StatusForbidden, http.StatusForbidden},
		{"the own page", both(withToken, header("Origin", "http://127.0.0.1:7401")), 0, 0},
		{"a name that leads here", func(r *http.Request) { r.Host = "evil.example:7401" }, http.StatusUnauthorized, http.StatusUnauthorized},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range routes {
				if r.path == "/api/v1/profile" {
					continue // it takes a second
				}
				f := &fake{}
				h := New(f, func() string { return token })
				body := ""
				if r.body != nil {
					body = `{"level":"debug"}`
				}
				want := c.write
				if r.open {
					want = c.read
				}
				w := ask(h, r.method, path(r.path), body, c.as)
				if want == 0 && w.Code >= 300 || want != 0 && w.Code != want {
					t.Errorf("%s %s: %d, want %d: %s", r.method, r.path, w.Code, want, w.Body)
				}
				if want != 0 && f.did != nil {
					t.Errorf("%s %s was done: %q", r.method, r.path, f.did)
				}
			}
		})
	}
	t.Run("without a token configured", func(t *testing.T) {
		h := New(&fake{}, func() string { return "" })
		for _, as := range []func(*http.Request){nil, withToken, header("Authorization", "Bearer ")} {
			if w := ask(h, "PUT", "/api/v1/drain", "", as); w.Code != http.StatusForbidden {
				t.Errorf("drain: %d", w.Code)
			}
		}
		if w := ask(h, "GET", "/api/v1/overview", "", nil); w.Code != http.StatusOK {
			t.Errorf("overview: %d", w.Code)
		}
	})
	t.Run("pprof", func(t *testing.T) {
		h := New(&fake{}, func() string { return token })
		if w := ask(h, "GET", "/debug/pprof/", "", nil); w.Code != http.StatusUnauthorized {
			t.Errorf("without the token: %d", w.Code)
		}
		if w := ask(h, "GET", "/debug/pprof/goroutine?debug=1", "", withToken); w.Code != http.StatusOK {
			t.Errorf("with it: %d", w.Code)
		}
	})
}

// TestNoChangeByGet shows that GET asks nothing of the server that changes something.
func TestNoChangeByGet(t *testing.T) {
	f := &fake{}
	h := New(f, func() string { return token })
	for _, r := range routes {
		ask(h, "GET", path(r.path), "", withToken)
	}
	if f.did != nil {
		t.Errorf("done by GET: %q", f.did)
	}
}

func TestActions(t *testing.T) {
	for _, c := range []struct{ method, target, body, did string }{
		{"DELETE", "/rooms/" + roomID, "", "close " + roomID},
		{"PUT", "/rooms/" + roomID + "/grants/bob", "", "grant " + roomID + " bob"},
		{"DELETE", "/rooms/" + roomID + "/grants/bob%2Fby", "", "revoke " + roomID + " bob/by"},
		{"DELETE", "/sessions/7", "", "cut 7"},
		{"PUT", "/drain", "", "drain"},
		{"DELETE", "/drain", "", "undrain"},
		{"PUT", "/log-level", `{"level":"debug"}`, "level debug"},
		{"POST", "/reload", "", "reload"},
	} {
		t.Run(c.method+c.target, func(t *testing.T) {
			f := &fake{}
			h := New(f, func() string { return token })
			if w := ask(h, c.method, "/api/v1"+c.target, c.body, withToken); w.Code >= 300 || !slices.Equal(f.did, []string{c.did}) {
				t.Errorf("%d, did %q, want %q", w.Code, f.did, c.did)
			}
			for err, status := range map[error]int{
				fmt.Errorf("it: %w", ErrNotFound): 404, fmt.Errorf("it: %w", ErrRefused): 409, errors.New("other"): 500,
			} {
				if c.target == "/reload" {
					status = http.StatusUnprocessableEntity
				}
				f.fail = err
				if w := ask(h, c.method, "/api/v1"+c.target, c.body, withToken); w.Code != status || !strings.Contains(w.Body.String(), err.Error()) {
					t.Errorf("%v: %d %s, want %d", err, w.Code, w.Body, status)
				}
			}
		})
	}
}

// TestOtherNodes: what is asked under another node's name that one does, with the operator's address; who may is looked at
// by the node that was asked.
func TestOtherNodes(t *testing.T) {
	for _, c := range []struct {
		name, method, target, body string
		as                         func(*http.Request)
		status                     int
		did                        string
	}{
		{"a list", "GET", "/nodes/b/rooms?search=ann&sort=id", "", nil, 200, ""},
		{"one of it", "GET", "/nodes/b/rooms/" + roomID, "", nil, 200, ""},
		{"a change", "PUT", "/nodes/b/drain", "", withToken, 204, "drain"},
		{"without the token", "PUT", "/nodes/b/drain", "", nil, 401, ""},
		{"a body", "PUT", "/nodes/b/log-level", `{"level":"warn"}`, withToken, 204, "level warn"},
		{"a name with a slash", "DELETE", "/nodes/b/rooms/" + roomID + "/grants/bob%2Fby", "", withToken, 204, "revoke " + roomID + " bob/by"},
		{"a long answer", "POST", "/nodes/b/profile", "", withToken, 404, ""},
		{"no further", "GET", "/nodes/b/cluster", "", nil, 404, ""},
		{"nor by a name", "GET", "/nodes/b/nodes/b/overview", "", nil, 404, ""},
		{"nor what needs the token in any case", "GET", "/nodes/b/../../debug/pprof/", "", nil, 307, ""},
		{"an unknown node", "GET", "/nodes/d/rooms", "", nil, 404, ""},
		{"one out of reach", "GET", "/nodes/c/rooms", "", nil, 502, ""},
		{"too long a path", "GET", "/nodes/b/rooms?search=" + strings.Repeat("x", 2000), "", nil, 413, ""},
		{"too long a body", "PUT", "/nodes/b/log-level", strings.Repeat("x", maxBody+1), withToken, 413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{}
			w := ask(New(f, func() string { return token }), c.method, "/api/v1"+c.target, c.body, c.as)
			if did := strings.Join(f.did, ","); w.Code != c.status || did != c.did {
				t.Errorf("%d, did %q, want %d and %q: %s", w.Code, did, c.status, c.did, w.Body)
			}
		})
	}
	var p Page[Room]
	w := ask(New(&fake{}, func() string { return token }), "GET", "/api/v1/nodes/b/rooms?search=bob&per_page=1", "", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Total != 2 || len(p.Items) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestLists(t *testing.T) {
	h := New(&fake{}, func() string { return token })
	for _, c := range []struct{ query, want string }{
		{"", "3: 2222 3333 1111"},
		{"?sort=bytes", "3: 1111 3333 2222"},
		{"?sort=-id", "3: 3333 2222 1111"},
		{"?search=BOB", "2: 2222 3333"},
		{"?search=none", "0:"},
		{"?per_page=2&page=2", "3: 1111"},
		{"?per_page=2&page=3", "3:"},
		{"?page=1000000000", "3:"},
		{"?sort=size", "400"},
		{"?page=0", "400"},
		{"?per_page=1001", "400"},
		{"?page=x", "400"},
	} {
		w := ask(h, "GET", "/api/v1/rooms"+c.query, "", nil)
		got := fmt.Sprint(w.Code)
		if w.Code == http.StatusOK {
			var p Page[Room]
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			got = fmt.Sprintf("%d:", p.Total)
			for _, r := range p.Items {
				got += " " + r.ID
			}
		}
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.query, got, c.want)
		}
	}
}

var write = flag.Bool("write", false, "write openapi.json rather than compare it")

// TestDescription holds openapi.json to the routes and their types: go test ./admin -run Description -write
func TestDescription(t *testing.T) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(description()); err != nil {
		t.Fatal(err)
	}
	if *write {
		if err := os.WriteFile("openapi.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openapi, b.Bytes()) {
		t.Error("openapi.json is not what the routes say: go test ./admin -run Description -write")
	}
}

type object = map[string]any

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

func description() object {
	paths := make(map[string]object)
	for _, r := range routes {
		op := object{"summary": r.about}
		var params []object
		for _, m := range pathParam.FindAllStringSubmatch(r.path, -1) {
			params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		for _, q := range r.query {
			params = append(params, object{"name": q.name, "in": "query", "description": q.about, "schema": object{"type": "string"}})
		}
		if params != nil {
			op["parameters"] = params
		}
		if r.body != nil {
			op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": schema(reflect.TypeOf(r.body))}}}
		}
		answers := object{"default": object{
			"description": "What was wrong.", "content": object{"application/json": object{"schema": schema(reflect.TypeFor[Error]())}},
		}}
		switch {
		case r.answer != nil:
			answers["200"] = object{"description": "Done.", "content": object{"application/json": object{"schema": schema(reflect.TypeOf(r.answer))}}}
		case r.path == "/api/v1/openapi.json" || r.path == "/api/v1/profile":
			answers["200"] = object{"description": "Done."}
		default:
			answers["204"] = object{"description": "Done."}
		}
		op["responses"] = answers
		op["security"] = []object{{"token": []string{}}}
		if r.open {
			op["security"] = []object{{"token": []string{}}, {}}
		}
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path][strings.ToLower(r.method)] = op
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "timedge", "version": "1",
			"description": "What operators see of a node, and do with it. Reads from the node's own machine need no token.",
		},
		"paths":      paths,
		"components": object{"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}}},
	}
}

// schema describes a type as encoding/json writes it.
func schema(t reflect.Type) object {
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": schema(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Struct:
		properties, required := object{}, []string{}
		var add func(reflect.Type)
		add = func(t reflect.Type) {
			for i := range t.NumField() {
				f := t.Field(i)
				if f.Anonymous {
					add(f.Type)
					continue
				}
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				properties[name] = schema(f.Type)
				if options != "omitempty" {
					required = append(required, name)
				}
			}
		}
		add(t)
		slices.Sort(required)
		return object{"type": "object", "properties": properties, "required": required}
	}
	return object{"type": "integer"}
}

// TestAnswersFitDescription holds what handlers answer to the description: no field more, and none missing.
func TestAnswersFitDescription(t *testing.T) {
	h := New(&fake{}, func() string { return token })
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct{ Schema object }
			}
		}
	}
	if err := json.Unmarshal(openapi, &doc); err != nil {
		t.Fatal(err)
	}
	for p, ops := range doc.Paths {
		for method, op := range ops {
			if p == "/api/v1/profile" {
				continue
			}
			w := ask(h, strings.ToUpper(method), path(p), `{"level":"info"}`, withToken)
			said, ok := op.Responses[fmt.Sprint(w.Code)]
			if !ok {
				t.Errorf("%s %s answers %d, which is not described", method, p, w.Code)
				continue
			}
			var v any
			if c, ok := said.Content["application/json"]; ok {
				if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
					t.Errorf("%s %s: %v", method, p, err)
				}
				fits(t, method+" "+p, v, c.Schema)
			}
		}
	}
}

func fits(t *testing.T, at string, v any, s object) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			fits(t, at+"[]", item, s["items"].(object))
		}
	case object:
		properties, _ := s["properties"].(object)
		for name, x := range v {
			if p, ok := properties[name].(object); ok {
				fits(t, at+"."+name, x, p)
			} else {
				t.Errorf("%s.%s is not described", at, name)
			}
		}
		for _, name := range s["required"].([]any) {
			if _, ok := v[name.(string)]; !ok {
				t.Errorf("%s.%v is missing", at, name)
			}
		}
	case nil:
		t.Errorf("%s is null", at)
	}
}
