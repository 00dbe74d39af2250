package client

import (
	"context"
	"errors"

	"github.com/timedge/timedge/codec"
)

var errInProgress = errors.New("client: in progress")

// Client is a connection to a server.
type Client struct{}

// Dial connects.
func Dial(ctx context.Context, o Options) (*Client, error) { return nil, errInProgress }

// Close ends the client.
func (c *Client) Close() error { return errInProgress }

// Register asks for a new room and returns its number.
func (c *Client) Register(ctx context.Context, o RoomOptions) (codec.RoomID, error) {
	return 0, errInProgress
}

// Remove ends a room.
func (c *Client) Remove(ctx context.Context, room codec.RoomID) error { return errInProgress }

// Grant lets account push into the room.
func (c *Client) Grant(ctx context.Context, room codec.RoomID, account string) error {
	return errInProgress
}

// Revoke takes a grant back.
func (c *Client) Revoke(ctx context.Context, room codec.RoomID, account string) error {
	return errInProgress
}

// Stat tells what there is to know of a room.
func (c *Client) Stat(ctx context.Context, room codec.RoomID) (codec.Info, error) {
	return codec.Info{}, errInProgress
}

// Publish makes the client a publisher of the room.
func (c *Client) Publish(ctx context.Context, room codec.RoomID, o PublishOptions) (*Publisher, error) {
	return nil, errInProgress
}

// Push pushes through a publisher that the client opens and keeps for the room.
func (c *Client) Push(ctx context.Context, room codec.RoomID, dtype uint8, payload []byte) error {
	return errInProgress
}

// Subscribe asks for all streams of a room.
func (c *Client) Subscribe(ctx context.Context, room codec.RoomID, o SubscribeOptions) (*Subscription, error) {
	return nil, errInProgress
}

// Unsubscribe ends the client's subscription to the room.
func (c *Client) Unsubscribe(ctx context.Context, room codec.RoomID) error { return errInProgress }

// Publisher pushes into one room.
type Publisher struct{}

// Room returns the room that p pushes into.
func (p *Publisher) Room() codec.RoomID { return 0 }

// Policy returns the room's policy.
func (p *Publisher) Policy() codec.Policy { return 0 }

// Push sends one message.
func (p *Publisher) Push(ctx context.Context, dtype uint8, kind Kind, payload []byte) error {
	return errInProgress
}

// Flush waits until all that was pushed is acknowledged.
func (p *Publisher) Flush(ctx context.Context) error { return errInProgress }

// Counts returns the channel of counts.
func (p *Publisher) Counts() <-chan codec.Count { return nil }

// Close flushes and ends the publisher.
func (p *Publisher) Close(ctx context.Context) error { return errInProgress }

// Subscription receives from one room.
type Subscription struct{}

// Room returns the room that s receives from.
func (s *Subscription) Room() codec.RoomID { return 0 }

// Policy returns the room's policy.
func (s *Subscription) Policy() codec.Policy { return 0 }

// Next returns the next event.
func (s *Subscription) Next(ctx context.Context) (Event, error) { return nil, errInProgress }

// Close ends the subscription.
func (s *Subscription) Close() error { return errInProgress }
