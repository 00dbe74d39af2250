package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// connectTime is how long a command looks for a server that answers.
const connectTime = 5 * time.Second

// dial connects to one of the servers.
func (f *serverFlags) dial(ctx context.Context, std *streams) (*client.Client, error) {
	level := slog.LevelWarn // a connection lost, and no other to be had
	if f.Verbose {
		level = slog.LevelDebug
	}
	o := client.Options{Servers: f.Server, Account: f.Account, Token: f.Token, TokenSource: f.tokenSource(), Logger: slog.New(&notes{std: std, level: level})}
	if f.TLS || f.TLSCA != "" {
		var err error
		if o.Dialer, err = tlsDialer(f.TLSCA); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, f.explain(err, 0)
	}
	return c, nil
}

// options are the wishes as the SDK takes them, with the policy for those who named none.
func (f *roomFlags) options(byDefault codec.Policy) client.RoomOptions {
	if f.Policy != nil {
		byDefault = f.Policy.Policy
	}
	return client.RoomOptions{
		Policy: byDefault, Idle: f.Idle, Expire: f.Expire,
		QueueBytes: int64(f.Queue), QueueAge: f.QueueAge, MaxSubscribers: f.MaxSubs,
	}
}
