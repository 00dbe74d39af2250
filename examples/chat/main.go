// Command chat is a chat room in the terminal: what is typed goes to everybody, and what others type is printed.
// Without an argument it opens a room and prints its number; with a number it enters that room. It goes on when a
// server is lost, with every line once and in order.
//
//	chat -name ann            # prints the room's number
//	chat -name bob NUMBER
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/timedge/timedge/client"
)

const lines = 1 // the one stream of a chatter

func main() {
	name := flag.String("name", "somebody", "who to be")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := chat(ctx, *name, flag.Arg(0), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "chat: %q\n", err.Error())
		os.Exit(1)
	}
}

func chat(ctx context.Context, name, number string, in io.Reader, out io.Writer) error {
	c, err := client.Dial(ctx, client.Options{Account: name})
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	room, err := enter(ctx, c, number)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "room", room)
	sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{NoEcho: true})
	if err != nil {
		return err
	}
	pub, err := c.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		return err
	}
	shown := make(chan error, 1)
	go func() { shown <- show(ctx, sub, name, out) }()
	typed := make(chan error, 1)
	go func() { typed <- say(ctx, pub, in) }()
	select {
	case err = <-shown:
	case err = <-typed:
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// enter opens a room in which everybody may write, or takes the one with a number.
func enter(ctx context.Context, c *client.Client, number string) (client.RoomID, error) {
	if number != "" {
		return client.ParseRoomID(number)
	}
	room, err := c.Register(ctx, client.RoomOptions{History: client.History{Bytes: 16 << 10}, IdleUnlessOccupied: true})
	if err != nil {
		return 0, err
	}
	return room, c.Grant(ctx, room, client.Everyone)
}

// show prints what others say, until the room ends.
func show(ctx context.Context, sub *client.Subscription, name string, out io.Writer) error {
	for event, err := range sub.All(ctx) {
		switch {
		case errors.Is(err, client.ErrRemoved):
			return nil
		case err != nil:
			return err
		}
		switch e := event.(type) {
		case *client.Message:
			fmt.Fprintf(out, "%s: %q\n", e.Publisher, e.Payload)
		case *client.Joined:
			if !e.Again && e.Account != name {
				fmt.Fprintf(out, "* %s is here\n", e.Account)
			}
		case *client.Left:
			fmt.Fprintf(out, "* %s is gone\n", e.Account)
		case *client.Gap:
			if e.Reason != client.GapJoined {
				fmt.Fprintf(out, "* %d lines of %s are missing\n", e.To-e.From+1, e.Publisher)
			}
		}
	}
	return nil
}

// say sends what is typed, line by line, to its end. Every line is a key message: whoever joins can begin with any of
// them.
func say(ctx context.Context, pub *client.Publisher, in io.Reader) error {
	typed := bufio.NewScanner(in)
	for typed.Scan() {
		if err := pub.Push(ctx, lines, client.Key, typed.Bytes()); err != nil {
			return err
		}
	}
	return errors.Join(typed.Err(), pub.Close(ctx))
}
