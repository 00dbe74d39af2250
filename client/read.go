package client

import (
	"errors"
	"io"
	"time"

	"github.com/timedge/timedge/codec"
)

// The read buffer begins small, for the many connections that carry little, and doubles while reads fill it.
const (
	readMin = 8 << 10
	readMax = 256 << 10
)

var (
	errHungUp     = errors.New("client: connection closed by the server")
	errEnded      = errors.New("client: connection ended")
	errUnexpected = &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "frame that a server does not send, or not now"}
)

// read is the reader goroutine.
func (l *link) read() {
	err := l.readFrames()
	var fault *codec.ProtocolError
	if errors.As(err, &fault) {
		l.hangUp(fault)
		return
	}
	l.fail(err)
}

func (l *link) readFrames() error {
	buf := make([]byte, max(readMin, 2*len(l.rest)))
	end := copy(buf, l.rest)
	l.rest = nil
	for {
		used, err := l.dispatch(buf[:end])
		if err != nil {
			return err
		}
		full := end == len(buf)
		end = copy(buf, buf[used:end])
		if full && len(buf) < readMax {
			buf = append(buf[:end], make([]byte, 2*len(buf)-end)...)
		}
		n, err := l.conn.Read(buf[end:])
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				return errHungUp
			}
			return err
		}
		end += n
		l.c.stats.bytesIn.Add(uint64(n))
		if !l.heard.Load() {
			l.heard.Store(true)
		}
	}
}

// dispatch takes the whole frames at the front of b and returns how many bytes they are. Stream frames of one room that
// follow one another are handed over in one go.
func (l *link) dispatch(b []byte) (used int, err error) {
	var s *Subscription // whose run it is
	begin := 0
	flush := func() error {
		run := b[begin:used]
		begin = used
		if s == nil || len(run) == 0 {
			return nil
		}
		return l.deliver(s, run)
	}
	var f codec.Stream
	for {
		frame, typ, err := codec.Next(b[used:], codec.MaxFrame)
		if err == codec.ErrIncomplete {
			return used, flush()
		}
		if err == nil && typ&codec.TypeStream != 0 {
			err = codec.ParseStream(frame, &f)
		}
		if err != nil {
			return used, errors.Join(flush(), err)
		}
		if typ&codec.TypeStream != 0 {
			if s == nil || s.room != f.Room {
				if err := flush(); err != nil {
					return used, err
				}
				s = l.subs[f.Room] // nil for what was on its way when its subscription ended
			}
			used += len(frame)
			continue
		}
		if err := flush(); err != nil {
			return used, err
		}
		if err := l.take(frame, typ); err != nil {
			return used, err
		}
		used += len(frame)
		begin, s = used, nil
	}
}

// retryDelivery is how long a full buffer is left alone before it is asked again whether its caller has fallen behind
// by now.
const retryDelivery = 50 * time.Millisecond

// deliver hands frames to a subscription. It waits while that holds as much as it may, which is until its caller counts
// as behind: see buffer.
func (l *link) deliver(s *Subscription, frames []byte) error {
	for {
		n, gone := s.deliver(frames)
		if gone && l.subs[s.room] == s {
			delete(l.subs, s.room)
			if s.tooSlow() {
				s.cut(&ClosedError{s.room, codec.CodeTooSlow})
			}
		}
		if frames = frames[n:]; len(frames) == 0 {
			return nil
		}
		l.paused.Store(true)
		again := time.NewTimer(retryDelivery)
		select {
		case <-s.space:
		case <-again.C:
		case <-l.broken:
			again.Stop()
			return errEnded
		}
		again.Stop()
		l.paused.Store(false)
	}
}

