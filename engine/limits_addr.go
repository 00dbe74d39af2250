package engine

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
)

// addrLimiter bounds how often one address connects, and how many connections it has at once.
//
// For the first it takes the same memory however many addresses there are: each has a clock in every row, at a place
// that only this process can foretell, and shares it with others; the least of its clocks is the one that was disturbed
// least (a count-min sketch with conservative update). So nobody fills it up, and an address is held to another's bound
// only where it meets heavy ones in all rows.
type addrLimiter struct {
	seeds [addrRows]maphash.Seed

	mu     sync.Mutex
	rate   rate
	exempt []netip.Prefix
	atOnce int
	rows   [addrRows][addrPlaces]int64 // clocks
	places map[netip.Addr]*addrPlace   // of addresses that have connections
}

// addrPlace counts the connections of one address.
type addrPlace struct {
	addr  netip.Addr
	conns int
}

const (
	addrRows   = 2
	addrPlaces = 1 << 15
)

func newAddrLimiter(r rate, atOnce int, exempt []netip.Prefix) *addrLimiter {
	a := &addrLimiter{rate: r, atOnce: atOnce, exempt: exempt, places: make(map[netip.Addr]*addrPlace)}
	for i := range a.seeds {
		a.seeds[i] = maphash.MakeSeed()
	}
	return a
}

// reload puts other limits in force. Connections that are there stay.
func (a *addrLimiter) reload(r rate, atOnce int, exempt []netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rate, a.atOnce, a.exempt = r, atOnce, exempt
}

// take counts a connection of an address, or says why there may be none. One that may not be costs the address nothing.
// The place is to be given back by leave; nil if the address is not limited.
func (a *addrLimiter) take(from net.Addr, now int64) (place *addrPlace, why turned, text string) {
	addr := addrOf(from).Addr().WithZone("")
	if !addr.IsValid() {
		return nil, 0, ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.exempt {
		if p.Contains(addr) {
			return nil, 0, ""
		}
	}
	if addr.Is6() { // one customer has a /64 at least
		addr = netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	key := addr.As16()
	if place = a.places[addr]; place != nil && place.conns >= a.atOnce {
		return nil, turnedCrowd, "this address has as many connections as it may have"
	}
	var clocks [addrRows]*int64
	for i := range a.rows {
		clocks[i] = &a.rows[i][maphash.Bytes(a.seeds[i], key[:])%addrPlaces]
	}
	clock := *clocks[0]
	for _, c := range clocks[1:] {
		clock = min(clock, *c)
	}
	if clock = a.rate.pay(clock, 1, now); clock > now {
		return nil, turnedAddress, "this address connects too often"
	}
	for _, c := range clocks {
		*c = max(*c, clock)
	}
	if place == nil {
		place = &addrPlace{addr: addr}
		a.places[addr] = place
	}
	place.conns++
	return place, 0, ""
}

// leave says that a connection is gone. A nil place is none.
func (a *addrLimiter) leave(p *addrPlace) {
	if p == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.conns--; p.conns == 0 {
		delete(a.places, p.addr)
	}
}
