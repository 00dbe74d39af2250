package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/timedge/timedge/codec"
)

// A TokenSource returns the token to use from now on. It may take its time, until ctx ends, and is called by one
// goroutine at a time for each connection. It must not put the token into its errors.
type TokenSource func(ctx context.Context) (string, error)

// token returns what the next connection says hello with.
func (c *Client) token(ctx context.Context) ([]byte, error) {
	if c.opts.TokenSource == nil {
		return []byte(c.opts.Token), nil
	}
	t, err := c.opts.TokenSource(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: asking for a token: %w", err)
	}
	if len(t) > maxToken {
		return nil, fmt.Errorf("client: token longer than %d bytes", maxToken)
	}
	return []byte(t), nil
}

// staleToken is a server's word that the token will not do, where the next one may: it is not final.
type staleToken struct{ *ConnectionError }

func (e *staleToken) Unwrap() error { return e.ConnectionError }

// said turns the server's last word into an error.
func (l *link) said(m *codec.Error) error {
	e := &ConnectionError{l.server, m.Code, m.Text}
	switch m.Code {
	case codec.CodeAuthFailed, codec.CodeTokenExpired, codec.CodeTokenRevoked:
		if l.c.opts.TokenSource != nil && !l.first {
			return &staleToken{e}
		}
	}
	return e
}

// renewPause is the shortest wait before a token source that failed is asked again.
const renewPause = 100 * time.Millisecond

// renewEvery is how often a server can have a token source asked, however often it warns.
const renewEvery = time.Second

// expiring reacts to the server's warning. Reader only; it does not block.
func (l *link) expiring(m *codec.Expiring) {
	within := time.Duration(m.WithinMillis) * time.Millisecond
	if l.c.opts.TokenSource == nil {
		l.c.opts.Logger.Warn("the server will close the connection",
			"server", l.server, "reason", m.Code.String(), "within", within)
		return
	}
	select {
	case <-l.expires: // an older one
	default:
	}
	l.expires <- within
	if !l.renewing {
		l.renewing = true
		l.done.Go(l.keepToken)
	}
}

// keepToken renews the token at each of the server's warnings, but no more often than renewEvery.
func (l *link) keepToken() {
	for {
		select {
		case within := <-l.expires:
			l.renew(within)
		case <-l.broken:
			return
		}
		select {
		case <-time.After(renewEvery):
		case <-l.broken:
			return
		}
	}
}

// renew hands in a fresh token within a time, asking the source as often as it takes. A server that is handed the old
// one again warns again.
func (l *link) renew(within time.Duration) {
	c := l.c
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	l.done.Go(func() {
		select {
		case <-l.broken:
			cancel()
		case <-ctx.Done():
		}
	})
	for {
		token, err := c.token(ctx)
		if err == nil {
			err = l.hand(ctx, token)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		c.opts.Logger.Warn("no fresh token yet", "server", l.server, "reason", err.Error())
		deadline, _ := ctx.Deadline()
		select {
		case <-time.After(max(renewPause, time.Until(deadline)/8)):
		case <-ctx.Done():
			return
		}
	}
}

// hand gives a token to the server and waits for its answer.
func (l *link) hand(ctx context.Context, token []byte) error {
	c := l.c
	c.mu.Lock()
	if c.link != l {
		c.mu.Unlock()
		return nil // the next connection has asked for one itself
	}
	r := c.submit(settle, func(req uint32) codec.Control { return &codec.Token{Req: req, Token: token} })
	c.mu.Unlock()
	select {
	case a := <-r.answer:
		var refused *RefusedError
		if errors.As(a.err, &refused) {
			return a.err
		}
		return nil
	case <-ctx.Done():
		return ctx.Err() // its answer, should it come, fits into the channel
	}
}
