package client

import (
	"context"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/timedge/timedge/codec"
)

// broke says what becomes of a request that was sent when the connection breaks before the answer.
type broke uint8

const (
	resend broke = iota // ask again on the next connection: asking twice does no harm
	fail                // ErrUnanswered: asking twice might do something twice
	settle              // the broken connection has done what was asked for
)

// request is one that waits for its answer. The client's mutex guards it.
type request struct {
	num    uint32
	frame  []byte
	broke  broke
	pos    uint64 // the link's count of queued control bytes behind it; unsent: not yet given to a link
	answer chan answer

	// A publish or subscribe is not kept over connections: the publisher or subscription asks anew on each.
	p *Publisher
	s *Subscription

	opens bool // an inbox, for s to subscribe to next

	abandoned bool // nobody waits any more; a room registered for it is to be removed
}

type answer struct {
	control codec.Control
	err     error
}

const unsent = math.MaxUint64

// submit makes a request and hands it to the connection, if there is one. c.mu held.
func (c *Client) submit(b broke, build func(req uint32) codec.Control) *request {
	c.lastReq++
	r := &request{num: c.lastReq, broke: b, pos: unsent, answer: make(chan answer, 1)}
	if c.link == nil && b == settle {
		r.answer <- answer{control: &codec.OK{Req: r.num}}
		return r
	}
	var err error
	if r.frame, err = build(r.num).Append(nil); err != nil {
		r.answer <- answer{err: err}
		return r
	}
	c.requests[r.num] = r
	if c.link != nil && !(b == fail && c.leaving != nil) {
		c.link.ask(r)
	}
	return r
}

// call makes a request and waits for its answer: as long as ctx lasts, over any number of connections, and again while
// the room is on its way from one node to another.
func (c *Client) call(ctx context.Context, b broke, build func(req uint32) codec.Control) (codec.Control, error) {
	for n := 1; ; n++ {
		a, err := c.callOnce(ctx, b, build)
		no, refused := err.(*RefusedError)
		if !refused || no.Code != codec.CodeMoved || ctx.Err() != nil {
			return a, err
		}
		_ = pause(ctx, nil, c.patience(no.Code, n))
	}
}

func (c *Client) callOnce(ctx context.Context, b broke, build func(req uint32) codec.Control) (codec.Control, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	r := c.submit(b, build)
	c.mu.Unlock()
	select {
	case a := <-r.answer:
		return a.control, a.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case a := <-r.answer: // it came at the same moment
		return a.control, a.err
	default:
	}
	if r.pos == unsent {
		delete(c.requests, r.num)
	} else {
		r.abandoned = true
	}
	return nil, ctx.Err()
}

// answered finds the request that an answer belongs to. c.mu held.
func (c *Client) answered(num uint32) *request {
	r := c.requests[num]
	delete(c.requests, num)
	if c.answers != nil {
		close(c.answers)
		c.answers = nil
	}
	c.checkLeave()
	return r
}

// checkLeave tells a go-away that waits for it that no request is out that must not be sent twice. c.mu held.
func (c *Client) checkLeave() {
	if c.leaving == nil {
		return
	}
	for _, r := range c.requests {
		if r.broke == fail && r.pos != unsent {
			return
		}
	}
	select {
	case c.leaving <- struct{}{}:
	default:
	}
}

// askPublish asks the server for a publisher. c.mu held.
func (c *Client) askPublish(p *Publisher) {
	if c.link == nil {
		return // the next connection begins with it
	}
	r := c.submit(settle, func(req uint32) codec.Control {
		return &codec.Publish{Req: req, Room: p.room, Flags: p.flags, To: p.to}
	})
	r.p = p
	p.asked++
}

// ask asks the server for a subscription, of an inbox after it is open. c.mu held.
func (c *Client) ask(s *Subscription) {
	if s.inbox == nil {
		c.askSubscribe(s)
	} else if c.link != nil {
		r := c.submit(settle, func(req uint32) codec.Control { s.inbox.Req = req; return s.inbox })
		r.s, r.opens = s, true
	}
}

