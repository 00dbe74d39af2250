package client

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"sync"

	"github.com/timedge/timedge/codec"
)

// Client is one connection to one server at a time, and what is done over it: requests, a Publisher and a Subscription
// for each room. Close it when it is no longer needed.
type Client struct {
	// Fixed.
	opts     Options
	instance uint64 // the same over all connections: with the account it says who publishes
	stop     context.CancelFunc
	done     chan struct{}  // closed when all goroutines have ended
	rounds   int            // run's own: rounds of the servers since a connection last stood for a while
	attempts sync.WaitGroup // goroutines that connect

	unfinished quota // of messages of which pieces have come
	stats      counters

	mu       sync.Mutex    // taken before a subscription's, never while holding one
	err      error         // why the client ended
	link     *link         // the connection in use; nil while there is none
	leaving  chan struct{} // while following a go-away: told when no request is out that must not be sent twice
	answers  chan struct{} // closed at the next answer; nil if nobody waits
	lastReq  uint32
	requests map[uint32]*request // not yet answered
	pubs     map[RoomID]*Publisher
	subs     map[RoomID]*Subscription

	// The streams that have something to send, in the order of their turns.
	firstReady, lastReady *outStream
}

// Dial connects to one of the servers, each being tried once, in random order, and says hello. When none can be had it
// returns the error of each. From then on the client reconnects by itself, trying for ever, until Close is called or a
// server says that connecting again is of no use, as when the account is not let in.
//
// ctx bounds Dial alone.
func Dial(ctx context.Context, o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		opts: o, instance: o.Instance, done: make(chan struct{}),
		requests: make(map[uint32]*request),
		pubs:     make(map[RoomID]*Publisher),
		subs:     make(map[RoomID]*Subscription),
	}
	if c.instance == 0 {
		c.instance = newInstance()
	}
	c.unfinished.limit = int64(max(o.AssemblyBuffer, o.MaxPayload))
	c.tell(Connecting, nil, nil)
	search := c.search(ctx)
	search.first = true
	l, err := search.round(order(o.Servers, ""), o.DialTimeout)
	search.end()
	if err != nil {
		c.attempts.Wait()
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.attach(l)
	go func() {
		defer close(c.done)
		err := c.run(run, l)
		c.finish(err)
		c.attempts.Wait()
		c.tell(Ended, nil, err)
	}()
	return c, nil
}

func newInstance() uint64 {
	var b [8]byte
	crand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// finish ends everything, for want of a connection. Close discards what subscriptions hold; after any other end it is
// still to be had.
func (c *Client) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for num, r := range c.requests {
		delete(c.requests, num)
		r.answer <- answer{err: c.err}
	}
	for _, p := range c.pubs {
		p.end(c.err)
	}
	for room, s := range c.subs {
		delete(c.subs, room)
		s.end(c.err, c.err == ErrClosed)
	}
}

// enqueue gives a stream its turn, if it has something to send and has none yet. c.mu held.
func (c *Client) enqueue(st *outStream) {
	if st.queued || !st.p.live || !st.waits() {
		return
	}
	st.queued = true
	if c.lastReady == nil {
		c.firstReady = st
		if c.link != nil {
			signal(c.link.wake)
		}
	} else {
		c.lastReady.after = st
	}
	c.lastReady = st
}

// nextStream takes the stream whose turn it is, nil if there is none. c.mu held.
func (c *Client) nextStream() *outStream {
	st := c.firstReady
	if st == nil {
		return nil
	}
	if c.firstReady = st.after; c.firstReady == nil {
		c.lastReady = nil
	}
	st.queued, st.after = false, nil
	return st
}

// dequeue takes the streams of a publisher, or all with nil, from those that have something to send. c.mu held.
func (c *Client) dequeue(p *Publisher) {
	st := c.firstReady
	c.firstReady, c.lastReady = nil, nil
	for st != nil {
		next := st.after
		st.queued, st.after = false, nil
		if p != nil && st.p != p {
			c.enqueue(st)
		}
		st = next
	}
}

// maxBacklog is how much may wait for a server that does not read before acknowledgements, which are cumulative, are
// put off.
const maxBacklog = 256 << 10

// sendAcks sends the acknowledgements that s has put together. It returns false if they are to be put together again,
// later: s is told when that is worth the while.
func (c *Client) sendAcks(s *Subscription, acks []codec.Ack) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil || c.subs[s.room] != s {
		return true // the next connection is told
	}
	if len(c.link.control) > maxBacklog {
		c.link.late = append(c.link.late, s)
		return false
	}
	for i := range acks {
		c.link.send(&acks[i])
	}
	return true
}

// share is how much of unfinished messages one subscription may hold: not all that the client may, but always one
// message.
func (c *Client) share() int { return max(c.opts.AssemblyBuffer/4*3, c.opts.MaxPayload) }
