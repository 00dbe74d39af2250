package settings

import (
	"reflect"
	"strconv"
	"strings"
)

// Flags returns a pointer to a new struct with a field for every setting, tagged as kong has it, to be embedded by
// kong.Plugins. What kong finds on the command line it leaves there as text; see Given.
func (t *Table) Flags() any {
	fields := make([]reflect.StructField, len(t.Rows))
	for i := range t.Rows {
		s := &t.Rows[i]
		f := reflect.StructField{Name: "F" + strconv.Itoa(i), Type: reflect.TypeFor[*string]()}
		switch {
		case s.list():
			f.Type = reflect.TypeFor[[]string]()
		case reflect.TypeOf(s.To) == reflect.TypeFor[*bool]():
			f.Type = reflect.TypeFor[*bool]()
		}
		tag := func(key, value string) {
			f.Tag += reflect.StructTag(key + ":" + strconv.Quote(strings.ReplaceAll(value, "${", "$${")) + " ")
		}
		tag("name", s.Name)
		tag("sep", "none")
		if s.Value != "" {
			tag("placeholder", s.Value)
		}
		tag("help", capital(s.help())+" ($$"+t.Variable(s.Name)+").")
		fields[i] = f
	}
	return reflect.New(reflect.StructOf(fields)).Interface()
}

// help is the sentence that flags have.
func (s *Setting) help() string {
	by := s.Default
	if by == "" {
		by = s.Unset
	}
	if by == "" {
		return s.Help
	}
	return s.Help + " (" + by + ")"
}

// Given returns what the command line gave, of a struct that Flags returned and kong has filled.
func (t *Table) Given(flags any) Given {
	g := make(Given)
	v := reflect.ValueOf(flags).Elem()
	for i := range t.Rows {
		switch x := v.Field(i).Interface().(type) {
		case *string:
			if x != nil {
				g[t.Rows[i].Name] = *x
			}
		case *bool:
			if x != nil {
				g[t.Rows[i].Name] = strconv.FormatBool(*x)
			}
		case []string:
			if x != nil {
				g[t.Rows[i].Name] = strings.Join(x, ",")
			}
		}
	}
	return g
}
