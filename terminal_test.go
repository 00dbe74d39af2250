package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPrintable(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"plain", "ann's room, 3 °C, 名前", "ann's room, 3 °C, 名前"},
		{"escape", "\x1b]0;gone\x07", `\x1b]0;gone\a`},
		{"line end", "a\r\ntimedge: all is well", `a\r\ntimedge: all is well`},
		{"control characters of 8 bits", "a\u009b2J", `a\u009b2J`},
		{"not UTF-8", "a\x9b2J\xff", `a\x9b2J\xff`},
		{"turned round", "a\u202egnp.exe", `a\u202egnp.exe`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"replacement character", "a\ufffdb", "a\ufffdb"},
		{"backslash", `C:\x1b`, `C:\x1b`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := printable(test.in); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// obeyed returns what of b a terminal would obey, but for line ends.
func obeyed(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || printable(string(r)) == string(r) {
			return -1
		}
		return r
	}, string(b))
}

// TestPrintableLaw: whatever comes in, nothing comes out that a terminal obeys, and JSON keeps its meaning.
func TestPrintableLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		if bad := obeyed([]byte(printable(s))); bad != "" || strings.Contains(printable(s), "\n") {
			t.Errorf("%q is printed as %q", s, printable(s))
		}
		raw, err := json.Marshal(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		out := printableJSON(nil, raw)
		var was, is map[string]string
		if json.Unmarshal(raw, &was) != nil || json.Unmarshal(out, &is) != nil {
			t.Fatalf("%q became %q", raw, out)
		}
		for k, v := range was {
			if is[k] != v {
				t.Errorf("%q became %q", raw, out)
			}
		}
		if bad := obeyed(out); bad != "" {
			t.Errorf("%q is left of %q", bad, raw)
		}
	})
}

// TestOnePlacePrints: only terminal.go formats onto a file, for it escapes what others say.
func TestOnePlacePrints(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "terminal.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if from, ok := f.X.(*ast.Ident); ok && from.Name == "fmt" && (strings.HasPrefix(f.Sel.Name, "Fprint") || strings.HasPrefix(f.Sel.Name, "Print")) {
				t.Errorf("%s calls fmt.%s: use say, note, table or page", name, f.Sel.Name)
			}
			return true
		})
	}
}

func TestPageRefuses(t *testing.T) {
	if err := new(streams).page([]byte("\x1b[2J")); err == nil {
		t.Error("what is no JSON is printed")
	}
	if got := printableJSON(nil, []byte("{\n\t\"a\": \"\u009b\u007f\U000e0001\"\r\n}")); !bytes.Equal(got, []byte("{\n\t\"a\": \"\\u009b\\u007f\\udb40\\udc01\"\n}")) {
		t.Errorf("got %q", got)
	}
}
