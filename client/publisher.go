package client

import (
	"context"
	"time"

	"github.com/timedge/timedge/codec"
)

// Publisher pushes messages into one room. Its methods may be called at once, also Push: messages of one dtype are sent
// in the order in which their pushes began, and those of different dtypes take turns piece by piece, so that a large
// one does not hold up the small ones of another dtype. For that, give each dtype a goroutine of its own.
//
// It survives reconnections, and its room's move to another node: what is not acknowledged is kept and sent again. It
// ends by Close, with its room, when its right is taken back, and with its client; Push then says why.
type Publisher struct {
	c      *Client
	room   RoomID
	to     string // whose inbox the room is; "" if it is none
	counts chan Count
	opened chan struct{} // closed when the server has answered for the first time, or p ended
	ended  chan struct{} // closed when err is set

	// Guarded by the client's mutex.
	streams    [256]*outStream // by dtype
	flags      uint8
	hidden     bool  // Push and SendTo made it; Publish may still take it over
	err        error // why it ended
	fault      error // to be told once: a message was lost
	pub        uint16
	policy     Policy
	maxPayload int
	on         *link     // where the server answered last
	live       bool      // the server has answered on the connection in use: streams may be sent
	answered   bool      // it has answered at all
	headless   bool      // the server refused a piece: it has forgotten the message's beginning
	retries    int       // refusals for now, and moves, in a row that made no progress
	astray     int       // the same of refusals by a server that had lost the thread
	asked      int       // how often the server was asked to publish
	since      time.Time // when it answered last
	movedOn    *link     // where the server said that the room has moved
	window     window
	inflight   int // bytes that the connection in use has taken and that are not acknowledged
	all        []*outStream
	progress   chan struct{} // closed at the next acknowledgement; nil if nobody waits
}

// Publish makes the client a publisher of the room, which takes its owner or an account that the owner granted. It
// waits for the server's answer. A client has one Publisher for a room at a time (ErrPublishing); the one that
// Client.Push or SendTo made for itself becomes it. Repeated after a reconnection if it was not answered.
func (c *Client) Publish(ctx context.Context, room RoomID, o PublishOptions) (*Publisher, error) {
	return c.publish(ctx, room, "", o)
}

func (c *Client) publish(ctx context.Context, room RoomID, to string, o PublishOptions) (*Publisher, error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	p := c.pubs[room]
	switch {
	case p == nil:
		p = c.newPublisher(room, to, o)
	case !p.hidden:
		c.mu.Unlock()
		return nil, ErrPublishing
	default:
		p.hidden = false
		if o.Counts { // which is said by publishing again
			p.flags |= codec.PubCount
			p.pause()
			c.askPublish(p)
		}
	}
	c.mu.Unlock()

	select {
	case <-p.opened:
	case <-ctx.Done():
		p.leave(&ClosedError{p.room, codec.CodeLeft})
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	return p, nil
}

// newPublisher makes a publisher and asks the server for it. c.mu held.
func (c *Client) newPublisher(room RoomID, to string, o PublishOptions) *Publisher {
	p := &Publisher{
		c: c, room: room, to: to,
		counts: make(chan Count, 1),
		opened: make(chan struct{}),
		ended:  make(chan struct{}),
	}
	if o.Counts {
		p.flags = codec.PubCount
	}
	c.pubs[room] = p
	c.askPublish(p)
	return p
}

// Push pushes a delta message through a publisher that the client opens at the first call and keeps for the room. It is
// for those who push now and then; see Publisher.Push for what it waits for.
func (c *Client) Push(ctx context.Context, room RoomID, dtype uint8, payload []byte) error {
	p, err := c.publisher(room, "")
	if err != nil {
		return err
	}
	return p.Push(ctx, dtype, Delta, payload)
}

// publisher returns the client's publisher for a room, making it if need be.
func (c *Client) publisher(room RoomID, to string) (*Publisher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	p := c.pubs[room]
	if p == nil {
		p = c.newPublisher(room, to, PublishOptions{})
		p.hidden = true
	}
	return p, nil
}

// Room returns the room that p pushes into.
func (p *Publisher) Room() RoomID { return p.room }

// Policy returns the room's policy.
func (p *Publisher) Policy() Policy {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.policy
}

// MaxPayload returns the size of the largest payload that the server takes, in bytes.
func (p *Publisher) MaxPayload() int {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.maxPayload
}

// Counts returns a channel with the numbers of subscribers and publishers in the room, if PublishOptions asked for
// them. It holds the newest only, and is closed when p ends.
func (p *Publisher) Counts() <-chan Count { return p.counts }
