package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/timedge/timedge/benchmarks/internal/server"
)

var changelogHeading = regexp.MustCompile(`(?m)^## (v\d+\.\d+\.\d+) - `)

// TestReleasesAreThoseOfTheChangelog holds benchmarks/releases to CHANGELOG.md: the same versions in the same order.
// The newest may still be without its line, as no commit holds its own hash.
func TestReleasesAreThoseOfTheChangelog(t *testing.T) {
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range changelogHeading.FindAllStringSubmatch(string(log), -1) {
		told = append(told, m[1])
	}
	rs, err := releases(root)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, r := range rs {
		named = append(named, r.version)
	}
	if len(named) == len(told)-1 {
		told = told[1:]
	}
	if got, want := strings.Join(named, " "), strings.Join(told, " "); got != want {
		t.Fatalf("benchmarks/releases has %s; CHANGELOG.md has %s", got, want)
	}
}

// TestReleasesAreCommitsOfTheirRelease looks whether the changelog of each commit begins with the release that the
// commit stands for.
func TestReleasesAreCommitsOfTheirRelease(t *testing.T) {
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	rs, err := releases(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) == 0 {
		t.Fatal("no release is named")
	}
	if err := command(root, "git", "rev-parse", "--quiet", "--verify", rs[len(rs)-1].commit+"^{commit}"); err != nil {
		t.Skip("this tree has no history that reaches back to the first release")
	}
	for _, r := range rs {
		t.Run(r.version, func(t *testing.T) {
			cmd := exec.Command("git", "show", r.commit+":CHANGELOG.md")
			cmd.Dir = root
			log, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if m := changelogHeading.FindSubmatch(log); m == nil || string(m[1]) != r.version {
				t.Fatalf("the changelog of %s begins with %q", r.commit, m)
			}
			if at, err := resolve(root, r.version); err != nil || at != r.commit {
				t.Fatalf("resolved to %s, %v", at, err)
			}
		})
	}
}

func TestResolveSaysWhatTheCloneLacks(t *testing.T) {
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	if at, err := resolve(root, "v99.0.0"); err == nil || !strings.Contains(err.Error(), "v99.0.0") {
		t.Fatalf("resolved to %q, %v", at, err)
	}
}
