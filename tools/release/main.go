// Command release makes what a release is of: an archive for each platform, a bill of materials for each program, and the
// checksums of all. Whoever runs it on the same commit with the same Go gets the same bytes: see "make release".
package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sbom makes a bill of materials of a program, in CycloneDX.
const sbom = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// common are the files that every archive has beside the program; those for servers have deploy, too.
var common = []string{"LICENSE", "README.md", "CHANGELOG.md"}

func main() {
	version := flag.String("version", "", "the release's `name`, as git describe has it")
	commit := flag.String("commit", "", "its commit")
	out := flag.String("out", "bin/release", "the `folder` that all goes into; what is there is removed")
	platforms := flag.String("platforms", "", "`list` of os/arch, with spaces between")
	flag.Parse()
	if err := release(*out, *version, *commit, strings.Fields(*platforms)); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func release(out, version, commit string, platforms []string) error {
	if version == "" || commit == "" || len(platforms) == 0 || strings.ContainsAny(version, "/ ") {
		return errors.New("what is to be released? --version, --commit and --platforms are needed")
	}
	when, err := commitTime()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, p := range platforms {
		goos, arch, ok := strings.Cut(p, "/")
		if !ok {
			return fmt.Errorf("%s is no os/arch", p)
		}
		name := fmt.Sprintf("timedge-%s-%s-%s", version, goos, arch)
		fmt.Println("building", name)
		if err := pack(out, work, name, goos, arch, version, commit, when); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return checksums(out)
}

// commitTime is the time that everything in a release bears.
func commitTime() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		b, err := exec.Command("git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the commit's time: %w (or give SOURCE_DATE_EPOCH)", err)
		}
		text = strings.TrimSpace(string(b))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(n, 0).UTC(), nil
}

// pack builds for one platform, and writes the archive and the bill of materials.
func pack(out, work, name, goos, arch, version, commit string, when time.Time) error {
	suffix, kind := "", ".tar.gz"
	if goos == "windows" {
		suffix, kind = ".exe", ".zip"
	}
	program := filepath.Join(work, name+suffix)
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+version+" -X main.commit="+commit, "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	files := []file{{name: "timedge" + suffix, path: program, mode: 0o755}}
	for _, path := range common {
		files = append(files, file{name: path, path: path, mode: 0o644})
	}
	if goos == "linux" {
		err := filepath.WalkDir("deploy", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, file{name: filepath.ToSlash(path), path: path, mode: 0o644})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	for i := range files {
		b, err := os.ReadFile(files[i].path)
		if err != nil {
			return err
		}
		files[i].name, files[i].body = name+"/"+files[i].name, b
	}
	var archive bytes.Buffer
	write := tarGz
	if kind == ".zip" {
		write = zipped
	}
	if err := write(&archive, files, when); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, name+kind), archive.Bytes(), 0o644); err != nil {
		return err
	}
	return materials(filepath.Join(out, name+".cdx.json"), program, version, when)
}

// materials writes the bill of materials of a program: the modules that are linked into it.
func materials(path, program, version string, when time.Time) error {
	cmd := exec.Command("go", "run", sbom, "bin", "-json", "-noserial", "-std", "-version", version, program)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	var said bytes.Buffer
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bill of materials: %w\n%s", err, said.Bytes())
	}
	if b, err = settle(b, filepath.Base(program), when); err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	return os.WriteFile(path, b, 0o644)
}

// settle puts the commit's time into a bill of materials in the place of now, and leaves out where it was made.
func settle(b []byte, program string, when time.Time) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	meta, ok := doc["metadata"].(map[string]any)
	if !ok || doc["components"] == nil {
		return nil, errors.New("it has no metadata, or no components")
	}
	meta["timestamp"] = when.Format(time.RFC3339)
	delete(doc, "serialNumber")
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(doc); err != nil {
		return nil, err
	}
	if bytes.Contains(out.Bytes(), []byte(os.TempDir()+"/release")) {
		return nil, fmt.Errorf("it says where %s was built", program)
	}
	return out.Bytes(), nil
}

// checksums writes SHA256SUMS of all that is in a folder, for sha256sum --check.
func checksums(dir string) error {
	entries, err := os.ReadDir(dir) // in order
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
