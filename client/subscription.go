package client

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/timedge/timedge/codec"
)

// Subscription receives all streams of one room, as events from Next, which has one caller at a time.
//
// What arrives while Next is not called is held, about Options.ReceiveBuffer bytes of it; then the room's policy says
// what becomes of the rest, and a Gap stands for it. Other subscriptions of the client do not wait for this one for more
// than a moment, 50 ms, nor does anything else on its connection.
//
// It survives reconnections: every stream goes on after the last frame received, or with a Gap that says what is
// missing. It ends by Close, with its room, and with its client; Next says why, after all that came before.
type Subscription struct {
	c      *Client
	room   RoomID
	flags  uint8
	inbox  *codec.Inbox  // what opens the room first, if it is the account's inbox; guarded by the client's mutex
	opened chan struct{} // closed when the server has answered for the first time, or s ended
	taken  chan struct{} // closed when s has ended and all that came before was taken
	ready  chan struct{} // holds a value when there may be something to take
	space  chan struct{} // holds a value when there may be room for the reader

	mu       sync.Mutex // a leaf: taken under the client's mutex, never the other way round
	err      error      // why it ended; told when q is empty
	gone     bool       // closed by the caller: what comes is thrown away
	answered bool
	retries  int
	acks     []codec.Ack // memory for those that Next puts together
	starved  bool
	overrun  bool   // the server sends more streams than there can be
	slow     bool   // the room's policy ends s, for its caller does not keep up
	q        buffer // frames about this room as they came
	in       inbound
}

// Subscribe asks for all streams of a room: anyone who knows its number may. It waits for the server's answer. Streams
// that are going on already begin with their init messages and their newest group, see Gap. A client has one
// subscription to a room at a time.
func (c *Client) Subscribe(ctx context.Context, room RoomID, o SubscribeOptions) (*Subscription, error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	if c.subs[room] != nil {
		c.mu.Unlock()
		return nil, &RefusedError{codec.CodeSubscribed, "this client subscribes to the room already"}
	}
	s := c.newSubscription(room, o, nil)
	c.mu.Unlock()
	return s.await(ctx)
}

// await waits for the server's answer.
func (s *Subscription) await(ctx context.Context) (*Subscription, error) {
	select {
	case <-s.opened:
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.answered {
		return nil, s.err
	}
	return s, nil
}

// newSubscription makes a subscription and asks the server for it. c.mu held.
func (c *Client) newSubscription(room RoomID, o SubscribeOptions, inbox *codec.Inbox) *Subscription {
	s := &Subscription{
		c: c, room: room, inbox: inbox,
		opened: make(chan struct{}), taken: make(chan struct{}), ready: make(chan struct{}, 1), space: make(chan struct{}, 1),
	}
	s.q.limit, s.q.hard, s.q.now = c.opts.ReceiveBuffer, hardFactor*c.opts.ReceiveBuffer, time.Now
	s.in.room, s.in.dropped = room, &c.stats.dropped
	s.in.join = assembly{quota: &c.unfinished, share: c.share()}
	for _, p := range o.From {
		if st := s.in.find(p.StreamKey); st != nil {
			st.expected = p.Last + 1
		}
	}
	if o.NoEcho {
		s.flags |= codec.SubNoEcho
	}
	if o.Counts {
		s.flags |= codec.SubCount
	}
	c.subs[room] = s
	c.ask(s)
	return s
}

// Unsubscribe ends the client's subscription to the room and waits for the server's answer. What was received and not
// yet taken is thrown away; Next returns a *ClosedError with ErrLeft.
func (c *Client) Unsubscribe(ctx context.Context, room RoomID) error {
	c.mu.Lock()
	s := c.subs[room]
	if c.err != nil || s == nil {
		defer c.mu.Unlock()
		if c.err != nil {
			return c.err
		}
		return &RefusedError{codec.CodeNotSubscribed, "this client does not subscribe to the room"}
	}
	c.mu.Unlock()
	s.Close()
	return c.settled(ctx)
}

func unsubscribe(room RoomID) func(req uint32) codec.Control {
	return func(req uint32) codec.Control {
		m := new(codec.Unsubscribe)
		m.Req, m.Room = req, room
		return m
	}
}

// Close ends the subscription as Unsubscribe does, without waiting for the server. What Next has returned counts as
// consumed. It returns nil.
func (s *Subscription) Close() error {
	s.leave()
	s.end(&ClosedError{s.room, codec.CodeLeft}, true)
	return nil
}

// Pending returns how many bytes of frames wait for Next.
func (s *Subscription) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.q.pending()
}

