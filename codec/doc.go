// Package codec reads and writes the timedge wire protocol.
//
// The protocol is specified in PROTOCOL.md beside this file; testdata/vectors.json holds the frames that every
// implementation must read and write alike. Start at [Next], which cuts one whole frame off the front of a byte slice
// without copying and returns its type byte. If that has the bit [TypeStream], [ParseStream] reads the frame: it is
// what the hot path moves. Every other frame is a [Control] frame, read by [ParseControl] or, without allocating the
// result, by the Parse method of the frame expected. The Append methods write one frame to the end of a slice.
//
// The package holds no state, starts no goroutine and allocates nothing on the paths of stream frames. All of it may be
// used from many goroutines at once.
package codec
