package carry_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var mutantsFlag = flag.Bool("mutants", false, "Mutants: plant faults in copies of the code; takes minutes")

// mutants are faults planted in the code itself, in copies that only the compiler sees (go test -overlay): a line, and
// what it becomes.
var mutants = []mutant{
	{
		what: "the fastest seat counts, not the slowest", file: "../room/seats.go",
		from: "case n > 0 && p.acked > low:",
		to:   "case n > 0 && p.acked < low:",
	},
	{
		what: "who does not hold a publisher takes its news", file: "../room/publisher.go", kind: "alone",
		from: "if cur := p.holder.Load(); cur != nil && *cur != h {\n\t\treturn\n\t}\n\tp.nudging",
		to:   "p.nudging",
	},
	{
		what: "a revoked publisher is not cut off", file: "../room/grants.go",
		from: "r.setGrant(account, grant{r.grantRev + 1, false})\n\tr.expel(now)",
		to:   "r.setGrant(account, grant{r.grantRev + 1, false})",
	},
	{
		what: "a publisher never runs out of time", file: "../room/room.go",
		from: "if p.since != 0 && now-p.since > int64(cfg.Linger) {",
		to:   "if p.since != 0 && now-p.since > 100*int64(cfg.Linger) {",
	},
	{what: "a claim is never taken back", file: "outbound.go", from: "o.given--", to: "o.given += 0"},
	{
		what: "bad_pieces is kept from the client", file: "up.go",
		from: "if why != codec.CodeBadPieces {\n\t\t\twhy = codec.CodeMoved\n\t\t}",
		to:   "why = codec.CodeMoved",
	},
	{
		what: "an older state counts for more than the last word", file: "../node/core.go",
		from: "case e != nil && c.alive(e.hint):",
		to:   "case false:",
	},
	{
		what: "a seat is counted before it is there", file: "../room/join.go",
		from: "default:\n\t\tr.seats.sit(seat)",
		to:   "default:\n\t\tr.seats.sit(seat)\n\t\tr.seats.sit(seat)",
	},
	{
		what: "an outbound has no deadline", file: "outbound.go",
		from: "o.until = n.now + int64(n.rooms.Config().Linger)",
		to:   "o.until = n.now + 1000*int64(n.rooms.Config().Linger)",
	},
	{
		what: "an edge leaves the old relay with a word", file: "edge.go",
		from: "n.unplug(e, moving)\n\te.target, e.tries, e.paused = to, 0, false",
		to:   "n.unplug(e, unneeded)\n\te.target, e.tries, e.paused = to, 0, false",
	},
	{
		what: "an edge that looked for its room stays where it is", file: "edge.go",
		from: "n.aim(e.id, n.core.Edge(e.id, true))",
		to:   "n.retry(e)",
	},
	{
		what: "a new relay does not wait for the one before", file: "relay.go",
		from: "if n.now < until && n.core.Contested(r.ID) {",
		to:   "if false {",
	},
	{
		what: "a request that is answered stays", file: "request.go",
		from: "if !q.over {\n\t\tn.done(q)\n\t\tn.do.Answer(q.Ask, m)\n\t}",
		to:   "n.do.Answer(q.Ask, m)",
	},
}

// mutant is one of them.
type mutant struct {
	what, file string
	from, to   string
	kind       string // of days on which it shows; "": cluster
}

// TestMutants sees that each is found by the days of a cluster, and says at which seed.
func TestMutants(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("give -mutants")
	}
	seedOf := regexp.MustCompile(`seed (\d+): (.*)`)
	number := func(digits []byte) (n int) {
		fmt.Sscan(string(digits), &n)
		return n
	}
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
			planted := strings.Replace(string(code), m.from, m.to, 1)
			for file, b := range map[string][]byte{mutant: []byte(planted), overlay: replace} {
				if err := os.WriteFile(file, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			program := filepath.Join(dir, "mutant.test")
			build := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			kind := "Sim$/" + cmp.Or(m.kind, "cluster")
			out, err := exec.Command(program, "-test.run", kind, "-test.timeout=1h", "-until", "-seeds=500").CombinedOutput()
			found := seedOf.FindAllSubmatch(out, -1)
			switch {
			case len(found) > 0: // several are played at once: the lowest of those that fail
				first := slices.MinFunc(found, func(a, b [][]byte) int { return cmp.Compare(number(a[1]), number(b[1])) })
				t.Logf("found at seed %s: %s", first[1], first[2])
			case err != nil:
				t.Fatalf("%v\n%s", err, out)
			default:
				t.Error("not found in 500 seeds")
			}
		})
	}
}
