package main

import (
	"context"
	"fmt"
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
	defer c.Close(context.Background())
	return f.explain(request(c), room.RoomID)
}

// Run registers a room and prints its number.
func (r *registerCmd) Run(ctx context.Context, std *streams) error {
	return r.ask(ctx, std, roomID{}, func(c *client.Client) error {
		room, err := c.Register(ctx, r.options(codec.PolicyLive))
		if err == nil {
			err = std.say("room %v", room)
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
		w := std.table()
		w.row("room", i.Room)
		w.row("owner", i.Owner)
		w.row("policy", i.Policy)
		w.row("subscribers", i.Subscribers)
		w.row("publishers", i.Publishers)
		w.row("pushed", fmt.Sprintf("%d frames, %s", i.Frames, humanize.IBytes(i.Bytes)))
		w.row("age", millis(i.AgeMillis))
		w.row("last push", fmt.Sprintf("%v ago", millis(i.IdleMillis)))
		if err := w.flush(); err != nil {
			return err
		}
		return r.showNodes(ctx, std)
	})
}

func millis(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }
