//go:build linux

package main

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"pgregory.net/rapid"

	"github.com/timedge/timedge/internal/settings"
)

// anyText draws a text that a setting takes.
func anyText(t *rapid.T, s *settings.Setting) string {
	of := func(texts ...string) string { return rapid.SampledFrom(texts).Draw(t, s.Name) }
	item := func() string {
		switch to := s.To.(type) {
		case *string, *[]string:
			return rapid.StringMatching(`[a-z:0-9./_\\" #-]{0,12}[a-z0-9]`).Draw(t, s.Name)
		case *[]prefix:
			return of("10.0.0.0/8", "::1/128", "192.0.2.7", "2001:db8::/32")
		case *bool:
			return of("true", "false", "1", "0")
		case *time.Duration:
			return of("1ms", "20s", "1m30s", "1h")
		case *size:
			return of("1", "64KiB", "1GiB", "100kB", "65536")
		case *int, *int64:
			return of("1", "17", "200", "20000")
		default:
			t.Fatalf("%s: no values of %T are drawn", s.Name, to)
			return ""
		}
	}
	if len(s.OneOf) > 0 {
		return of(s.OneOf...)
	}
	if reflect.TypeOf(s.To).Elem().Kind() != reflect.Slice {
		return item()
	}
	items := make([]string, rapid.IntRange(0, 3).Draw(t, "items"))
	for i := range items {
		items[i] = item()
	}
	return strings.Join(items, ",")
}

// loadFrom has a command take what is given on the command line, in the environment and in a file.
func loadFrom(t *rapid.T, flags, environ, file settings.Given) *given {
	g := &given{}
	g.init()
	var args []string
	for name, text := range flags {
		args = append(args, "--"+name+"="+text)
	}
	parser, err := kong.New(g)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	var env []string
	for name, text := range environ {
		env = append(env, g.table.Variable(name)+"="+text)
	}
	// The file is written as "timedge config" writes it.
	var of given
	of.init()
	all, err := of.table.Load(file, nil, settings.File{})
	if err != nil {
		t.Fatal(err)
	}
	all = keep(all, file)
	f, err := settings.ParseFile("file", settings.Effective(all))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, settings.Effective(all))
	}
	if g.values, err = g.table.Load(g.table.Given(g.Settings[0]), g.table.Environ(env), f); err != nil {
		t.Fatal(err)
	}
	return g
}

// keep returns the values of the settings that are given.
func keep(all []settings.Value, of settings.Given) (kept []settings.Value) {
	for _, v := range all {
		if _, ok := of[v.Name]; ok {
			kept = append(kept, v)
		}
	}
	return kept
}

// TestSettingsBySource shows that flags, environment and file give the same, and which of them comes first.
func TestSettingsBySource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := settingsTable(&serveSettings{})
		var layers [3]settings.Given // file, environment, flags
		for i := range layers {
			layers[i] = settings.Given{}
		}
		want := settings.Given{}
		from := map[string]settings.Source{}
		for i := range table.Rows {
			s := &table.Rows[i]
			for layer, source := range []settings.Source{settings.FromFile, settings.FromEnv, settings.FromFlag} {
				if rapid.IntRange(0, 9).Draw(t, "given") < 3 {
					text := anyText(t, s)
					layers[layer][s.Name], want[s.Name], from[s.Name] = text, text, source
				}
			}
		}
		merged := loadFrom(t, layers[2], layers[1], layers[0])
		for _, v := range merged.values {
			if source, ok := from[v.Name]; v.From != source && (ok || v.From != settings.FromDefault) {
				t.Fatalf("%s comes from %s, should from %s", v.Name, v.From, source)
			}
		}
		for source, g := range map[string]*given{
			"flags": loadFrom(t, want, nil, nil), "environment": loadFrom(t, nil, want, nil), "file": loadFrom(t, nil, nil, want),
		} {
			if !reflect.DeepEqual(g.serveSettings, merged.serveSettings) {
				t.Fatalf("%s alone:\n%+v\nmerged:\n%+v", source, g.serveSettings, merged.serveSettings)
			}
		}
	})
}

// TestSettingsTable holds the table to the variables that there are, and each row to be complete.
func TestSettingsTable(t *testing.T) {
	var s serveSettings
	table := settingsTable(&s)
	names, places := map[string]bool{}, map[uintptr]string{}
	for _, r := range table.Rows {
		if names[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		names[r.Name] = true
		if p := reflect.ValueOf(r.To).Pointer(); places[p] != "" {
			t.Errorf("%s and %s have one variable", r.Name, places[p])
		} else {
			places[p] = r.Name
		}
		if _, isBool := r.To.(*bool); !isBool && (r.Value == "" || r.Default == "" && r.Unset == "") || r.Help == "" {
			t.Errorf("%s: its value, its default or its help is missing", r.Name)
		}
		if strings.HasSuffix(r.Help, ".") || r.Why != "" && !strings.HasSuffix(r.Why, ".") {
			t.Errorf("%s: help ends without a full stop, the trade-off with one", r.Name)
		}
	}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		} else if places[v.Addr().Pointer()] == "" {
			t.Errorf("serveSettings%s is in no row", path)
		}
	}
	walk(reflect.ValueOf(&s).Elem(), "")
	if _, err := table.Load(nil, nil, settings.File{}); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

var writeDocuments = flag.Bool("write-documents", false, "write what is generated into docs, rather than compare it")

// TestSettingsDocument holds docs/settings.md to the table:
// go test -run TestSettingsDocument . -write-documents
func TestSettingsDocument(t *testing.T) {
	const path = "docs/settings.md"
	table := settingsTable(&serveSettings{})
	want := append([]byte(settingsHead), table.Markdown()...)
	if *writeDocuments {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the table says (%v): go test -run TestSettingsDocument . -write-documents", path, err)
	}
}

const settingsHead = `# Settings

Made of settings_table.go by a test; edit there.

Each setting is a flag of ` + "`timedge serve` (`--limit-hello 2s`), a variable (`TIMEDGE_LIMIT_HELLO=2s`) and a key of the TOML file that `--config FILE`" + `
names (` + "`limit-hello = \"2s\"`" + `). A flag comes before the environment, that before the file, that before the default. A list is a list in the file, and
separated by commas elsewhere.

| command | |
| --- | --- |
| ` + "`timedge config` | prints the settings that `serve` would have with the same flags, and where each comes from |" + `
| ` + "`timedge config check FILE`" + ` | says all that is wrong with a file; status 2 then |
| ` + "`timedge config init`" + ` | prints a file with every setting, as a comment |
`

// TestCommentedFile shows that the file of "timedge config init" is in order as it is, and with every line taken in.
func TestCommentedFile(t *testing.T) {
	table := settingsTable(&serveSettings{})
	file := table.Commented("head")
	var taken bytes.Buffer
	for line := range bytes.Lines(file) {
		if len(line) > 1 && line[0] == '#' && line[1] != ' ' && line[1] != '#' {
			line = line[1:]
		}
		taken.Write(line)
	}
	for name, content := range map[string][]byte{"as it is": file, "taken in": taken.Bytes()} {
		t.Run(name, func(t *testing.T) {
			f, err := settings.ParseFile("file", content)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]int{"taken in": len(table.Rows)}[name]; len(f.Given) != want {
				t.Errorf("%d settings, want %d", len(f.Given), want)
			}
			for _, s := range table.Rows {
				if text, ok := f.Given[s.Name]; ok && s.Default != "" && text != s.Default {
					t.Errorf("%s is %q, its default %q", s.Name, text, s.Default)
				}
			}
		})
	}
}
