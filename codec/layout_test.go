package codec

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file reads the layout notation of PROTOCOL.md, section "Conventions", and encodes fields by it. It shares no
// code with the package, so that a mistake in either shows.

// layoutField is one name:type of a layout.
type layoutField struct {
	name  string
	typ   string        // u8 u16 u48 u64 varint varint32 bytes string bits list rest
	arg   int           // the N of bytes, string and list, the mask of bits
	entry []layoutField // list: the fields of an entry; a single one without a name if entries have none
	zero  bool          // zero is allowed
	least string        // the field that this one is not below, or ""
}

var layoutAtom = regexp.MustCompile(`^(u8|u16|u48|u64|varint|varint32|rest|(bytes|string|bits)\((\w+)\))(!?)(>=(\w+))?$`)

// parseLayout reads a layout. ext reports whether it ends with optional fields.
func parseLayout(s string) (fields []layoutField, ext bool, err error) {
	words := splitLayout(s)
	for i, w := range words {
		if w == "ext" && i == len(words)-1 {
			return fields, true, nil
		}
		name, typ, ok := strings.Cut(w, ":")
		if !ok {
			return nil, false, fmt.Errorf("%q is not name:type", w)
		}
		f, err := parseLayoutType(typ)
		if err != nil {
			return nil, false, err
		}
		f.name = name
		fields = append(fields, f)
	}
	return fields, false, nil
}

// splitLayout splits at the blanks outside parentheses.
func splitLayout(s string) (words []string) {
	depth, start := 0, 0
	for i, c := range s + " " {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ' ' && depth == 0:
			words = append(words, s[start:i])
			start = i + 1
		}
	}
	return words
}

func parseLayoutType(s string) (f layoutField, err error) {
	if inner, ok := strings.CutPrefix(s, "list("); ok && strings.HasSuffix(inner, ")") {
		limit, inner, ok := strings.Cut(strings.TrimSuffix(inner, ")"), " ")
		if !ok {
			return f, fmt.Errorf("%q has no limit", s)
		}
		f.typ, f.zero = "list", true
		if f.arg, err = strconv.Atoi(limit); err != nil {
			return f, err
		}
		if strings.Contains(inner, ":") {
			f.entry, _, err = parseLayout(inner)
			return f, err
		}
		e, err := parseLayoutType(inner)
		f.entry = []layoutField{e}
		return f, err
	}
	m := layoutAtom.FindStringSubmatch(s)
	if m == nil {
		return f, fmt.Errorf("%q is no type", s)
	}
	f.typ, f.zero, f.least = m[1], m[4] == "", m[6]
	if m[2] != "" {
		n, err := strconv.ParseInt(m[3], 0, 32)
		if err != nil {
			return f, err
		}
		f.typ, f.arg = m[2], int(n)
	}
	return f, nil
}

