package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A search looks for a server that takes the client. It asks one after the other, and the next one already when one has
// failed or has said nothing for a step: a frozen server's system still takes connections. Who was asked may go on to
// answer, and the first one is used. So a server that says nothing costs a step, and one that many clients come to at
// once has nobody give up and come again behind all others. Each round asks those again, too, who say nothing: a
// balancer of that name may lead elsewhere. It belongs to one goroutine at a time.
type search struct {
	c       *Client
	first   bool // for Dial
	ctx     context.Context
	end     context.CancelFunc // lets go of all that were asked
	answers chan attempt
	asked   map[string]int // attempts that have not come to an end; never 0
}

// maxAsked is how many attempts with one server may go on at once: enough for a balancer to notice meanwhile that the
// server is frozen which it leads to.
const maxAsked = 5

// attempt is what became of one server.
type attempt struct {
	server string
	link   *link
	err    error // link is nil
}

func (c *Client) search(ctx context.Context) *search {
	s := &search{c: c, answers: make(chan attempt), asked: make(map[string]int)}
	s.ctx, s.end = context.WithCancel(ctx)
	return s
}

// step returns how long a server is waited for before the next one is asked, too.
func (c *Client) step() time.Duration {
	if own := c.opts.Silence; own > 0 {
		return min(own/2, connectWithin)
	}
	return connectWithin
}

// answerTime returns how long those are waited for who say nothing, before all are asked again.
func (c *Client) answerTime() time.Duration {
	if own := c.opts.Silence; own > 0 {
		return min(own, connectWithin)
	}
	return connectWithin
}

// ask begins to connect to a server.
func (s *search) ask(server string) {
	s.asked[server]++
	s.c.attempts.Go(func() {
		l, err := s.c.open(s.ctx, server, s.first)
		select {
		case s.answers <- attempt{server, l, err}:
		case <-s.ctx.Done():
			if l != nil {
				l.conn.Close()
			}
		}
	})
}

// wait returns the next answer, or neither link nor error when the time is over.
func (s *search) wait(over <-chan time.Time) (*link, error) {
	select {
	case a := <-s.answers:
		if s.asked[a.server]--; s.asked[a.server] == 0 {
			delete(s.asked, a.server)
		}
		var no *ConnectionError
		if final(a.err) && errors.As(a.err, &no) {
			return nil, no
		}
		return a.link, a.err
	case <-over:
		return nil, nil
	case <-s.ctx.Done():
		return nil, fmt.Errorf("client: connect to %s: %w", s.silent(), s.ctx.Err())
	}
}

// silent names those who have not answered.
func (s *search) silent() string { return strings.Join(slices.Sorted(maps.Keys(s.asked)), ", ") }

// round asks each server once and returns the first to answer. It returns the errors of all if none takes the client,
// and at once one that is final. It waits no longer than patience for those who say nothing; they may still answer
// afterwards.
func (s *search) round(servers []string, patience time.Duration) (*link, error) {
	var errs []error
	for _, server := range servers {
		if s.asked[server] == maxAsked {
			continue
		}
		s.ask(server)
		l, err := s.wait(time.After(s.c.step()))
		if l != nil || final(err) {
			return l, err
		}
		if err != nil {
			errs = append(errs, err)
		}
		if s.ctx.Err() != nil {
			return nil, errors.Join(errs...)
		}
	}
	over := time.After(patience)
	for len(s.asked) > 0 && s.ctx.Err() == nil {
		l, err := s.wait(over)
		if l != nil || final(err) {
			return l, err
		}
		if err == nil {
			errs = append(errs, fmt.Errorf("client: connect to %s: no answer yet", s.silent()))
			break
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// until goes round the servers until one takes the client, with a pause before each round, in which those may answer
// who were asked before. The error is final, or ErrClosed.
func (s *search) until(servers []string) (*link, error) {
	c := s.c
	for {
		l, err := s.rest(c.jitter(c.rounds))
		if l == nil && err == nil {
			l, err = s.round(servers, c.answerTime())
			c.rounds++
		}
		switch {
		case l != nil:
			return l, nil
		case final(err):
			return nil, err
		case s.ctx.Err() != nil:
			return nil, ErrClosed
		}
		c.opts.Logger.Warn("no server to be had", "reason", err.Error())
		servers = order(c.opts.Servers, "")
	}
}

// rest waits for some time, or for one that takes the client.
func (s *search) rest(d time.Duration) (*link, error) {
	over := time.After(d)
	for {
		l, err := s.wait(over)
		if l != nil || err == nil || final(err) || s.ctx.Err() != nil {
			return l, err
		}
	}
}

// spare is a search that goes on while the connection in use says nothing. The zero value is none.
type spare struct {
	*search
	found chan *link // brings the first to answer, nil if a round brought none; nil: nobody looks
}

// look asks the servers once each, the silent one last: a balancer of that name may have others behind it, and the
// server itself may have lost but the connection.
func (s *spare) look(ctx context.Context, c *Client, silent string) {
	if s.found != nil {
		return
	}
	s.stop()
	found, search := make(chan *link, 1), c.search(ctx)
	s.found, s.search = found, search
	go func() {
		l, _ := search.round(order(c.opts.Servers, silent), c.answerTime())
		found <- l
	}()
}

// instead is for when the silence is over: what look began goes on for as long as it takes.
func (s *spare) instead(c *Client, silent string) (*link, error) {
	l := <-s.found
	s.found = nil
	c.rounds++
	if l != nil {
		return l, nil
	}
	return s.until(order(c.opts.Servers, silent))
}

// stop gives up what was begun, and waits until nothing is left of it.
func (s *spare) stop() {
	if s.search != nil {
		s.end()
	}
	if s.found != nil {
		if l := <-s.found; l != nil {
			l.conn.Close()
		}
		s.found = nil
	}
}
