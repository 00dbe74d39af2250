package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// ask connects, makes one request, and explains what came of it.
func (f *serverFlags) ask(ctx context.Context, std *streams, room roomID, request func(*client.Client) error) error {
	c, err := f.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close()
	return f.explain(request(c), room.RoomID)
}

// Run registers a room and prints its number.
func (r *registerCmd) Run(ctx context.Context, std *streams) error {
	return r.ask(ctx, std, roomID{}, func(c *client.Client) error {
		room, err := c.Register(ctx, r.options(codec.PolicyLive))
		if err == nil {
			_, err = fmt.Fprintln(std.out, "room", room)
		}
		return err
	})
}

// Run ends a room.
func (r *removeCmd) Run(ctx context.Context, std *streams) error {
	return r.ask(ctx, std, r.Room, func(c *client.Client) error { return c.Remove(ctx, r.Room.RoomID) })
}

// Run lets an account push.
func (g *grantCmd) Run(ctx context.Context, std *streams) error {
	return g.ask(ctx, std, g.Room, func(c *client.Client) error { return c.Grant(ctx, g.Room.RoomID, g.Grantee) })
}

// Run takes a grant back.
func (r *revokeCmd) Run(ctx context.Context, std *streams) error {
	return r.ask(ctx, std, r.Room, func(c *client.Client) error { return c.Revoke(ctx, r.Room.RoomID, r.Grantee) })
}

// Run shows a room.
func (r *roomCmd) Run(ctx context.Context, std *streams) error {
	if r.JSON {
		return r.showNodes(ctx, std)
	}
	return r.ask(ctx, std, r.Room, func(c *client.Client) error {
		i, err := c.Stat(ctx, r.Room.RoomID)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "room\t%v\n", i.Room)
		fmt.Fprintf(w, "owner\t%s\n", i.Owner)
		fmt.Fprintf(w, "policy\t%v\n", i.Policy)
		fmt.Fprintf(w, "subscribers\t%d\n", i.Subscribers)
		fmt.Fprintf(w, "publishers\t%d\n", i.Publishers)
		fmt.Fprintf(w, "pushed\t%d frames, %s\n", i.Frames, humanize.IBytes(i.Bytes))
		fmt.Fprintf(w, "age\t%v\n", millis(i.AgeMillis))
		fmt.Fprintf(w, "last push\t%v ago\n", millis(i.IdleMillis))
		if err := w.Flush(); err != nil {
			return err
		}
		return r.showNodes(ctx, std)
	})
}

func millis(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }
