package drills

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/timedge/timedge/codec"
)

// v030 is the commit that was released as v0.3.0, whose nodes are of the level before.
const v030 = "1d474f0844bc3c33e7fc1e2b2ebc59b9c8ac63e1"

// release builds what was released at a commit, out of the repository's history. Where that is not to be had, as in a
// shallow clone, the test is skipped.
func release(t *testing.T, commit string) (program string) {
	t.Helper()
	dir := t.TempDir()
	archive := exec.Command("git", "-C", "..", "archive", commit)
	tree, err := archive.Output()
	if err != nil {
		t.Skipf("NOT RUN: the history has no commit %.7s to build the release from (%v)", commit, err)
	}
	unpack := exec.Command("tar", "x", "-C", dir)
	unpack.Stdin = bytes.NewReader(tree)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	built := filepath.Join(dir, "timedge-release")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", built, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build of %.7s: %v: %s", commit, err, out)
	}
	// A release refuses settings in its environment that it does not know: see TestMain.
	program = filepath.Join(dir, "release")
	run := "#!/bin/sh\nunset TIMEDGE_WEB\nexec " + built + " \"$@\"\n"
	if err := os.WriteFile(program, []byte(run), 0o700); err != nil {
		t.Fatal(err)
	}
	return program
}

// A cluster of v0.3.0 is upgraded to this version under load, one node after the other, and taken back again.
func TestRollingUpgradeAndDowngrade(t *testing.T) {
	if *kills < 10 {
		t.Skip("builds another version first: part of make drill")
	}
	old := release(t, v030)
	f := (&fleet{t: t, program: old}).begin(3)
	var ss []*stream
	for k := range 4 {
		p := place{relay: k % 3, publisher: (k + 1) % 3, subscribers: []int{k % 3, (k + 2) % 3}}
		if k%2 == 1 {
			p.policy = codec.PolicyLossless
		}
		ss = append(ss, f.run(p, pace))
	}
	var g figures
	for _, f.program = range []string{program, old} {
		for i := range 3 {
			for _, s := range ss {
				s.reach(20)
			}
			f.stop(i)
			f.start(i)
			f.await(3)
		}
	}
	for _, s := range ss {
		s.reach(50)
		s.finish()
		g.add(s)
	}
	t.Log("v0.3.0 upgraded to this version, and back:", &g)
}
