package engine

import (
	"github.com/timedge/timedge/room"
)

// outbound is a publisher of a room that another node relays, and what the cluster goroutine knows of it.
type outbound struct {
	*room.Outbound
	asked *session // the link on which the relay was asked to take the publisher; nil: ask
	since int64    // when its session left, as far as the cluster has noticed; 0: it has one
	via   *link    // the link that pushes into it: another node's, which does not reach the relay itself; nil: a client does
}

// Forward implements room.Way: the session of a link.
func (s *session) Forward(b *room.Batch, first, last uint64) {
	if b.Kind == room.KindStream {
		s.loop.stats.linkFramesOut.Add(last - first + 1)
		s.loop.stats.linkBytesOut.Add(uint64(len(b.B)))
	}
	s.post(b.Retain())
}

// post hands a batch with one reference to the session's loop, to be sent. Any goroutine.
func (s *session) post(b *room.Batch) { s.loop.post(item{kind: itemSend, sess: s, batch: b}) }