// take acts on a control frame.
func (l *link) take(frame []byte, typ byte) error {
	c := l.c
	if typ == codec.TypeAck { // the only frequent one
		if err := l.ack.Parse(frame); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if p := c.pubs[l.ack.Room]; p != nil && p.pub == l.ack.Pub {
			p.acknowledged(l.ack.Dtype, l.ack.Seq)
		}
		return nil
	}
	m, err := codec.ParseControl(frame)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *codec.Joined, *codec.Left, *codec.Gap, *codec.Closed, *codec.Count:
		return l.event(m, frame)
	case *codec.PushRefused:
		c.mu.Lock()
		defer c.mu.Unlock()
		// On a connection that is left it says nothing new.
		if p := c.pubs[m.Room]; p != nil && p.pub == m.Pub && c.link == l {
			p.pushRefused(m.Code, l)
		}
	case *codec.Registered:
		return l.answer(m.Req, m, frame)
	case *codec.Published:
		return l.answer(m.Req, m, frame)
	case *codec.Subscribed:
		return l.answer(m.Req, m, frame)
	case *codec.Info:
		return l.answer(m.Req, m, frame)
	case *codec.OK:
		return l.answer(m.Req, m, frame)
	case *codec.Refused:
		return l.answer(m.Req, m, frame)
	case *codec.Ping:
		c.mu.Lock()
		defer c.mu.Unlock()
		l.pong.Echo, l.pongDue = m.Echo, true
		signal(l.wake)
	case *codec.Pong:
	case *codec.GoAway:
		select {
		case <-l.away: // an older one
		default:
		}
		l.away <- *m
	case *codec.Expiring:
		l.expiring(m)
	case *codec.Error:
		return l.said(m)
	default:
		return errUnexpected
	}
	return nil
}

// event passes on what happened in a room: to its subscription, in the order of its frames, and to its publisher.
func (l *link) event(m codec.Control, frame []byte) error {
	c := l.c
	room := roomOf(frame)
	s := l.subs[room]
	switch m := m.(type) {
	case *codec.Count:
		c.mu.Lock()
		if p := c.pubs[room]; p != nil {
			p.counted(*m)
		}
		c.mu.Unlock()
		if s != nil && s.flags&codec.SubCount == 0 {
			s = nil
		}
	case *codec.Closed:
		c.mu.Lock()
		switch m.Code {
		case codec.CodeTooSlow, codec.CodeReplaced: // the subscription alone
		case codec.CodeMoved, codec.CodeSuperseded:
			// The publishing alone, for now. Superseded on the connection in use it is by an older publish of this client, which
			// came late by way of another node.
			s = nil
			if p := c.pubs[room]; p != nil {
				p.moved(l)
			}
		case codec.CodeRevoked, codec.CodeAway: // the publishing alone
			s = nil
			if c.link != l { // the connection in use has an answer of its own
				break
			}
			fallthrough
		default:
			if p := c.pubs[room]; p != nil {
				p.end(&ClosedError{room, m.Code})
			}
		}
		if s != nil {
			delete(l.subs, room)
			switch {
			case c.subs[room] != s:
			case s.reopens(m.Code):
				s.askLater(m.Code)
				s = nil
			default:
				delete(c.subs, room)
			}
		}
		c.mu.Unlock()
	}
	if s == nil {
		return nil
	}
	return l.deliver(s, frame)
}

// answer passes an answer to the request that it belongs to.
func (l *link) answer(req uint32, m codec.Control, frame []byte) error {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.answered(req)
	refused, no := m.(*codec.Refused)
	switch {
	case r == nil || (r.p != nil || r.s != nil) && c.link != l:
		// asked on a connection that is gone
	case r.p != nil && no:
		r.p.publishRefused(refused.Code, refused.Text)
	case r.p != nil:
		m, ok := m.(*codec.Published)
		if !ok {
			return errUnexpected
		}
		if r.p.err == nil {
			return r.p.published(m, l)
		}
	case r.s != nil && c.subs[r.s.room] != r.s:
		// closed by the caller meanwhile
	case r.s != nil && no:
		r.s.refused(refused.Code, refused.Text)
	case r.s != nil && r.opens:
		if _, ok := m.(*codec.OK); !ok {
			return errUnexpected
		}
		c.askSubscribe(r.s)
	case r.s != nil:
		m, ok := m.(*codec.Subscribed)
		if !ok {
			return errUnexpected
		}
		l.subs[r.s.room] = r.s
		r.s.subscribed(m, frame, l.largest())
	case r.abandoned:
		if m, ok := m.(*codec.Registered); ok {
			c.submit(settle, func(req uint32) codec.Control {
				remove := new(codec.Remove)
				remove.Req, remove.Room = req, m.Room
				return remove
			})
		}
	case no:
		r.answer <- answer{err: &RefusedError{refused.Code, refused.Text}}
	default:
		r.answer <- answer{control: m}
	}
	return nil
}
