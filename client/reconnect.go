package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
)

// run keeps the client connected, beginning with l, until ctx ends or it is of no use. It returns why. When it returns,
// no goroutine of any connection is left.
func (c *Client) run(ctx context.Context, l *link) error {
	log := c.opts.Logger
	for {
		log.Info("connected", "server", l.server, "node", l.welcome.Node, "session", l.welcome.Session)
		c.tell(Connected, l, nil)
		since := time.Now()
		next, err := c.serve(ctx, l)
		l.fail(errEnded)
		l.wait()
		if time.Since(since) >= c.opts.BackoffMax {
			c.rounds = 0
		}
		if err == nil && next == nil {
			c.mu.Lock()
			cause := l.err
			c.mu.Unlock()
			if c.lost(l, cause); final(cause) {
				return cause
			}
			next, err = c.reconnect(ctx, l, cause, time.Since(since))
		}
		if err != nil {
			return err
		}
		l = next
		c.attach(l)
	}
}

// lost tells that a connection was lost, and whether another is looked for.
func (c *Client) lost(l *link, cause error) {
	c.tell(Disconnected, l, cause)
	if final(cause) {
		return
	}
	c.tell(Connecting, nil, nil)
	c.opts.Logger.Warn("connection lost", "server", l.server, "reason", cause.Error())
}

// attach makes a new connection the one in use and takes up again on it what is going on: publishers, subscriptions,
// and requests that are not answered.
func (c *Client) attach(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link, c.leaving = l, nil
	c.stats.connections.Add(1)
	again := make([]*request, 0, len(c.requests))
	for _, r := range c.requests {
		again = append(again, r)
	}
	for _, p := range c.pubs {
		c.askPublish(p)
	}
	for _, s := range c.subs {
		c.ask(s)
	}
	slices.SortFunc(again, func(a, b *request) int { return int(a.num) - int(b.num) })
	for _, r := range again {
		l.ask(r)
	}
	l.start()
}

// detach forgets the connection in use. c.mu held.
func (c *Client) detach() {
	l := c.link
	c.link = nil
	for num, r := range c.requests {
		switch {
		case r.p != nil || r.s != nil || r.abandoned:
			delete(c.requests, num)
		case r.broke == settle:
			delete(c.requests, num)
			r.answer <- answer{control: &codec.OK{Req: num}}
		case r.broke == fail && r.pos <= l.taken:
			delete(c.requests, num)
			r.answer <- answer{err: ErrUnanswered}
		default:
			r.pos = unsent
		}
	}
	c.dequeue(nil)
	for _, p := range c.pubs {
		p.live = false
	}
}

// serve watches over a connection until it breaks, or until another one is there because the server asks to leave or
// says nothing any more. It returns that other one, or the error that ends the client.
func (c *Client) serve(ctx context.Context, l *link) (*link, error) {
	t := time.NewTicker(max(c.silence(l)/silentTicks, 1))
	defer t.Stop()
	silent := 0 // ticks in a row
	var spare spare
	defer spare.stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ErrClosed
		case <-l.broken:
			return nil, nil
		case m := <-l.away:
			return c.leave(ctx, l, m)
		case next := <-spare.found:
			spare.found = nil
			if next == nil {
				continue
			}
			if silent < lookAfter || l.heard.Load() || l.paused.Load() { // it lives after all
				next.conn.Close()
				continue
			}
			c.left(l, "heard nothing, and another server answers")
			c.rounds++
			return next, nil
		case <-t.C:
			if silent++; l.heard.Swap(false) {
				silent = 0
			}
			if l.paused.Load() {
				silent = min(silent, silentTicks/2) // nothing is read, so nothing can be heard
			}
			if silent >= silentTicks {
				if spare.found == nil {
					l.fail(&ConnectionError{l.server, codec.CodeSilent, "heard nothing"})
					return nil, nil
				}
				c.left(l, "heard nothing")
				return spare.instead(c, l.server)
			}
			if silent == lookAfter {
				spare.look(ctx, c, l.server)
			}
			// While nothing is read the server's pings are not answered: pings of our own show that we live.
			if silent >= silentTicks/2 {
				c.mu.Lock()
				l.send(&codec.Ping{Echo: uint64(silent)})
				c.mu.Unlock()
			}
		}
	}
}

// silentTicks is how many parts the longest silence has. From the middle of it on the server is pinged; after lookAfter
// of them another one is looked for, and whichever of the two says something first is used.
const (
	silentTicks = 16
	lookAfter   = silentTicks * 5 / 8
)

