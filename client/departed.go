package client

import (
	"slices"

	"github.com/timedge/timedge/codec"
)

// departed is where the streams of a publisher that left a lossless room ended.
type departed struct {
	pub     uint16
	account string
	streams []*inStream
}

// had returns the stream of a frame that was there before the publisher left, nil if it was not. A node that has not
// heard of that yet, or a relay that took over, may tell of it once more.
func (d *departed) had(key codec.StreamKey, seq uint64) *inStream {
	for _, st := range d.streams {
		if st.key == key && seq < st.expected {
			return st
		}
	}
	return nil
}

// misses reports whether a gap tells of frames that had not come before the publisher left: it is there, then, and they
// will not come. One up to the highest number there is says only that nobody knows where a stream ended.
func (d *departed) misses(gap []byte) bool {
	last := lastSeq(gap)
	return last != codec.MaxSeq && d.had(streamOf(gap), last) == nil
}

// again acknowledges a frame of n bytes that had come before: what the server has sent, though more was consumed.
func (in *inbound) again(st *inStream, seq uint64, n int) {
	st.consumed = seq
	in.owed += n
	in.mark(st)
}

// back takes a publisher that had left for one that is there: something comes of it that had not come before.
func (in *inbound) back(i int) *Joined {
	d := in.departed[i]
	in.departed = slices.Delete(in.departed, i, i+1)
	p := in.publisher(d.pub)
	p.account, p.joined, p.streams = d.account, true, d.streams
	for _, st := range d.streams {
		st.consumed, st.had = st.expected-1, st.expected-1
		st.pub, st.first, st.skip = p, 0, true // that the rest of a message does not come has been told
		in.streams[st.key] = st
	}
	return &Joined{in.room, d.pub, d.account, false}
}

// maxDeparted is how many publishers that left are remembered.
const maxDeparted = 64

// forget drops the streams of a publisher that left: the number means nobody now. In a lossless room the server may not
// have heard yet that all was consumed, and would send it again after a reconnection: until others have left, too,
// their ends are remembered.
func (in *inbound) forget(pub uint16, p *inPub) {
	delete(in.pubs, pub)
	gone := departed{pub: pub, account: p.account}
	for _, st := range p.streams {
		gone.streams = append(gone.streams, st)
		in.join.release(st)
		delete(in.streams, st.key)
	}
	in.last = nil
	if in.lossless && len(gone.streams) > 0 {
		if len(in.departed) == maxDeparted {
			in.departed = slices.Delete(in.departed, 0, 1)
		}
		in.departed = append(in.departed, gone)
	}
}

// leftAs returns the place of a publisher among those that have left, -1 if it has none.
func (in *inbound) leftAs(pub uint16) int {
	for i := range in.departed {
		if in.departed[i].pub == pub {
			return i
		}
	}
	return -1
}
