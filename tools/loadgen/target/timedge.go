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
	out := appendHello(nil, s.account)
	for i := range p.Rooms {
		m := codec.Register{Req: uint32(i + 1), Policy: p.Policy, QueueBytes: p.QueueBytes, QueueMillis: p.QueueMillis}
		out = m.Append(out)
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

func appendHello(dst []byte, account string) []byte {
	var instance [8]byte
	_, _ = rand.Read(instance[:]) // never fails
	dst = codec.AppendClientPreface(dst, codec.VersionMin, codec.VersionMax)
	return (&codec.Hello{Account: account, Instance: binary.BigEndian.Uint64(instance[:])}).Append(dst)
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
	account string
	greeted bool // the server's preface has come
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
		return (&codec.Pong{Echo: m.Echo}).Append(reply), nil
	case codec.TypeError:
		var m codec.Error
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, fmt.Errorf("server: %s %s", m.Code, m.Text)
	case codec.TypeRefused:
		var m codec.Refused
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, fmt.Errorf("refused: %s %s", m.Code, m.Text)
	case codec.TypeClosed:
		var m codec.Closed
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, &ClosedError{m.Code}
	case codec.TypePushRefused:
		var m codec.PushRefused
		if err := m.Parse(frame); err != nil {
			return reply, err
		}
		return reply, fmt.Errorf("push refused: %s, %d frames", m.Code, m.Frames)
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

func (w *timedgeSub) Open(dst []byte) []byte {
	return (&codec.Subscribe{Req: 1, Room: w.room}).Append(appendHello(dst, w.account))
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
			w.window, w.acked = m.Window, make(map[verify.Key]uint64)
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
			reply = (&codec.Ack{Room: codec.RoomID(k.Room), StreamKey: codec.StreamKey{Pub: k.Pub, Dtype: k.Dtype}, Seq: seq}).Append(reply)
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
		w.rooms[id].streams[st.Dtype] = new(unacked)
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
}

// publishing is a publisher's part in one room: its number and its window.
type publishing struct {
	id      codec.RoomID
	pub     uint16
	window  int // bytes of frames that may be unacknowledged
	used    int // bytes that are
	streams map[uint8]*unacked
}

// unacked is what has been sent on a stream and not been acknowledged: the size of each frame, from frame first on.
type unacked struct {
	first uint64
	sizes []int32 // a ring would save the occasional move
}

func (w *timedgePub) Open(dst []byte) []byte {
	dst = appendHello(dst, w.account)
	for i, p := range w.order {
		dst = (&codec.Publish{Req: uint32(i + 1), Room: p.id}).Append(dst)
	}
	return dst
}

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
			err = w.published(frame)
		default:
			reply, err = common(frame, typ, reply)
		}
		if err != nil {
			return n, reply, err
		}
		n += len(frame)
	}
}

func (w *timedgePub) published(frame []byte) error {
	var m codec.Published
	if err := m.Parse(frame); err != nil {
		return err
	}
	if m.Req == 0 || int(m.Req) > len(w.order) {
		return errors.New("answer to a request never made")
	}
	p := w.order[m.Req-1]
	p.pub, p.window = m.Pub, int(m.Window)
	w.ready++
	return nil
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
	n := 0
	for n < len(u.sizes) && u.first+uint64(n) <= seq {
		bytes += int(u.sizes[n])
		n++
	}
	u.first += uint64(n)
	u.sizes = u.sizes[:copy(u.sizes, u.sizes[n:])]
	return bytes
}

func (w *timedgePub) Append(dst []byte, m *Message) ([]byte, bool) {
	p := w.rooms[w.ids[m.Stream.Room]]
	u := p.streams[m.Stream.Dtype]
	for m.Sent < m.Size {
		n := min(m.Size-m.Sent, codec.MaxPiece)
		size := n + codec.StreamHeaderSize
		if p.used+size > p.window && p.used > 0 {
			return dst, false
		}
		if len(u.sizes) == 0 {
			u.first = m.Stream.Seq + 1
		}
		dst = appendPiece(dst, m, p.id, p.pub, n)
		u.sizes = append(u.sizes, int32(size))
		p.used += size
	}
	return dst, true
}
