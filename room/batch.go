package room

import (
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"

	"github.com/timedge/timedge/codec"
)

// Batch is one or more whole frames in a pooled buffer, shared by reference between a stream's log, the loops' mailboxes
// and the queues of subscribers. Its bytes never change once it is shared.
//
// Every holder has one reference: Retain before handing on, Release when done. Below zero panics.
type Batch struct {
	// Fixed before the batch is shared.
	B           []byte // the frames as they go to the socket
	Key         codec.StreamKey
	First, Last uint64    // sequence numbers, both included; zero for frames about the room
	Kind        BatchKind // what the frames are
	Keyed       bool      // the stream has key frames, and the room's policy goes by them
	stream      *stream   // told when every outlet has taken the batch; may be nil
	aloft       bool      // and its stream's flight waits for that: somebody has a seat
	buf         *bytebufferpool.ByteBuffer
	pool        *Pool
	charged     int64 // what the pool counts as alive for it

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

// batchOverhead is what a batch costs beside its buffer, for the bounds on memory: the struct and its entry in a log.
const batchOverhead = 192

// Pool hands out batches. The zero value is ready to use.
//
// Buffers come from one bytebufferpool per size class, so that a small frame that is kept for long does not hold a large
// buffer.
type Pool struct {
	classes [len(classSizes)]bytebufferpool.Pool
	structs sync.Pool
	alive   atomic.Int64
	count   atomic.Int64
	copied  atomic.Uint64
}

var classSizes = [...]int{128, 512, 2 << 10, 8 << 10, 32 << 10, 128 << 10, 1 << 20}

func classOf(n int) int {
	for i, s := range classSizes {
		if n <= s {
			return i
		}
	}
	return -1
}

// Get returns an empty batch with one reference and room for n bytes to be appended to B.
func (p *Pool) Get(n int) *Batch {
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
	b.charge()
	return b
}

// charge counts the batch as it is now.
func (b *Batch) charge() {
	c := int64(b.cost())
	b.pool.alive.Add(c - b.charged)
	b.charged = c
}

// Copy returns a batch of the given kind that holds a copy of frames.
func (p *Pool) Copy(kind BatchKind, frames []byte) *Batch {
	b := p.Get(len(frames))
	b.B = append(b.B, frames...)
	b.Kind = kind
	p.copied.Add(uint64(len(frames)))
	return b
}

// Encode returns a control batch that holds one frame, or why the frame does not fit.
func (p *Pool) Encode(c codec.Control) (*Batch, error) {
	b := p.Get(classSizes[0])
	var err error
	if b.B, err = c.Append(b.B); err != nil {
		b.Release()
		return nil, err
	}
	b.charge() // it may have outgrown its buffer
	return b, nil
}

// encodeOwn is Encode for a frame that a room makes of its own state. All of that was checked when it came in, so that a frame that does not
// fit is a broken invariant.
func (p *Pool) encodeOwn(c codec.Control) *Batch {
	b, err := p.Encode(c)
	if err != nil {
		panic("room: " + err.Error())
	}
	return b
}

// Alive returns the bytes held by batches that somebody still refers to.
func (p *Pool) Alive() int64 { return p.alive.Load() }

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
	p.alive.Add(-b.charged)
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
	b.B, b.buf, b.stream, b.charged, b.aloft = nil, nil, nil, 0, false
	b.Key, b.First, b.Last, b.Kind, b.Keyed = codec.StreamKey{}, 0, 0, KindControl, false
	p.structs.Put(b)
}

// reason returns why the frames of a gap are missing.
func (b *Batch) reason() codec.GapReason { return codec.GapReason(b.B[len(b.B)-1]) } // a gap frame ends with it

// Taken is called by an outlet that has put the batch into its subscribers' queues or sockets. When the last outlet has,
// the frames count as arrived, and the publisher may forget them (but for lossless rooms, where subscribers say so).
//
// A loop whose outlet went away may be late with what was posted before, so batches of a stream may count out of order.
func (b *Batch) Taken() {
	if b.stream != nil && b.outlets.Add(-1) == 0 {
		b.stream.taken(b)
	}
}

// cost is what the batch counts for in the bounds on memory.
func (b *Batch) cost() int { return cap(b.B) + batchOverhead }
