package tim

import (
	"encoding/binary"
	"errors"
	"math"
)

// Thrift's compact protocol: a field is a header byte, its upper half how far its number is from the one before it in
// this struct (0: the number follows, zigzag), its lower half the type; a struct ends with a zero byte. Integers are
// zigzag varints, strings have their length before them. Source: the Apache Thrift compact protocol specification.
const (
	wireStop   = 0
	wireTrue   = 1
	wireFalse  = 2
	wireI8     = 3
	wireI16    = 4
	wireI32    = 5
	wireI64    = 6
	wireDouble = 7
	wireBytes  = 8
	wireList   = 9
	wireSet    = 10
	wireMap    = 11
	wireStruct = 12
)

// maxDepth bounds how deep structs and lists may lie within one another.
const maxDepth = 8

var errFormat = errors.New("tim: malformed body")

// reader walks a struct in compact encoding. After the first fault every read gives zero, and err says what it was.
//
// The end of the input counts as the end of the struct, and what comes after a struct is ignored: clients leave the
// last zero byte out, or send the whole of a buffer that was longer than what they wrote into it.
type reader struct {
	b     []byte
	err   error
	depth int
}

func (r *reader) fail() {
	r.err, r.b = errFormat, nil
}

// next returns the header of the next field; last is the number of the one before it in the same struct.
func (r *reader) next(last *int) (typ byte, more bool) {
	if r.err != nil || len(r.b) == 0 || r.b[0] == wireStop {
		if len(r.b) > 0 {
			r.b = r.b[1:]
		}
		return 0, false
	}
	head := r.b[0]
	r.b = r.b[1:]
	if delta := int(head >> 4); delta > 0 {
		*last += delta
	} else {
		*last = int(r.zigzag())
	}
	return head & 0x0f, r.err == nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) zigzag() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// integer returns a field's number; what is none is skipped, as a field that is not known is.
func (r *reader) integer(typ byte) int64 {
	switch typ {
	case wireI8:
		if len(r.b) == 0 {
			r.fail()
			return 0
		}
		v := int8(r.b[0])
		r.b = r.b[1:]
		return int64(v)
	case wireI16, wireI32, wireI64:
		return r.zigzag()
	}
	r.skip(typ)
	return 0
}

// bytes returns a field's bytes, which alias the input; nil if it has none.
func (r *reader) bytes(typ byte) []byte {
	if typ != wireBytes {
		r.skip(typ)
		return nil
	}
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) string(typ byte) string { return string(r.bytes(typ)) }

// enter begins a struct within a struct, and reports whether there is one; leave ends it.
func (r *reader) enter(typ byte) bool {
	if typ != wireStruct {
		r.skip(typ)
		return false
	}
	if r.depth++; r.depth > maxDepth {
		r.fail()
	}
	return r.err == nil
}

func (r *reader) leave() { r.depth-- }

// skip passes over a field's value.
func (r *reader) skip(typ byte) {
	switch typ {
	case wireTrue, wireFalse:
	case wireI8:
		r.take(1)
	case wireI16, wireI32, wireI64:
		r.uvarint()
	case wireDouble:
		r.take(8)
	case wireBytes:
		r.bytes(typ)
	case wireList, wireSet:
		r.skipList()
	case wireMap:
		r.skipMap()
	case wireStruct:
		if r.enter(typ) {
			last := 0
			for typ, more := r.next(&last); more; typ, more = r.next(&last) {
				r.skip(typ)
			}
			r.leave()
		}
	default:
		r.fail()
	}
}

func (r *reader) take(n int) {
	if n > len(r.b) {
		r.fail()
		return
	}
	r.b = r.b[n:]
}

func (r *reader) skipList() {
	if len(r.b) == 0 {
		r.fail()
		return
	}
	head := r.b[0]
	r.b = r.b[1:]
	n := uint64(head >> 4)
	if n == 15 {
		n = r.uvarint()
	}
	r.skipElements(n, head&0x0f)
}

func (r *reader) skipMap() {
	n := r.uvarint()
	if n == 0 || len(r.b) == 0 {
		return
	}
	types := r.b[0]
	r.b = r.b[1:]
	r.skipElements(n, types>>4, types&0x0f)
}

// skipElements passes over n times the given types. An element has at least one byte, so the input bounds n.
func (r *reader) skipElements(n uint64, types ...byte) {
	if n > uint64(len(r.b)) {
		r.fail()
		return
	}
	if r.depth++; r.depth > maxDepth {
		r.fail()
	}
	for ; n > 0 && r.err == nil; n-- {
		for _, typ := range types {
			if typ == wireTrue || typ == wireFalse { // in a list a truth is a byte of its own
				r.take(1)
			} else {
				r.skip(typ)
			}
		}
	}
	r.depth--
}

// fields appends the fields of one struct. Numbers must rise, by 15 at most.
type fields struct {
	b    []byte
	last int
}

func (f *fields) head(id int, typ byte) {
	f.b = append(f.b, byte(id-f.last)<<4|typ)
	f.last = id
}

func (f *fields) boolean(id int, v bool) {
	if v {
		f.head(id, wireTrue)
	} else {
		f.head(id, wireFalse)
	}
}

func (f *fields) i8(id int, v int8) {
	f.head(id, wireI8)
	f.b = append(f.b, byte(v))
}

func (f *fields) integer(id int, typ byte, v int64) {
	f.head(id, typ)
	f.b = binary.AppendUvarint(f.b, uint64(v<<1)^uint64(v>>63))
}

// opaque begins a field of n bytes, which the caller appends.
func (f *fields) opaque(id, n int) {
	f.head(id, wireBytes)
	f.b = binary.AppendUvarint(f.b, uint64(n))
}

func (f *fields) string(id int, s string) {
	f.opaque(id, len(s))
	f.b = append(f.b, s...)
}

// text is string for a field that is left out when it is empty.
func (f *fields) text(id int, s string) {
	if s != "" {
		f.string(id, s)
	}
}

// begin opens a struct within this one; the bytes of the inner one are handed back to end.
func (f *fields) begin(id int) fields {
	f.head(id, wireStruct)
	return fields{b: f.b}
}

func (f *fields) end(inner fields) { f.b = append(inner.b, wireStop) }

// saturate brings a number from the wire into the range of an int32.
func saturate(v int64) int32 { return int32(min(max(v, math.MinInt32), math.MaxInt32)) }
