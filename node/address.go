package node

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// A node has one address for as long as it runs: the others are told it once, and who is told another would take it for
// another process. So when the host loses that address for good and has another, as after a change of the network, the
// node is cut off from all others and would come and go in their views for ever. It ends then, and whoever started it
// starts it again: it joins at the new address, as TestAllMove shows. An address that is none of the host's own, as
// behind a translating router, is nobody's to watch.

const (
	// addressEvery is how often the host's addresses are looked at, addressGone how long the one that was told may be
	// away: longer than an interface takes to go down and up.
	addressEvery = 2 * time.Second
	addressGone  = 10 * time.Second
)

// ownAddress watches over the address that the others are told.
type ownAddress struct {
	told  netip.Addr
	since time.Time // when it was first seen to be away; zero: it is there
}

// look takes the host's addresses. It returns why the node is to end: nil if it is not.
func (a *ownAddress) look(own []netip.Addr, now time.Time) error {
	others := slices.DeleteFunc(slices.Clone(own), func(o netip.Addr) bool {
		return o.IsLoopback() || o.IsLinkLocalUnicast() || !o.IsValid()
	})
	switch {
	case slices.Contains(own, a.told), len(others) == 0: // it may come back
		a.since = time.Time{}
	case a.since.IsZero():
		a.since = now
	case now.Sub(a.since) >= addressGone:
		return fmt.Errorf("cluster: this host has not the address any more that the other nodes were told "+
			"(%s; it has %s now); a node has one address for as long as it runs: start it again", a.told, others[0])
	}
	return nil
}

// watchAddress ends the node when its address is gone.
func (c *Cluster) watchAddress() {
	defer c.done.Done()
	a := ownAddress{told: c.trans.told.Addr()}
	if own, err := c.net.addresses(); err != nil || !slices.Contains(own, a.told) {
		return
	}
	for c.sleep(addressEvery) {
		own, err := c.net.addresses()
		if err != nil {
			continue
		}
		if why := a.look(own, time.Now()); why != nil {
			c.cfg.OnFail(why)
			return
		}
	}
}
