//go:build linux

package main

import (
	"fmt"
	"net/netip"

	"github.com/timedge/timedge/engine"
)

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
		ConnRate: none(f.Address), ConnBurst: f.AddressBurst, ConnExempt: append([]netip.Prefix{}, prefixes(f.Exempt)...),
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

// Unit implements what settings ask of a type.
func (*prefix) Unit() string { return "network or address, such as 10.0.0.0/8" }

func prefixes(ps []prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		out = append(out, p.Prefix.Masked())
	}
	return out
}
