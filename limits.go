//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/timedge/timedge/engine"
)

// limitFlags are the limits that serve has beside --conns, --payload, --queue and --memory. docs/limits.md tells what
// each is for, and what becomes of who meets it.
type limitFlags struct {
	Hello        time.Duration  `placeholder:"TIME" default:"2s" env:"TIMEDGE_LIMIT_HELLO" help:"From the connection to its hello (${default})."`
	Handshakes   int            `placeholder:"N" default:"4096" env:"TIMEDGE_LIMIT_HANDSHAKES" help:"Connections without a hello at once (${default})."`
	Address      int            `placeholder:"N" default:"200" env:"TIMEDGE_LIMIT_ADDRESS" help:"Connections a second of one address, or /64; 0: any (${default})."`
	AddressBurst int            `placeholder:"N" default:"2000" env:"TIMEDGE_LIMIT_ADDRESS_BURST" help:"Of these at once (${default})."`
	AddressConns int            `placeholder:"N" env:"TIMEDGE_LIMIT_ADDRESS_CONNS" help:"Connections of one address, or /64, at once (half of --conns)."`
	Exempt       []netip.Prefix `placeholder:"NET" default:"127.0.0.0/8,::1/128" env:"TIMEDGE_LIMIT_EXEMPT" help:"Not of these addresses (${default})."`
	AccountConns int            `placeholder:"N" env:"TIMEDGE_LIMIT_ACCOUNT_CONNS" help:"Connections of one account at once (half of --conns)."`
	Requests     int            `placeholder:"N" default:"10000" env:"TIMEDGE_LIMIT_REQUESTS" help:"Requests a second of one session; 0: any (${default})."`
	Subs         int            `placeholder:"N" default:"4096" env:"TIMEDGE_LIMIT_SUBS" help:"Rooms that one session subscribes to (${default})."`
	Pubs         int            `placeholder:"N" default:"4096" env:"TIMEDGE_LIMIT_PUBS" help:"Rooms that one session publishes into (${default})."`
	Rooms        int            `placeholder:"N" default:"1048576" env:"TIMEDGE_LIMIT_ROOMS" help:"Rooms in all (${default})."`
	AccountRooms int            `placeholder:"N" default:"131072" env:"TIMEDGE_LIMIT_ACCOUNT_ROOMS" help:"Rooms of one account (${default})."`

	AccountPubs    int `placeholder:"N" default:"32768" env:"TIMEDGE_LIMIT_ACCOUNT_PUBS" help:"Publishers of one account, one for each room and client (${default})."`
	AccountStreams int `placeholder:"N" default:"65536" env:"TIMEDGE_LIMIT_ACCOUNT_STREAMS" help:"Streams of one account (${default})."`
	Grants         int `placeholder:"N" default:"16384" env:"TIMEDGE_LIMIT_GRANTS" help:"Accounts that may push into one room (${default})."`

	SessionFrames int64 `placeholder:"N" env:"TIMEDGE_LIMIT_SESSION_FRAMES" help:"Frames a second that a session pushes (any)."`
	SessionBytes  size  `placeholder:"SIZE" env:"TIMEDGE_LIMIT_SESSION_BYTES" help:"Bytes a second that a session pushes (any)."`
	AccountFrames int64 `placeholder:"N" env:"TIMEDGE_LIMIT_ACCOUNT_FRAMES" help:"Frames a second that an account pushes (any)."`
	AccountBytes  size  `placeholder:"SIZE" env:"TIMEDGE_LIMIT_ACCOUNT_BYTES" help:"Bytes a second that an account pushes (any)."`
	SessionQueue  size  `placeholder:"SIZE" default:"64MiB" env:"TIMEDGE_LIMIT_SESSION_QUEUE" help:"Bytes queued for one session (${default})."`
}

// rates are the limits on how much in a time, as the engine takes them: where 0 is its default, what is below means
// none.
func (f *limitFlags) rates() engine.Limits {
	none := func(n int) int {
		if n == 0 {
			return -1
		}
		return n
	}
	return engine.Limits{
		ConnRate: none(f.Address), ConnBurst: f.AddressBurst, ConnExempt: append([]netip.Prefix{}, f.Exempt...),
		ConnAtOnce: f.AddressConns, AccountConns: f.AccountConns,
		SessionFrames: f.SessionFrames, SessionBytes: int64(f.SessionBytes), AccountFrames: f.AccountFrames, AccountBytes: int64(f.AccountBytes),
		Requests: none(f.Requests),
	}
}

// prefix is a network as a flag, or a single address.
type prefix struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *prefix) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil {
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	if err := p.Prefix.UnmarshalText(b); err != nil {
		return fmt.Errorf("%q is neither an address nor a network: write 10.0.0.1 or 10.0.0.0/8", b)
	}
	return nil
}

func prefixes(ps []prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		out = append(out, p.Prefix.Masked())
	}
	return out
}
