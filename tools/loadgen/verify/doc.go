// Package verify checks what a subscriber receives, frame by frame, and measures how late it came.
//
// A [Tracker] is one connection's view of its streams. It holds every stream to the one rule of docs/architecture.md:
// the next thing on a stream is the frame expected, or a gap that begins at the frame expected. Anything else is a
// violation and is counted by kind in the [Sink] that trackers of one loop share. Trackers copy nothing and, once a
// stream has been seen, allocate nothing.
//
// A Tracker and its Sink belong to one goroutine. A [Window] is shared by the loops and the publisher.
package verify
