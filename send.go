package main

import (
	"context"
	"errors"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// sendAgain is how long a send that waits for its recipient lies between two attempts.
const sendAgain = 200 * time.Millisecond

// Run sends a file to an account and waits until that has all of it. When the command is interrupted, or the file
// cannot be read to its end, the recipient is not told that it ended: nobody takes the part for the whole.
func (s *sendCmd) Run(ctx context.Context, std *streams) error {
	in, err := s.open(ctx, std)
	if err != nil {
		return err
	}
	defer in.Close()
	c, err := s.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	pub, err := s.publish(ctx, std, c)
	if err != nil {
		return s.explain(err, 0)
	}
	if p := pub.Policy(); p != codec.PolicyLossless && in.size >= 0 && !s.Realtime {
		std.note("%s's inbox is %v: what it cannot keep up with is dropped there", s.To, p)
	}
	_, err = s.feed(ctx, std, pub, pub, in, nil)
	return s.explain(err, 0)
}

// publish begins to send, if need be when the recipient is there.
func (s *sendCmd) publish(ctx context.Context, std *streams, c *client.Client) (*client.Publisher, error) {
	for end := time.Now().Add(s.Wait); ; {
		// Counts also tell, by their end, that the publisher ended.
		pub, err := c.PublishTo(ctx, s.To, client.PublishOptions{Counts: true})
		no, refused := errors.AsType[*client.RefusedError](err)
		if !refused || no.Code != codec.CodeAway && no.Code != codec.CodeNotAccepted || time.Now().After(end) {
			return pub, err
		}
		select {
		case <-time.After(sendAgain):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
