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