// askSubscribe asks the server for a subscription. c.mu held.
func (c *Client) askSubscribe(s *Subscription) {
	if c.link == nil {
		return
	}
	have, gapped, err := s.positions()
	if err != nil {
		delete(c.subs, s.room)
		s.end(&ClosedError{s.room, ErrTooManyStreams}, false)
		return
	}
	s.mu.Lock()
	resumes := s.answered
	s.mu.Unlock()
	r := c.submit(settle, func(req uint32) codec.Control {
		return &codec.Subscribe{Req: req, Room: s.room, Flags: s.flags, Have: have, Gapped: gapped, Resumes: resumes}
	})
	r.s = s
}

// Register asks for a new room, owned by the client's account, and returns its number. It is not repeated when the
// connection breaks before the answer (ErrUnanswered): the room may exist then, unused until it is idle. A room that
// comes after ctx has ended is removed again.
func (c *Client) Register(ctx context.Context, o RoomOptions) (RoomID, error) {
	if o.Idle < 0 || o.Expire < 0 || o.QueueAge < 0 || o.QueueBytes < 0 || o.MaxSubscribers < 0 || o.History.Bytes < 0 || o.History.Age < 0 {
		return 0, &RefusedError{codec.CodeBadOption, "negative option"}
	}
	a, err := c.call(ctx, fail, func(req uint32) codec.Control {
		return &codec.Register{
			Req: req, Policy: o.Policy, IdleMillis: millis(o.Idle), ExpireMillis: millis(o.Expire),
			QueueBytes: uint64(o.QueueBytes), QueueMillis: millis(o.QueueAge), MaxSubs: uint64(o.MaxSubscribers),
			Keep: codec.Keep{HistoryBytes: uint64(o.History.Bytes), HistoryMillis: millis(o.History.Age), Occupied: o.IdleUnlessOccupied},
		}
	})
	if err != nil {
		return 0, err
	}
	m, ok := a.(*codec.Registered)
	if !ok {
		return 0, unexpected(a)
	}
	return m.Room, nil
}

// millis rounds up, for zero has a meaning of its own.
func millis(d time.Duration) uint64 { return uint64((d + time.Millisecond - 1) / time.Millisecond) }

// Remove ends a room; only its owner may. Its publishers and subscribers are told. It is not repeated when the
// connection breaks before the answer (ErrUnanswered).
func (c *Client) Remove(ctx context.Context, room RoomID) error {
	return c.callOK(ctx, fail, func(req uint32) codec.Control {
		m := new(codec.Remove)
		m.Req, m.Room = req, room
		return m
	})
}

// Grant lets account push into the room; only the room's owner may. Granting twice is no error, and a Grant is repeated
// after a reconnection if it was not answered.
func (c *Client) Grant(ctx context.Context, room RoomID, account string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	return c.callOK(ctx, resend, func(req uint32) codec.Control {
		m := new(codec.Grant)
		m.Req, m.Room, m.Account = req, room, account
		return m
	})
}

// Revoke takes a grant back and cuts the account's streams off at once, also in the middle of a message; only the
// room's owner may. It is repeated after a reconnection if it was not answered.
func (c *Client) Revoke(ctx context.Context, room RoomID, account string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	return c.callOK(ctx, resend, func(req uint32) codec.Control {
		m := new(codec.Revoke)
		m.Req, m.Room, m.Account = req, room, account
		return m
	})
}

// Stat tells what there is to know of a room; anyone who knows its number may ask.
func (c *Client) Stat(ctx context.Context, room RoomID) (Info, error) {
	a, err := c.call(ctx, resend, func(req uint32) codec.Control {
		m := new(codec.Stat)
		m.Req, m.Room = req, room
		return m
	})
	if err != nil {
		return Info{}, err
	}
	m, ok := a.(*Info)
	if !ok {
		return Info{}, unexpected(a)
	}
	return *m, nil
}

func (c *Client) callOK(ctx context.Context, b broke, build func(req uint32) codec.Control) error {
	a, err := c.call(ctx, b, build)
	if err != nil {
		return err
	}
	if _, ok := a.(*codec.OK); !ok {
		return unexpected(a)
	}
	return nil
}

// checkAccount refuses a name that does not fit into a frame, for which the server would close the connection.
func checkAccount(account string) error {
	if len(account) > codec.MaxAccount || !utf8.ValidString(account) {
		return &RefusedError{codec.CodeBadAccount, fmt.Sprintf("an account is UTF-8 of at most %d bytes", codec.MaxAccount)}
	}
	return nil
}

func unexpected(a codec.Control) error {
	return fmt.Errorf("client: unexpected answer of type %#x", a.Type())
}
