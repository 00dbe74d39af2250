package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
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

// tlsDialer connects with TLS; ca names the authorities to trust, "" the system's.
func tlsDialer(ca string) (func(context.Context, string) (net.Conn, error), error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca != "" {
		pool, err := authorities(ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		cfg.RootCAs = pool
	}
	d := &tls.Dialer{Config: cfg}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }, nil
}
