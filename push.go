package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/client/media"
	"github.com/timedge/timedge/codec"
)

// partingTime is how long a push that has been interrupted may take to remove its room.
const partingTime = 2 * time.Second

// Run pushes a file. A room registered for it is removed once all has been delivered, or when the command is interrupted; it
// is left to run idle when the file cannot be read to its end, so that nobody takes the part for the whole.
func (p *pushCmd) Run(ctx context.Context, std *streams) error {
	if p.Room.RoomID != 0 && p.roomFlags != (roomFlags{}) {
		return errors.New("--room names a room that exists: --policy and other wishes for a new room go with 'timedge register'")
	}
	in, total, err := p.open(std)
	if err != nil {
		return err
	}
	defer in.Close()
	c, err := p.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close()

	room := p.Room.RoomID
	if room == 0 {
		policy := codec.PolicyLive
		if total >= 0 && !p.Realtime {
			policy = codec.PolicyLossless // a copy is wanted, not what is newest
		}
		if room, err = c.Register(ctx, p.options(policy)); err != nil {
			return p.explain(err, 0)
		}
	}
	err = p.push(ctx, std, c, room, in, total)
	if p.Room.RoomID == 0 && (err == nil || ctx.Err() != nil) {
		parting, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTime)
		defer cancel()
		if removed := c.Remove(parting, room); err == nil {
			err = removed
		}
	}
	return p.explain(err, room)
}

// open returns the input and its size, -1 if that is not known.
func (p *input) open(std *streams) (io.ReadCloser, int64, error) {
	if p.File == "-" {
		return io.NopCloser(std.in), -1, nil
	}
	f, err := os.Open(p.File)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, 0, errors.Join(fmt.Errorf("%s is a directory: name a file", p.File), f.Close())
	case !info.Mode().IsRegular():
		return f, -1, nil
	}
	return f, info.Size(), nil
}

// push pushes the input and waits until it is delivered. It returns early when ctx or the publisher ends.
func (p *pushCmd) push(ctx context.Context, std *streams, c *client.Client, room codec.RoomID, in io.Reader, total int64) error {
	// Counts also tell, by their end, that the publisher ended.
	pub, err := c.Publish(ctx, room, client.PublishOptions{Counts: true})
	if err != nil {
		return err
	}
	if err := std.say("room %v", room); err != nil {
		return err
	}
	if err := p.await(ctx, std, pub); err != nil {
		return err
	}
	return p.feed(ctx, std, pub, in, total)
}

// feed pushes the input, waits until it is delivered, and closes the publisher. It returns early when ctx or the publisher, which was asked
// for counts, ends.
func (p *input) feed(ctx context.Context, std *streams, pub *client.Publisher, in io.Reader, total int64) error {
	// Nothing interrupts a read of standard input: it is left behind for the process's end.
	copied := make(chan error, 1)
	go func() { copied <- p.copy(ctx, std, pub, in, total) }()
	for {
		select {
		case err := <-copied:
			if err != nil {
				return err
			}
			return pub.Close(ctx) // flushes
		case _, ok := <-pub.Counts():
			if !ok {
				return pub.Flush(ctx) // says why
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// copy pushes the input, unit by unit.
func (p *input) copy(ctx context.Context, std *streams, pub *client.Publisher, in io.Reader, total int64) error {
	units, err := media.NewSplitter(in)
	if err != nil {
		return fmt.Errorf("read %s: %w", p.File, err)
	}
	if p.Realtime && units.Format() == media.Raw {
		std.note("--realtime does nothing: %s is neither MPEG-TS, fragmented MP4 nor WebM", p.File)
	}
	bar := progress(std, total)
	defer bar.Close()
	var pace pacer
	for {
		u, err := units.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", p.File, err)
		}
		if p.Realtime {
			if err := pace.until(ctx, u.Time); err != nil {
				return err
			}
		}
		if err := pub.Push(ctx, p.Dtype, kinds[u.Kind], u.Data); err != nil {
			return err
		}
		_ = bar.Add(len(u.Data))
	}
}

var kinds = [...]client.Kind{media.Delta: client.Delta, media.Key: client.Key, media.Init: client.Init}

// await holds until the subscribers wanted are there.
func (p *pushCmd) await(ctx context.Context, std *streams, pub *client.Publisher) error {
	if p.Wait == 0 {
		return nil
	}
	std.note("waiting for %d to subscribe: timedge sub %v", p.Wait, pub.Room())
	for {
		select {
		case n, ok := <-pub.Counts():
			if !ok {
				return pub.Flush(ctx) // says why it ended
			}
			if n.Subscribers >= p.Wait {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pacer keeps to a stream's own times.
type pacer struct {
	started time.Time     // when the stream was at zero
	last    time.Duration // newest time
	running bool
}

// jump is how far a stream's time may leap before that is taken for a new beginning instead of something to wait for.
const jump = 10 * time.Second

// until waits for the time of a unit, counted from the first one's. Units without a time go at once.
func (p *pacer) until(ctx context.Context, t time.Duration) error {
	if t == media.NoTime {
		return nil
	}
	if !p.running || t > p.last+jump || t < p.last-jump {
		p.started, p.running = time.Now().Add(-t), true
	}
	p.last = t
	wait := time.Until(p.started.Add(t))
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
