package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
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
	room   codec.RoomID
	to     string // whose inbox the room is; "" if it is none
	counts chan Count
	opened chan struct{} // closed when the server has answered for the first time, or p ended
	ended  chan struct{} // closed when err is set

	streams [256]atomic.Pointer[outStream] // by dtype; made under the client's mutex

	// Guarded by the client's mutex.
	flags      uint8
	hidden     bool  // Push and SendTo made it; Publish may still take it over
	err        error // why it ended
	fault      error // to be told once: a message was lost
	pub        uint16
	policy     codec.Policy
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
func (c *Client) Publish(ctx context.Context, room codec.RoomID, o PublishOptions) (*Publisher, error) {
	return c.publish(ctx, room, "", o)
}

func (c *Client) publish(ctx context.Context, room codec.RoomID, to string, o PublishOptions) (*Publisher, error) {
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
func (c *Client) newPublisher(room codec.RoomID, to string, o PublishOptions) *Publisher {
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
func (c *Client) Push(ctx context.Context, room codec.RoomID, dtype uint8, payload []byte) error {
	p, err := c.publisher(room, "")
	if err != nil {
		return err
	}
	return p.Push(ctx, dtype, Delta, payload)
}

// publisher returns the client's publisher for a room, making it if need be.
func (c *Client) publisher(room codec.RoomID, to string) (*Publisher, error) {
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
func (p *Publisher) Room() codec.RoomID { return p.room }

// Policy returns the room's policy.
func (p *Publisher) Policy() codec.Policy {
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

// Push sends one message into the stream of that dtype. It copies the payload, which is the caller's again on return,
// and returns when the whole message is on its way; Flush tells when it has arrived. While as much is unacknowledged as
// the server allows, Push waits: for the slowest subscriber in a lossless room, for the server in any other, and for a
// new connection if there is none.
//
// A payload above the server's limit is refused with payload_size before anything is sent. When ctx ends in the middle
// of a large message, what was not sent of it is taken back, and if some was, subscribers are told by a gap. Once p has
// ended every call returns why: a *RefusedError, a *ClosedError, a *ConnectionError or ErrClosed. A message that got
// lost because the server gave the publisher up while the connection was broken is told once, as a *ClosedError with
// CodeGone; the call that tells it has pushed nothing, and the next one works.
func (p *Publisher) Push(ctx context.Context, dtype uint8, kind Kind, payload []byte) error {
	st, err := p.begin(ctx, dtype, kind)
	if err != nil {
		return err
	}
	err = p.push(ctx, st, kind.flags(), payload)
	<-st.turn
	return err
}

// PushBatch sends several messages of one kind as Push does, and returns how many it sent. It is cheaper than as many
// calls. The payloads are the caller's again on return.
func (p *Publisher) PushBatch(ctx context.Context, dtype uint8, kind Kind, payloads ...[]byte) (n int, err error) {
	st, err := p.begin(ctx, dtype, kind)
	if err != nil {
		return 0, err
	}
	defer func() { <-st.turn }()
	for _, payload := range payloads {
		if err := p.push(ctx, st, kind.flags(), payload); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// TryPush sends one message as Push does, if that takes no waiting: otherwise it sends nothing and returns ErrFull. The
// payload is the caller's again on return.
func (p *Publisher) TryPush(dtype uint8, kind Kind, payload []byte) error {
	if kind > Init {
		return fmt.Errorf("client: push: unknown kind %d", kind)
	}
	st := p.streams[dtype].Load()
	if st == nil {
		st = p.stream(dtype)
	}
	select {
	case st.turn <- struct{}{}:
	default:
		return ErrFull
	}
	defer func() { <-st.turn }()
	p.c.mu.Lock()
	if p.err == nil {
		pieces := max(1, (len(payload)+codec.MaxPiece-1)/codec.MaxPiece)
		share := (*outStream)(nil)
		if pieces > 1 {
			share = st
		}
		if n := len(payload) + pieces*codec.StreamHeaderSize; !p.answered || len(p.window.waiting) > 0 || !p.window.fits(n) || p.window.exceeds(n, share) {
			p.c.mu.Unlock()
			return ErrFull
		}
	}
	p.c.mu.Unlock()
	return p.push(context.Background(), st, kind.flags(), payload)
}

// Receipt is a message on its way.
type Receipt struct {
	p   *Publisher
	st  *outStream
	seq uint64
}

// PushAsync sends one message as Push does, and returns a receipt, by which its arrival can be waited for. The payload
// is the caller's again on return.
func (p *Publisher) PushAsync(ctx context.Context, dtype uint8, kind Kind, payload []byte) (Receipt, error) {
	st, err := p.begin(ctx, dtype, kind)
	if err != nil {
		return Receipt{}, err
	}
	err = p.push(ctx, st, kind.flags(), payload)
	p.c.mu.Lock()
	r := Receipt{p, st, st.base + st.next - 1}
	p.c.mu.Unlock()
	<-st.turn
	if err != nil {
		return Receipt{}, err
	}
	return r, nil
}

// Wait waits until the message has arrived: in a lossless room, until every subscriber has consumed it; in any other,
// until the servers have it. Its errors are those of Push.
func (r Receipt) Wait(ctx context.Context) error {
	r.p.c.mu.Lock()
	defer r.p.c.mu.Unlock()
	for r.st.base+r.st.acked < r.seq && r.st.q.front() != nil {
		if err := r.p.awaitProgress(ctx); err != nil {
			return err
		}
	}
	if r.st.base+r.st.acked >= r.seq {
		return nil
	}
	if r.p.err != nil {
		return r.p.err
	}
	return r.p.takeFault()
}

// Acked returns the number of the last frame of a dtype that has arrived, as Message.Last counts them at subscribers; 0
// if none has. A message of up to 65516 bytes is one frame.
func (p *Publisher) Acked(dtype uint8) uint64 {
	st := p.streams[dtype].Load()
	if st == nil {
		return 0
	}
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return st.acked
}

// Buffered returns how many bytes are pushed and not acknowledged, headers included.
func (p *Publisher) Buffered() int {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.window.used
}

// begin waits for a stream's turn. The caller gives it back.
func (p *Publisher) begin(ctx context.Context, dtype uint8, kind Kind) (*outStream, error) {
	if kind > Init {
		return nil, fmt.Errorf("client: push: unknown kind %d", kind)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st := p.streams[dtype].Load()
	if st == nil {
		st = p.stream(dtype)
	}
	select {
	case st.turn <- struct{}{}:
	default:
		select {
		case st.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.ended:
			return nil, p.cause()
		}
	}
	return st, nil
}

// cause returns why p ended.
func (p *Publisher) cause() error {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.err
}

func (p *Publisher) push(ctx context.Context, st *outStream, flags codec.Flags, payload []byte) error {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := p.awaitOpen(ctx); err != nil {
		return err
	}
	if len(payload) > p.maxPayload {
		return &RefusedError{codec.CodePayloadSize, fmt.Sprintf("payload of %d bytes, at most %d", len(payload), p.maxPayload)}
	}
	st.stopped = false
	var share *outStream
	if len(payload) > codec.MaxPiece {
		share = st
	}
	first := uint64(0) // number of the message's first frame, counted over all restarts of the stream
	for {
		piece := payload[:min(len(payload), codec.MaxPiece)]
		payload = payload[len(piece):]
		if n := codec.StreamHeaderSize + len(piece); !p.window.take(n, share) {
			if err := p.awaitWindow(ctx, n, share); err != nil {
				p.giveUp(st, first)
				return err
			}
			if st.stopped {
				p.window.release(n)
				p.fault = nil
				return &ClosedError{p.room, codec.CodeGone}
			}
		}
		f := flags
		if len(payload) > 0 {
			f |= codec.FlagMore
		}
		if first == 0 {
			first = st.base + st.next
		} else {
			f |= codec.FlagCont
		}
		if err := st.push(f, piece); err != nil {
			p.window.release(codec.StreamHeaderSize + len(piece))
			p.giveUp(st, first)
			return err
		}
		c.enqueue(st)
		if len(payload) == 0 {
			return nil
		}
	}
}

// awaitOpen waits until the server has answered for the first time and returns what is to be told before a push. c.mu
// held, but not while it waits.
func (p *Publisher) awaitOpen(ctx context.Context) error {
	if !p.answered && p.err == nil {
		p.c.mu.Unlock()
		var err error
		select {
		case <-p.opened:
		case <-ctx.Done():
			err = ctx.Err()
		}
		p.c.mu.Lock()
		if err != nil {
			return err
		}
	}
	if p.err != nil {
		return p.err
	}
	return p.takeFault()
}

func (p *Publisher) takeFault() error {
	err := p.fault
	p.fault = nil
	return err
}

// awaitWindow waits for n bytes of the window. c.mu held, but not while it waits.
func (p *Publisher) awaitWindow(ctx context.Context, n int, share *outStream) error {
	x := p.window.wait(n, share)
	p.c.mu.Unlock()
	var err error
	granted := false
	select {
	case <-x.granted:
		granted = true
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.ended:
	}
	p.c.mu.Lock()
	if granted {
		p.window.done(x)
	} else {
		p.window.leave(x)
	}
	if p.err != nil {
		return p.err
	}
	return err
}

// giveUp takes back what it can of the unfinished message that began with frame first, counted over all restarts of the
// stream, and gives up the rest. c.mu held.
func (p *Publisher) giveUp(st *outStream, first uint64) {
	if first == 0 || st.stopped || p.err != nil {
		return
	}
	first -= st.base
	p.window.release(st.retract(first))
	st.open = false
	if st.next > first { // some of it is out
		st.pushGap()
		p.c.enqueue(st)
	}
}

// stream returns the stream of a dtype, making it if need be.
func (p *Publisher) stream(dtype uint8) *outStream {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.makeStream(dtype)
}

func (p *Publisher) makeStream(dtype uint8) *outStream {
	st := p.streams[dtype].Load()
	if st == nil {
		st = &outStream{p: p, dtype: dtype, turn: make(chan struct{}, 1), next: 1}
		p.streams[dtype].Store(st)
		p.all = append(p.all, st)
	}
	return st
}

// Flush waits until all that was pushed before the call is acknowledged: in a lossless room until every subscriber has
// consumed it, in any other until the server has it. Its errors are those of Push.
func (p *Publisher) Flush(ctx context.Context) error {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := p.awaitOpen(ctx); err != nil {
		return err
	}
	type target struct {
		st  *outStream
		seq uint64
	}
	var targets []target
	for _, st := range p.all {
		targets = append(targets, target{st, st.base + st.next - 1})
	}
	for {
		for len(targets) > 0 && (targets[0].st.base+targets[0].st.acked >= targets[0].seq || targets[0].st.q.front() == nil) {
			targets = targets[1:]
		}
		if len(targets) == 0 {
			return p.takeFault()
		}
		if err := p.awaitProgress(ctx); err != nil {
			return err
		}
	}
}

// Close flushes and then ends the publisher, so that subscribers are told that it left. It returns what Flush returns;
// the publisher ends in any case. Close of a publisher that has ended returns nil if it was closed, otherwise why it
// ended.
func (p *Publisher) Close(ctx context.Context) error {
	return p.close(ctx, &ClosedError{p.room, codec.CodeLeft})
}

// close is Close with what the calls after it return.
func (p *Publisher) close(ctx context.Context, cause error) error {
	if err := p.Flush(ctx); err != nil {
		p.leave(cause)
		if closed, ok := err.(*ClosedError); ok && closed.Code == codec.CodeLeft {
			return nil
		}
		return err
	}
	c := p.c
	for tries := 1; ; tries++ {
		asked, err := p.awaitLive(ctx)
		if err == nil {
			_, err = c.call(ctx, resend, p.unpublish)
		}
		var no *RefusedError
		refused := errors.As(err, &no)
		if err != nil && !refused {
			p.leave(cause)
			if _, closed := err.(*ClosedError); closed {
				return nil // the server has ended it, and all had arrived
			}
			return err
		}
		c.mu.Lock()
		// A room that has moved meanwhile is left where it is now.
		again := refused && p.err == nil && (p.asked != asked || no.Retry())
		if !again {
			p.end(cause)
		}
		c.mu.Unlock()
		if !again {
			return nil // if refused, too
		}
		if no.Retry() {
			_ = pause(ctx, nil, c.patience(no.Code, tries)) // ctx is looked at above
		}
	}
}

// awaitLive waits until the server has answered the last publish, and returns how often it was asked.
func (p *Publisher) awaitLive(ctx context.Context) (asked int, err error) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for !p.live {
		if err := p.awaitProgress(ctx); err != nil {
			return 0, err
		}
	}
	return p.asked, nil
}

// awaitProgress waits for the next acknowledgement or answer to publish. c.mu held, but not while it waits.
func (p *Publisher) awaitProgress(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	if p.progress == nil {
		p.progress = make(chan struct{})
	}
	progress := p.progress
	p.c.mu.Unlock()
	var err error
	select {
	case <-progress:
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.ended:
	}
	p.c.mu.Lock()
	if p.err != nil {
		return p.err
	}
	return err
}

func (p *Publisher) unpublish(req uint32) codec.Control {
	m := new(codec.Unpublish)
	m.Req, m.Room = req, p.room
	return m
}

// leave ends the publisher and tells the server without waiting.
func (p *Publisher) leave(cause error) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.err != nil {
		return
	}
	p.end(cause)
	c.post(settle, p.unpublish)
}

// end ends the publisher for good. c.mu held.
func (p *Publisher) end(err error) {
	if p.err != nil {
		return
	}
	p.err, p.live = err, false
	if p.c.pubs[p.room] == p {
		delete(p.c.pubs, p.room)
	}
	p.c.dequeue(p)
	for _, st := range p.all {
		st.q.clear()
		st.kept.clear()
		st.rewind()
	}
	close(p.ended)
	close(p.counts)
	if !p.answered {
		close(p.opened)
	}
}