// Position is the last frame of a stream that a subscription has seen.
type Position = codec.Position

// Positions returns where the subscription is, all that Next has returned counted as seen: with it, and the same room,
// another process goes on by SubscribeOptions.From.
func (s *Subscription) Positions() []Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at []Position
	for key, st := range s.in.streams {
		last := st.expected - 1
		if st.first != 0 {
			last = st.first - 1
		}
		if st.dropped != 0 {
			last = st.dropped - 1
		}
		if last > 0 {
			at = append(at, Position{StreamKey: key, Last: last})
		}
	}
	return at
}

// All returns what Next returns, event by event, until the subscription or ctx ends: the last pair holds the reason. A
// *StreamError does not end it. Leaving the loop leaves the subscription as it is.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			ev, err := s.Next(ctx)
			if !yield(ev, err) || err != nil && !errors.As(err, new(*StreamError)) {
				return
			}
		}
	}
}

// Room returns the room that s receives from.
func (s *Subscription) Room() RoomID { return s.room }

// Policy returns the room's policy.
func (s *Subscription) Policy() Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.q.policy
}

// end ends the subscription. What waits in the queue is still to be had unless discard is set. The first end counts,
// but for discard.
func (s *Subscription) end(err error, discard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if discard && !s.gone {
		s.gone = true
		if s.in.held > 0 {
			s.q.disown()
			s.in.held = 0
		}
		s.q.clear()
		s.in.join.end()
		s.err = err
	}
	if s.err == nil {
		s.err = err
	}
	if s.q.front() == nil {
		s.told()
	}
	s.open()
	signal(s.ready)
	signal(s.space)
}

// told says that nothing is left to be taken. s.mu held.
func (s *Subscription) told() {
	select {
	case <-s.taken:
	default:
		close(s.taken)
	}
}

// open lets Subscribe return. s.mu held.
func (s *Subscription) open() {
	select {
	case <-s.opened:
	default:
		close(s.opened)
	}
}

