package server

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Root returns the top folder of the module that the working directory is in.
func Root() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// BuildTimedge builds the server from the tree at root into dir and returns the program.
func BuildTimedge(root, dir string) (string, error) {
	bin := filepath.Join(dir, "timedge")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = root
	return bin, run(cmd)
}

// BuildLimit builds the limit program from the tree at root into dir and returns the program.
func BuildLimit(root, dir string) (string, error) {
	bin := filepath.Join(dir, "limit")
	return bin, run(exec.Command("gcc", "-O2", "-Wall", "-pthread", "-o", bin, filepath.Join(root, "benchmarks", "limit", "limit.c")))
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
