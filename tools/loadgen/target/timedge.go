package target

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// timedge speaks codec/PROTOCOL.md. All its connections log in to the account that owns the rooms; every publishing
// connection is an instance, and so a publisher, of its own.
type timedge struct {
	account string
	rooms   []codec.RoomID
}

func (*timedge) Name() string { return "timedge" }

func (*timedge) Caps() Caps {
	return Caps{Announces: true, Rooms: true, LateJoin: true, Piece: codec.MaxPiece,
		Policies: []codec.Policy{codec.PolicyLatest, codec.PolicyDisconnect, codec.PolicyLossless}}
}

func (s *timedge) IDs() []uint64 {
	ids := make([]uint64, len(s.rooms))
	for i, r := range s.rooms {
		ids[i] = uint64(r)
	}
	return ids
}

func (s *timedge) Prepare(ctx context.Context, p Plan) error {
	s.account = p.Account
	for _, id := range p.IDs {
		s.rooms = append(s.rooms, codec.RoomID(id))
	}
	if len(s.rooms) > 0 {
		return nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	} else {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	out := appendHello(nil, s.account, newInstance())
	for i := range p.Rooms {
		m := codec.Register{Req: uint32(i + 1), Policy: p.Policy, QueueBytes: p.QueueBytes, QueueMillis: p.QueueMillis}
		out = enc(m.Append(out))
	}
	// The requests are written beside the reading, since the answers to very many of them fill the sockets.
	written := make(chan error, 1)
	go func() { _, err := conn.Write(out); written <- err }()
	s.rooms = make([]codec.RoomID, p.Rooms)
	if err := s.readRooms(bufio.NewReader(conn)); err != nil {
		return fmt.Errorf("registering %d rooms: %w", p.Rooms, err)
	}
	return <-written
}

// readRooms reads the server's preface and the answers to all registrations.
func (s *timedge) readRooms(r *bufio.Reader) error {
	var preface [codec.PrefaceSize]byte
	if _, err := io.ReadFull(r, preface[:]); err != nil {
		return err
	}
	if err := checkPreface(preface[:]); err != nil {
		return err
	}
	for left := len(s.rooms); left > 0; {
		var length [codec.LengthSize]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return err
		}
		frame := make([]byte, codec.LengthSize+int(binary.BigEndian.Uint16(length[:])))
		copy(frame, length[:])
		if _, err := io.ReadFull(r, frame[codec.LengthSize:]); err != nil {
			return err
		}
		m, err := codec.ParseControl(frame)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *codec.Registered:
			if m.Req == 0 || int(m.Req) > len(s.rooms) {
				return errors.New("answer to a request never made")
			}
			s.rooms[m.Req-1] = m.Room
			left--
		case *codec.Refused:
			return fmt.Errorf("refused: %s %s", m.Code, m.Text)
		case *codec.Error:
			return fmt.Errorf("error: %s %s", m.Code, m.Text)
		}
	}
	return nil
}

// newInstance draws what a connection and those that take its place are known by.
func newInstance() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

func appendHello(dst []byte, account string, instance uint64) []byte {
	dst = codec.AppendClientPreface(dst, codec.VersionMin, codec.VersionMax)
	return enc((&codec.Hello{Account: account, Instance: instance}).Append(dst))
}

func checkPreface(b []byte) error {
	p, err := codec.ParsePreface(b)
	if err != nil {
		return err
	}
	if p.A == 0 {
		return fmt.Errorf("server speaks versions %d to %d", p.B, p.C)
	}
	return nil
}

// session is what publishers and subscribers have in common.
type session struct {
	account  string
	instance uint64 // the same over all connections; 0 before the first
	greeted  bool   // the server's preface has come
}

func (s *session) hello(dst []byte) []byte {
	if s.instance == 0 {
		s.instance = newInstance()
	}
	return appendHello(dst, s.account, s.instance)
}

// Ping implements Resumer.
func (*session) Ping(dst []byte) []byte { return enc((&codec.Ping{Echo: 1}).Append(dst)) }

// verdict is the error that the server's word makes: for good, or until another connection is tried.
func verdict(what string, code codec.Code, text string) error {
	text = fmt.Sprintf("%s: %s %s", what, code, text)
	if code.Retry() || code == codec.CodeSilent {
		return &AgainError{text}
	}
	return errors.New(text)
}

// preface takes the server's preface off b.
func (s *session) preface(b []byte) (n int, err error) {
	if s.greeted {
		return 0, nil
	}
	if len(b) < codec.PrefaceSize {
		return 0, nil
	}
	s.greeted = true
	return codec.PrefaceSize, checkPreface(b[:codec.PrefaceSize])
}

