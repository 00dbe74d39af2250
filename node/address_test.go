package node

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestOwnAddress: a node ends when the address that the others were told has gone for good and the host has another, and
// not while an interface is down, or goes down and up.
func TestOwnAddress(t *testing.T) {
	const here, gone, none = "127.0.0.1 10.0.0.1", "127.0.0.1 fe80::1 10.0.0.9", "127.0.0.1 fe80::1"
	for name, c := range map[string]struct {
		looks []string // of addresses, 4 s apart
		ends  bool
	}{
		"it stays":               {[]string{here, here, here, here, here}, false},
		"another comes":          {[]string{here, here + " 10.0.0.9", here + " 10.0.0.9", here + " 10.0.0.9", here + " 10.0.0.9"}, false},
		"it changes":             {[]string{here, gone, gone, gone, gone}, true},
		"it changes and is back": {[]string{here, gone, gone, here, gone, gone, gone}, false},
		"the interface is down":  {[]string{here, none, none, none, none, none}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, now := ownAddress{told: netip.MustParseAddr("10.0.0.1")}, time.Unix(1e9, 0)
			var err error
			for _, look := range c.looks {
				var own []netip.Addr
				for _, s := range strings.Fields(look) {
					own = append(own, netip.MustParseAddr(s))
				}
				if err = a.look(own, now); err != nil && !c.ends {
					t.Fatal(err)
				}
				now = now.Add(4 * time.Second)
			}
			if (err != nil) != c.ends {
				t.Errorf("it ends: %v", err)
			}
		})
	}
}
