package carry_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var mutantsFlag = flag.Bool("mutants", false, "Mutants: plant faults in copies of the code; takes minutes")

// mutants are faults planted in the code itself, in copies that only the compiler sees (go test -overlay): a line, and
// what it becomes.
var mutants = []struct {
	what, file, from, to string
	alone                bool // it shows on days of one node
}{
	{"the fastest seat counts, not the slowest", "../room/seats.go", "case n > 0 && p.acked > low:", "case n > 0 && p.acked < low:", false},
	{"who does not hold a publisher takes its news", "../room/publisher.go", "if cur := p.holder.Load(); cur != nil && *cur != h {\n\t\treturn\n\t}\n\tp.nudging", "p.nudging", true},
	{"a revoked publisher is not cut off", "../room/room.go", "r.setGrant(account, grant{r.grantRev + 1, false})\n\tr.expel(now)", "r.setGrant(account, grant{r.grantRev + 1, false})", false},
	{"a publisher never runs out of time", "../room/room.go", "if p.since != 0 && now-p.since > int64(cfg.Linger) {", "if p.since != 0 && now-p.since > 100*int64(cfg.Linger) {", false},
	{"a claim is never taken back", "outbound.go", "o.given--", "o.given += 0", false},
	{"bad_pieces is kept from the client", "up.go", "if why != codec.CodeBadPieces {\n\t\t\twhy = codec.CodeMoved\n\t\t}", "why = codec.CodeMoved", false},
	{"an older state counts for more than the last word", "../node/core.go", "case e != nil && c.alive(e.hint):", "case false:", false},
	{"a seat is counted before it is there", "../room/join.go", "default:\n\t\tr.seats.sit(seat)", "default:\n\t\tr.seats.sit(seat)\n\t\tr.seats.sit(seat)", false},
	{"an outbound has no deadline", "outbound.go", "o.until = n.now + int64(n.rooms.Config().Linger)", "o.until = n.now + 1000*int64(n.rooms.Config().Linger)", false},
	{"an edge leaves the old relay with a word", "edge.go", "why = outgrown", "why = unneeded", false},
	{"an edge that looked for its room stays where it is", "edge.go", "n.aim(e.id, n.core.Edge(e.id, true))", "n.retry(e)", false},
	{"a new relay does not wait for the one before", "relay.go", "if n.now < until && n.core.Contested(r.ID) {", "if false {", false},
	{"a request that is answered stays", "request.go", "if !q.over {\n\t\tn.done(q)\n\t\tn.do.Answer(q.Ask, m)\n\t}", "n.do.Answer(q.Ask, m)", false},
}

// TestMutants sees that each is found by the days of a cluster, and says at which seed.
func TestMutants(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("give -mutants")
	}
	first := regexp.MustCompile(`seed (\d+): (.*)`)
	for _, m := range mutants {
		t.Run(m.what, func(t *testing.T) {
			path, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			code, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(code), m.from) != 1 {
				t.Fatalf("%s has not one such place", m.file)
			}
			dir := t.TempDir()
			mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
			replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
			if err != nil {
				t.Fatal(err)
			}
			for file, b := range map[string]string{mutant: strings.Replace(string(code), m.from, m.to, 1), overlay: string(replace)} {
				if err := os.WriteFile(file, []byte(b), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			kind := "Sim$/cluster"
			if m.alone {
				kind = "Sim$/alone"
			}
			for _, seeds := range []int{10, 60, 500} {
				out, err := exec.Command("go", "test", "-overlay", overlay, "-run", kind, fmt.Sprint("-seeds=", seeds), ".").CombinedOutput()
				if found := first.FindSubmatch(out); found != nil {
					t.Logf("found at seed %s: %s", found[1], found[2])
					return
				} else if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			t.Error("not found in 500 seeds")
		})
	}
}