// Next waits for the next event and returns it. An event, with its payload, is the caller's until the next call of
// Next; whoever needs it longer copies it. In a lossless room that next call is also what tells the publisher that the
// event was consumed, so a caller that keeps one for longer than the server's bound for stalled subscribers (10 s by
// default) is cut off with too_slow.
//
// It returns a *StreamError in the place where the server broke the rule of streams; the subscription goes on. It
// returns ctx's error when ctx ends before there is an event; nothing is lost by that. After the end it returns the
// reason on every call: a *ClosedError, a *ConnectionError or ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		s.mu.Lock()
		ev, more, err := s.step()
		acks := s.in.takeAcks(s.acks[:0], !more)
		if len(acks) > 0 {
			s.acks = nil // they are in use
		}
		wake := s.starved && s.q.bytes <= s.q.limit/2
		if wake {
			s.starved = false
		}
		overrun := s.overrun
		s.overrun = false
		s.mu.Unlock()
		if wake {
			signal(s.space)
		}
		if len(acks) > 0 {
			s.sendAcks(acks)
		}
		if overrun {
			s.cut(err)
		}
		if ev != nil || err != nil {
			return ev, err
		}
		if more {
			continue
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// step takes one frame. more says that it is worth calling again at once. s.mu held.
func (s *Subscription) step() (ev Event, more bool, err error) {
	in := &s.in
	if in.held > 0 {
		in.consume(in.held)
		s.q.takeBack(in.held)
		in.held = 0
	}
	frame := s.q.front()
	if frame == nil {
		s.q.drained()
		if s.err != nil {
			in.join.end()
			s.told()
			signal(s.ready) // for whoever else waits
		}
		return nil, s.err != nil, s.err
	}
	ev, keep, err := in.take(frame)
	switch {
	case err == ErrTooManyStreams:
		err = &ClosedError{s.room, ErrTooManyStreams}
		s.err, s.overrun = err, true
		s.q.clear()
	case keep:
	case ev != nil:
		in.held, s.q.busy = len(frame), true
	case frame[offType] == codec.TypeClosed:
		var m codec.Closed
		m.Parse(frame)
		s.err = &ClosedError{s.room, m.Code}
		s.q.clear() // nothing follows
		return nil, true, s.err
	default:
		in.consume(len(frame))
		s.q.drop()
	}
	return ev, true, err
}

// sendAcks sends the acknowledgements that Next has put together. Those that cannot go out now are put together again
// later.
func (s *Subscription) sendAcks(acks []codec.Ack) {
	sent := s.c.sendAcks(s, acks)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !sent {
		s.in.restore(acks)
	}
	s.acks = acks[:0]
}

// cut ends the subscription, for a reason of this side, and tells the server.
func (s *Subscription) cut(err error) {
	c := s.c
	c.mu.Lock()
	if c.subs[s.room] == s {
		delete(c.subs, s.room)
		c.submit(settle, unsubscribe(s.room))
	}
	c.mu.Unlock()
	s.end(err, false)
}

func (s *Subscription) tooSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

// hardFactor is by how much a buffer may exceed ReceiveBuffer for as long as a caller may yet keep up.
const hardFactor = 4

// deliver takes a run of whole frames from the reader. It returns how many bytes it took, fewer than given when the
// buffer is full, and whether nobody wants them any more.
func (s *Subscription) deliver(run []byte) (n int, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return len(run), true
	}
	defer signal(s.ready)
	if s.q.plain(len(run)) {
		s.q.pushAll(run)
		return len(run), false
	}
	for n < len(run) {
		f := frameAt(run[n:])
		switch s.q.offer(f) {
		case full:
			s.starved = true
			return n, false
		case cutOff:
			s.slow = true
			return len(run), true
		}
		n += len(f)
	}
	return n, false
}

// append adds a frame however full the buffer is.
func (s *Subscription) append(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.q.add(frame)
		signal(s.ready)
	}
}

// subscribed takes the server's answer: from now on frames of the room belong to s. frame is the answer itself; it
// marks the place in the order of events.
func (s *Subscription) subscribed(m *codec.Subscribed, frame []byte, maxPayload int) {
	s.mu.Lock()
	s.q.policy, s.retries = m.Policy, 0
	s.in.resume(m, maxPayload)
	first := !s.answered
	s.answered = true
	s.open()
	s.mu.Unlock()
	if !first {
		s.append(frame)
	}
}

// refused takes the server's refusal. c.mu held.
func (s *Subscription) refused(code codec.Code, text string) {
	c := s.c
	s.mu.Lock()
	answered := s.answered
	s.mu.Unlock()
	if (answered || code == codec.CodeMoved) && code.Retry() || s.inbox != nil && code == codec.CodeRoomUnknown {
		s.askLater(code)
		return
	}
	if c.subs[s.room] == s {
		delete(c.subs, s.room)
	}
	if answered {
		s.end(&ClosedError{s.room, code}, false)
	} else {
		s.end(&RefusedError{code, text}, false)
	}
}

// askLater asks for the subscription again after a pause, if the connection is still the same then: a new one begins
// with that anyhow. c.mu held.
func (s *Subscription) askLater(code codec.Code) {
	c, l := s.c, s.c.link
	s.mu.Lock()
	s.retries++
	retries := s.retries
	s.mu.Unlock()
	c.opts.Logger.Warn("subscription refused, will try again", "room", s.room.String(), "reason", code.String())
	time.AfterFunc(c.patience(code, retries), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.subs[s.room] == s && l != nil && c.link == l {
			c.ask(s)
		}
	})
}

// reopens reports whether the end of the room is not the end of s: an inbox whose nodes went away is opened again.
func (s *Subscription) reopens(code codec.Code) bool {
	return s.inbox != nil && (code.Retry() || code == codec.CodeIdle)
}

// positions returns the last frame received of every stream, for resuming.
func (s *Subscription) positions() (have []codec.Position, gapped []uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.positions(&s.q)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
