package e2ee

import (
	"context"
	"fmt"
	"sync"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// Publisher seals what is pushed through it. It does not show the client's publisher, through which somebody might push
// what is not sealed.
type Publisher struct {
	to     *client.Publisher
	sealer *Sealer

	mu    sync.Mutex
	turns [256]chan []byte // by dtype: holds the memory of its pushes, which go one after the other
}

// Publisher seals what goes through p. account is who the client is, as its receivers see it.
func (k *Keys) Publisher(p *client.Publisher, account string) *Publisher {
	return &Publisher{to: p, sealer: k.Sealer(p.Room(), account)}
}

// MaxPayload returns the size of the largest payload that may be pushed, in bytes.
func (p *Publisher) MaxPayload() int { return max(p.to.MaxPayload()-Overhead, 0) }

// Push seals a message and pushes it as client.Publisher.Push does.
func (p *Publisher) Push(ctx context.Context, dtype uint8, kind client.Kind, payload []byte) error {
	if most := p.MaxPayload(); len(payload) > most {
		text := fmt.Sprintf("payload of %d bytes, at most %d when it is sealed", len(payload), most)
		return &client.RefusedError{Code: codec.CodePayloadSize, Text: text}
	}
	turn := p.turn(dtype)
	var memory []byte
	select {
	case memory = <-turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	sealed, err := p.sealer.Seal(memory[:0], dtype, kind, payload)
	if err == nil {
		err = p.to.Push(ctx, dtype, kind, sealed)
	}
	turn <- sealed
	return err
}

// Flush waits as client.Publisher.Flush does.
func (p *Publisher) Flush(ctx context.Context) error { return p.to.Flush(ctx) }

// Close ends the client's publisher.
func (p *Publisher) Close(ctx context.Context) error { return p.to.Close(ctx) }

func (p *Publisher) turn(dtype uint8) chan []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turns[dtype] == nil {
		p.turns[dtype] = make(chan []byte, 1)
		p.turns[dtype] <- nil
	}
	return p.turns[dtype]
}