// encodeLayout writes the fields of a vector by a layout. It fails on a value that the layout does not allow.
func encodeLayout(dst []byte, layout []layoutField, fields map[string]any) ([]byte, error) {
	for _, f := range layout {
		v, ok := fields[f.name]
		if !ok {
			return nil, fmt.Errorf("no field %s", f.name)
		}
		if f.least != "" && number(v).Cmp(number(fields[f.least])) < 0 {
			return nil, fmt.Errorf("%s is below %s", f.name, f.least)
		}
		var err error
		if dst, err = encodeLayoutValue(dst, f, v); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return dst, nil
}

func number(v any) *big.Int {
	n, ok := new(big.Int).SetString(fmt.Sprint(v), 10)
	if !ok {
		return big.NewInt(-1)
	}
	return n
}

var layoutBits = map[string]int{"u8": 8, "u16": 16, "u48": 48, "u64": 64, "varint": 64, "varint32": 32, "bits": 8}

func encodeLayoutValue(dst []byte, f layoutField, v any) ([]byte, error) {
	if width, ok := layoutBits[f.typ]; ok {
		// PROTOCOL.md promises a reader of the vectors: text for u64 and varint, numbers for the rest.
		_, text := v.(string)
		if text != (f.typ == "u64" || f.typ == "varint") {
			return nil, fmt.Errorf("%v is a string: %v", v, text)
		}
		n := number(v)
		if n.Sign() < 0 || n.BitLen() > width || n.Sign() == 0 && !f.zero && f.typ != "bits" {
			return nil, fmt.Errorf("%v is out of range", v)
		}
		if f.typ == "bits" && n.Int64()&^int64(f.arg) != 0 {
			return nil, fmt.Errorf("%v has bits outside %#x", v, f.arg)
		}
		if strings.HasPrefix(f.typ, "varint") {
			return appendLEB128(dst, n.Uint64()), nil
		}
		return append(dst, n.FillBytes(make([]byte, width/8))...), nil
	}
	switch f.typ {
	case "list":
		list := v.([]any)
		if len(list) > f.arg {
			return nil, fmt.Errorf("%d entries, limit %d", len(list), f.arg)
		}
		dst = appendLEB128(dst, uint64(len(list)))
		for _, e := range list {
			var err error
			if f.entry[0].name == "" {
				dst, err = encodeLayoutValue(dst, f.entry[0], e)
			} else {
				dst, err = encodeLayout(dst, f.entry, e.(map[string]any))
			}
			if err != nil {
				return nil, err
			}
		}
		return dst, nil
	case "string":
		s := v.(string)
		if len(s) > f.arg || !utf8.ValidString(s) {
			return nil, fmt.Errorf("%d bytes, limit %d, or not UTF-8", len(s), f.arg)
		}
		return append(appendLEB128(dst, uint64(len(s))), s...), nil
	case "bytes", "rest":
		b, err := hex.DecodeString(v.(string))
		if err != nil {
			return nil, err
		}
		if f.typ == "rest" {
			return append(dst, b...), nil
		}
		if len(b) > f.arg {
			return nil, fmt.Errorf("%d bytes, limit %d", len(b), f.arg)
		}
		return append(appendLEB128(dst, uint64(len(b))), b...), nil
	}
	return nil, fmt.Errorf("no rule for %s", f.typ)
}

func appendLEB128(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// documentFrame is a row of one of PROTOCOL.md's frame tables.
type documentFrame struct {
	typ       byte
	name      string
	direction string
	layout    []layoutField
}

// encode writes a whole frame: length, type, fields, optional fields.
func (d documentFrame) encode(fields map[string]any, ext []extField) ([]byte, error) {
	body := []byte{d.typ}
	layout := map[string]any{}
	for k, v := range fields {
		layout[k] = v
	}
	if d.name == "stream" {
		flags := number(fields["flags"])
		if flags.Sign() < 0 || flags.BitLen() > 4 {
			return nil, fmt.Errorf("flags %v", fields["flags"])
		}
		body[0] |= byte(flags.Int64())
		delete(layout, "flags")
	}
	if len(layout) != len(d.layout) {
		return nil, fmt.Errorf("%d fields, layout has %d", len(layout), len(d.layout))
	}
	body, err := encodeLayout(body, d.layout, layout)
	if err != nil {
		return nil, err
	}
	for _, e := range ext {
		b, err := hex.DecodeString(e.Value)
		if err != nil {
			return nil, err
		}
		body = append(appendLEB128(appendLEB128(body, number(e.Tag).Uint64()), uint64(len(b))), b...)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...), nil
}

// extremes returns the lowest and the highest value of a field, as vectors write them.
func (f layoutField) extremes() []any {
	low := json.Number("0")
	if !f.zero {
		low = "1"
	}
	switch f.typ {
	case "u8", "u16", "u48", "varint32":
		return []any{low, json.Number(strconv.FormatUint(1<<layoutBits[f.typ]-1, 10))}
	case "u64", "varint":
		return []any{string(low), strconv.FormatUint(math.MaxUint64, 10)}
	case "bits":
		return []any{json.Number("0"), json.Number(strconv.Itoa(f.arg))}
	case "string":
		return []any{"", strings.Repeat("a", f.arg)}
	case "bytes":
		return []any{"", strings.Repeat("5a", f.arg)}
	case "list":
		return []any{[]any{}}
	}
	return []any{""}
}
