package admin

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/timedge/timedge/codec"
)

//go:embed openapi.json
var openapi []byte

// api answers requests.
type api struct {
	server Server
	token  func() string // in force; empty: there is none
}

// route is one operation. openapi.json is made of these, and of types.go, by a test.
type route struct {
	method, path string
	open         bool   // reads: this machine needs no token
	about        string // one line
	query        []param
	body, answer any // a value of the type; nil: none
	handle       func(*api, http.ResponseWriter, *http.Request)
}

// param is a parameter of a query.
type param struct{ name, about string }

var listParams = []param{
	{"search", "what one of the item's texts is to contain, without regard to case"},
	{"sort", "a key; with - before it the other way round"},
	{"page", "from 1 on"},
	{"per_page", "at most 1000; 50 by default"},
}

var nodeParams = []param{{"node", "its name; this one by default"}}

var routes = []route{
	{"GET", "/api/v1/openapi.json", true, "This description.", nil, nil, nil, (*api).describe},
	{"GET", "/api/v1/overview", true, "The node in figures.", nil, nil, Overview{}, (*api).overview},
	{"GET", "/api/v1/figures", true, "The node in figures, with its busiest rooms and what has happened lately.", nil, nil, Figures{}, (*api).figures},
	{"GET", "/api/v1/cluster", true, "All nodes of the cluster with their figures.", nil, nil, []ClusterNode{}, (*api).cluster},
	{"GET", "/api/v1/nodes", true, "The members of the cluster.", nil, nil, []Node{}, (*api).nodes},
	{"GET", "/api/v1/rooms", true, "Rooms that this node relays, or has clients of.", listParams, nil, Page[Room]{}, (*api).rooms},
	{"GET", "/api/v1/rooms/{room}", true, "A room: its nodes, streams, publishers, and subscribers with what each lags.", nil, nil, RoomDetail{}, (*api).room},
	{"DELETE", "/api/v1/rooms/{room}", false, "End a room for everybody.", nil, nil, nil, (*api).closeRoom},
	{"PUT", "/api/v1/rooms/{room}/grants/{account}", false, "Let an account push into a room.", nil, nil, nil, (*api).grant},
	{"DELETE", "/api/v1/rooms/{room}/grants/{account}", false, "Take a grant back, and cut the account off at once.", nil, nil, nil, (*api).revoke},
	{"GET", "/api/v1/sessions", true, "The clients' sessions of this node.", listParams, nil, Page[Session]{}, (*api).sessions},
	{"GET", "/api/v1/sessions/{session}", true, "A session with its rooms.", nil, nil, SessionDetail{}, (*api).session},
	{"DELETE", "/api/v1/sessions/{session}", false, "End a client's session; it may come back.", nil, nil, nil, (*api).cutSession},
	{"GET", "/api/v1/statuses", true, "The members of the cluster, as each says itself.", nil, nil, []NodeStatus{}, (*api).statuses},
	{"PUT", "/api/v1/drain", false, "Hand rooms over and send clients away; the node stays, not ready.", nodeParams, nil, nil, (*api).drain},
	{"DELETE", "/api/v1/drain", false, "Take a drain back.", nodeParams, nil, nil, (*api).undrain},
	{
		"PUT", "/api/v1/rebalance", false, "Have nodes that have more clients than the mean send those elsewhere, slowly.",
		[]param{{"per_second", "clients of each node, 1 to 10000; 20 by default"}, {"dry_run", "true: say what would be, and do nothing"}},
		nil, []NodeStatus{}, (*api).rebalance,
	},
	{"DELETE", "/api/v1/rebalance", false, "Send no more clients elsewhere.", nil, nil, nil, (*api).stay},
	{"PUT", "/api/v1/log-level", false, "Set the log's level until the next reload.", nil, LogLevel{}, nil, (*api).logLevel},
	{"POST", "/api/v1/reload", false, "Take up settings and files, or change nothing and say what is wrong.", nil, nil, Reloaded{}, (*api).reload},
	{
		"POST", "/api/v1/profile", false, "A processor profile, for go tool pprof.",
		[]param{{"seconds", "1 to 300; 30 by default"}},
		nil, nil, (*api).profile,
	},
}

func (a *api) overview(w http.ResponseWriter, _ *http.Request) { reply(w, a.server.Overview()) }
func (a *api) nodes(w http.ResponseWriter, _ *http.Request)    { reply(w, a.server.Nodes()) }

func (a *api) statuses(w http.ResponseWriter, r *http.Request) {
	reply(w, a.server.Statuses(r.Context()))
}

func (a *api) drain(w http.ResponseWriter, r *http.Request) {
	done(w, a.server.DrainNode(r.Context(), r.URL.Query().Get("node"), by(r)))
}

