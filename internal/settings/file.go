package settings

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile is how long a file may be, bytes.
const maxFile = 1 << 20

// ReadFile reads what a TOML file says, without looking at which settings there are. A setting is a key of its flag's
// name. The error names all values that can be none.
func ReadFile(name string) (File, error) {
	f := File{Name: name, Given: make(Given)}
	info, err := os.Stat(name)
	if err != nil {
		return f, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return f, fmt.Errorf("%s: not a file of at most 1 MiB", name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return f, err
	}
	return ParseFile(name, b)
}

// ParseFile is ReadFile with what stands in the file.
func ParseFile(name string, content []byte) (File, error) {
	f := File{Name: name, Given: make(Given)}
	var tree map[string]any
	if _, err := toml.Decode(string(content), &tree); err != nil {
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			return f, fmt.Errorf("%s: line %d: %s", name, pe.Position.Line, pe.Message)
		}
		return f, fmt.Errorf("%s: %w", name, err)
	}
	var errs []error
	f.take("", tree, &errs)
	return f, errors.Join(errs...)
}

// take flattens a table: what stands in one of its own has both names, and so is unknown.
func (f *File) take(prefix string, tree map[string]any, errs *[]error) {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		v := tree[key]
		if sub, ok := v.(map[string]any); ok {
			f.take(prefix+key+".", sub, errs)
			continue
		}
		text, err := textOf(v)
		if err != nil {
			*errs = append(*errs, fmt.Errorf("%s: %s: %w", f.Name, prefix+key, err))
		}
		f.Given[prefix+key] = text
	}
}

func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	case []any:
		items := make([]string, len(v))
		for i := range v {
			if _, nested := v[i].([]any); nested {
				return "", errors.New("a list within a list")
			}
			var err error
			if items[i], err = textOf(v[i]); err != nil {
				return "", err
			}
		}
		return strings.Join(items, ","), nil
	}
	return "", fmt.Errorf("%v is neither text, nor a whole number, nor true or false, nor a list of these", v)
}
