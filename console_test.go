//go:build linux

package main

import (
	"encoding/json"
	"io"
	"net/http"
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
	other := func(method, path, body, token string) (int, string) {
		r, err := http.NewRequest(method, entry.admin+"/api/v1/nodes/n1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
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
		if status, said := other(c.method, c.path, c.body, c.token); status != c.status || !strings.Contains(said, c.says) {
			t.Errorf("%s: %d %s, want %d", c.name, status, said, c.status)
		}
	}
	if res, err := http.Get(entry.admin + "/console/"); err != nil || res.StatusCode != 200 || res.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("the console: %+v, %v", res, err)
	} else {
		res.Body.Close()
	}
	f.end(t)
}