func (a *api) undrain(w http.ResponseWriter, r *http.Request) {
	done(w, a.server.UndrainNode(r.Context(), r.URL.Query().Get("node"), by(r)))
}

const perSecond = 20 // clients that a rebalance moves, by default

func (a *api) rebalance(w http.ResponseWriter, r *http.Request) {
	v, rate, dry := r.URL.Query(), perSecond, false
	if text := v.Get("per_second"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 10_000 {
			fail(w, http.StatusBadRequest, "per_second: a number from 1 to 10000")
			return
		}
		rate = n
	}
	if text := v.Get("dry_run"); text != "" {
		var err error
		if dry, err = strconv.ParseBool(text); err != nil {
			fail(w, http.StatusBadRequest, "dry_run: true or false")
			return
		}
	}
	all, err := a.server.Rebalance(r.Context(), rate, dry, by(r))
	if err != nil {
		done(w, err)
		return
	}
	reply(w, all)
}

func (a *api) stay(w http.ResponseWriter, r *http.Request) {
	done(w, a.server.Stay(r.Context(), by(r)))
}

// New returns the API's handler, and that of net/http/pprof under /debug/pprof/, which needs the token in any case.
// token returns the bearer token in force.
func New(server Server, token func() string) http.Handler {
	a := &api{server, token}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.path, a.guard(r.open, func(w http.ResponseWriter, req *http.Request) { r.handle(a, w, req) }))
	}
	a.afar(mux)
	mux.HandleFunc("GET /debug/pprof/", a.guard(false, pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", a.guard(false, pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", a.guard(false, pprof.Trace))
	mux.HandleFunc("GET /debug/pprof/symbol", a.guard(false, pprof.Symbol))
	return mux
}

// by names who asks, for the audit: there is one token, so that is the address.
func by(r *http.Request) string { return r.RemoteAddr }

// Error is the body of an answer that is no success.
type Error struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // who has gone needs no answer
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Error{text})
}

// done answers what changes something.
func done(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrNotFound):
		fail(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrRefused):
		fail(w, http.StatusConflict, err.Error())
	default:
		fail(w, http.StatusInternalServerError, err.Error())
	}
}

func (a *api) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openapi)
}

// query is which part of a list is asked for.
type query struct {
	search, sort  string
	page, perPage int
}

const maxPerPage = 1000

// list reads a query, whose sort is one of the keys, the first by default; a minus turns the order.
func list(w http.ResponseWriter, r *http.Request, keys []string) (q query, ok bool) {
	v := r.URL.Query()
	q = query{search: v.Get("search"), sort: v.Get("sort"), page: 1, perPage: 50}
	if q.sort == "" {
		q.sort = keys[0]
	}
	number := func(name string, to *int, most int) {
		if text := v.Get(name); text != "" && ok {
			n, err := strconv.Atoi(text)
			if ok = err == nil && n >= 1 && n <= most; !ok {
				fail(w, http.StatusBadRequest, name+": a number from 1 to "+strconv.Itoa(most))
			}
			*to = n
		}
	}
	if ok = slices.Contains(keys, strings.TrimPrefix(q.sort, "-")); !ok {
		fail(w, http.StatusBadRequest, "sort: one of "+strings.Join(keys, ", ")+", with - before it the other way round")
	}
	number("page", &q.page, 1<<30)
	number("per_page", &q.perPage, maxPerPage)
	return q, ok
}

// pageOf finds, orders and cuts. texts are what is searched of an item, without regard to case.
func pageOf[T any](q query, all []T, texts func(*T) []string, compare func(key string, a, b *T) int) Page[T] {
	if search := strings.ToLower(q.search); search != "" {
		all = slices.DeleteFunc(all, func(t T) bool {
			return !slices.ContainsFunc(texts(&t), func(s string) bool { return strings.Contains(strings.ToLower(s), search) })
		})
	}
	key, turned := strings.CutPrefix(q.sort, "-")
	slices.SortFunc(all, func(a, b T) int {
		c := compare(key, &a, &b)
		if turned {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(texts(&a)[0], texts(&b)[0]))
	})
	p := Page[T]{Total: len(all), Page: q.page, Items: []T{}}
	if from := (q.page - 1) * q.perPage; q.page-1 <= len(all)/q.perPage && from < len(all) {
		p.Items = all[from:min(from+q.perPage, len(all))]
	}
	return p
}

// Keys by which lists are sorted.
var (
	roomKeys    = []string{"-bytes", "id", "bytes", "frames", "subscribers", "publishers", "age", "idle", "owner"}
	sessionKeys = []string{"-lag", "id", "lag", "account", "age", "subscriptions", "publications"}
)

