package verify

import (
	"encoding/binary"
	"math/rand/v2"
)

// StampSize is the size in bytes of what every payload begins with, whatever the server under test:
//
//	0          8       13      16
//	+----------+-------+-------+----------
//	| due      | seq   | stream| filler
//	+----------+-------+-------+----------
//	 i64, ns    u40     u24
//
// All big-endian. due is when the message was due on CLOCK_MONOTONIC, which is one clock for all processes of a
// machine; seq is the number of the message's first frame; stream is the generator's own number for the stream.
const StampSize = 16

// MaxStream is the highest stream number a stamp can carry.
const MaxStream = 1<<24 - 1

// PutStamp writes a stamp to the first StampSize bytes of b.
func PutStamp(b []byte, due int64, seq uint64, stream uint32) {
	_ = b[StampSize-1]
	binary.BigEndian.PutUint64(b, uint64(due))
	binary.BigEndian.PutUint64(b[8:], seq<<24|uint64(stream&MaxStream))
}

// ReadStamp is the inverse of PutStamp.
func ReadStamp(b []byte) (due int64, seq uint64, stream uint32) {
	_ = b[StampSize-1]
	v := binary.BigEndian.Uint64(b[8:])
	return int64(binary.BigEndian.Uint64(b)), v >> 24, uint32(v & MaxStream)
}

// Pattern is what fills the payloads: byte i of a payload, from StampSize on, is byte i of Pattern, round again after
// its end. It repeats after a number of bytes that divides no common buffer size, so that a misplaced buffer shows.
var Pattern = makePattern(patternPeriod * 64)

const patternPeriod = 16381

func makePattern(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, n)
	for i := range patternPeriod {
		p[i] = byte(r.Uint32())
	}
	for i := patternPeriod; i < n; i++ {
		p[i] = p[i-patternPeriod]
	}
	return p
}

// AppendPattern appends the filler that belongs at offset off of a payload, n bytes.
func AppendPattern(dst []byte, off, n int) []byte {
	for n > 0 {
		off %= patternPeriod
		k := min(n, len(Pattern)-off)
		dst = append(dst, Pattern[off:off+k]...)
		off, n = off+k, n-k
	}
	return dst
}

// matches reports whether b is the filler at offset off of a payload.
func matches(b []byte, off int) bool {
	for len(b) > 0 {
		off %= patternPeriod
		k := min(len(b), len(Pattern)-off)
		if string(b[:k]) != string(Pattern[off:off+k]) {
			return false
		}
		b, off = b[k:], off+k
	}
	return true
}
