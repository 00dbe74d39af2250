package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// Run receives what one account sends, to its end, or with --follow what all send.
func (i *inboxCmd) Run(ctx context.Context, std *streams) error {
	c, err := i.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	in, err := c.OpenInbox(ctx, client.InboxOptions{Policy: i.Policy.Policy, Accept: i.Accept, Block: i.Block})
	if err != nil {
		return i.explain(err, 0)
	}
	defer i.leave(ctx, c)
	var out io.WriteCloser = std.out
	if i.Output != "-" {
		if out, err = os.Create(i.Output); err != nil {
			return err
		}
	}
	r := &receiver{c: c, std: std, follow: i.Follow, senders: make(map[uint16]string)}
	r.sums.whole = i.Policy.Policy == codec.PolicyLossless
	err = r.receive(ctx, in, out, i.Output == "-" && std.toTerminal())
	return errors.Join(i.explain(err, 0), out.Close())
}

// leave says that this session is gone for good: a lossless inbox would wait for it to come back.
func (i *inboxCmd) leave(ctx context.Context, c *client.Client) {
	parting, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTime)
	defer cancel()
	_ = c.Unsubscribe(parting, codec.InboxOf(i.Account)) // if that fails the wait is all there is to it
}

// receiver writes what comes into an inbox.
type receiver struct {
	c       *client.Client
	std     *streams
	follow  bool
	senders map[uint16]string // who is there, by number
	from    uint16            // whose stream is taken; 0: nobody has sent yet
	sums    ledger
	blocked []string // while it is: two at once would be neither's
}

// receive returns nil when the sender has ended its stream and all of it is written.
func (r *receiver) receive(ctx context.Context, in *client.Inbox, out io.Writer, terminal bool) error {
	bar := hiddenIf(terminal, r.std)
	defer bar.Close()
	for {
		event, err := in.Next(ctx)
		if broken, ok := errors.AsType[*client.StreamError](err); ok {
			r.sums.fault(broken)
			r.std.note("%v", broken)
			continue
		}
		if err != nil {
			if missing := r.sums.err(everybody); missing != nil {
				r.std.note("%v", missing)
			}
			return err
		}
		switch e := event.(type) {
		case *client.Joined:
			r.senders[e.Pub] = e.Account
			if r.from != 0 {
				err = r.turnAway(ctx, e.Pub)
			}
		case *client.Message:
			if err = r.begin(ctx, e.Pub); err == nil && (r.follow || e.Pub == r.from) {
				r.sums.message(e)
				_, err = out.Write(e.Payload)
				_ = bar.Add(len(e.Payload))
			}
		case *client.Gap:
			if r.follow || e.Pub == r.from || r.from == 0 {
				if text := r.sums.gap(e); text != "" {
					r.std.note("%s", text)
				}
			}
		case *client.Left:
			empty := r.from == 0 && e.Code == codec.CodeLeft
			if !r.follow && (e.Pub == r.from || empty) {
				return errors.Join(r.ended(e), r.forgive(ctx))
			}
			delete(r.senders, e.Pub)
			r.sums.left(e.Pub)
		case *client.Resumed:
			r.sums.resumed = true
			r.std.note("the connection was lost and is there again")
		}
		if err != nil {
			return err
		}
	}
}

// begin takes the first who sends.
func (r *receiver) begin(ctx context.Context, pub uint16) error {
	if r.follow || r.from != 0 {
		return nil
	}
	r.from = pub
	r.std.note("%s sends", r.senders[pub])
	for other := range r.senders {
		if err := r.turnAway(ctx, other); err != nil {
			return err
		}
	}
	return nil
}

// turnAway has somebody told who comes while another sends.
func (r *receiver) turnAway(ctx context.Context, pub uint16) error {
	account := r.senders[pub]
	if r.follow || pub == r.from {
		return nil
	}
	r.std.note("%s sends, too, and is turned away", account)
	if account == r.senders[r.from] {
		return nil // the same account twice: that cannot be told apart
	}
	r.blocked = append(r.blocked, account)
	return r.c.Block(ctx, account)
}

// forgive lets those send again who were turned away.
func (r *receiver) forgive(ctx context.Context) (err error) {
	for _, account := range r.blocked {
		err = errors.Join(err, r.c.Accept(ctx, account))
	}
	return err
}

// ended says how the stream ended.
func (r *receiver) ended(e *client.Left) error {
	if e.Code != codec.CodeLeft {
		return fmt.Errorf("not all has come: %s does not send any more: %s", e.Account, plain(e.Code))
	}
	return r.sums.err(func(pub uint16) bool { return pub == e.Pub })
}
