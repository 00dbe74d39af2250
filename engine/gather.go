package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/internal/record"
)

// gathered is what a write is to send, as a carrier takes it: cut into cells, each a WebSocket message, a TLS record,
// or both, with room for what belongs to it. It is made as far as somebody wants it. All members that a room's frames
// go to in one flush share it, so that it costs one copy, however many they are.
//
//	WebSocket:  header data
//	TLS:               data type      type is the byte that TLS seals behind the data of a record
//	both:       header data type
//
// The data of a full cell and its header take record.MaxData bytes; the last cell has what is left. So no record holds
// parts of two messages. As a begun message is always finished (carrier.send), no frame waits for a message's end.
type gathered struct {
	messages, records bool         // what cells are
	iov               []unix.Iovec // what to send; not changed
	size              int          // bytes of iov
	taken             int          // of these, bytes that are in b
	next              int          // the vector to go on with
	off               int          // bytes of that one that are in b
	b                 []byte       // the cells, from the beginning of the write
	valid             bool         // b is of a write that is still going on
}

const (
	messageHead = 4       // bytes of a full message's header
	maxGathered = 4 << 20 // bytes of scratch that are kept
)

// start begins with other vectors.
func (g *gathered) start(iov []unix.Iovec, size int) {
	if cap(g.b) > maxGathered {
		g.b = nil // a burst must not pin its size
	}
	g.iov, g.size, g.taken, g.next, g.off, g.b, g.valid = iov, size, 0, 0, 0, g.b[:0], true
}

// end lets go of the vectors.
func (g *gathered) end() { g.iov, g.valid = nil, false }

// data is how many bytes of the vectors a full cell has, cell its size.
func (g *gathered) data() int {
	if g.messages {
		return record.MaxData - messageHead
	}
	return record.MaxData
}

func (g *gathered) cell() int {
	if g.records {
		return record.MaxData + 1
	}
	return record.MaxData
}

// upTo returns n cells from number at on, or as many as there are.
func (g *gathered) upTo(at, n int) []byte {
	from, to := at*g.cell(), (at+n)*g.cell()
	for len(g.b) < to && g.taken < g.size {
		k := min(g.data(), g.size-g.taken)
		if g.messages {
			g.b = appendFrameHeader(g.b, opBinary, k)
		}
		g.copy(k)
		if g.records {
			g.b = append(g.b, record.Data)
		}
	}
	return g.b[from:min(to, len(g.b))]
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
}

// protocol returns how many bytes of the vectors the first n cells have.
func (g *gathered) protocol(n int) int { return min(n*g.data(), g.size) }
