package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/pires/go-proxyproto"
)

// A balancer's connection begins with a PROXY header, which says whose it is (haproxy.org/download/3.2/doc/proxy-protocol.txt).

const (
	maxProxyV1 = 107 // bytes of a header of version 1
	minProxyV2 = 16  // and of one of version 2, but for what it says its length is
	maxProxyV2 = minProxyV2 + 4096
)

// balancer reports whether a connection comes from where PROXY headers are believed.
func (e *Engine) balancer(from net.Addr) bool {
	addr := addrOf(from).Addr().WithZone("")
	return slices.ContainsFunc(e.cfg.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// readProxy reads the PROXY header that a balancer begins with, takes the client's address from it, and returns what
// was read too far. The client is held to the limits of its own address, the balancer is not.
func (e *Engine) readProxy(c *net.TCPConn, s *session) (early []byte, err error) {
	from, early, err := proxyHeader(c)
	if err != nil || !from.IsValid() {
		return early, err
	}
	s.rarely().peer = &from
	place, why, text := e.limits.addrs.take(net.TCPAddrFromAddrPort(from), e.now())
	if text != "" {
		e.turned[why].Add(1)
		return nil, errTurnedAway
	}
	s.place = place
	return early, nil
}

// proxyHeader reads a PROXY header, and returns what was read too far. from is not valid if the balancer speaks for
// itself, or does not know the client's address, or that is none of TCP.
func proxyHeader(c io.Reader) (from netip.AddrPort, early []byte, err error) {
	r := bufio.NewReaderSize(c, maxProxyV2)
	n, err := proxyLength(r)
	if err != nil {
		return from, nil, err
	}
	head, err := r.Peek(n)
	if err != nil {
		return from, nil, fmt.Errorf("PROXY header: %w", err)
	}
	// What version 1 calls UNKNOWN the library refuses in version 2.
	if unknown := head[0] == proxyproto.SIGV2[0] && head[12] == byte(proxyproto.PROXY) && head[13] == byte(proxyproto.UNSPEC); !unknown {
		h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(head), n))
		if err != nil {
			return from, nil, fmt.Errorf("PROXY header: %w", err)
		}
		if !h.Command.IsLocal() {
			from = addrOf(h.SourceAddr)
		}
	}
	_, _ = r.Discard(n)
	rest, _ := r.Peek(r.Buffered())
	return from, bytes.Clone(rest), nil
}

// proxyLength returns how many bytes the header that r begins with takes. It reads as far as it must to know that.
func proxyLength(r *bufio.Reader) (int, error) {
	b, err := r.Peek(1)
	if err != nil {
		return 0, silence(err)
	}
	sign, least := proxyproto.SIGV1, 0
	if b[0] == proxyproto.SIGV2[0] {
		sign, least = proxyproto.SIGV2, minProxyV2
	}
	for n := 1; n <= maxProxyV1; n++ {
		if b, err = r.Peek(n); err != nil {
			return 0, fmt.Errorf("PROXY header: %w", err)
		}
		k := min(n, len(sign))
		switch {
		case !bytes.Equal(b[:k], sign[:k]):
			return 0, proxyproto.ErrNoProxyProtocol
		case n == least:
			return n + int(binary.BigEndian.Uint16(b[n-2:])), nil
		case least == 0 && b[n-1] == '\n':
			return n, nil
		}
	}
	return 0, proxyproto.ErrVersion1HeaderTooLong
}
