package drills

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// overlay changes the source of one build, so that a fault can be had whose cause no product has a switch for.
type overlay struct {
	t     *testing.T
	dir   string
	files map[string]string // what the compiler takes for a path
}

func newOverlay(t *testing.T) *overlay {
	return &overlay{t: t, dir: t.TempDir(), files: make(map[string]string)}
}

// root is the module's directory.
func (o *overlay) root() string {
	o.t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		o.t.Fatal(err)
	}
	return root
}

// add makes a file that there is not.
func (o *overlay) add(path, source string) {
	o.t.Helper()
	to := filepath.Join(o.dir, strings.ReplaceAll(path, string(filepath.Separator), "_"))
	if err := os.WriteFile(to, []byte(source), 0o600); err != nil {
		o.t.Fatal(err)
	}
	o.files[path] = to
}

// change puts a text in the place of one that is in a file exactly once.
func (o *overlay) change(path, from, to string) {
	o.t.Helper()
	at := path
	if have := o.files[path]; have != "" {
		at = have
	}
	b, err := os.ReadFile(at)
	if err != nil {
		o.t.Fatal(err)
	}
	if n := strings.Count(string(b), from); n != 1 {
		o.t.Fatalf("%s has %q %d times", path, from, n)
	}
	o.add(path, strings.Replace(string(b), from, to, 1))
}

// build returns the program.
func (o *overlay) build() string {
	o.t.Helper()
	spec, err := json.Marshal(map[string]any{"Replace": o.files})
	if err != nil {
		o.t.Fatal(err)
	}
	file, out := filepath.Join(o.dir, "overlay.json"), filepath.Join(o.dir, "timedge")
	if err := os.WriteFile(file, spec, 0o600); err != nil {
		o.t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", file, "-o", out, ".")
	cmd.Dir = o.root()
	if b, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("%v\n%s", err, b)
	}
	return out
}

// goroot is where the standard library's source is.
func (o *overlay) goroot() string {
	o.t.Helper()
	b, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
