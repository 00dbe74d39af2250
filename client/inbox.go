package client

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/timedge/timedge/codec"
)

// Everyone stands for all accounts where one is accepted or blocked, or granted.
const Everyone = codec.Everyone

// InboxOptions are the wishes for the account's inbox.
type InboxOptions struct {
	// Policy is what happens when one of the account's sessions falls behind. All of them, at whatever node, have one
	// inbox, which is open under one policy.
	Policy Policy
	// Accept and Block name accounts, or Everyone. They count where the inbox's list says nothing of an account yet, so
	// that opening the inbox does not undo what another session of the account has said. Nobody is accepted by default.
	Accept, Block []string
}

// Inbox receives what other accounts send to the client's, as a subscription does what is pushed into a room:
// Message.Publisher is the account that sends, which the server vouches for.
//
// It survives reconnections, and the loss of the nodes that held it: it is opened again, with whom this client accepts
// and blocks. What was sent meanwhile and is lost is told by a Gap. It ends by Close, with its client, and when the
// server cuts it off, as one that falls behind.
type Inbox struct{ s *Subscription }

// OpenInbox opens the inbox of the client's account, and waits for the server's answer. A client has one Inbox at a
// time; other sessions of the account may have theirs, and each receives all.
func (c *Client) OpenInbox(ctx context.Context, o InboxOptions) (*Inbox, error) {
	for _, account := range slices.Concat(o.Accept, o.Block) {
		if err := checkAccount(account); err != nil {
			return nil, err
		}
	}
	m := &codec.Inbox{
		Room: codec.InboxOf(c.opts.Account), Policy: o.Policy,
		Accept: slices.Clone(o.Accept), Block: slices.Clone(o.Block),
	}
	if !m.Fits() {
		return nil, &RefusedError{codec.CodeBadOption, "too many accounts at once: accept or block the others one by one"}
	}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	if c.subs[m.Room] != nil {
		c.mu.Unlock()
		return nil, &RefusedError{codec.CodeSubscribed, "this client has its inbox open already"}
	}
	s := c.newSubscription(m.Room, SubscribeOptions{}, m)
	c.mu.Unlock()
	if _, err := s.await(ctx); err != nil {
		return nil, err
	}
	return &Inbox{s}, nil
}

// Next waits for the next event and returns it: see Subscription.Next.
func (in *Inbox) Next(ctx context.Context) (Event, error) { return in.s.Next(ctx) }

// All returns what Next returns, event by event: see Subscription.All.
func (in *Inbox) All(ctx context.Context) iter.Seq2[Event, error] { return in.s.All(ctx) }

// Pending returns how many bytes of frames wait for Next.
func (in *Inbox) Pending() int { return in.s.Pending() }

// Policy returns the inbox's policy.
func (in *Inbox) Policy() Policy { return in.s.Policy() }

// Close ends it without waiting for the server. When the last session of the account has closed its inbox those who
// send are told. It returns nil.
func (in *Inbox) Close() error { return in.s.Close() }

// Accept lets an account send to the client's, or with Everyone all that are not blocked by name. Some session of the
// account has to have its inbox open. It is repeated after a reconnection if it was not answered.
func (c *Client) Accept(ctx context.Context, account string) error {
	return c.listed(account, true, inboxUnknown(c.Grant(ctx, codec.InboxOf(c.opts.Account), account)))
}

// Block forbids an account to send to the client's, or with Everyone all that are not accepted by name, and cuts off at
// once what they send. It is repeated after a reconnection if it was not answered.
func (c *Client) Block(ctx context.Context, account string) error {
	return c.listed(account, false, inboxUnknown(c.Revoke(ctx, codec.InboxOf(c.opts.Account), account)))
}

// ErrNoInbox says that no session of the client's own account has its inbox open.
var ErrNoInbox = errors.New("client: the account has no inbox open")

// inboxUnknown says what it means that the room of the client's own inbox is unknown.
func inboxUnknown(err error) error {
	if errors.Is(err, ErrRoomUnknown) {
		return ErrNoInbox
	}
	return err
}

// checkName refuses what can be no single account.
func checkName(account string) error {
	if account == "" || account == Everyone {
		return &RefusedError{codec.CodeBadAccount, "that is no account's name"}
	}
	return checkAccount(account)
}

// listed notes whom the client accepts or blocks, unless err says that it does not, for an inbox that has to be made
// anew. It returns err.
func (c *Client) listed(account string, accepted bool, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subs[codec.InboxOf(c.opts.Account)]
	if err != nil || s == nil || s.inbox == nil {
		return err
	}
	is := func(x string) bool { return x == account }
	m := *s.inbox
	m.Accept, m.Block = slices.DeleteFunc(slices.Clone(m.Accept), is), slices.DeleteFunc(slices.Clone(m.Block), is)
	if accepted {
		m.Accept = append(m.Accept, account)
	} else {
		m.Block = append(m.Block, account)
	}
	if m.Fits() { // more names than that have to be said again by the caller
		s.inbox = &m
	}
	return nil
}

// SendTo sends one message to an account, as a stream of that dtype, and waits until it has arrived: in a lossless
// inbox until every session of the recipient has consumed it, in any other until the servers of all have it. It copies
// the payload.
//
// A *RefusedError says that nothing was sent: with not_accepted the account does not accept this one, has no inbox
// open, or does not exist; with recipient_away it accepts and is not there; with not_allowed the client's token does
// not let it send to that account. A *ClosedError with recipient_away or revoked says that the recipient went away, or
// blocked the client, before the message had arrived. When ctx ends the message may still arrive.
//
// The client keeps a Publisher for the account. Who sends much uses one of PublishTo, which need not wait for each
// message.
func (c *Client) SendTo(ctx context.Context, account string, dtype uint8, payload []byte) error {
	if err := checkName(account); err != nil {
		return err
	}
	p, err := c.publisher(codec.InboxOf(account), account)
	if err != nil {
		return err
	}
	if err := p.Push(ctx, dtype, Delta, payload); err != nil {
		return err
	}
	return p.Flush(ctx)
}

// PublishTo makes the client a publisher of an account's inbox. Its errors are those of SendTo; the Publisher is like
// any other.
func (c *Client) PublishTo(ctx context.Context, account string, o PublishOptions) (*Publisher, error) {
	if err := checkName(account); err != nil {
		return nil, err
	}
	return c.publish(ctx, codec.InboxOf(account), account, o)
}
