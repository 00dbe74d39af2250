package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// release is a line of benchmarks/releases: a version and its commit.
type release struct{ version, commit string }

var releaseLine = regexp.MustCompile(`^(v\d+\.\d+\.\d+) ([0-9a-f]{40})$`)

// releases reads benchmarks/releases of the tree at root, newest first.
func releases(root string) ([]release, error) {
	b, err := os.ReadFile(filepath.Join(root, "benchmarks", "releases"))
	if err != nil {
		return nil, err
	}
	var rs []release
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		m := releaseLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("benchmarks/releases: %q is not a version and a commit of 40 digits", line)
		}
		rs = append(rs, release{m[1], m[2]})
	}
	return rs, nil
}

// resolve returns what git is to check out for a name that was asked for: a release's commit, whether or not this
// clone has its tag, or else the name itself. It fails if the clone does not have it.
func resolve(root, ref string) (string, error) {
	rs, err := releases(root)
	if err != nil {
		return "", err
	}
	at := ref
	for _, r := range rs {
		if r.version == ref {
			at = r.commit
		}
	}
	if err := command(root, "git", "rev-parse", "--quiet", "--verify", at+"^{commit}"); err != nil {
		return "", fmt.Errorf("this clone does not have %s (%s); if it is a shallow one, git fetch --unshallow brings it",
			ref, at)
	}
	return at, nil
}
