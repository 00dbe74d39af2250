package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// gathered is what a write is to send, in one piece: as TLS takes it and, for WebSocket, cut into messages. It is
// made as far as somebody wants it. All members that a room's frames go to in one flush share it, so that it costs
// one copy, however many they are.
//
// A message takes messageBytes of what is sent, the last one what is left. With its header it fills a TLS record, and
// no record holds parts of two messages. As a begun message is always finished (carrier.send), no frame waits for a
// message's end.
type gathered struct {
	messages bool         // for WebSocket
	iov      []unix.Iovec // what to send; not changed
	size     int          // bytes of iov
	taken    int          // of these, bytes that are in b
	next     int          // the vector to go on with
	off      int          // bytes of that one that are in b
	b        []byte       // what goes out, from the beginning of the write
	own      []byte       // the memory of b, unless that is the caller's own
	valid    bool         // b is of a write that is still going on
}

const (
	recordBytes  = 16 << 10        // of plain text in a full TLS record
	messageBytes = recordBytes - 4 // of the protocol in a full message: its header has four bytes
	maxGathered  = 4 << 20         // bytes of scratch that are kept
)

// start begins with other vectors.
func (g *gathered) start(iov []unix.Iovec, size int) {
	if cap(g.own) > maxGathered {
		g.own = nil // a burst must not pin its size
	}
	g.iov, g.size, g.taken, g.next, g.off, g.b, g.valid = iov, size, 0, 0, 0, g.own[:0], true
	if len(iov) == 1 && !g.messages { // in one piece already
		g.b, g.taken = unsafe.Slice(iov[0].Base, int(iov[0].Len)), size
	}
}

// end lets go of the vectors.
func (g *gathered) end() { g.iov, g.b, g.valid = nil, nil, false }

// upTo returns what goes out, at least its first n bytes or all of it.
func (g *gathered) upTo(n int) []byte {
	for len(g.b) < n && g.taken < g.size {
		if !g.messages {
			g.copy(min(n-len(g.b), g.size-g.taken))
			continue
		}
		k := min(messageBytes, g.size-g.taken)
		g.b = appendFrameHeader(g.b, opBinary, k)
		g.copy(k)
	}
	return g.b
}

// copy takes n bytes from the vectors.
func (g *gathered) copy(n int) {
	g.taken += n
	for n > 0 {
		v := unsafe.Slice(g.iov[g.next].Base, int(g.iov[g.next].Len))[g.off:]
		k := min(n, len(v))
		g.b = append(g.b, v[:k]...)
		n -= k
		if g.off += k; k == len(v) {
			g.next, g.off = g.next+1, 0
		}
	}
	g.own = g.b
}

// wholeMessage returns the least number of bytes, n or more, with which a message ends.
func (g *gathered) wholeMessage(n int) int {
	if !g.messages {
		return n
	}
	end := (n + recordBytes - 1) / recordBytes * recordBytes
	return min(end, len(g.upTo(end)))
}

// protocol returns how many bytes of the vectors are in the first n that go out; n is the end of a message.
func (g *gathered) protocol(n int) int {
	switch {
	case !g.messages:
		return n
	case n%recordBytes == 0:
		return n / recordBytes * messageBytes
	}
	return g.size // a shorter message is the last
}
