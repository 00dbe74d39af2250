// Command gamestate moves players about in one room, each at 60 states a second, and prints once a second how old the
// states are that a watcher sees. The room's policy is latest: who is slow sees fewer states, not old ones.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/timedge/timedge/client"
)

const position = 1 // the stream of a player's position

func main() {
	players := flag.Int("players", 20, "how many move")
	seconds := flag.Int("for", 10, "seconds")
	flag.Parse()
	ctx, stop := context.WithTimeout(context.Background(), time.Duration(*seconds)*time.Second)
	defer stop()
	if err := play(ctx, *players, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "gamestate: %q\n", err.Error())
		os.Exit(1)
	}
}

func play(ctx context.Context, players int, out io.Writer) error {
	owner, err := client.Dial(ctx, client.Options{Account: "owner"})
	if err != nil {
		return err
	}
	defer owner.Close(context.Background())
	room, err := owner.Register(ctx, client.RoomOptions{Policy: client.PolicyLatest})
	if err != nil {
		return err
	}
	if err := owner.Grant(ctx, room, client.Everyone); err != nil {
		return err
	}
	sub, err := owner.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		return err
	}
	for i := range players {
		c, err := client.Dial(ctx, client.Options{Account: fmt.Sprint("player", i)})
		if err != nil {
			return err
		}
		defer c.Close(context.Background())
		pub, err := c.Publish(ctx, room, client.PublishOptions{})
		if err != nil {
			return err
		}
		go move(ctx, pub, i)
	}
	return watch(ctx, sub, out)
}

// move pushes where a player is until ctx ends.
func move(ctx context.Context, pub *client.Publisher, x int) {
	tick := time.NewTicker(time.Second / 60)
	defer tick.Stop()
	var state [16]byte
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		x++
		binary.BigEndian.PutUint64(state[:], uint64(time.Now().UnixNano()))
		binary.BigEndian.PutUint64(state[8:], uint64(x))
		// A state that cannot go out now is of no use later: the next one is newer.
		if err := pub.TryPush(position, client.Delta, state[:]); err != nil && err != client.ErrFull {
			return
		}
	}
}

// watch prints what it sees until ctx ends.
func watch(ctx context.Context, sub *client.Subscription, out io.Writer) error {
	states, oldest, next := 0, time.Duration(0), time.Now().Add(time.Second)
	for event, err := range sub.All(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if m, ok := event.(*client.Message); ok {
			states++
			oldest = max(oldest, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(m.Payload)))))
		}
		if time.Now().After(next) {
			fmt.Fprintf(out, "%d states, the oldest %v\n", states, oldest.Round(time.Millisecond))
			states, oldest, next = 0, 0, next.Add(time.Second)
		}
	}
	return nil
}
