package engine

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
)

// addrLimiter bounds how often one address connects. It takes the same memory however many addresses there are: each has a clock in every row, at a
// place that only this process can foretell, and shares it with others; the least of its clocks is the one that was disturbed least (a count-min
// sketch with conservative update). So nobody fills it up, and an address is held to another's bound only where it meets heavy ones in all rows.
type addrLimiter struct {
	rate   rate
	exempt []netip.Prefix
	seeds  [addrRows]maphash.Seed

	mu   sync.Mutex
	rows [addrRows][addrPlaces]int64 // clocks
}

const (
	addrRows   = 2
	addrPlaces = 1 << 15
)

func newAddrLimiter(r rate, exempt []netip.Prefix) *addrLimiter {
	a := &addrLimiter{rate: r, exempt: exempt}
	for i := range a.seeds {
		a.seeds[i] = maphash.MakeSeed()
	}
	return a
}

// take counts a connection of an address, and reports whether it may be. One that may not costs the address nothing. A nil limiter takes all.
func (a *addrLimiter) take(from net.Addr, now int64) bool {
	t, ok := from.(*net.TCPAddr)
	if a == nil || !ok {
		return true
	}
	addr := t.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range a.exempt {
		if p.Contains(addr) {
			return true
		}
	}
	if addr.Is6() { // one customer has a /64 at least
		addr = netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	key := addr.As16()
	a.mu.Lock()
	defer a.mu.Unlock()
	var clocks [addrRows]*int64
	for i := range a.rows {
		clocks[i] = &a.rows[i][maphash.Bytes(a.seeds[i], key[:])%addrPlaces]
	}
	clock := *clocks[0]
	for _, c := range clocks[1:] {
		clock = min(clock, *c)
	}
	if clock = a.rate.pay(clock, 1, now); clock > now {
		return false
	}
	for _, c := range clocks {
		*c = max(*c, clock)
	}
	return true
}
