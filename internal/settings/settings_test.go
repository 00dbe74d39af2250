package settings_test

import (
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/internal/settings"
)

// vars are what the tests' table sets.
type vars struct {
	listen []string
	idle   time.Duration
	rate   int
	level  string
	force  bool
}

func table(v *vars) *settings.Table {
	return &settings.Table{Prefix: "T_", Rows: []settings.Setting{
		{Name: "listen", To: &v.listen, Default: "a:1"},
		{Name: "idle", To: &v.idle, Default: "5m", Reload: true},
		{Name: "limit-rate", To: &v.rate, Default: "7", Zero: true, Reload: true},
		{Name: "level", To: &v.level, Default: "info", OneOf: []string{"info", "warn"}},
		{Name: "force", To: &v.force},
	}}
}

// TestMistakes shows that all mistakes are told at once, each with its place.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, file string
		environ    settings.Given
		flags      settings.Given
		want       []string
	}{
		{name: "none", file: "idle = '1s'\nlisten = ['a', 'b']\nforce = true\nlimit-rate = 0"},
		{name: "an unknown key near one", file: "listn = 'a'", want: []string{"f: listn: there is no such setting; is listen meant?"}},
		{name: "within a table", file: "[limit]\nrate = 1", want: []string{"f: limit.rate: there is no such setting; is limit-rate meant?"}},
		{name: "near to nothing", file: "frobnicate = 1", want: []string{"f: frobnicate: there is no such setting"}},
		{
			name: "everywhere", file: "idle = 'x'\nlevel = 'loud'\nother = 1\nforce = 'maybe'", environ: settings.Given{"idle": "y"}, flags: settings.Given{"limit-rate": "-1"},
			want: []string{
				`f: idle: "x" is no time: write 500ms, 2s or 5m`, `T_IDLE: "y" is no time: write 500ms, 2s or 5m`, `--limit-rate: "-1" is no number`,
				`f: level: "loud" is none of info, warn`, `f: force: "maybe" is neither true nor false`, "f: other: there is no such setting",
			},
		},
		{name: "nothing of something", file: "idle = '0s'", want: []string{"f: idle: 0s is no value for it: it must be above 0"}},
		{name: "a value that is none", file: "idle = 1.5", want: []string{
			"f: idle: 1.5 is neither text, nor a whole number, nor true or false, nor a list of these",
		}},
		{name: "no TOML", file: "idle = '1s'\nlevel = ", want: []string{"f: line 2: unexpected EOF; expected value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := settings.ParseFile("f", []byte(c.file))
			said := ""
			if err != nil {
				said = err.Error()
			} else if _, err = table(&vars{}).Load(c.flags, c.environ, f); err != nil {
				said = err.Error()
			}
			if want := strings.Join(c.want, "\n"); said != want {
				t.Errorf("got:\n%s\nwant:\n%s", said, want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"listen", "limit-rate", "limit-hello", "tls-cert", "idle"}
	for _, c := range []struct{ name, want string }{
		{"lsiten", "listen"}, {"Listen", "listen"}, {"limit_rate", "limit-rate"}, {"hello", "limit-hello"}, {"cert", "tls-cert"}, {"idel", "idle"},
		{"frobnicate", ""}, {"x", ""}, {"", ""},
	} {
		if got := settings.Nearest(c.name, names); got != c.want {
			t.Errorf("nearest to %q is %q, want %q", c.name, got, c.want)
		}
	}
}

// TestChanged tells what a reload takes up from what takes a restart.
func TestChanged(t *testing.T) {
	var v vars
	tab := table(&v)
	load := func(flags, file settings.Given) []settings.Value {
		t.Helper()
		all, err := tab.Load(flags, nil, settings.File{Name: "f", Given: file})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := load(settings.Given{"limit-rate": "3"}, settings.Given{"idle": "1s"})
	after := load(settings.Given{"limit-rate": "3"}, settings.Given{"idle": "2s", "limit-rate": "9", "listen": "b:2"})
	reload, restart := settings.Changed(before, after)
	if got := strings.Join(reload, " ") + " | " + strings.Join(restart, " "); got != "idle | listen" {
		t.Errorf("changed: %s", got)
	}
	if v.rate != 3 || v.idle != 2*time.Second {
		t.Errorf("a flag comes before the file: %+v", v)
	}
}
