package client

import (
	"slices"
	"sync/atomic"

	"github.com/timedge/timedge/codec"
)

// assembly joins the pieces of messages, and bounds what is held of those that are not whole yet: a publisher may begin
// one in each of its streams, and a hostile one ends none of them. A subscription may hold share bytes, and all of a
// client together what the quota has, but for minShare each. Where that is too little, the publisher that holds the
// most loses its largest.
type assembly struct {
	quota *quota
	share int
	held  int         // bytes of memory, with spare and out
	open  []*inStream // those that hold some
	out   []byte      // of the message that the caller has
	spare []byte      // of a message before, for the next
}

// quota bounds what the assemblies of a client hold.
type quota struct {
	limit int64
	held  atomic.Int64
}

// minShare is what a subscription may hold even if others hold all that the client may: no room shuts the others out.
const minShare = 256 << 10

// maxSpare is how much memory is kept from message to message.
const maxSpare = 4 << 20

// add appends a piece to a stream's message, which grows to no more than most. If that is too much, it adds nothing and
// returns the stream whose message has to be dropped before.
func (a *assembly) add(st *inStream, piece []byte, most int) (victim *inStream) {
	if a.out != nil {
		a.recycle(a.out)
		a.out = nil
	}
	need := len(st.join) + len(piece)
	if need <= cap(st.join) {
		st.join = append(st.join, piece...)
		return nil
	}
	if st.join == nil && cap(a.spare) >= need {
		st.join, a.spare = append(a.spare[:0], piece...), nil
		a.open = append(a.open, st)
		return nil
	}
	size := min(max(need+need/2, codec.MaxFrame), max(most, need))
	for !a.reserve(size - cap(st.join)) {
		if a.spare == nil {
			return a.largest(st)
		}
		a.free(a.spare)
		a.spare = nil
	}
	if st.join == nil {
		a.open = append(a.open, st)
	}
	st.join = append(append(make([]byte, 0, size), st.join...), piece...)
	return nil
}

func (a *assembly) reserve(n int) bool {
	if a.held+n > a.share {
		return false
	}
	if a.quota.held.Add(int64(n)) > a.quota.limit && a.held+n > minShare {
		a.quota.held.Add(-int64(n))
		return false
	}
	a.held += n
	return true
}

func (a *assembly) free(b []byte) {
	a.held -= cap(b)
	a.quota.held.Add(-int64(cap(b)))
}

// recycle keeps memory for the next message, or frees it.
func (a *assembly) recycle(b []byte) {
	if cap(b) > maxSpare || cap(b) <= cap(a.spare) {
		a.free(b)
		return
	}
	if a.spare != nil {
		a.free(a.spare)
	}
	a.spare = b
}

// largest returns the largest message of the publisher that holds the most: st, which would hold more, if nobody does.
func (a *assembly) largest(st *inStream) *inStream {
	sums := make(map[*inPub]int)
	for _, x := range a.open {
		sums[x.pub] += cap(x.join)
	}
	victim := st
	for _, x := range a.open {
		if sums[x.pub] > sums[victim.pub] || x.pub == victim.pub && cap(x.join) > cap(victim.join) {
			victim = x
		}
	}
	return victim
}

// finish hands a stream's message, which is whole, to the caller, until the next call of add.
func (a *assembly) finish(st *inStream) {
	if st.join != nil {
		a.close(st)
		a.out, st.join = st.join, nil
	}
}

// release drops what a stream holds.
func (a *assembly) release(st *inStream) {
	if st.join != nil {
		a.close(st)
		a.recycle(st.join)
		st.join = nil
	}
}

func (a *assembly) close(st *inStream) {
	i := slices.Index(a.open, st)
	a.open[i] = a.open[len(a.open)-1]
	a.open[len(a.open)-1] = nil
	a.open = a.open[:len(a.open)-1]
}

// end drops all, which the caller may still look at.
func (a *assembly) end() {
	for _, st := range a.open {
		st.join = nil
	}
	a.quota.held.Add(-int64(a.held))
	a.held, a.open, a.out, a.spare = 0, nil, nil, nil
}
