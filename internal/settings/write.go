package settings

import (
	"fmt"
	"strconv"
	"strings"
)

// width is where lines of comments end.
const width = 100

// Commented returns a file with every setting at its default, as a comment, under what there is to know of it.
func (t *Table) Commented(head string) []byte {
	var b strings.Builder
	wrap(&b, head)
	for i := range t.Rows {
		s := &t.Rows[i]
		b.WriteByte('\n')
		if s.Section != "" {
			fmt.Fprintf(&b, "### %s\n\n", s.Section)
		}
		wrap(&b, capital(s.Help)+".")
		if s.Why != "" {
			wrap(&b, s.Why)
		}
		takes := "To change it takes a restart."
		if s.Reload {
			takes = "A reload takes it up."
		}
		unit := capital(s.Unit()) + ". "
		if s.Default == "" && s.Unset != "" {
			unit += "Not set: " + s.Unset + ". "
		}
		wrap(&b, unit+takes)
		fmt.Fprintf(&b, "#%s = %s\n", s.Name, s.toml(s.Default))
	}
	return []byte(b.String())
}

// Effective returns a file with what was merged, and where each value came from. What is not set is a comment.
func Effective(all []Value) []byte {
	var b strings.Builder
	for _, v := range all {
		line := v.Name + " = " + v.toml(v.Text)
		if v.From == FromDefault && v.Text == "" {
			line = "#" + line
		}
		from := string(v.From)
		if v.From == FromDefault && v.Text == "" && v.Unset != "" {
			from += ": " + v.Unset
		}
		fmt.Fprintf(&b, "%-50s # %s\n", line, from)
	}
	return []byte(b.String())
}

// Markdown returns the table as documentation has it.
func (t *Table) Markdown() []byte {
	var b strings.Builder
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	for i := range t.Rows {
		s := &t.Rows[i]
		if s.Section != "" {
			fmt.Fprintf(&b, "\n## %s\n\n| setting | values | default | what it is, and what others cost | reload |\n| --- | --- | --- | --- | --- |\n", s.Section)
		}
		by, reload := s.Unset, "no"
		if s.Default != "" {
			by = "`" + s.Default + "`"
		}
		if s.Reload {
			reload = "yes"
		}
		about := capital(s.Help) + "."
		if s.Why != "" {
			about += " " + s.Why
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Name, cell(s.Unit()), cell(by), cell(about), reload)
	}
	return []byte(b.String())
}

// toml writes a value as the file has it. A text that cannot be a value is quoted.
func (s *Setting) toml(text string) string {
	switch {
	case s.list():
		items := []string{}
		if text != "" {
			items = strings.Split(text, ",")
		}
		for i := range items {
			items[i] = quote(strings.TrimSpace(items[i]))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case s.bare() && text == "":
		if _, is := s.To.(*bool); is {
			return "false"
		}
		return "0"
	case s.bare() && s.check("", text) == nil:
		switch text { // of the environment, 1 is true
		case "0", "1":
			if _, is := s.To.(*bool); is {
				return strconv.FormatBool(text == "1")
			}
		}
		if text != "0" && strings.TrimLeft(text, "+0") != text {
			return quote(text) // no number of TOML
		}
		return text
	}
	return quote(text)
}

// quote writes a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// wrap writes a comment.
func wrap(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
