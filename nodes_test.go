//go:build linux

package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/timedge/timedge/engine"
)

// TestReports: what the commands read of a node's reports is there, under that name and of that type.
func TestReports(t *testing.T) {
	same(t, reflect.TypeFor[roomReport](), reflect.TypeFor[engine.RoomReport]())
}

func same(t *testing.T, ours, theirs reflect.Type) {
	t.Helper()
	for f := range ours.Fields() {
		g, ok := theirs.FieldByName(f.Name)
		switch {
		case !ok || name(g) != name(f) || g.Type.Kind() != f.Type.Kind():
			t.Errorf("%v.%s %s is %+v", ours, f.Name, f.Tag, g)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			same(t, f.Type.Elem(), g.Type.Elem())
		}
	}
}

// name returns the field's name in JSON.
func name(f reflect.StructField) string {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return tag
}
