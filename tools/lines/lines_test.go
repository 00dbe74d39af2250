// Package lines holds packages to the length of their lines and files. It is a test and nothing else.
package lines

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// held are the directories whose Go files keep to it: add yours once it does.
var held = []string{"carry", "internal/world", "room", "client/media", "client/media/footage", "e2ee", "benchmarks/hostile"}

// A line ends by column 120, a tab being one. A file is one idea, and seldom over 500 lines: those that are say so here.
const (
	maxColumn = 120
	maxLines  = 500
)

var longer = map[string]string{}

func TestLines(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, dir := range held {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no Go files: %v", dir, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			name = filepath.ToSlash(name)
			lines := strings.Split(string(b), "\n")
			for i, l := range lines {
				if n := utf8.RuneCountInString(l); n > maxColumn {
					t.Errorf("%s:%d: the line ends at column %d, want %d at most", name, i+1, n, maxColumn)
				}
			}
			_, known := longer[name]
			switch n := len(lines) - 1; {
			case n > maxLines && !known:
				t.Errorf("%s has %d lines, want %d at most, or a reason in this test", name, n, maxLines)
			case n <= maxLines && known:
				t.Errorf("%s has %d lines: it needs no reason any more", name, n)
			}
		}
	}
}