// left gives up a connection that says nothing.
func (c *Client) left(l *link, text string) {
	cause := &ConnectionError{l.server, codec.CodeSilent, text}
	l.fail(cause)
	c.lost(l, cause)
}

// maxSilence is how long a server may say nothing, whatever ping time it names.
const maxSilence = 2 * time.Minute

// silence returns how long a server may say nothing.
func (c *Client) silence(l *link) time.Duration {
	limit := maxSilence
	if named := 2 * time.Duration(l.welcome.PingMillis) * time.Millisecond; named > 0 {
		limit = min(limit, named)
	}
	if own := c.opts.Silence; own > 0 {
		limit = min(limit, own)
	}
	return limit
}

// maxElsewhere is how many of the addresses are tried that a server which asks to leave names.
const maxElsewhere = 16

// leave follows a go-away: it connects elsewhere while l still works.
func (c *Client) leave(ctx context.Context, l *link, m codec.GoAway) (*link, error) {
	within := time.Duration(m.WithinMillis) * time.Millisecond
	c.tell(Draining, l, nil)
	c.opts.Logger.Info("server asks to leave", "server", l.server, "reason", m.Code.String(), "within", within)
	if err := pause(ctx, l, rand.N(within/2+1)); err != nil {
		return nil, err
	}
	elsewhere := order(m.Addrs, "")
	elsewhere = elsewhere[:min(len(elsewhere), maxElsewhere)]
	for i, addr := range elsewhere {
		elsewhere[i] = sibling(l.server, addr)
	}
	servers := append(elsewhere, order(c.opts.Servers, l.server)...)
	search := c.search(ctx)
	var next *link
	err := error(nil)
	if c.rounds == 0 { // the pause was above
		next, err = search.round(servers, c.answerTime())
		c.rounds++
	}
	if next == nil && !final(err) {
		next, err = search.until(servers)
	}
	search.end()
	if err != nil {
		return nil, err
	}

	// Requests that must not be sent twice are answered first; new ones wait for the new connection.
	c.mu.Lock()
	settled := make(chan struct{}, 1)
	c.leaving = settled
	c.checkLeave()
	c.mu.Unlock()
	timer := time.NewTimer(within / 4)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
	case <-l.broken:
	case <-ctx.Done():
	}
	return next, nil
}

// steady is how long a connection must have stood for the next one to be tried without a pause.
const steady = time.Second

// reconnect follows the loss of l, which stood for a while. The servers are tried at once, the one lost last, and not
// before a pause if it closed the connection by a word of its own, or is silent.
func (c *Client) reconnect(ctx context.Context, l *link, cause error, stood time.Duration) (*link, error) {
	servers := order(c.opts.Servers, l.server)
	first := servers
	if errors.As(cause, new(*ConnectionError)) {
		first = without(servers, l.server)
	}
	search := c.search(ctx)
	defer search.end()
	if len(first) > 0 && (c.rounds == 0 || stood >= steady) {
		next, err := search.round(first, c.answerTime())
		if c.rounds++; next != nil || final(err) {
			return next, err
		}
	}
	return search.until(servers)
}

// jitter returns a random time before the n-th attempt, n from 0: full jitter, as in "Exponential Backoff And Jitter"
// (AWS Architecture Blog, 2015).
func (c *Client) jitter(n int) time.Duration { return rand.N(c.backoff(n) + 1) }

func (c *Client) backoff(n int) time.Duration {
	if n >= 32 {
		return c.opts.BackoffMax
	}
	return min(c.opts.BackoffMax, c.opts.BackoffMin<<n)
}

// patience returns how long to wait before a request is made again that was refused for now, for the n-th time, n from
// 1. A room that has moved is found within milliseconds as a rule, so that these attempts begin early and stay close.
func (c *Client) patience(code codec.Code, n int) time.Duration {
	if code == codec.CodeMoved {
		return rand.N(c.backoff(1)>>max(0, 5-n) + 1)
	}
	return c.jitter(n)
}

// pause waits for d, or until l breaks.
func pause(ctx context.Context, l *link, d time.Duration) error {
	var broken chan struct{}
	if l != nil {
		broken = l.broken
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-broken:
	case <-ctx.Done():
		return ErrClosed
	}
	return nil
}

// order returns the servers in random order, the one just left last.
func order(servers []string, left string) []string {
	out := slices.Clone(servers)
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	if i := slices.Index(out, left); i >= 0 {
		out = append(slices.Delete(out, i, i+1), left)
	}
	return out
}

func without(servers []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return s == one })
}
