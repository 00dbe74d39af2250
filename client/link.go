package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/codec"
)

// link is one connection, from its welcome to its end. It has a reader and a writer goroutine; fail stops them, from
// any goroutine, and Client.run, which owns the link, joins them by wait.
type link struct {
	// Fixed after the handshake.
	c       *Client
	conn    net.Conn
	server  string
	first   bool // it is Dial that waits for the welcome
	welcome codec.Welcome
	rest    []byte // what came behind the welcome

	wake    chan struct{}      // holds a value when there may be something to write
	broken  chan struct{}      // closed by fail
	away    chan codec.GoAway  // the newest go-away
	expires chan time.Duration // the newest warning that the token ends
	done    sync.WaitGroup

	heard  atomic.Bool // something was read since the last tick
	paused atomic.Bool // the reader waits for a subscription's caller

	// Guarded by the client's mutex.
	err     error
	control []byte          // control frames to be sent next
	spare   []byte          // what the writer has sent last: control's next memory
	queued  uint64          // bytes ever added to control
	taken   uint64          // of these, bytes that the writer has taken
	late    []*Subscription // whose acknowledgements wait for control to be written
	pongDue bool            // one answer is enough for all pings that came since the last write
	pong    codec.Pong
	parting error // ends the link as soon as control is written

	// The writer's.
	vec  net.Buffers
	out  net.Buffers // what of vec is not written; consumed by the write
	held []*chunk    // that vec points into

	// The reader's.
	subs map[RoomID]*Subscription // that the server has confirmed on this connection
	ack  codec.Ack

	renewing bool // keepToken runs
}

// A write takes at most about maxBatch bytes of streams, so that what is pushed meanwhile gets its turn soon.
const (
	maxBatch = 128 << 10
	maxVec   = 256
)

// maxPayload returns the largest message that the server takes.
func (l *link) maxPayload() int {
	if l.welcome.MaxPayload == 0 || l.welcome.MaxPayload > 1<<31-1 {
		return codec.DefaultMaxPayload
	}
	return int(l.welcome.MaxPayload)
}

// largest returns the largest message that is taken from the server, whatever it says of itself.
func (l *link) largest() int { return min(l.maxPayload(), l.c.opts.MaxPayload) }

// open connects to a server and says hello, for the first time or again. It returns a *ConnectionError if the server
// answers with an error.
func (c *Client) open(ctx context.Context, server string, first bool) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.opts.connect(ctx, server)
	if err != nil {
		return nil, fmt.Errorf("client: connect to %s: %w", server, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	l := &link{
		c: c, conn: conn, server: server, first: first,
		wake: make(chan struct{}, 1), broken: make(chan struct{}),
		away: make(chan codec.GoAway, 1), expires: make(chan time.Duration, 1),
		subs: make(map[RoomID]*Subscription),
	}
	err = l.handshake(token)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil && !errors.As(err, new(*ConnectionError)) {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("client: connect to %s: %w", server, err)
	}
	limitUnsent(conn)
	l.first = false
	return l, nil
}

func (l *link) handshake(token []byte) error {
	hello := codec.Hello{Account: l.c.opts.Account, Token: token, Instance: l.c.instance, Caps: codec.CapToken}
	out := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	out, err := hello.Append(out)
	if err != nil {
		return err
	}
	if _, err := l.conn.Write(out); err != nil {
		// The server may have said why it does not listen.
		if final := l.readWelcome(); errors.As(final, new(*ConnectionError)) {
			return final
		}
		return err
	}
	return l.readWelcome()
}

func (l *link) readWelcome() error {
	buf := make([]byte, 0, 512)
	preface := false
	for {
		if !preface {
			p, err := codec.ParsePreface(buf)
			switch {
			case err == nil:
				buf, preface = buf[codec.PrefaceSize:], true
				if p.A != 0 && (p.A < codec.VersionMin || p.A > codec.VersionMax) {
					return &codec.ProtocolError{Code: codec.CodeVersion, Text: "the server chose a version that was not offered"}
				}
			case !errors.Is(err, codec.ErrIncomplete):
				return err
			}
		}
		if preface {
			frame, _, err := codec.Next(buf, codec.MaxFrame)
			switch {
			case err == nil:
				l.rest = buf[len(frame):]
				return l.welcomed(frame)
			case !errors.Is(err, codec.ErrIncomplete):
				return err
			}
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*len(buf)+512), buf...)
		}
		n, err := l.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 && err != nil {
			return err
		}
	}
}

