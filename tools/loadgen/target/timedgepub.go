package target

import (
	"errors"
	"fmt"

	"github.com/timedge/timedge/codec"
)

func (s *timedge) Publisher(streams []*Stream) Publisher {
	w := &timedgePub{session: session{account: s.account}, ids: s.rooms, rooms: make(map[codec.RoomID]*publishing)}
	for _, st := range streams {
		id := s.rooms[st.Room]
		if w.rooms[id] == nil {
			p := &publishing{id: id, streams: make(map[uint8]*unacked)}
			w.rooms[id], w.order = p, append(w.order, p)
		}
		w.rooms[id].streams[st.Dtype] = &unacked{first: 1, stream: st}
	}
	return w
}

// timedgePub is a publisher's connection, which may publish into several rooms.
type timedgePub struct {
	session
	ids   []codec.RoomID // of all rooms of the run, by index
	rooms map[codec.RoomID]*publishing
	order []*publishing // by request number
	ready int           // of them

	replayed, moves uint64
}

// publishing is a publisher's part in one room: its number and its window.
type publishing struct {
	id      codec.RoomID
	pub     uint16 // 0: not yet known
	live    bool   // the server has answered on this connection
	moved   bool   // the room has moved since it was made
	window  int    // bytes of frames that may be unacknowledged
	used    int    // bytes that are
	streams map[uint8]*unacked
}

// unacked is what has been sent on a stream and not been acknowledged, from frame first on, so that it can be sent
// again.
type unacked struct {
	first  uint64
	pieces []piece
	head   int // of pieces: those before are acknowledged
	stream *Stream
}

// piece is one frame: which part of which message.
type piece struct {
	due          int64
	off, n, size int32 // size is the message's
	flags        codec.Flags
}

func (w *timedgePub) Open(dst []byte) []byte {
	dst = w.hello(dst)
	for i, p := range w.order {
		dst = enc((&codec.Publish{Req: uint32(i + 1), Room: p.id}).Append(dst))
	}
	return dst
}

// Lost implements Resumer.
func (w *timedgePub) Lost() {
	w.greeted, w.ready = false, 0
	for _, p := range w.order {
		p.live, p.moved = false, false
	}
}

// Replayed implements Replayer.
func (w *timedgePub) Replayed() (frames, moves uint64) { return w.replayed, w.moves }

func (w *timedgePub) Ready() bool { return w.ready == len(w.order) }

func (w *timedgePub) Scan(b, reply []byte) (n int, out []byte, err error) {
	if n, err = w.preface(b); err != nil || !w.greeted {
		return n, reply, err
	}
	for {
		frame, typ, err := codec.Next(b[n:], codec.MaxFrame)
		if errors.Is(err, codec.ErrIncomplete) {
			return n, reply, nil
		}
		if err != nil {
			return n, reply, err
		}
		switch typ {
		case codec.TypeAck:
			err = w.ack(frame)
		case codec.TypePublished:
			reply, err = w.published(frame, reply)
		case codec.TypeClosed:
			reply, err = w.closed(frame, reply)
		case codec.TypePushRefused:
			err = w.refused(frame)
		default:
			reply, err = common(frame, typ, reply)
		}
		if err != nil {
			return n, reply, err
		}
		n += len(frame)
	}
}

// published takes the server's answer and sends again what is not acknowledged, from where the server says on.
func (w *timedgePub) published(frame, reply []byte) ([]byte, error) {
	var m codec.Published
	if err := m.Parse(frame); err != nil {
		return reply, err
	}
	if m.Req == 0 || int(m.Req) > len(w.order) {
		return reply, errors.New("answer to a request never made")
	}
	p := w.order[m.Req-1]
	if p.pub != 0 && p.pub != m.Pub {
		return reply, fmt.Errorf("published under the number %d, before under %d: the server has given the publisher up", m.Pub, p.pub)
	}
	p.pub, p.window, p.live = m.Pub, int(m.Window), true
	w.ready++
	for dtype, u := range p.streams {
		next := u.first // where a stream goes on that the server does not know
		for _, s := range m.Streams {
			if s.Dtype == dtype {
				next = s.Next
			}
		}
		end := u.first + uint64(len(u.pieces)-u.head)
		if next > end {
			return reply, fmt.Errorf("the server goes on with frame %d of a stream of %d frames", next, end-1)
		}
		if next < u.first { // it has forgotten what it acknowledged
			g := codec.Gap{Room: p.id, StreamKey: codec.StreamKey{Pub: p.pub, Dtype: dtype}, From: next, To: u.first - 1, Reason: codec.GapPublisher}
			reply, next = enc(g.Append(reply)), u.first
		}
		for ; next < end; next++ {
			reply = w.replay(reply, p, u, next)
		}
	}
	return reply, nil
}

