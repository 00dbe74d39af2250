package media

import (
	"io"
	"slices"
)

// input is the part of the stream that has been read and not yet handed out.
type input struct {
	r      io.Reader
	buf    []byte
	lo, hi int   // buf[lo:hi] waits
	err    error // of r; what waits is still to be handed out
	short  bool  // the last read took less than it could have: r has no more for the moment
}

// readSize is what a read asks for at least, in bytes.
const readSize = 64 << 10

// buffered returns how many bytes can be had without reading.
func (in *input) buffered() int { return in.hi - in.lo }

// pausedBefore reports whether having n bytes means to wait for the other side.
func (in *input) pausedBefore(n int) bool { return in.short && in.buffered() < n }

// peek returns all that waits, at least n bytes unless the input ends before. n is at most MaxUnit and a little. The
// bytes are valid until the next call of peek.
func (in *input) peek(n int) []byte {
	for in.buffered() < n && in.err == nil {
		in.read(n)
	}
	return in.buf[in.lo:in.hi]
}

func (in *input) read(n int) {
	if in.lo > 0 {
		copy(in.buf, in.buf[in.lo:in.hi])
		in.hi -= in.lo
		in.lo = 0
	}
	in.buf = slices.Grow(in.buf[:in.hi], max(n-in.hi, readSize))
	in.buf = in.buf[:cap(in.buf)]
	for range 100 {
		space := in.buf[in.hi:]
		n, err := in.r.Read(space)
		in.hi += n
		in.short = n < len(space)
		in.err = err
		if n > 0 || err != nil {
			return
		}
	}
	in.err = io.ErrNoProgress
}

// take hands out the first n bytes that wait. They are valid until the next call of peek.
func (in *input) take(n int) []byte {
	b := in.buf[in.lo : in.lo+n : in.lo+n]
	in.lo += n
	return b
}
