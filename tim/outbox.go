package tim

import (
	"net"
	"sync"

	"github.com/gobwas/ws"
)

// outbox holds what is to go out on one connection. Whoever has something puts it in; one goroutine writes all that is
// there at once, so batches grow with load and nothing waits for a timer. Safe for concurrent use.
type outbox struct {
	mu     sync.Mutex
	room   sync.Cond // there is room again, or the outbox is closed
	filled sync.Cond // there is something to write, or the outbox is closed
	buf    *[]byte   // nil: there is nothing to write
	busy   int       // bytes of the buffers of the writer
	waits  int       // bytes of those who wait for room
	closed bool
	ending bool // closed once what is there has gone out
}

// outboxBound is how many bytes wait before a stream's frames wait with their subscription, whose room's policy then
// decides what becomes of them. Answers have as much again, then the connection is not read any more until its client
// reads.
const outboxBound = 256 << 10

func newOutbox() *outbox {
	o := new(outbox)
	o.room.L, o.filled.L = &o.mu, &o.mu
	return o
}

// stream puts a stream's frame in, in pieces; it waits while too much is there. False: the connection is closed.
func (o *outbox) stream(pieces ...[]byte) bool { return o.put(ws.OpBinary, outboxBound, pieces...) }

// answer puts an answer in.
func (o *outbox) answer(pieces ...[]byte) bool { return o.put(ws.OpBinary, 2*outboxBound, pieces...) }

// control puts a WebSocket control frame in.
func (o *outbox) control(op ws.OpCode, payload []byte) bool { return o.put(op, 2*outboxBound, payload) }

// put copies the pieces as one unfragmented WebSocket message: some clients take each fragment for a message.
func (o *outbox) put(op ws.OpCode, bound int, pieces ...[]byte) bool {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waits += size
	for o.buf != nil && len(*o.buf) >= bound && !o.closed && !o.ending {
		o.room.Wait()
	}
	o.waits -= size
	if o.closed || o.ending {
		return false
	}
	o.add(op, size, pieces...)
	o.filled.Signal()
	return true
}

// add copies the pieces, size bytes in all, as one message. The caller holds mu.
func (o *outbox) add(op ws.OpCode, size int, pieces ...[]byte) {
	if o.buf == nil {
		o.buf = buffers.Get().(*[]byte)
	}
	b := appendHeader(*o.buf, op, size)
	for _, p := range pieces {
		b = append(b, p...)
	}
	*o.buf = b
}

// appendHeader appends the header of an unmasked, unfragmented message of size bytes (RFC 6455, 5.2).
func appendHeader(dst []byte, op ws.OpCode, size int) []byte {
	const fin = 0x80
	dst = append(dst, fin|byte(op))
	switch {
	case size < 126:
		return append(dst, byte(size))
	case size < 1<<16:
		return append(dst, 126, byte(size>>8), byte(size))
	}
	n := uint64(size)
	return append(dst, 127, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// buffers are those of outboxes that have something to write; an outbox without has none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// keptBuffer is how large a buffer goes back to buffers, bytes; a larger one had a large message.
const keptBuffer = 4 * outboxBound

// write writes what is put in until the outbox is closed, or the connection breaks, then closes the connection. It
// blocks.
func (o *outbox) write(c net.Conn, written func(n int)) {
	for {
		o.mu.Lock()
		o.busy = 0
		for o.buf == nil && !o.closed && !o.ending {
			o.filled.Wait()
		}
		b := o.buf
		over := o.closed || b == nil
		if !over {
			o.busy = cap(*b)
		}
		o.buf = nil
		o.room.Broadcast()
		o.mu.Unlock()
		if over {
			break
		}
		n, err := c.Write(*b)
		written(n)
		if err != nil {
			break
		}
		if cap(*b) <= keptBuffer {
			*b = (*b)[:0]
			buffers.Put(b)
		}
	}
	o.close()
	_ = c.Close()
}

// holds returns how many bytes the outbox holds, and those who wait for room in it.
func (o *outbox) holds() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.busy + o.waits
	if o.buf != nil {
		n += cap(*o.buf)
	}
	return int64(n)
}

// close ends the outbox at once: what is there is dropped.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.buf = true, nil
	o.room.Broadcast()
	o.filled.Broadcast()
}

// end puts last words in, for which there is always room, and closes the outbox when what is there has gone out.
func (o *outbox) end(op ws.OpCode, payload []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed && !o.ending {
		o.add(op, len(payload), payload)
	}
	o.ending = true
	o.room.Broadcast()
	o.filled.Broadcast()
}
