package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/timedge/timedge/codec"
)

// closeTime bounds Close for a caller that sets no deadline.
const closeTime = 3 * time.Second

// Close says goodbye and ends the client: it waits until what was pushed is acknowledged, ends its publishers,
// acknowledges what Next has returned, ends its subscriptions, and waits for the server's answers, so that nobody waits
// for this client afterwards. That takes until ctx ends at most, or 3 s where ctx has no deadline; without a
// connection, and with nothing pushed, it takes no time. Then, in any case, it ends publishers and subscriptions, whose
// methods return ErrClosed, and joins the client's goroutines. It returns nil if all could be said, and otherwise what
// was left: a second call returns nil.
func (c *Client) Close(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, closeTime)
		defer cancel()
	}
	subs, err := c.goodbye(ctx)
	c.mu.Lock()
	if c.err == nil {
		c.err = ErrClosed
	}
	cause := c.err
	c.mu.Unlock()
	c.stop()
	<-c.done
	for _, s := range subs {
		s.end(cause, true)
	}
	return err
}

// Drain ends the client without losing what is on its way: it ends the subscriptions at the server, so that nothing
// more comes, waits until Next has returned all that had come, and then closes as Close does. ctx bounds all of it.
func (c *Client) Drain(ctx context.Context) error {
	c.mu.Lock()
	var subs []*Subscription
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.drain(ctx))
	}
	return errors.Join(append(errs, c.Close(ctx))...)
}

// goodbye tells the server that the client is about to end. It returns the subscriptions that the server has been told
// of, which are to be ended.
func (c *Client) goodbye(ctx context.Context) (subs []*Subscription, err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, nil
	}
	connected := c.link != nil
	var pubs []*Publisher
	for _, p := range c.pubs {
		if connected || p.window.used > 0 {
			pubs = append(pubs, p)
		}
	}
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()

	for _, s := range subs {
		s.leave()
	}
	errs := make([]error, len(pubs))
	var all sync.WaitGroup
	for i, p := range pubs {
		all.Go(func() { errs[i] = p.close(ctx, ErrClosed) })
	}
	all.Wait()
	return subs, errors.Join(append(errs, c.settled(ctx))...)
}

// settled waits until the server has answered what it is told without anybody waiting, or the connection is gone.
func (c *Client) settled(ctx context.Context) error {
	for {
		c.mu.Lock()
		open := false
		for _, r := range c.requests {
			open = open || r.broke == settle && r.p == nil && r.s == nil
		}
		if !open || c.link == nil || c.err != nil {
			c.mu.Unlock()
			return nil
		}
		if c.answers == nil {
			c.answers = make(chan struct{})
		}
		answers, broken := c.answers, c.link.broken
		c.mu.Unlock()
		select {
		case <-answers:
		case <-broken:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acknowledge returns the acknowledgements for all that Next has returned, the event that the caller has now among it.
// s.mu held.
func (s *Subscription) acknowledge() []codec.Ack {
	if s.in.held > 0 {
		s.in.consume(s.in.held)
	}
	return s.in.takeAcks(nil, true)
}

// leave tells the server that the subscription ends, and what was consumed before: nobody is to wait for the rest. It
// does not wait, and returns whether there was something to tell.
func (s *Subscription) leave() bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs[s.room] != s {
		return false
	}
	delete(c.subs, s.room)
	s.mu.Lock()
	acks := s.acknowledge()
	s.mu.Unlock()
	if c.link != nil {
		for i := range acks {
			c.link.send(&acks[i])
		}
	}
	c.submit(settle, unsubscribe(s.room))
	return true
}

// drain ends the subscription at the server and waits until Next has returned all that had come before.
func (s *Subscription) drain(ctx context.Context) error {
	_, err := s.c.call(ctx, settle, unsubscribe(s.room))
	c := s.c
	c.mu.Lock()
	if c.subs[s.room] == s {
		delete(c.subs, s.room)
	}
	c.mu.Unlock()
	s.end(&ClosedError{s.room, codec.CodeLeft}, false)
	select {
	case <-s.taken:
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
	return err
}

// Close flushes and then ends the publisher, so that subscribers are told that it left. It returns what Flush returns;
// the publisher ends in any case. Close of a publisher that has ended returns nil if it was closed, otherwise why it
// ended.
func (p *Publisher) Close(ctx context.Context) error {
	return p.close(ctx, &ClosedError{p.room, codec.CodeLeft})
}

// close is Close with what the calls after it return.
func (p *Publisher) close(ctx context.Context, cause error) error {
	if err := p.Flush(ctx); err != nil {
		p.leave(cause)
		if closed, ok := err.(*ClosedError); ok && closed.Code == codec.CodeLeft {
			return nil
		}
		return err
	}
	c := p.c
	for tries := 1; ; tries++ {
		asked, err := p.awaitLive(ctx)
		if err == nil {
			_, err = c.call(ctx, resend, p.unpublish)
		}
		var no *RefusedError
		refused := errors.As(err, &no)
		if err != nil && !refused {
			p.leave(cause)
			if _, closed := err.(*ClosedError); closed {
				return nil // the server has ended it, and all had arrived
			}
			return err
		}
		c.mu.Lock()
		// A room that has moved meanwhile is left where it is now.
		again := refused && p.err == nil && (p.asked != asked || no.Retry())
		if !again {
			p.end(cause)
		}
		c.mu.Unlock()
		if !again {
			return nil // if refused, too
		}
		if no.Retry() {
			_ = pause(ctx, nil, c.patience(no.Code, tries)) // ctx is looked at above
		}
	}
}

// awaitLive waits until the server has answered the last publish, and returns how often it was asked.
func (p *Publisher) awaitLive(ctx context.Context) (asked int, err error) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for !p.live {
		if err := p.awaitProgress(ctx); err != nil {
			return 0, err
		}
	}
	return p.asked, nil
}

func (p *Publisher) unpublish(req uint32) codec.Control {
	m := new(codec.Unpublish)
	m.Req, m.Room = req, p.room
	return m
}

// leave ends the publisher and tells the server without waiting.
func (p *Publisher) leave(cause error) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.err != nil {
		return
	}
	p.end(cause)
	c.submit(settle, p.unpublish)
}

// end ends the publisher for good. c.mu held.
func (p *Publisher) end(err error) {
	if p.err != nil {
		return
	}
	p.err, p.live = err, false
	if p.c.pubs[p.room] == p {
		delete(p.c.pubs, p.room)
	}
	p.c.dequeue(p)
	for _, st := range p.all {
		st.q.clear()
		st.kept.clear()
		st.rewind()
	}
	close(p.ended)
	close(p.counts)
	if !p.answered {
		close(p.opened)
	}
}
