// Package scenario holds the named loads of loadgen as TOML files, and reads those that users write.
//
// A file sets the fields of load.Config by the names in their toml tags, and about, one sentence. Unknown keys are
// errors. The files in this package are also the examples to start from.
package scenario

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/timedge/timedge/tools/loadgen/load"
)

//go:embed files/*.toml
var files embed.FS

// Scenario is a load with a name.
type Scenario struct {
	Name  string `toml:"-"`
	About string `toml:"about"`
	load.Config
}

// Load returns the scenario of the given name or, if the name ends in .toml, the one in that file.
func Load(name string) (*Scenario, error) {
	var b []byte
	var err error
	if strings.HasSuffix(name, ".toml") {
		b, err = os.ReadFile(name)
	} else {
		b, err = files.ReadFile(path.Join("files", name+".toml"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no scenario %q: one of %s, or a .toml file", name, strings.Join(Names(), ", "))
		}
	}
	if err != nil {
		return nil, err
	}
	s := &Scenario{Name: strings.TrimSuffix(path.Base(name), ".toml")}
	md, err := toml.Decode(string(b), s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if rest := md.Undecoded(); len(rest) > 0 {
		return nil, fmt.Errorf("%s: unknown keys %v", name, rest)
	}
	s.Scenario = s.Name
	return s, nil
}

// Names lists the scenarios of this package.
func Names() []string {
	entries, _ := files.ReadDir("files") // embedded: cannot fail
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return names
}

// Source returns the text of a scenario of this package.
func Source(name string) ([]byte, error) { return files.ReadFile(path.Join("files", name+".toml")) }
