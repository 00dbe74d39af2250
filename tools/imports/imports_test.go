// Package imports holds the project to its import direction: downward only, and few dependencies. It is a test and
// nothing else.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/timedge/timedge"

// A layer is what the packages under one path may import beside the standard library and each other.
type layer struct {
	path    string   // relative to the module; packages below it belong to it, if no longer path fits
	project []string // paths of layers below
	foreign []string // modules or packages of others, with what is below them; "*" is any but gnet
}

// layers is the table of the architecture, lowest first. To add a dependency, or a package, say so here.
var layers = []layer{
	{path: "codec"},
	{path: "internal/clock", foreign: []string{"golang.org/x/sys/unix"}}, // the processor time of a thread
	{path: "internal/settings", foreign: []string{"github.com/BurntSushi/toml"}},
	{path: "internal/doctor"},
	{path: "internal/heap"},
	{path: "internal/beside"},   // of tests
	{path: "internal/testcert"}, // likewise, and of benchmarks
	{path: "internal/record", foreign: []string{"golang.org/x/crypto/chacha20poly1305"}},
	{path: "ring", foreign: []string{"github.com/cespare/xxhash/v2"}},
	{path: "auth", project: []string{"codec"}, foreign: []string{
		"github.com/golang-jwt/jwt/v5",
		"github.com/rs/zerolog",
	}},
	{path: "room", project: []string{"codec"}, foreign: []string{
		"github.com/cespare/xxhash/v2",
		"github.com/valyala/bytebufferpool",
	}},
	{path: "node", project: []string{"codec", "internal/record", "ring", "room"}, foreign: []string{
		"github.com/hashicorp/go-msgpack/v2/codec", // of gossip, which is looked at before memberlist has it
		"github.com/hashicorp/memberlist",
		"github.com/prometheus/client_golang",
		"github.com/rs/zerolog",
	}},
	{path: "carry", project: []string{"codec", "ring", "room", "node"}},
	{path: "internal/world", project: []string{"codec", "ring", "room", "node", "carry"}, foreign: []string{"github.com/cespare/xxhash/v2"}},
	{path: "admin", project: []string{"codec"}},
	{path: "engine", project: []string{"codec", "admin", "internal/clock", "internal/record", "auth", "room", "node", "carry"}, foreign: []string{
		gnet,
		"github.com/gobwas/ws", // the upgrade, and nothing else of it
		"github.com/pires/go-proxyproto",
		"github.com/prometheus/client_golang",
		"github.com/prometheus/client_model", // of a histogram that is counted here
		"github.com/rs/zerolog",
		"golang.org/x/sys/unix", // writev and epoll on the loop's descriptors
	}},
	{path: "client/media", project: []string{"codec"}, foreign: []string{
		"github.com/bluenviron/mediacommon/v2",
	}},
	{path: "client", project: []string{"codec", "client/media"}},
	{path: "e2ee", project: []string{"client", "codec"}},
	{path: "tim", project: []string{"client", "codec"}, foreign: []string{
		"github.com/cespare/xxhash/v2",
		"github.com/gobwas/ws",
		"github.com/prometheus/client_golang",
		"github.com/rs/zerolog",
	}},
	{path: "examples", project: []string{"client", "client/media"}},
	{path: "web"},
	{path: "promises"}, // tests and nothing else
	{path: "drills"},   // likewise
	{path: "tools/ringsim", project: []string{"ring"}},
	{path: "tools", project: []string{"client", "codec", "engine", "internal/record"}, foreign: []string{"*"}},
	{path: "benchmarks", project: []string{"client", "codec", "engine", "internal/testcert", "tools"}, foreign: []string{"*"}},
	// The command line may import all that there is.
	{path: "", project: []string{"codec", "auth", "ring", "room", "node", "engine", "client", "client/media", "e2ee", "tim", "web", "internal/settings", "internal/doctor", "internal/heap", "admin"}, foreign: []string{"*"}},
}

// gnet is imported by engine alone: what it needs of its caller is known in one place.
const gnet = "github.com/panjf2000/gnet/v2"

// below reports whether pkg is path or below it.
func below(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }

// layerOf returns the layer of a package of this module. Only the module's root itself is in the layer of that path.
func layerOf(pkg string) (layer, bool) {
	path := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
	var found layer
	ok := false
	for _, l := range layers {
		if l.path == path || l.path != "" && below(path, l.path) && len(l.path) >= len(found.path) {
			found, ok = l, true
		}
	}
	return found, ok
}

// check returns why pkg must not import what it imports, or nil. Tests may import whatever helps them, but gnet.
func check(pkg, imported string, inTest bool) error {
	from, ok := layerOf(pkg)
	if !ok {
		return fmt.Errorf("%s is in no layer: say in tools/imports what it may import", pkg)
	}
	if below(imported, gnet) && from.path != "engine" {
		return fmt.Errorf("%s imports gnet: only engine may", pkg)
	}
	standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
	if standard || inTest {
		return nil
	}
	if below(imported, module) {
		to, _ := layerOf(imported)
		if to.path == from.path || slices.Contains(from.project, to.path) {
			return nil
		}
		return fmt.Errorf("%s imports %s: imports go downward, and those of %q may be %q", pkg, imported, from.path, from.project)
	}
	for _, f := range from.foreign {
		if f == "*" || below(imported, f) {
			return nil
		}
	}
	return fmt.Errorf("%s imports %s: of other modules %q may import %q", pkg, imported, from.path, from.foreign)
}

func TestImportDirection(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	seen := 0
	for d := json.NewDecoder(bytes.NewReader(out)); ; seen++ {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			if err := check(p.ImportPath, imported, false); err != nil {
				t.Error(err)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if err := check(p.ImportPath, imported, true); err != nil {
				t.Errorf("a test of %v", err)
			}
		}
	}
	if seen < 2 {
		t.Errorf("go list names %d packages: this test sees nothing", seen)
	}
}

// TestCheck tries the rules themselves.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name     string
		pkg      string
		imported string
		inTest   bool
		ok       bool
	}{
		{"standard library", "/codec", "encoding/binary", false, true},
		{"codec imports no other module", "/codec", "github.com/cespare/xxhash/v2", false, false},
		{"a test may", "/codec", "pgregory.net/rapid", true, true},
		{"downward", "/engine", module + "/room", false, true},
		{"upward", "/room", module + "/engine", false, false},
		{"upward in a test", "/client", module + "/engine", true, true},
		{"sideways", "/room", module + "/ring", false, false},
		{"within a layer", "/tools/loadgen", module + "/tools/loadgen/load", false, true},
		{"a part of a layer", "/engine/tls", module + "/node", false, true},
		{"a layer of its own within another", "/client/media", module + "/client", false, false},
		{"the other way round", "/client", module + "/client/media", false, true},
		{"a name that only begins alike", "/codecs", "fmt", false, false},
		{"engine imports gnet", "/engine", gnet + "/pkg/logging", false, true},
		{"node does not", "/node", gnet, false, false},
		{"nor does a tool", "/tools/loadgen", gnet, false, false},
		{"nor main", "", gnet, false, false},
		{"nor a test", "/node", gnet, true, false},
		{"main imports what it likes", "", "github.com/alecthomas/kong", false, true},
		{"a package that nobody placed", "/util", "fmt", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := check(module+c.pkg, c.imported, c.inTest); (err == nil) != c.ok {
				t.Errorf("%s importing %s: %v", c.pkg, c.imported, err)
			}
		})
	}
}
