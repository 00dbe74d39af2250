package clock

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNow: the clock never runs backwards, and reads as the time of day of the process's start and what has passed.
func TestNow(t *testing.T) {
	last := System.Now()
	if off := time.Duration(last - System.Wall().UnixNano()).Abs(); off > time.Hour {
		t.Errorf("%v away from the time of day", off)
	}
	for range 100_000 {
		now := System.Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
	if n := testing.AllocsPerRun(100, func() { System.Now() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// wallNames are the methods and functions that read the time of day off a time.Time, make one of it, or take the even
// part away.
var wallNames = []string{
	"Unix", "UnixNano", "UnixMilli", "UnixMicro", "UTC", "Local", "AddDate", "Date", "Wall", "Gettimeofday", "ClockGettime", "Time_t",
}

// mayName says which files may use them, and what for: they name moments to people or to other programs, or are told
// such.
var mayName = map[string]string{
	"internal/clock/clock.go":  "it is the clock",
	"internal/clock/thread.go": "processor time, which no clock's step touches",
	"auth/":                    "the end of tokens, which others fix",
	"engine/token.go":          "the same",
	"engine/identity.go":       "the same",
	"token.go":                 "the same, for people",
	"tls.go":                   "the end of a certificate, for a metric",
	"serve_admin.go":           "what the clock says, for operators who compare nodes'",
	"doctor_read.go":           "it compares them",
	"node/handshake.go":        "a certificate that never ends",
	"tim/inbox.go":             "when a message was sent, which goes with it",
	"examples/":                "the age of what another process has sent",
	"tools/":                   "they measure, and stamp what they send to other processes; they are no servers",
	"benchmarks/":              "results have a date",
}

// constant reports whether all arguments are literals, as of time.Unix(1, 0): a deadline in the past, which ends what
// waits.
func constant(args []ast.Expr) bool {
	for _, a := range args {
		if _, is := a.(*ast.BasicLit); !is {
			return false
		}
	}
	return len(args) > 0
}

// TestNobodyReadsTheWall: outside those files nothing depends on what the computer's clock says.
func TestNobodyReadsTheWall(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	used, files := map[string]bool{}, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || base == "node_modules" || len(base) > 2 && base[0] == '.' {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains(wallNames, sel.Sel.Name) || constant(call.Args) {
				return true
			}
			for may := range mayName {
				if name == may || strings.HasSuffix(may, "/") && strings.HasPrefix(name, may) {
					used[may] = true
					return true
				}
			}
			t.Errorf("%v: %s is of the computer's clock, which may step: use clock.Clock, or differences of time.Time",
				set.Position(call.Pos()), sel.Sel.Name)
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were read", files)
	}
	for may, why := range mayName {
		if !used[may] {
			t.Errorf("%s does not read the wall any more (%s)", may, why)
		}
	}
}
