// Package settings merges what a program is told: a flag comes before the environment, that before the file, that
// before the default. One [Table] has all settings; flags, variables, the file, its commented form and the
// documentation come of it, so that none of them can say something else.
//
// Start at [Table.Load]. A value is text until it is merged, and is read once, in the same way wherever it came from.
// Nothing here is safe for use by several goroutines.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Setting is one row of a table.
type Setting struct {
	Name    string // of the flag, and the key in the file: "limit-hello". In the environment: TIMEDGE_LIMIT_HELLO
	To      any    // where the value goes: a pointer, see Unit for the types
	Value   string // stands for the value in help: "ADDR"; none if To is a *bool
	Default string // as text; empty: the zero value of To
	Unset   string // what that means, if Default is empty: "the host's name"
	Section string // headline that this row begins; empty: that of the row before
	Help    string // what it is, without a full stop at its end
	Why     string // what is won and lost with other values, in whole sentences
	OneOf   []string
	Zero    bool // 0 is a value like others; else, where there is a default, it is refused
	Reload  bool // it is taken up while the program runs
}

// Table is all settings of a program. The rows point into the variables that Load sets.
type Table struct {
	Prefix string // of environment variables: "TIMEDGE_"
	Rows   []Setting
}

// Given are values as text, by name. The items of a list are separated by commas.
type Given map[string]string

// Source says where a value came from.
type Source string

// Sources, the strongest first.
const (
	FromFlag    Source = "flag"
	FromEnv     Source = "environment"
	FromFile    Source = "file"
	FromDefault Source = "default"
)

// Value is a setting as it was merged.
type Value struct {
	*Setting
	Text string
	From Source
}

// File is what a file says.
type File struct {
	Name  string // for errors
	Given Given
}

// Variable returns the name of a setting in the environment.
func (t *Table) Variable(name string) string {
	return t.Prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Variables returns the names of all settings in the environment.
func (t *Table) Variables() (names []string) {
	for i := range t.Rows {
		names = append(names, t.Variable(t.Rows[i].Name))
	}
	return names
}

// Environ returns what an environment, as that of os.Environ, says of the table's settings.
func (t *Table) Environ(environ []string) Given {
	of := make(map[string]string) // name by variable
	for i := range t.Rows {
		of[t.Variable(t.Rows[i].Name)] = t.Rows[i].Name
	}
	g := make(Given)
	for _, e := range environ {
		if variable, text, ok := strings.Cut(e, "="); ok && of[variable] != "" {
			g[of[variable]] = text
		}
	}
	return g
}

// Load sets every variable of the table, and returns where its value came from, in the table's order. The error names
// everything that is wrong, each with where it stands; then some variables are not set.
func (t *Table) Load(flags, environ Given, file File) ([]Value, error) {
	var (
		all  []Value
		errs []error
	)
	for i := range t.Rows {
		s := &t.Rows[i]
		v := Value{s, s.Default, FromDefault}
		if text, ok := file.Given[s.Name]; ok {
			v.Text, v.From = text, FromFile
			errs = append(errs, s.check(file.Name+": "+s.Name, text)) // wrong, be it overruled or not
		}
		if text, ok := environ[s.Name]; ok {
			v.Text, v.From = text, FromEnv
			errs = append(errs, s.check(t.Variable(s.Name), text))
		}
		if text, ok := flags[s.Name]; ok {
			v.Text, v.From = text, FromFlag
			errs = append(errs, s.check("--"+s.Name, text))
		}
		all = append(all, v)
		if err := s.set(v.Text, v.From != FromDefault); err != nil && v.From == FromDefault {
			errs = append(errs, fmt.Errorf("the default of %s: %w", s.Name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Given)) {
		if !slices.ContainsFunc(t.Rows, func(s Setting) bool { return s.Name == name }) {
			errs = append(errs, fmt.Errorf("%s: %s: there is no such setting%s", file.Name, name, t.meant(name)))
		}
	}
	return all, errors.Join(errs...)
}

// Changed returns what is not the same in two results of the same table: what can be taken up, and what takes a
// restart.
func Changed(before, after []Value) (reload, restart []string) {
	for i, v := range after {
		switch {
		case v.Text == before[i].Text && (v.From == FromDefault) == (before[i].From == FromDefault):
		case v.Reload:
			reload = append(reload, v.Name)
		default:
			restart = append(restart, v.Name)
		}
	}
	return reload, restart
}

// meant names the nearest setting, if one is near.
func (t *Table) meant(name string) string {
	names := make([]string, len(t.Rows))
	for i := range t.Rows {
		names[i] = t.Rows[i].Name
	}
	if near := Nearest(name, names); near != "" {
		return "; is " + near + " meant?"
	}
	return ""
}

// Nearest returns which of the names takes the fewest changes of one character to become name, if that is at most a
// third of them, or else one that ends or begins alike; "" if there is none.
func Nearest(name string, names []string) string {
	name = strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	best, least := "", max(2, len(name)/3)+1
	for _, n := range names {
		if d := distance(name, strings.ToLower(strings.ReplaceAll(n, "_", "-"))); d < least {
			best, least = n, d
		}
	}
	if best != "" || len(name) < 3 {
		return best
	}
	alike := func(n string) bool {
		n = strings.ToLower(strings.ReplaceAll(n, "_", "-"))
		return strings.HasSuffix(n, "-"+name) || strings.HasPrefix(n, name+"-") || strings.HasPrefix(name, n+"-")
	}
	if i := slices.IndexFunc(names, alike); i >= 0 {
		return names[i]
	}
	return ""
}

// distance counts insertions, deletions, exchanges and swaps of neighbours that make b of a (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
