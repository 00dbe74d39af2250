package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// connectTime is how long a command looks for a server that answers.
const connectTime = codec.AnswerWithin

// dial connects to one of the servers.
func (f *serverFlags) dial(ctx context.Context, std *streams) (*client.Client, error) {
	level := slog.LevelWarn // a connection lost, and no other to be had
	if f.Verbose {
		level = slog.LevelDebug
	}
	o := client.Options{
		Servers: f.Server, Account: f.Account, Token: f.Token, TokenSource: f.tokenSource(),
		MaxPayload: int(f.Largest), Logger: slog.New(&notes{std: std, level: level}),
	}
	var err error
	if o.TLS, err = f.tls(); err != nil {
		return nil, err
	}
	if f.TLS || f.TLSCA != "" { // what is named without a scheme
		o.Servers = slices.Clone(f.Server)
		for i, s := range o.Servers {
			if !strings.Contains(s, "://") {
				o.Servers[i] = "tls://" + s
			}
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
		History:            client.History{Bytes: int64(f.History), Age: f.HistoryAge},
		IdleUnlessOccupied: f.IdleUnlessOccupied,
	}
}

// tokenSource reads the token's file each time that it is asked; nil if there is none.
func (f *serverFlags) tokenSource() client.TokenSource {
	if f.TokenFile == "" {
		return nil
	}
	return func(context.Context) (string, error) {
		b, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
}

// authorities reads certificates of authorities.
func authorities(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// tls is what servers' certificates are held to.
func (f *serverFlags) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if f.TLSCA != "" {
		pool, err := authorities(f.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		cfg.RootCAs = pool
	}
	return cfg, nil
}
