//go:build linux

package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/timedge/timedge/admin"
)

// TestAnyNodeAnswersForAll: the console of one node shows and operates three. Who may is looked at by the node that is
// asked.
func TestAnyNodeAnswersForAll(t *testing.T) {
	fl := startFleet(t, false)
	for i := range fl.nodes {
		fl.ready(t, i)
	}
	f := startFlow(t, fl.nodes[1].addr)
	f.further(t)
	entry := fl.nodes[0]
	var all []admin.ClusterNode
	if !eventually(func() bool {
		_, b := entry.operate(t, "GET", "/api/v1/cluster")
		flowing := 0
		all = nil
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		for _, n := range all {
			if n.Figures == nil {
				return false
			}
			for _, r := range n.Figures.Busiest {
				if r.Role == "relay" && r.Frames > 0 && len(r.Chain) == 3 {
					flowing++
				}
			}
		}
		return len(all) == 3 && flowing == 1
	}) {
		t.Fatalf("%+v", all)
	}
	for _, c := range []struct {
		name, method, path, body, token string
		status                          int
		says                            string
	}{
		{"its sessions", "GET", "sessions?search=viewer", "", "", 200, `"account":"viewer"`},
		{"its figures", "GET", "overview", "", "", 200, `"node":"n1"`},
		{"no session", "GET", "sessions/9999999", "", "", 404, "not found"},
		{"a change without the token", "PUT", "log-level", `{"level":"warn"}`, "", 401, "token"},
		{"a change with another", "PUT", "log-level", `{"level":"warn"}`, operatorToken + "x", 401, "token"},
		{"a change", "PUT", "log-level", `{"level":"warn"}`, operatorToken, 204, ""},
		{"a wrong one", "PUT", "log-level", `{"level":"loud"}`, operatorToken, 409, "debug, info, warn or error"},
	} {
		if status, said := entry.request(t, c.method, "/api/v1/nodes/n1/"+c.path, c.body, c.token); status != c.status || !strings.Contains(string(said), c.says) {
			t.Errorf("%s: %d %s, want %d", c.name, status, said, c.status)
		}
	}
	// What people see of it in a terminal: n1 relays the room, from which n0 has no subscriber.
	var said []byte
	shows := func(row string) bool {
		top, err := start(nil, nil, "top", "--once", "--admin", strings.TrimPrefix(entry.admin, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		said, _ = top.end()
		return regexp.MustCompile(row).Match(said)
	}
	for _, row := range []string{`(?m)^n1 +linked +2 +1 +0 +[1-9]\d*/s +[1-9].*B/s +[1-9]\d*/s `, `(?m)^\w{11} +pusher +n1 +1 +[1-9]\d*/s +[1-9]`} {
		if !eventually(func() bool { return shows(row) }) { // on a busy machine a second may pass in which nothing flows
			t.Errorf("top has no row %s:\n%s", row, said)
		}
	}
	if res, err := http.Get(entry.admin + "/console/"); err != nil || res.StatusCode != 200 || res.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("the console: %+v, %v", res, err)
	} else {
		res.Body.Close()
	}
	f.end(t)
}
