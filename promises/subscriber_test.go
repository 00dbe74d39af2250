package promises

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// subscriber reads a subscription of the model's test and holds it against the model, until it ends.
type subscriber struct {
	room    *refRoom
	name    string
	src     source
	link    *link // that may be broken; nil: none
	shared  bool  // with its account's other work: it must not stall
	stalled bool  // the driver's own
	gone    bool  // the driver has ended it
	broke   atomic.Bool
	tracker *tracker
	gate    gate
	done    chan struct{}
	fault   error // when done
}

// source is where events come from: the SDK, or bare frames.
type source interface {
	next(ctx context.Context) (client.Event, error)
	leave(ctx context.Context) error // unsubscribes; next then returns CodeLeft
}

func (s *subscriber) run(ctx context.Context) {
	defer close(s.done)
	for s.fault == nil {
		s.gate.pass()
		e, err := s.src.next(ctx)
		closed, isClosed := errors.AsType[*client.ClosedError](err)
		switch {
		case isClosed && closed.Code == codec.CodeLeft:
			return
		case isClosed:
			s.fault = s.tracker.end(closed.Code, s.broke.Load())
			return
		case err != nil:
			s.fault = err
		default:
			s.fault = s.tracker.take(e)
		}
	}
}

// gate holds a goroutine up while it is shut.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && g.shut != nil:
		close(g.shut)
		g.shut = nil
	case !open && g.shut == nil:
		g.shut = make(chan struct{})
	}
}

// sdkSource is a subscription of the SDK.
type sdkSource struct {
	c   *client.Client
	sub *client.Subscription
}

func (s *sdkSource) next(ctx context.Context) (client.Event, error) { return s.sub.Next(ctx) }

func (s *sdkSource) leave(ctx context.Context) error { return s.c.Unsubscribe(ctx, s.sub.Room()) }

// wireSource is a subscription in bare frames. It checks each frame, where the SDK shows whole messages.
type wireSource struct {
	w       *wire
	room    codec.RoomID
	policy  codec.Policy
	names   map[uint16]string
	streams map[codec.StreamKey]*assembly
	ack     []byte // of the message handed out
}

// assembly puts a stream's messages together.
type assembly struct {
	next  uint64
	first uint64 // of the message begun; 0: none
	flags codec.Flags
	body  []byte
}

func (s *wireSource) leave(context.Context) error {
	s.w.req++
	m := new(codec.Unsubscribe)
	m.Req, m.Room = s.w.req, s.room
	_, err := s.w.c.Write(enc(m.Append(nil)))
	return err
}

func (s *wireSource) next(context.Context) (client.Event, error) {
	for {
		if len(s.ack) > 0 {
			if _, err := s.w.c.Write(s.ack); err != nil {
				return nil, err
			}
			s.ack = s.ack[:0]
		}
		x, err := s.w.next()
		if err != nil {
			return nil, err
		}
		switch m := x.(type) {
		case *codec.Joined:
			s.names[m.Pub] = m.Account
			return &client.Joined{Room: m.Room, Pub: m.Pub, Account: m.Account}, nil
		case *codec.Left:
			return &client.Left{Room: m.Room, Pub: m.Pub, Account: s.names[m.Pub], Code: m.Code}, nil
		case *codec.Closed:
			return nil, &client.ClosedError{Room: m.Room, Code: m.Code}
		case *codec.OK:
			return nil, &client.ClosedError{Room: s.room, Code: codec.CodeLeft}
		case *codec.Refused: // unsubscribe has crossed the end
			return nil, &client.ClosedError{Room: s.room, Code: codec.CodeLeft}
		case *codec.Gap:
			a := s.stream(m.StreamKey)
			if m.From != a.next {
				return nil, fmt.Errorf("gap %d to %d, expected frame %d", m.From, m.To, a.next)
			}
			e := &client.Gap{
				Room: m.Room, Publisher: s.names[m.Pub], Pub: m.Pub, Dtype: m.Dtype, From: m.From, To: m.To,
				Reason: m.Reason, Interrupted: a.first,
			}
			a.next, a.first = m.To+1, 0
			s.consumed(m.StreamKey, m.To)
			return e, nil
		case *codec.Stream:
			if e, err := s.piece(m); e != nil || err != nil {
				return e, err
			}
		}
	}
}

