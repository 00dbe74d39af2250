// Package codec reads and writes the timedge wire protocol.
//
// The protocol is specified in PROTOCOL.md beside this file; testdata/vectors.json holds the frames that every
// implementation must read and write alike. Start at [Parse], which cuts one frame off the front of a byte slice without
// copying, and at the Append methods, which write one frame to the end of a slice. A [Stream] frame is what the hot path
// moves; every other frame is a [Control] frame.
//
// The package holds no state, starts no goroutine and allocates nothing on the paths of stream frames. All of it may be
// used from many goroutines at once.
package codec
