package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// network is what a cluster needs of the system: sockets, names, and the host's own addresses.
type network interface {
	// listen opens the same port for TCP and UDP, also when addr leaves the port open.
	listen(addr string) (net.Listener, net.PacketConn, error)
	dial(ctx context.Context, addr string) (net.Conn, error)
	// lookup returns a name's addresses. An address is its own.
	lookup(ctx context.Context, host string) ([]netip.Addr, error)
	// addresses returns the host's addresses.
	addresses() ([]netip.Addr, error)
}

// system is the network that there is.
type system struct{}

func (system) listen(addr string) (tcp net.Listener, udp net.PacketConn, err error) {
	for range 10 { // a port that the system chose for the one may be taken for the other
		if tcp, err = net.Listen("tcp", addr); err != nil {
			return nil, nil, err
		}
		at := addr
		if host, port, err := net.SplitHostPort(addr); err == nil && port == "0" {
			at = net.JoinHostPort(host, strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port))
		}
		if udp, err = net.ListenPacket("udp", at); err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close()
	}
	return nil, nil, err
}

func (system) dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func (system) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func (system) addresses() (list []netip.Addr, err error) {
	nets, err := net.InterfaceAddrs()
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			list = append(list, p.Addr().Unmap())
		}
	}
	return list, err
}

// advertised returns the address that the others are told: want, HOST or HOST:PORT, or if that is empty the one that
// this node listens on. If it listens on all, it is the host's only one: of the family that bound names, or else of the
// other. Loopback and link-local addresses do not count where there is another.
func advertised(ctx context.Context, n network, bound netip.AddrPort, want string) (netip.AddrPort, error) {
	if want == "" && !bound.Addr().IsUnspecified() {
		return netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port()), nil
	}
	own, err := n.addresses()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("this host's addresses: %w", err)
	}
	if want != "" {
		return advertisedAs(ctx, n, own, bound.Port(), want)
	}
	likes := func(a netip.Addr) int { // less is better
		switch {
		case a.IsLoopback():
			return 2
		case a.Is4() != bound.Addr().Is4():
			return 1
		}
		return 0
	}
	own = slices.DeleteFunc(own, func(a netip.Addr) bool { return a.IsLinkLocalUnicast() || !a.IsValid() })
	slices.SortStableFunc(own, func(a, b netip.Addr) int { return cmp.Compare(likes(a), likes(b)) })
	if len(own) == 0 {
		return netip.AddrPort{}, errors.New("this host has no address; say with --advertise what the other nodes are to be told")
	}
	if own[0].IsLoopback() { // all of them
		return netip.AddrPortFrom(own[0], bound.Port()), nil
	}
	best := slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool { return likes(a) != likes(own[0]) })
	if len(best) > 1 {
		var list []string
		for _, a := range best {
			list = append(list, a.String())
		}
		return netip.AddrPort{}, fmt.Errorf("this host has several addresses (%s); say with --advertise which of them the other nodes are to be told",
			strings.Join(list, ", "))
	}
	return netip.AddrPortFrom(best[0], bound.Port()), nil
}

// advertisedAs reads HOST or HOST:PORT. Of a name's addresses it takes one of this host's own, if there is one among
// them.
func advertisedAs(ctx context.Context, n network, own []netip.Addr, port uint16, want string) (netip.AddrPort, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(want, "["), "]")
	if h, p, err := net.SplitHostPort(want); err == nil {
		number, err := strconv.ParseUint(p, 10, 16)
		if err != nil || number == 0 {
			return netip.AddrPort{}, fmt.Errorf("--advertise: %q is no port", p)
		}
		host, port = h, uint16(number)
	}
	as, err := n.lookup(ctx, host)
	if err == nil && len(as) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--advertise: %s: %s", host, plain(err))
	}
	at := as[0].Unmap()
	for _, a := range as {
		if slices.Contains(own, a.Unmap()) {
			at = a.Unmap()
			break
		}
	}
	if at.IsUnspecified() || at.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("--advertise: nobody can be reached at %s", at)
	}
	return netip.AddrPortFrom(at, port), nil
}
