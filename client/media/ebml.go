package media

import "math/bits"

// EBML: RFC 8794.

// element is the head of an EBML element.
type element struct {
	id      uint64
	head    int // bytes of ID and size
	size    uint64
	unknown bool // it lasts until an element comes that cannot be in it
}

// longestHead is that of an element, in bytes.
const longestHead = 4 + 8

// parseElement reads the ID and size at the start of b: RFC 8794, sections 5 and 6. It fails if they are not whole, or
// none.
func parseElement(b []byte) (e element, ok bool) {
	id, n := vint(b, 4)
	if n == 0 {
		return e, false
	}
	size, m := vint(b[n:], 8)
	if m == 0 {
		return e, false
	}
	value := uint64(1)<<(7*m) - 1 // without the length mark; all ones: unknown
	return element{id: id, head: n + m, size: size & value, unknown: size&value == value}, true
}

// child splits off the first element of b, which holds whole elements.
func child(b []byte) (id uint64, body, rest []byte, ok bool) {
	e, ok := parseElement(b)
	if !ok || e.unknown || e.size > uint64(len(b)-e.head) {
		return 0, nil, nil, false
	}
	b = b[e.head:]
	return e.id, b[:e.size], b[e.size:], true
}

// vint reads a number of variable length with its length mark, and its length: 0 if there is none of at most longest
// bytes.
func vint(b []byte, longest int) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = bits.LeadingZeros8(b[0]) + 1
	if n > longest || n > len(b) {
		return 0, 0
	}
	return bigEndian(b[:n]), n
}

// bigEndian reads a number of up to 8 bytes; of a longer one, the last 8.
func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}
