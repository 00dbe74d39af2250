package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// viewer receives a room, and notes what comes and when.
type viewer struct {
	c    *client.Client
	half chan struct{} // closed when half of the video is there
	done chan struct{} // closed when nothing more will come

	mu    sync.Mutex
	nodes []string // it was connected to, in turn

	// Of the goroutine that receives, until done.
	seen
	last    uint64 // number of the newest frame
	video   []byte
	arrived []time.Time // messages
	err     error       // why it ended before the stream did
}

// watch connects to node home and subscribes. The viewer is the caller's to close.
func watch(ctx context.Context, c *cluster, name string, home *node, room codec.RoomID, half int) (*viewer, error) {
	v := &viewer{half: make(chan struct{}), done: make(chan struct{}), seen: seen{name: name, lost: make(map[string]uint64)}}
	var err error
	v.c, err = c.dial(ctx, name, home, func(n *node) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.nodes) == 0 || v.nodes[len(v.nodes)-1] != n.name { // else it tried the dying node once more
			v.nodes = append(v.nodes, n.name)
		}
	})
	if err != nil {
		return nil, err
	}
	sub, err := v.c.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		v.c.Close(context.Background())
		return nil, err
	}
	go func() {
		defer close(v.done)
		v.err = v.receive(sub, half)
	}()
	return v, nil
}

// at returns the node that the viewer is connected to.
func (v *viewer) at() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.nodes[len(v.nodes)-1]
}

// close ends the viewer, and waits until it has.
func (v *viewer) close() {
	v.c.Close(context.Background())
	<-v.done
}

// receive returns when the publisher has left, having pushed all, or with what came before that.
func (v *viewer) receive(sub *client.Subscription, half int) error {
	for {
		event, err := sub.Next(context.Background()) // ends with the client
		if fault, ok := errors.AsType[*client.StreamError](err); ok {
			v.wrong(fault)
			continue
		}
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *client.Message:
			v.arrived = append(v.arrived, time.Now())
			v.frames += e.Last - e.First + 1
			v.last = e.Last
			before := len(v.video)
			v.video = append(v.video, e.Payload...)
			if before < half && len(v.video) >= half {
				close(v.half)
			}
		case *client.Gap:
			n := e.To - e.From + 1
			if e.Interrupted != 0 {
				n += e.From - e.Interrupted
			}
			v.lost[e.Reason.String()] += n
			v.last = e.To
		case *client.Left:
			if e.Code != codec.CodeLeft {
				return fmt.Errorf("the server gave the publisher up: %v", e.Code)
			}
			return nil
		}
	}
}

// wrong counts what a server must never do: frames that come again, or are missing without a word.
func (v *viewer) wrong(e *client.StreamError) {
	switch {
	case e.Got < e.Expected:
		v.twice++
	case e.Got > e.Expected:
		v.lost["without a word"] += e.Got - e.Expected
	}
}

// reachHalf waits until the viewer has half of the video.
func (v *viewer) reachHalf(ctx context.Context, push <-chan error) error {
	select {
	case <-v.half:
		return nil
	case <-v.done:
		return fmt.Errorf("%s has not got half of the video: %w", v.name, v.err)
	case err := <-push:
		return errors.Join(fmt.Errorf("the push ended before %s had half of the video", v.name), err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// grace is how long the end of the stream may take to a viewer once all is pushed.
const grace = 10 * time.Second

// finish waits for the end of the stream, and compares what came with what was pushed.
func (v *viewer) finish(ctx context.Context, killed time.Time, pushed *video) (seen, error) {
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case <-v.done:
	case <-late.C:
	case <-ctx.Done():
	}
	v.close()
	s := v.seen
	v.mu.Lock()
	s.nodes = strings.Join(v.nodes, ", then ")
	v.mu.Unlock()
	s.err = v.err
	s.before, s.after = pauses(v.arrived, killed)
	s.identical = bytes.Equal(v.video, pushed.data)
	var err error
	s.pictures, s.faults, err = decode(ctx, v.video)
	return s, err
}

// pauses returns the longest time between two arrivals, the second of them until the kill, and after it.
func pauses(arrived []time.Time, killed time.Time) (before, after time.Duration) {
	for i := 1; i < len(arrived); i++ {
		d := arrived[i].Sub(arrived[i-1])
		if arrived[i].After(killed) {
			after = max(after, d)
		} else {
			before = max(before, d)
		}
	}
	return before, after
}
