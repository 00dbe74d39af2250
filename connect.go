package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/timedge/timedge/client"
)

// partingTime is how long a command that has been interrupted may take to say goodbye.
const partingTime = 2 * time.Second

// connectTime is how long a command looks for a server that answers.
const connectTime = 5 * time.Second

// dial connects to one of the servers.
func (f *serverFlags) dial(ctx context.Context, std *streams) (*client.Client, error) {
	level := slog.LevelWarn // a connection lost, and no other to be had
	if f.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level, ReplaceAttr: terse}))
	o := client.Options{Servers: f.Server, Account: f.Account, Logger: log}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, f.explain(err, 0)
	}
	return c, nil
}

// terse leaves out what a person at a terminal knows.
func terse(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// options are the wishes as the SDK takes them.
func (f *roomFlags) options() client.RoomOptions {
	return client.RoomOptions{
		Policy: f.Policy.Policy, Idle: f.Idle, Expire: f.Expire,
		QueueBytes: int64(f.Queue), QueueAge: f.QueueAge, MaxSubscribers: f.MaxSubs,
	}
}
