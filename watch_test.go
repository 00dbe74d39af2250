//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/timedge/timedge/internal/beside"
)

// The dashboard and the alerts of deploy, tried with Prometheus itself.

// dashboardQueries returns what the dashboard asks, for all nodes and a range that a test has the time for.
func dashboardQueries(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("deploy/grafana/timedge.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "10s", "$job", ".*", "$instance", ".*")
	queries := map[string]string{}
	for _, p := range d.Panels {
		for i, target := range p.Targets {
			queries[fmt.Sprintf("%s %d", p.Title, i)] = fill.Replace(target.Expr)
		}
	}
	for i, a := range d.Annotations.List {
		queries[fmt.Sprintf("annotation %d", i)] = fill.Replace(a.Expr)
	}
	if len(queries) < 20 {
		t.Fatalf("the dashboard has %d queries: this test does not see them", len(queries))
	}
	return queries
}

// alertRules are those of deploy.
func alertRules(t *testing.T) (rules []struct{ Alert, Expr string }) {
	t.Helper()
	b, err := os.ReadFile("deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	for _, g := range f.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("there are %d alerts: this test does not see them", len(rules))
	}
	return rules
}

// TestAlerts tries every alert on a day on which it must come, and on one on which it must not; the documentation says
// what to do at each.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "alerts.yml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"},
	} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = "deploy/prometheus"
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	tried, err := os.ReadFile("deploy/prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range alertRules(t) {
		if n := strings.Count(string(tried), "alertname: "+r.Alert); n != 2 {
			t.Errorf("%s is tried %d times, want once on either day", r.Alert, n)
		}
		if !strings.Contains(string(doc), "| `"+r.Alert+"` |") {
			t.Errorf("docs/operations.md does not say what to do at %s", r.Alert)
		}
	}
}

// TestWatchedMetrics: what the dashboard and the alerts look at, a node exports.
func TestWatchedMetrics(t *testing.T) {
	f := startFleet(t, false)
	f.ready(t, 0)
	res, err := http.Get(f.nodes[0].admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(string(b), -1) {
		if exported[m[1]] = true; m[2] == "histogram" {
			exported[m[1]+"_bucket"] = true
		}
	}
	name := regexp.MustCompile(`\b(timedge|process|go)_[a-z_]+\b`)
	look := func(where, expr string) {
		for _, m := range name.FindAllString(expr, -1) {
			if !exported[m] && m != "timedge_refused_total" { // which is there once something was refused
				t.Errorf("%s looks at %s, which is not exported", where, m)
			}
		}
	}
	for title, expr := range dashboardQueries(t) {
		look(title, expr)
	}
	for _, r := range alertRules(t) {
		look(r.Alert, r.Expr)
	}
}

// TestDashboard has Prometheus record three nodes under a stream, by deploy's own configuration, and asks it what the
// dashboard asks: every panel has something to show.
func TestDashboard(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for several scrapes")
	}
	fl := startFleet(t, false)
	for i := range fl.nodes {
		fl.ready(t, i)
	}
	b, err := os.ReadFile("deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(string(b), "15s", "1s")
	for i, n := range fl.nodes {
		config = strings.Replace(config, fmt.Sprintf("127.0.0.1:74%d1", i), strings.TrimPrefix(n.admin, "http://"), 1)
	}
	rules, err := filepath.Abs("deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config = strings.Replace(config, "alerts.yml", rules, 1)
	dir, at := t.TempDir(), beside.FreeAddr(t)
	beside.Run(t, at, nil, "prometheus", "--config.file="+write(t, dir, "prometheus.yml", config), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+at, "--log.level=warn")
	f := startFlow(t, fl.nodes[0].addr)
	f.further(t)
	ask := func(expr string) (results int, problem string) {
		res, err := http.Get("http://" + at + "/api/v1/query?query=" + url.QueryEscape(expr))
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		var a struct {
			Error string
			Data  struct{ Result []any }
		}
		if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
			return 0, err.Error()
		}
		return len(a.Data.Result), a.Error
	}
	for title, expr := range dashboardQueries(t) {
		var problem string
		if !eventually(func() bool {
			var n int
			n, problem = ask(expr)
			return problem == "" && (n > 0 || strings.Contains(expr, "> 0")) || strings.Contains(problem, "parse error")
		}) || problem != "" {
			t.Errorf("%s shows nothing: %s %s", title, expr, problem)
		}
	}
	f.end(t)
}
