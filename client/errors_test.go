package client

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/timedge/timedge/codec"
)

// Every code has a name that errors.Is knows, and every error of this package that carries a code is one.
func TestEveryCode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool) // names of codec's codes
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "Code" {
				if sel, ok := call.Args[0].(*ast.SelectorExpr); ok {
					named[sel.Sel.Name] = true
				}
			}
		}
		return true
	})
	if len(named) < len(codec.Codes()) {
		t.Errorf("%d names for %d codes", len(named), len(codec.Codes()))
	}
	for code := range codec.Codes() {
		for _, err := range []error{&RefusedError{Code: code}, &ClosedError{Code: code}, &ConnectionError{Code: code}} {
			if !errors.Is(err, Code(code)) || errors.Is(err, Code(code+1)) {
				t.Errorf("%v is not %v", err, code)
			}
		}
	}
}