func (l *link) welcomed(frame []byte) error {
	m, err := codec.ParseControl(frame)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *codec.Welcome:
		l.welcome = *m
		return nil
	case *codec.Error:
		return l.said(m)
	}
	return &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "neither welcome nor error"}
}

// final reports whether an error is the server's word that connecting again is of no use. That something took too long,
// as it does where one of the two is stopped for a while, is none.
func final(err error) bool {
	var e *ConnectionError
	return errors.As(err, &e) && !e.Code.Retry() && e.Code != codec.CodeSilent && e.Code != codec.CodeHelloTimeout &&
		!errors.As(err, new(*staleToken))
}

// start sets the goroutines going.
func (l *link) start() {
	l.done.Go(l.read)
	l.done.Go(l.write)
}

// wait returns when both goroutines have ended.
func (l *link) wait() { l.done.Wait() }

// fail ends the link. The first cause counts.
func (l *link) fail(err error) {
	c := l.c
	c.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		close(l.broken)
		if c.link == l {
			c.detach()
		}
	}
	c.mu.Unlock()
	if first {
		l.conn.Close()
	}
}

// send queues a control frame. c.mu held.
func (l *link) send(m codec.Control) {
	if l.parting != nil {
		return
	}
	n := len(l.control)
	l.append(m)
	l.queued += uint64(len(l.control) - n)
	signal(l.wake)
}

// append writes a frame to what the writer takes next. One that cannot be written ends the link. c.mu held.
func (l *link) append(m codec.Control) {
	var err error
	if l.control, err = m.Append(l.control); err != nil {
		go l.fail(err) // which takes the mutex
	}
}

// ask queues a request. c.mu held.
func (l *link) ask(r *request) {
	l.control = append(l.control, r.frame...)
	l.queued += uint64(len(r.frame))
	r.pos = l.queued
	signal(l.wake)
}

// write is the writer goroutine: whatever waits when the last write is done goes out with the next.
func (l *link) write() {
	for {
		select {
		case <-l.wake:
		case <-l.broken:
			return
		}
		for l.gather() {
			l.out = l.vec
			var err error
			if v, ok := l.conn.(vectorWriter); ok {
				err = v.writeVector(l.out)
			} else {
				_, err = l.out.WriteTo(l.conn)
			}
			if last := l.written(); last != nil {
				err = last
			}
			if err != nil {
				l.fail(err)
				return
			}
		}
	}
}

// gather fills vec with what waits: control frames, then the streams in turn, a chunk of each. It returns false if
// there is nothing.
func (l *link) gather() bool {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.vec = l.vec[:0]
	if l.pongDue {
		l.pongDue = false
		l.append(&l.pong)
	}
	if len(l.control) > 0 {
		l.vec = append(l.vec, l.control)
		l.control, l.spare = l.spare[:0], l.control
		l.taken = l.queued
		for i, s := range l.late {
			signal(s.ready)
			l.late[i] = nil
		}
		l.late = l.late[:0]
	}
	if c.link != l || l.parting != nil {
		return len(l.vec) > 0
	}
	for size := 0; size < maxBatch && len(l.vec) < maxVec; {
		st := c.nextStream()
		if st == nil {
			break
		}
		p := st.p
		part, ch := st.take(p.window.size-p.inflight, p.inflight == 0)
		if part == nil {
			continue // the window holds it back: it comes again with the next acknowledgement
		}
		p.inflight += len(part)
		size += len(part)
		l.vec, l.held = append(l.vec, part), append(l.held, ch)
		c.enqueue(st)
	}
	return len(l.vec) > 0
}

// written lets go of what gather took, and returns why the link is to end now, if it is.
func (l *link) written() error {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, ch := range l.held {
		ch.release()
		l.held[i] = nil
	}
	l.held = l.held[:0]
	if len(l.control) > 0 {
		return nil
	}
	return l.parting
}

// hangUp makes the writer tell the server what it did wrong, within a second, and end the link.
func (l *link) hangUp(fault *codec.ProtocolError) {
	l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	c := l.c
	c.mu.Lock()
	l.send(&codec.Error{Code: fault.Code, Text: fault.Text})
	l.parting = fault
	c.mu.Unlock()
}