func (s *wireSource) piece(m *codec.Stream) (client.Event, error) {
	a := s.stream(m.StreamKey)
	if m.Seq != a.next || m.Flags.Start() == (a.first != 0) {
		return nil, fmt.Errorf("frame %d with flags %#x, expected %d of a message that began at %d", m.Seq, m.Flags, a.next, a.first)
	}
	a.next++
	if m.Flags.Start() {
		a.first, a.flags, a.body = m.Seq, m.Flags, nil
	} else if kinds := codec.FlagKey | codec.FlagInit; (m.Flags^a.flags)&kinds != 0 {
		return nil, fmt.Errorf("frame %d with flags %#x within a message of %#x", m.Seq, m.Flags, a.flags)
	}
	a.body = append(a.body, m.Payload...)
	s.consumed(m.StreamKey, m.Seq)
	if !m.Flags.End() {
		return nil, nil
	}
	e := &client.Message{
		Room: m.Room, Publisher: s.names[m.Pub], Pub: m.Pub, Dtype: m.Dtype, First: a.first, Last: m.Seq, Payload: a.body,
	}
	switch {
	case m.Flags&codec.FlagInit != 0:
		e.Kind = client.Init
	case m.Flags&codec.FlagKey != 0:
		e.Kind = client.Key
	}
	a.first = 0
	return e, nil
}

func (s *wireSource) stream(key codec.StreamKey) *assembly {
	a := s.streams[key]
	if a == nil {
		a = &assembly{next: 1}
		s.streams[key] = a
	}
	return a
}

// consumed acknowledges before the next read.
func (s *wireSource) consumed(key codec.StreamKey, seq uint64) {
	if s.policy == codec.PolicyLossless {
		s.ack = enc((&codec.Ack{Room: s.room, StreamKey: key, Seq: seq}).Append(s.ack))
	}
}

// link is how a client reaches the server. It breaks on request, and it listens for the numbers that the client
// publishes under.
type link struct {
	mu   sync.Mutex
	conn *net.TCPConn
	nums map[codec.RoomID]uint16
}

// receiveBuffer is small, so that a stalled reader is felt soon, and as large as a segment on the loopback interface:
// below that the kernel delays what it sends.
const receiveBuffer = 64 << 10

// dial is for client.Options.
func (l *link) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = tcp
	if l.nums == nil {
		_ = tcp.SetReadBuffer(receiveBuffer)
		return tcp, nil
	}
	return &listening{TCPConn: tcp, link: l}, nil
}

// cut breaks the connection, with a reset or politely.
func (l *link) cut(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reset {
		_ = l.conn.SetLinger(0)
	}
	l.conn.Close()
}

func (l *link) num(room codec.RoomID) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nums[room]
}

// listening is a connection that is listened to.
type listening struct {
	*net.TCPConn
	link    *link
	buf     []byte
	preface bool
}

func (c *listening) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.buf = append(c.buf, b[:n]...)
	if !c.preface && len(c.buf) >= codec.PrefaceSize {
		c.buf, c.preface = c.buf[codec.PrefaceSize:], true
	}
	for c.preface {
		frame, typ, err := codec.Next(c.buf, codec.MaxFrame)
		if err != nil {
			break
		}
		c.buf = c.buf[len(frame):]
		var m codec.Published
		if typ == codec.TypePublished && m.Parse(frame) == nil {
			c.link.mu.Lock()
			c.link.nums[m.Room] = m.Pub
			c.link.mu.Unlock()
		}
	}
	return n, err
}