func (a *api) rooms(w http.ResponseWriter, r *http.Request) {
	q, ok := list(w, r, roomKeys)
	if !ok {
		return
	}
	reply(w, pageOf(q, a.server.Rooms(), func(m *Room) []string { return []string{m.ID, m.Owner} }, func(key string, a, b *Room) int {
		switch key {
		case "bytes":
			return cmp.Compare(a.Bytes, b.Bytes)
		case "frames":
			return cmp.Compare(a.Frames, b.Frames)
		case "subscribers":
			return cmp.Compare(a.Subscribers, b.Subscribers)
		case "publishers":
			return cmp.Compare(a.Publishers, b.Publishers)
		case "age":
			return cmp.Compare(a.AgeMillis, b.AgeMillis)
		case "idle":
			return cmp.Compare(a.IdleMillis, b.IdleMillis)
		case "owner":
			return cmp.Compare(a.Owner, b.Owner)
		}
		return cmp.Compare(a.ID, b.ID)
	}))
}

func (a *api) sessions(w http.ResponseWriter, r *http.Request) {
	q, ok := list(w, r, sessionKeys)
	if !ok {
		return
	}
	texts := func(s *Session) []string { return []string{strconv.FormatUint(s.ID, 10), s.Account, s.Addr} }
	reply(w, pageOf(q, a.server.Sessions(), texts, func(key string, a, b *Session) int {
		switch key {
		case "lag":
			return cmp.Or(cmp.Compare(a.LagMillis, b.LagMillis), cmp.Compare(a.LagBytes, b.LagBytes))
		case "account":
			return cmp.Compare(a.Account, b.Account)
		case "age":
			return cmp.Compare(a.AgeMillis, b.AgeMillis)
		case "subscriptions":
			return cmp.Compare(a.Subscriptions, b.Subscriptions)
		case "publications":
			return cmp.Compare(a.Publications, b.Publications)
		}
		return cmp.Compare(a.ID, b.ID)
	}))
}

// roomOf reads the room's number of a path.
func roomOf(w http.ResponseWriter, r *http.Request) (codec.RoomID, bool) {
	id, err := codec.ParseRoomID(r.PathValue("room"))
	if err != nil {
		fail(w, http.StatusBadRequest, "not a room number")
	}
	return id, err == nil
}

func sessionOf(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	id, err := strconv.ParseUint(r.PathValue("session"), 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "not a session's number")
	}
	return id, err == nil
}

func (a *api) room(w http.ResponseWriter, r *http.Request) {
	if id, ok := roomOf(w, r); ok {
		if d, err := a.server.Room(r.Context(), id); err != nil {
			done(w, err)
		} else {
			reply(w, d)
		}
	}
}

func (a *api) session(w http.ResponseWriter, r *http.Request) {
	if id, ok := sessionOf(w, r); ok {
		if d, err := a.server.Session(id); err != nil {
			done(w, err)
		} else {
			reply(w, d)
		}
	}
}

func (a *api) closeRoom(w http.ResponseWriter, r *http.Request) {
	if id, ok := roomOf(w, r); ok {
		done(w, a.server.CloseRoom(r.Context(), id, by(r)))
	}
}

func (a *api) grant(w http.ResponseWriter, r *http.Request) {
	if id, ok := roomOf(w, r); ok {
		done(w, a.server.Grant(r.Context(), id, r.PathValue("account"), by(r)))
	}
}

func (a *api) revoke(w http.ResponseWriter, r *http.Request) {
	if id, ok := roomOf(w, r); ok {
		done(w, a.server.Revoke(r.Context(), id, r.PathValue("account"), by(r)))
	}
}

func (a *api) cutSession(w http.ResponseWriter, r *http.Request) {
	if id, ok := sessionOf(w, r); ok {
		done(w, a.server.CutSession(id, by(r)))
	}
}

func (a *api) reload(w http.ResponseWriter, r *http.Request) {
	rep, err := a.server.Reload(by(r))
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	reply(w, rep)
}

// LogLevel is the body of a change of the log's level.
type LogLevel struct {
	Level string `json:"level"`
}

const maxBody = 4096

func (a *api) logLevel(w http.ResponseWriter, r *http.Request) {
	var body LogLevel
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(&body)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, `the body is to be {"level": "debug"}`)
		return
	}
	done(w, a.server.SetLogLevel(body.Level, by(r)))
}

// profile answers with a processor profile of so many seconds, for "go tool pprof".
func (a *api) profile(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("seconds")
	if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 1 || n > 300) {
		fail(w, http.StatusBadRequest, "seconds: a number from 1 to 300")
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(6 * time.Minute))
	pprof.Profile(w, r)
}