// replay appends frame seq once more.
func (w *timedgePub) replay(dst []byte, p *publishing, u *unacked, seq uint64) []byte {
	w.replayed++
	x := u.pieces[u.head+int(seq-u.first)]
	st := *u.stream
	st.Seq = seq - 1
	m := Message{Stream: &st, Due: x.due, Flags: x.flags, Size: int(x.size), Sent: int(x.off)}
	return appendPiece(dst, &m, p.id, p.pub, int(x.n))
}

// closed publishes again in a room that has moved; every other end is for good.
func (w *timedgePub) closed(frame, reply []byte) ([]byte, error) {
	var m codec.Closed
	if err := m.Parse(frame); err != nil {
		return reply, err
	}
	p := w.rooms[m.Room]
	if m.Code != codec.CodeMoved || p == nil {
		return reply, &ClosedError{m.Code}
	}
	if !p.live {
		return reply, nil // asked already
	}
	p.live, p.moved = false, true
	w.ready--
	w.moves++
	for i := range w.order {
		if w.order[i] == p {
			reply = enc((&codec.Publish{Req: uint32(i + 1), Room: p.id}).Append(reply))
		}
	}
	return reply, nil
}

// refused takes a refusal of frames. Those that were on their way when a room moved are sent again anyhow.
func (w *timedgePub) refused(frame []byte) error {
	var m codec.PushRefused
	if err := m.Parse(frame); err != nil {
		return err
	}
	if p := w.rooms[m.Room]; p != nil && p.moved && m.Code == codec.CodeNotPublishing {
		return nil
	}
	err := verdict("push refused", m.Code, fmt.Sprintf("%d frames", m.Frames))
	if m.Code == codec.CodeSequence || m.Code == codec.CodeBadPieces {
		err = &AgainError{err.Error()} // it is brought in line by a new connection
	}
	return err
}

func (w *timedgePub) ack(frame []byte) error {
	var m codec.Ack
	if err := m.Parse(frame); err != nil {
		return err
	}
	if p := w.rooms[m.Room]; p != nil && m.Pub == p.pub {
		if u := p.streams[m.Dtype]; u != nil {
			p.used -= u.take(m.Seq)
			return nil
		}
	}
	return fmt.Errorf("acknowledgement of a stream never published: %v", m)
}

// take forgets the frames up to seq and returns their bytes.
func (u *unacked) take(seq uint64) (bytes int) {
	for u.head < len(u.pieces) && u.first <= seq {
		bytes += int(u.pieces[u.head].n) + codec.StreamHeaderSize
		u.head++
		u.first++
	}
	if u.head > len(u.pieces)/2 {
		u.pieces, u.head = u.pieces[:copy(u.pieces, u.pieces[u.head:])], 0
	}
	return bytes
}

func (w *timedgePub) Append(dst []byte, m *Message) ([]byte, bool) {
	p := w.rooms[w.ids[m.Stream.Room]]
	u := p.streams[m.Stream.Dtype]
	if !p.live {
		return dst, false
	}
	for m.Sent < m.Size {
		n := min(m.Size-m.Sent, codec.MaxPiece)
		size := n + codec.StreamHeaderSize
		if p.used+size > p.window && p.used > 0 {
			return dst, false
		}
		if len(u.pieces) == u.head {
			u.first = m.Stream.Seq + 1
		}
		u.pieces = append(u.pieces, piece{due: m.Due, off: int32(m.Sent), n: int32(n), size: int32(m.Size), flags: m.Flags})
		dst = appendPiece(dst, m, p.id, p.pub, n)
		p.used += size
	}
	return dst, true
}
