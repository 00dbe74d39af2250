package client

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// Every code has a name that errors.Is knows, for every error of this package that carries a code, and for the code
// itself, as in Left.
func TestEveryCode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool) // names of codec's codes
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if sel, ok := v.Values[0].(*ast.SelectorExpr); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
				named[sel.Sel.Name] = true
			}
		}
		return true
	})
	if len(named) < len(codec.Codes()) {
		t.Errorf("%d names for %d codes", len(named), len(codec.Codes()))
	}
	for code := range codec.Codes() {
		for _, err := range []error{code, &RefusedError{Code: code}, &ClosedError{Code: code}, &ConnectionError{Code: code}} {
			if !errors.Is(err, code) || errors.Is(err, code+1) {
				t.Errorf("%v is not %v", err, code)
			}
		}
	}
}
