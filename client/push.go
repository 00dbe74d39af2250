package client

import (
	"context"
	"fmt"

	"github.com/timedge/timedge/codec"
)

// Push sends one message into the stream of that dtype. It copies the payload, which is the caller's again on return,
// and returns when the whole message is on its way; Flush tells when it has arrived. While as much is unacknowledged as
// the server allows, Push waits: for the slowest subscriber in a lossless room, for the server in any other, and for a
// new connection if there is none.
//
// A payload above the server's limit is refused with payload_size before anything is sent. When ctx ends in the middle
// of a large message, what was not sent of it is taken back, and if some was, subscribers are told by a gap. Once p has
// ended every call returns why: a *ClosedError, a *ConnectionError or ErrClosed. A message that got
// lost because the server gave the publisher up while the connection was broken is told once, as a *ClosedError with
// ErrGone; the call that tells it has pushed nothing, and the next one works.
func (p *Publisher) Push(ctx context.Context, dtype uint8, kind Kind, payload []byte) error {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	st, err := p.begin(ctx, dtype, kind)
	if err != nil {
		return err
	}
	err = p.push(ctx, st, kind.Flags(), payload)
	st.turn.release()
	return err
}

// PushBatch sends several messages of one kind as Push does, and returns how many it sent. It is cheaper than as many
// calls. The payloads are the caller's again on return.
func (p *Publisher) PushBatch(ctx context.Context, dtype uint8, kind Kind, payloads ...[]byte) (n int, err error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	st, err := p.begin(ctx, dtype, kind)
	if err != nil {
		return 0, err
	}
	defer st.turn.release()
	for _, payload := range payloads {
		if err := p.push(ctx, st, kind.Flags(), payload); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// TryPush sends one message as Push does, if that takes no waiting: otherwise it sends nothing and returns ErrFull.
// That it always does for a message of several frames that is larger than three quarters of what the server allows to
// be unacknowledged. The payload is the caller's again on return.
func (p *Publisher) TryPush(dtype uint8, kind Kind, payload []byte) error {
	if kind > Init {
		return errKind(kind)
	}
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	st := p.stream(dtype)
	if p.err == nil && (!p.answered || !p.window.has(payload, st)) || !st.turn.take() {
		return ErrFull
	}
	err := p.push(context.Background(), st, kind.Flags(), payload)
	st.turn.release()
	return err
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
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	st, err := p.begin(ctx, dtype, kind)
	if err != nil {
		return Receipt{}, err
	}
	err = p.push(ctx, st, kind.Flags(), payload)
	r := Receipt{p, st, st.base + st.next - 1}
	st.turn.release()
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
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	st := p.streams[dtype]
	if st == nil {
		return 0
	}
	return st.acked
}

// Buffered returns how many bytes are pushed and not acknowledged, headers included.
func (p *Publisher) Buffered() int {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.window.used
}

// begin waits for a stream's turn, which the caller releases. c.mu held, but not while it waits.
func (p *Publisher) begin(ctx context.Context, dtype uint8, kind Kind) (*outStream, error) {
	if kind > Init {
		return nil, errKind(kind)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st := p.stream(dtype)
	if st.turn.take() {
		return st, nil
	}
	if err := p.awaitTurn(ctx, st); err != nil {
		return nil, err
	}
	return st, nil
}

func errKind(kind Kind) error { return fmt.Errorf("client: push: unknown kind %d", kind) }

// awaitTurn waits until the pushes before this one are done. c.mu held, but not while it waits.
func (p *Publisher) awaitTurn(ctx context.Context, st *outStream) error {
	granted := st.turn.wait()
	p.c.mu.Unlock()
	var err error
	select {
	case <-granted:
		p.c.mu.Lock()
		st.turn.done(granted)
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.ended:
	}
	p.c.mu.Lock()
	st.turn.leave(granted)
	if p.err != nil {
		return p.err
	}
	return err
}

// push sends one message. The caller has the stream's turn. c.mu held, but not while it waits.
func (p *Publisher) push(ctx context.Context, st *outStream, flags codec.Flags, payload []byte) error {
	if err := p.awaitOpen(ctx); err != nil {
		return err
	}
	if len(payload) > p.maxPayload {
		text := fmt.Sprintf("payload of %d bytes, at most %d", len(payload), p.maxPayload)
		return &RefusedError{codec.CodePayloadSize, text}
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
		p.c.enqueue(st)
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

// stream returns the stream of a dtype, making it if need be. c.mu held.
func (p *Publisher) stream(dtype uint8) *outStream {
	st := p.streams[dtype]
	if st == nil {
		st = &outStream{p: p, dtype: dtype, next: 1}
		p.streams[dtype] = st
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
