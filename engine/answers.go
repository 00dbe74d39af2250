package engine

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What a session is told beside frames of its rooms: answers to what is being read, and what comes up at other times.

// send answers the session that is being read: the frames go out together when its read is done.
func (s *session) send(c codec.Control) {
	var err error
	if s.loop.out, err = c.Append(s.loop.out); err != nil {
		s.unsendable(c, err)
	}
}

// unsendable follows a frame that does not fit its layout, which is a fault of this server's: all that comes from
// outside is bounded where it is parsed. The answer of a request becomes a refusal; without any other frame the session
// would go wrong, and ends.
func (s *session) unsendable(c codec.Control, err error) {
	s.loop.eng.log.Error().Uint64("conn_id", s.id).Str("account", s.account()).Err(err).Msg("a frame could not be sent")
	if req, is := answerOf(c); is {
		s.reply(&codec.Refused{Req: req, Code: codec.CodeInternal, Text: "the answer does not fit into a frame"})
		return
	}
	s.loop.post(item{kind: itemDo, do: func() {
		if !s.closed && !s.closing && !s.doomed {
			s.fail(codec.CodeInternal, "a frame for this session does not fit its layout")
		}
	}})
}

// sendOut writes the answers collected by send.
func (s *session) sendOut() {
	l := s.loop
	if len(l.out) == 0 {
		return
	}
	defer func() { l.out = l.out[:0] }()
	if s.closed {
		return
	}
	n := 0
	if s.q == nil {
		var err error
		if n, err = s.write(l.out); n == len(l.out) {
			return
		} else if err != nil && !again(err) {
			s.doom()
			return
		}
		s.block()
	}
	b := l.eng.pool.Copy(room.KindControl, l.out[n:], s.share)
	s.needQueue().Append(b, 0, len(b.B), l.now)
	b.Release()
	s.mark()
}

// waits reports whether something waits for the session's socket.
func (s *session) waits() bool { return s.q != nil && (s.blocked || !s.q.Empty()) }

// queueControl queues a frame outside of a read; it goes out at the end of the drain.
func (s *session) queueControl(c codec.Control) {
	if s.closed || s.doomed || s.closing {
		return
	}
	b, err := s.loop.eng.pool.Encode(c, s.share)
	if err != nil {
		s.unsendable(c, err)
		return
	}
	s.needQueue().Append(b, 0, len(b.B), s.loop.now)
	b.Release()
	s.mark()
}

// queueBatch queues a batch that no policy touches, and takes the caller's reference.
func (s *session) queueBatch(b *room.Batch) {
	if !s.closed && !s.doomed && !s.closing {
		s.needQueue().Append(b, 0, len(b.B), s.loop.now)
		s.mark()
	}
	b.Release()
}

func (s *session) needQueue() *room.Queue {
	if s.q == nil {
		s.q = s.loop.queue()
		s.q.Own(s.share)
		s.q.SetChunk(s.unsent())
	}
	return s.q
}

// mark puts the session on the list of those to be written at the end of the drain.
func (s *session) mark() {
	if !s.dirty && !s.blocked && !s.closed {
		s.dirty = true
		s.loop.dirty = append(s.loop.dirty, s)
	}
}
