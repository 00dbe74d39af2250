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
	c.post(settle, unsubscribe(s.room))
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
