package tim

import (
	"context"
	"sync/atomic"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// publication is a room, or an account, that a connection pushes into. The SDK takes a push before the engine has seen
// it; what is refused afterwards, as to somebody whose right was just taken back, is told to the client, too.
type publication struct {
	pub  *client.Publisher
	due  chan struct{} // something was pushed that is not known to have arrived
	over atomic.Bool   // given up by the connection, or its client has been told that it ended
}

// publish makes a publication. lost is called, on a goroutine of its own, when it ends with pushes under way.
func (c *conn) publish(pub *client.Publisher, lost func(error)) *publication {
	p := &publication{pub: pub, due: make(chan struct{}, 1)}
	c.pumps.Go(func() {
		for {
			select {
			case <-p.due:
			case <-c.ctx.Done():
				return
			}
			if err := pub.Flush(c.ctx); err != nil {
				if c.ctx.Err() == nil && p.over.CompareAndSwap(false, true) {
					lost(err)
				}
				return
			}
		}
	})
	return p
}

// push pushes one message, as the SDK's Push.
func (p *publication) push(ctx context.Context, dtype uint8, data []byte) error {
	err := p.pub.Push(ctx, dtype, client.Delta, data)
	if err == nil {
		select {
		case p.due <- struct{}{}:
		default:
		}
	}
	return err
}

// leave gives the publication up, unless it has ended.
func (p *publication) leave(ctx context.Context) {
	p.over.Store(true)
	_ = p.pub.Close(ctx) // what it returns the pushes have returned
}

// pushInto pushes into one of a connection's publications, which open makes if there is none. One that ended while its
// connection was broken says so once, and is made anew; so is one to an account that was away, and may be back.
func pushInto[K comparable](ctx context.Context, to map[K]*publication, key K, dtype uint8, data []byte, open func() (*publication, error)) error {
	for again := false; ; again = true {
		p := to[key]
		if p == nil {
			var err error
			if p, err = open(); err != nil {
				return err
			}
			to[key] = p
		}
		err := p.push(ctx, dtype, data)
		code := codeOf(err)
		if err == nil || code == codec.CodePayloadSize { // nothing else is wrong with it
			return err
		}
		delete(to, key)
		told := !p.over.CompareAndSwap(false, true)
		p.leave(ctx)
		if told {
			return nil
		}
		if code != codec.CodeGone && code != codec.CodeAway || again {
			return err
		}
	}
}
