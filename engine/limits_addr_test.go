package engine

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

func tcp(s string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(s), 7))
}

func TestRate(t *testing.T) {
	const second = int64(time.Second)
	r, now := newRate(10, 2*time.Second), 100*second
	clock := int64(0)
	for n := range 20 { // two seconds' worth at once
		if clock = r.pay(clock, 1, now); clock > now {
			t.Fatalf("over the rate after %d", n+1)
		}
	}
	if clock = r.pay(clock, 5, now); clock != now+second/2 {
		t.Errorf("five too many are paid for after %v", time.Duration(clock-now))
	}
	if clock = r.pay(clock, 1, now+second/2); clock != now+second/2+second/10 {
		t.Errorf("one more at that time: %v", time.Duration(clock-now))
	}
	if c := (rate{}).pay(5, 1<<40, now); c > now {
		t.Error("no rate is a bound")
	}
}

func TestAddrLimiter(t *testing.T) {
	const now = int64(1000 * time.Second)
	limiter := func() *addrLimiter {
		return newAddrLimiter(newRate(1, 3*time.Second), 1000, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	}
	taken := func(a *addrLimiter, now int64, addrs ...string) (n int) {
		for i := range 10 {
			if _, _, refused := a.take(tcp(addrs[i%len(addrs)]), now); refused == "" {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name  string
		addrs []string
		want  int
	}{
		{"one address", []string{"192.0.2.1"}, 3},
		{"two addresses", []string{"192.0.2.1", "192.0.2.2"}, 6},
		{"IPv4 in IPv6", []string{"192.0.2.1", "::ffff:192.0.2.1"}, 3},
		{"one /64", []string{"2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:0:8000::"}, 3},
		{"two /64", []string{"2001:db8::1", "2001:db8:0:1::1"}, 6},
		{"exempt", []string{"10.1.2.3"}, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := limiter()
			if n := taken(a, now, c.addrs...); n != c.want {
				t.Errorf("%d of 10 connections", n)
			}
			// Refused connections cost nothing: as time goes on there are as many as if they had not been.
			if n := taken(a, now+int64(2*time.Second), c.addrs[0]); c.want < 10 && n != 2 {
				t.Errorf("%d of 10 connections two seconds later", n)
			}
		})
	}
}

// What an address has at once is bounded, and comes back when a connection ends; who is exempt is not counted.
func TestConnectionsOfAnAddressAtOnce(t *testing.T) {
	a := newAddrLimiter(rate{}, 2, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	var places []*addrPlace
	for i, c := range []struct {
		addr string
		why  turned
		ok   bool
	}{
		{"192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", turnedCrowd, false}, {"192.0.2.2", 0, true},
		{"10.0.0.1", 0, true}, {"10.0.0.1", 0, true}, {"10.0.0.1", 0, true},
	} {
		place, why, text := a.take(tcp(c.addr), 1)
		if ok := text == ""; ok != c.ok || why != c.why {
			t.Errorf("connection %d, of %s: %q", i, c.addr, text)
		}
		places = append(places, place)
	}
	a.leave(places[0])
	if _, _, text := a.take(tcp("192.0.2.1"), 1); text != "" {
		t.Errorf("after one has left: %s", text)
	}
	for _, p := range places[1:] {
		a.leave(p)
	}
	if len(a.places) != 1 {
		t.Errorf("%d addresses are kept", len(a.places))
	}
}

// TestAddrLimiterManyAddresses: a crowd of heavy addresses, as many as a /112 has, does not keep others out, and takes
// no memory.
func TestAddrLimiterManyAddresses(t *testing.T) {
	const now = int64(1000 * time.Second)
	a := newAddrLimiter(newRate(1, 3*time.Second), 1000, nil)
	heavy := make([]net.Addr, 4096)
	for i := range heavy {
		ip := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0xc6120000+uint32(i))))
		heavy[i] = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 1))
		for range 5 {
			a.take(heavy[i], now)
		}
	}
	refused := 0
	for i := range 4096 {
		ip := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0xcb007100+uint32(i))))
		if _, _, text := a.take(net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 1)), now); text != "" {
			refused++
		}
	}
	// An address shares both its places with heavy ones in about one case of sixty: (4096/32768)^2.
	if refused > 4096/16 {
		t.Errorf("%d of 4096 others were refused", refused)
	}
	if n := testing.AllocsPerRun(100, func() { a.take(heavy[0], now) }); n > 0 {
		t.Errorf("%v allocations for a connection", n)
	}
}

func BenchmarkCharge(b *testing.B) {
	for name, c := range map[string]Limits{
		"off": {}, "session": {SessionFrames: 1, SessionBytes: 1},
		"account": {SessionFrames: 1, SessionBytes: 1, AccountFrames: 1, AccountBytes: 1},
	} {
		b.Run(name, func(b *testing.B) {
			e := &Engine{}
			e.limits.init(&c)
			s := &session{share: e.pool.Share("alice"), loop: &loop{eng: e, now: 1}}
			ps := s.pushes()
			b.ReportAllocs()
			for b.Loop() {
				s.charge(ps, 50, 50_000)
			}
		})
	}
}
