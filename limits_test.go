//go:build linux

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// TestLimitsDocument holds docs/limits.md to the flags and the codes that there are.
func TestLimitsDocument(t *testing.T) {
	b, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, name := range codec.Codes() {
		codes[name] = true
	}
	defaults := map[string]string{}
	code := regexp.MustCompile("\\d{3} `(\\w+)`")
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) != 8 {
			continue
		}
		if flag := strings.Trim(cells[2], " `"); strings.HasPrefix(flag, "--") && flag[2] != '-' {
			defaults[strings.TrimPrefix(flag, "--")] = strings.TrimSpace(cells[3])
		}
		for _, m := range code.FindAllStringSubmatch(cells[5], -1) {
			if !codes[m[1]] {
				t.Errorf("there is no code %s", m[1])
			}
		}
	}
	table := settingsTable(&serveSettings{})
	for _, f := range table.Rows {
		got, named := defaults[f.Name]
		delete(defaults, f.Name)
		switch {
		case strings.HasPrefix(f.Name, "limit-") && !named:
			t.Errorf("--%s is not in docs/limits.md", f.Name)
		case named && f.Default != "" && got != f.Default:
			t.Errorf("--%s is %s by default, docs/limits.md says %s", f.Name, f.Default, got)
		}
	}
	for flag := range defaults {
		t.Errorf("there is no --%s", flag)
	}
}
