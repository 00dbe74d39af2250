package main

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// good are the clients that keep to the rules: one publisher, at a paced rate, and its subscribers. They run all the
// time.
type good struct {
	clients []*client.Client
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu    sync.Mutex
	took  []time.Duration // from push to Next, since the last look
	fault error
}

func newGood(ctx context.Context, addr, token string, o options) (*good, error) {
	ctx, stop := context.WithCancel(ctx)
	g := &good{stop: stop}
	dial := func() (*client.Client, error) {
		c, err := client.Dial(ctx, client.Options{Servers: []string{addr}, Account: "alice", Token: token})
		if err == nil {
			g.clients = append(g.clients, c)
		}
		return c, err
	}
	pub, err := dial()
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	room, err := pub.Register(ctx, client.RoomOptions{})
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	for range o.subs {
		c, err := dial()
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{})
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		g.done.Go(func() { g.receive(ctx, sub) })
	}
	p, err := pub.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	g.done.Go(func() { g.push(ctx, p, time.Duration(float64(time.Second)/o.rate)) })
	return g, nil
}

// push sends messages that hold the time at which they were due.
func (g *good) push(ctx context.Context, p *client.Publisher, every time.Duration) {
	payload := make([]byte, 1000)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-tick.C:
			binary.BigEndian.PutUint64(payload, uint64(at.UnixNano()))
		}
		if err := p.Push(ctx, 1, client.Key, payload); err != nil && ctx.Err() == nil {
			g.fail(err)
			return
		}
	}
}

func (g *good) receive(ctx context.Context, sub *client.Subscription) {
	for {
		e, err := sub.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.fail(err)
			return
		}
		switch e := e.(type) {
		case *client.Message:
			took := time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(e.Payload))))
			g.mu.Lock()
			g.took = append(g.took, took)
			g.mu.Unlock()
		case *client.Gap:
			if e.Reason != codec.GapJoined {
				g.fail(errors.New("a good subscriber missed frames: " + e.Reason.String()))
				return
			}
		case *client.Resumed:
			g.fail(errors.New("a good subscriber lost its connection"))
			return
		}
	}
}

func (g *good) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = errors.Join(g.fault, err)
}

// settle is how long is not measured after an attack has begun or ended.
const settle = time.Second

// measure returns what a time shows of the server and of the good clients.
func (g *good) measure(ctx context.Context, srv watched, d time.Duration) (sample, error) {
	most := int64(0)
	wait := func(d time.Duration) error { // what is resident counts from the beginning
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for over := time.After(d); ; {
			select {
			case <-over:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-look.C:
			}
			_, rss, err := usage(srv.pid)
			if err != nil {
				return err
			}
			most = max(most, rss)
		}
	}
	if err := wait(settle); err != nil {
		return sample{}, err
	}
	g.mu.Lock()
	g.took = g.took[:0]
	g.mu.Unlock()
	before, _, err := usage(srv.pid)
	if err != nil {
		return sample{}, err
	}
	was, err := srv.look(ctx)
	if err != nil {
		return sample{}, err
	}
	begin := time.Now()
	if err := wait(d); err != nil {
		return sample{}, err
	}
	after, _, err := usage(srv.pid)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(begin)
	is, err := srv.look(ctx)
	if err != nil {
		return sample{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fault != nil {
		return sample{}, g.fault
	}
	if len(g.took) == 0 {
		return sample{}, errors.New("good subscribers got nothing")
	}
	slices.Sort(g.took)
	at := func(q float64) float64 {
		return float64(g.took[int(q*float64(len(g.took)-1))]) / float64(time.Millisecond)
	}
	return sample{
		cpu: 100 * (after - before).Seconds() / took.Seconds(), rss: float64(most) / (1 << 20), p50: at(0.5), p99: at(0.99),
		turn: is.longest(turnMetric, was), wait: is.longest(waitMetric, was),
	}, nil
}

func (g *good) close() error {
	g.stop()
	var errs []error
	for _, c := range g.clients {
		errs = append(errs, c.Close(context.Background()))
	}
	g.done.Wait()
	return errors.Join(errs...)
}
