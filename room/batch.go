package room

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"

	"github.com/timedge/timedge/codec"
)

// Batch is one or more whole frames in a pooled buffer, shared by reference between a stream's log, the loops'
// mailboxes and the queues of subscribers. Its bytes never change once it is shared.
//
// Every holder has one reference: Retain before handing on, Release when done. Below zero panics.
type Batch struct {
	// Fixed before the batch is shared.
	B           []byte // the frames as they go to the socket
	Key         codec.StreamKey
	First, Last uint64    // sequence numbers, both included; zero for frames about the room
	At          int64     // of a room's frames: when they came, ns
	Kind        BatchKind // what the frames are
	Keyed       bool      // the stream has key frames, and the room's policy goes by them
	stream      *stream   // told when every outlet has taken the batch; may be nil
	aloft       bool      // and its stream's flight waits for that: somebody has a seat
	buf         *bytebufferpool.ByteBuffer
	pool        *Pool
	share       *Share // whose it is; nil: nobody's
	charged     int    // what is counted for it

	refs    atomic.Int32
	outlets atomic.Int32 // outlets that have not taken it yet
}

// BatchKind says what a batch holds.
type BatchKind uint8

// The kinds of batches.
const (
	KindControl BatchKind = iota // frames about the room or the session: never dropped
	KindStream                   // a run of frames of one stream
	KindDrop                     // one gap frame made for one subscriber, which a later drop may widen
	KindCount                    // one count frame, for those who asked
	KindLeft                     // one left frame; Key.Pub is the publisher
	KindClosed                   // one closed frame: the room ended, nothing follows
)

// Pool hands out batches, and counts what they hold in its Memory. The zero value is ready to use.
//
// Buffers come from one bytebufferpool per size class, so that a small frame that is kept for long does not hold a
// large buffer.
type Pool struct {
	Memory
	classes [len(classSizes)]bytebufferpool.Pool
	structs sync.Pool
	waste   waste
	count   atomic.Int64
	copied  atomic.Uint64
}

// A buffer is at most twice as large as what is in it: what a room's log may hold counts buffers, not frames.
var classSizes = [...]int{
	128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10,
	1 << 20,
}

// classOf returns the smallest class that n bytes fit; -1: none.
func classOf(n int) int {
	c := bits.Len(uint(max(n, 1)-1) / uint(classSizes[0]))
	if c >= len(classSizes) {
		return -1
	}
	return c
}

// Get returns an empty batch with one reference and room for n bytes to be appended to B. What it holds is counted for
// an account; nil: for none.
func (p *Pool) Get(n int, of *Share) *Batch {
	b, _ := p.structs.Get().(*Batch)
	if b == nil {
		b = &Batch{pool: p}
	}
	if c := classOf(n); c >= 0 {
		b.buf = p.classes[c].Get()
		if cap(b.buf.B) < n {
			b.buf.B = make([]byte, 0, classSizes[c])
		}
		b.B = b.buf.B[:0]
	} else {
		b.B = make([]byte, 0, n)
	}
	p.count.Add(1)
	b.refs.Store(1)
	b.share = of
	b.charge(b.cost())
	return b
}

// charge makes cost what is counted for the batch.
func (b *Batch) charge(cost int) {
	n := cost - b.charged
	switch {
	case n == 0:
	case b.share != nil:
		b.share.Hold(n)
	default:
		b.pool.held.Add(int64(n))
	}
	b.charged = cost
}

// Copy returns a batch of the given kind that holds a copy of frames.
func (p *Pool) Copy(kind BatchKind, frames []byte, of *Share) *Batch {
	b := p.Get(len(frames), of)
	b.B = append(b.B, frames...)
	b.Kind = kind
	p.copied.Add(uint64(len(frames)))
	return b
}

// Encode returns a control batch that holds one frame, or why the frame does not fit.
func (p *Pool) Encode(c codec.Control, of *Share) (*Batch, error) {
	b := p.Get(classSizes[0], of)
	var err error
	if b.B, err = c.Append(b.B); err != nil {
		b.Release()
		return nil, err
	}
	b.charge(b.cost()) // it may have outgrown its buffer
	return b, nil
}

// encodeOwn is Encode for a frame that a room makes of its own state. All of that was checked when it came in, so that
// a frame that does not fit is a broken invariant.
func (p *Pool) encodeOwn(c codec.Control, of *Share) *Batch {
	b, err := p.Encode(c, of)
	if err != nil {
		panic("room: " + err.Error())
	}
	return b
}

// Copied returns how many bytes Copy has copied.
func (p *Pool) Copied() uint64 { return p.copied.Load() }

// Outstanding returns the number of batches that somebody still refers to.
func (p *Pool) Outstanding() int64 { return p.count.Load() }

// Retain adds a reference and returns b.
func (b *Batch) Retain() *Batch {
	if b.refs.Add(1) <= 1 {
		panic("room: retain of a released batch")
	}
	return b
}

// Release drops a reference; the last one returns the buffer to the pool.
func (b *Batch) Release() {
	n := b.refs.Add(-1)
	if n > 0 {
		return
	}
	if n < 0 {
		panic("room: batch released too often")
	}
	p := b.pool
	b.charge(0)
	p.count.Add(-1)
	if b.buf != nil {
		// B may have outgrown the buffer it started in; what goes back is the larger one, in the class it now belongs to.
		// It goes back at its full length: bytebufferpool learns from the lengths what is worth keeping, and keeps nothing
		// in a pool that has seen only empty buffers.
		if c := classOf(cap(b.B)); c >= 0 {
			b.buf.B = b.B[:cap(b.B)]
			p.classes[c].Put(b.buf)
		}
	}
	b.B, b.buf, b.stream, b.share, b.aloft = nil, nil, nil, nil, false
	b.Key, b.First, b.Last, b.At, b.Kind, b.Keyed = codec.StreamKey{}, 0, 0, 0, KindControl, false
	p.structs.Put(b)
}

// reason returns why the frames of a gap are missing.
func (b *Batch) reason() codec.GapReason { return codec.GapReason(b.B[len(b.B)-1]) } // a gap frame ends with it

// Taken is called by an outlet that has put the batch into its subscribers' queues or sockets. When the last outlet
// has, the frames count as arrived, and the publisher may forget them (but for lossless rooms, where subscribers say
// so).
//
// A loop whose outlet went away may be late with what was posted before, so batches of a stream may count out of order.
func (b *Batch) Taken() {
	if b.stream != nil && b.outlets.Add(-1) == 0 {
		b.stream.pub.room.kind.taken(b.stream, b)
	}
}

// cost is what the batch counts for in the bounds on memory.
func (b *Batch) cost() int { return cap(b.B) + batchOverhead }
