package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unit is what a type's values are, with examples.
type unit interface{ Unit() string }

// Unit says what values are: a type of the caller's says it by a method of this name.
func (s *Setting) Unit() string {
	one := s.unitOf(reflect.TypeOf(s.To).Elem())
	switch {
	case len(s.OneOf) > 0:
		return "one of " + strings.Join(s.OneOf, ", ")
	case s.list():
		return "list of " + one
	}
	return one
}

func (s *Setting) unitOf(t reflect.Type) string {
	if s.list() {
		t = t.Elem()
	}
	if u, ok := reflect.New(t).Interface().(unit); ok {
		return u.Unit()
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "time, such as 500ms, 2s or 5m"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		if _, text := reflect.New(t).Interface().(encoding.TextUnmarshaler); !text {
			return "number"
		}
	}
	if s.Value != "" {
		return s.Value
	}
	return "text"
}

// list reports whether the setting has items.
func (s *Setting) list() bool { return reflect.TypeOf(s.To).Elem().Kind() == reflect.Slice }

// bare reports whether values stand without quotes in the file.
func (s *Setting) bare() bool {
	k := reflect.TypeOf(s.To).Elem().Kind()
	_, text := s.To.(encoding.TextUnmarshaler)
	_, span := s.To.(*time.Duration)
	return !text && !span && (k == reflect.Bool || k == reflect.Int || k == reflect.Int64)
}

// counts reports whether values are numbers of something.
func (s *Setting) counts() bool {
	k := reflect.TypeOf(s.To).Elem().Kind()
	return k == reflect.Int || k == reflect.Int64
}

// check says what is wrong with a text that stands at a place.
func (s *Setting) check(place, text string) error {
	if err := s.parse(reflect.New(reflect.TypeOf(s.To).Elem()), text); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// set gives the variable its value; the zero value if it is the default and there is no text for it.
func (s *Setting) set(text string, given bool) error {
	to := reflect.ValueOf(s.To)
	to.Elem().SetZero()
	if text == "" && !given {
		return nil
	}
	fresh := reflect.New(to.Type().Elem())
	if err := s.parse(fresh, text); err != nil {
		return err
	}
	to.Elem().Set(fresh.Elem())
	return nil
}

// parse reads a text into what a pointer points to.
func (s *Setting) parse(to reflect.Value, text string) error {
	if len(s.OneOf) > 0 && !slices.Contains(s.OneOf, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(s.OneOf, ", "))
	}
	if !s.list() {
		err := parseOne(to, text)
		if err == nil && s.Default != "" && !s.Zero && s.counts() && to.Elem().IsZero() {
			err = fmt.Errorf("%s is no value for it: it must be above 0", text)
		}
		return err
	}
	items := reflect.MakeSlice(to.Type().Elem(), 0, 0)
	if text == "" {
		to.Elem().Set(items)
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		one := reflect.New(to.Type().Elem().Elem())
		if err := parseOne(one, strings.TrimSpace(item)); err != nil {
			return err
		}
		items = reflect.Append(items, one.Elem())
	}
	to.Elem().Set(items)
	return nil
}

var errType = errors.New("a type that settings do not have")

func parseOne(to reflect.Value, text string) error {
	switch v := to.Interface().(type) {
	case encoding.TextUnmarshaler:
		return v.UnmarshalText([]byte(text))
	case *string:
		*v = text
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no time: write 500ms, 2s or 5m", text)
		}
		*v = d
	case *bool:
		switch text {
		case "true", "1":
			*v = true
		case "false", "0":
			*v = false
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case *int:
		n, err := strconv.ParseInt(text, 10, strconv.IntSize)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is no number", text)
		}
		*v = int(n)
	case *int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is no number", text)
		}
		*v = n
	default:
		return errType
	}
	return nil
}