// common handles the frames that mean the same to both.
func common(frame []byte, typ byte, reply []byte) ([]byte, error) {
	switch typ {
	case codec.TypePing:
		var m codec.Ping
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return enc((&codec.Pong{Echo: m.Echo}).Append(reply)), nil
	case codec.TypeError:
		var m codec.Error
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, verdict("server", m.Code, m.Text)
	case codec.TypeRefused:
		var m codec.Refused
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, verdict("refused", m.Code, m.Text)
	case codec.TypeClosed:
		var m codec.Closed
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, &ClosedError{m.Code}
	case codec.TypeWelcome, codec.TypeJoined, codec.TypeLeft, codec.TypePong, codec.TypeCount, codec.TypeOK, codec.TypeGoAway:
		return reply, nil
	}
	return reply, fmt.Errorf("unexpected frame of type 0x%02x", typ)
}

func (s *timedge) Subscriber(room int, t *verify.Tracker) Subscriber {
	return &timedgeSub{session: session{account: s.account}, room: s.rooms[room], frames: frames{t}}
}

// timedgeSub is a subscriber's connection. In a lossless room it acknowledges what it has taken.
type timedgeSub struct {
	session
	frames
	room   codec.RoomID
	ready  bool
	window uint32 // lossless rooms only: bytes of the publisher's window

	unacked int // bytes taken since the last acknowledgement
	acked   map[verify.Key]uint64
}

// Open subscribes to what comes after what the tracker has seen.
func (w *timedgeSub) Open(dst []byte) []byte {
	m := codec.Subscribe{Req: 1, Room: w.room}
	w.t.Positions(func(k verify.Key, last uint64, gapped bool) {
		if len(m.Have) == codec.MaxPositions {
			return // of a stream that is not named the server tells a gap, which counts
		}
		if gapped && w.window == 0 {
			m.Gapped = append(m.Gapped, uint32(len(m.Have)))
		}
		m.Have = append(m.Have, codec.Position{StreamKey: codec.StreamKey{Pub: k.Pub, Dtype: k.Dtype}, Last: last})
	})
	return enc(m.Append(w.hello(dst)))
}

// Lost implements Resumer.
func (w *timedgeSub) Lost() {
	w.greeted, w.ready, w.unacked = false, false, 0
	w.t.Interrupt()
}

func (w *timedgeSub) Ready() bool { return w.ready }

func (w *timedgeSub) Scan(b, reply []byte) (n int, out []byte, err error) {
	if n, err = w.preface(b); err != nil || !w.greeted {
		return n, reply, err
	}
	k, err := w.scan(b[n:], func(frame []byte, typ byte) (err error) {
		reply, err = w.control(frame, typ, reply)
		return err
	})
	if w.window > 0 {
		// Acknowledge well before a quarter of the window, however the reads fall.
		if w.unacked += k; w.unacked >= int(w.window)/8 {
			reply = w.Tick(reply)
		}
	}
	return n + k, reply, err
}

func (w *timedgeSub) control(frame []byte, typ byte, reply []byte) ([]byte, error) {
	switch typ {
	case codec.TypeGap:
		var m codec.Gap
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		w.t.Gap(verify.Key{Room: uint64(m.Room), Pub: m.Pub, Dtype: m.Dtype}, m.From, m.To, m.Reason)
		return reply, nil
	case codec.TypeSubscribed:
		var m codec.Subscribed
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		w.ready = true
		if m.Policy == codec.PolicyLossless {
			w.window, w.acked = m.Window, make(map[verify.Key]uint64) // anew: acknowledgements may be lost with a connection
		}
		return reply, nil
	}
	return common(frame, typ, reply)
}

// Tick acknowledges what has come since the last time.
func (w *timedgeSub) Tick(reply []byte) []byte {
	if w.unacked == 0 || w.window == 0 {
		return reply
	}
	w.unacked = 0
	w.t.Streams(func(k verify.Key, _ uint32, next uint64) {
		// A frame whose payload is still coming has not been taken.
		if w.t.Left() > 0 && w.t.Current() == k {
			next--
		}
		if seq := next - 1; seq > w.acked[k] {
			w.acked[k] = seq
			reply = enc((&codec.Ack{Room: codec.RoomID(k.Room), StreamKey: codec.StreamKey{Pub: k.Pub, Dtype: k.Dtype}, Seq: seq}).Append(reply))
		}
	})
	return reply
}

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
