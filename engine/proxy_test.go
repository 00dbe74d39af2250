package engine

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// proxyV2 is a header of version 2.
func proxyV2(command, family byte, body string) string {
	b := append([]byte(string(proxyproto.SIGV2)), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(body)))) + body
}

const (
	four   = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x67\x1c\xe8" // 192.0.2.1:4711 to 198.51.100.2:7400
	six    = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x12\x67\x1c\xe8"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x02" + "\x12\x67\x1c\xe8"
	tlvs   = "\x01\x00\x02h2" + "\x04\x00\x03\x00\x00\x00" + "\xea\x00\x00" // ALPN, padding, one of somebody's own
)

// proxyCases are headers as the specification of the PROXY protocol has them, and as it does not.
var proxyCases = []struct {
	name, head string
	from       string // that is believed; "": none, and it goes on; "refused": it does not
}{
	{"1: IPv4", "PROXY TCP4 192.0.2.1 198.51.100.2 4711 7400\r\n", "192.0.2.1:4711"},
	{"1: IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 4711 7400\r\n", "[2001:db8::1]:4711"},
	{"1: the longest IPv6", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"1: IPv4 within IPv6 is IPv4", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 4711 7400\r\n", "192.0.2.1:4711"},
	{"1: unknown", "PROXY UNKNOWN\r\n", ""},
	{"1: unknown, with addresses that do not count", "PROXY UNKNOWN 192.0.2.1 198.51.100.2 4711 7400\r\n", ""},
	{"1: unknown, with anything", "PROXY UNKNOWN what ever it may be, up to the end\r\n", ""},
	{"1: unknown, as long as may be", "PROXY UNKNOWN " + strings.Repeat("f", 107-16) + "\r\n", ""},
	{"1: a byte too long", "PROXY UNKNOWN " + strings.Repeat("f", 108-16) + "\r\n", "refused"},
	{"1: a line that never ends", "PROXY TCP4 " + strings.Repeat("1", 4000), "refused"},
	{"1: no CR", "PROXY TCP4 192.0.2.1 198.51.100.2 4711 7400\n", "refused"},
	{"1: lower case", "proxy TCP4 192.0.2.1 198.51.100.2 4711 7400\r\n", "refused"},
	{"1: two spaces", "PROXY  TCP4 192.0.2.1 198.51.100.2 4711 7400\r\n", "refused"},
	{"1: no space", "PROXYTCP4 192.0.2.1 198.51.100.2 4711 7400\r\n", "refused"},
	{"1: no family", "PROXY\r\n", "refused"},
	{"1: a family that there is not", "PROXY UDP4 192.0.2.1 198.51.100.2 4711 7400\r\n", "refused"},
	{"1: addresses of the other family", "PROXY TCP4 2001:db8::1 2001:db8::2 4711 7400\r\n", "refused"},
	{"1: no address", "PROXY TCP4 192.0.2.256 198.51.100.2 4711 7400\r\n", "refused"},
	{"1: a name", "PROXY TCP4 example.org 198.51.100.2 4711 7400\r\n", "refused"},
	{"1: no ports", "PROXY TCP4 192.0.2.1 198.51.100.2\r\n", "refused"},
	{"1: a port too high", "PROXY TCP4 192.0.2.1 198.51.100.2 65536 7400\r\n", "refused"},
	{"1: a port below 0", "PROXY TCP4 192.0.2.1 198.51.100.2 -1 7400\r\n", "refused"},
	{"1: no number", "PROXY TCP4 192.0.2.1 198.51.100.2 http 7400\r\n", "refused"},
	{"2: IPv4", proxyV2(0x21, 0x11, four), "192.0.2.1:4711"},
	{"2: IPv6", proxyV2(0x21, 0x21, six), "[2001:db8::1]:4711"},
	{"2: IPv4 within IPv6 is IPv4", proxyV2(0x21, 0x21, mapped), "192.0.2.1:4711"},
	{"2: with TLVs", proxyV2(0x21, 0x11, four+tlvs), "192.0.2.1:4711"},
	{"2: TLVs that end early, which nobody looks at", proxyV2(0x21, 0x11, four+"\x01\xff\xff"), "192.0.2.1:4711"},
	{"2: as long as may be", proxyV2(0x21, 0x11, four+strings.Repeat("\x04", 4096-len(four))), "192.0.2.1:4711"},
	{"2: a byte too long", proxyV2(0x21, 0x11, four+strings.Repeat("\x04", 4097-len(four))), "refused"},
	{"2: much too long", proxyV2(0x21, 0x11, strings.Repeat("\x04", 65535)), "refused"},
	{"2: datagrams", proxyV2(0x21, 0x12, four), ""},
	{"2: a socket of a machine", proxyV2(0x21, 0x31, strings.Repeat("/", 216)), ""},
	{"2: an unknown family", proxyV2(0x21, 0x00, ""), ""},
	{"2: an unknown family, with something", proxyV2(0x21, 0x00, "whatever"), ""},
	{"2: of the balancer itself", proxyV2(0x20, 0x00, ""), ""},
	{"2: of itself, with addresses that do not count", proxyV2(0x20, 0x11, four+tlvs), ""},
	{"2: of itself, with a family and no addresses", proxyV2(0x20, 0x11, ""), ""},
	{"2: too short for IPv4", proxyV2(0x21, 0x11, four[:11]), "refused"},
	{"2: too short for IPv6", proxyV2(0x21, 0x21, four), "refused"},
	{"2: too short for a socket of a machine", proxyV2(0x21, 0x31, four), "refused"},
	{"2: a command that there is not", proxyV2(0x22, 0x11, four), "refused"},
	{"2: another version", proxyV2(0x11, 0x11, four), "refused"},
	{"2: a family that there is not", proxyV2(0x21, 0x41, four), "refused"},
	{"2: a transport that there is not", proxyV2(0x21, 0x13, four), "refused"},
	{"2: a signature with a wrong byte", "\r\n\r\n\x00\r\nQUIT\x0b" + proxyV2(0x21, 0x11, four)[12:], "refused"},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "refused"},
	{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "refused"},
	{"the protocol itself", "TMDG\x01\x01\x00\x00", "refused"},
}

// TestProxyCases: whatever comes, in one read and cut in two at any place, the address that is believed is the right one,
// and what lies behind the header is kept. What is wrong is refused without waiting for more than a header has.
func TestProxyCases(t *testing.T) {
	const behind = "what follows"
	for _, c := range proxyCases {
		t.Run(c.name, func(t *testing.T) {
			all := c.head + behind
			cuts := []int{0}
			for n := 1; n < len(all); n += 1 + len(all)/200 {
				cuts = append(cuts, n)
			}
			for _, cut := range cuts {
				r := &pieces{strings.NewReader(all[:cut]), strings.NewReader(all[cut:])}
				from, early, err := proxyHeader(r)
				if refused := c.from == "refused"; (err != nil) != refused {
					t.Fatalf("cut at %d: from %v, %v", cut, from, err)
				} else if refused {
					continue
				}
				rest, _ := io.ReadAll(r)
				if string(early)+string(rest) != behind {
					t.Fatalf("cut at %d: behind it %q and %q", cut, early, rest)
				}
				if got := from.String(); from.IsValid() && got != c.from || !from.IsValid() && c.from != "" {
					t.Fatalf("cut at %d: from %s, want %q", cut, got, c.from)
				}
			}
		})
	}
}

// pieces are read one after the other, never two at once.
type pieces []io.Reader

func (p *pieces) Read(b []byte) (int, error) {
	for len(*p) > 0 {
		n, err := (*p)[0].Read(b)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			*p = (*p)[1:]
		}
	}
	return 0, io.EOF
}

// TestProxyHeaderThatIsWrongIsNotWaitedFor: what cannot become a header is refused by the first byte that shows it.
func TestProxyHeaderThatIsWrongIsNotWaitedFor(t *testing.T) {
	for name, sent := range map[string]string{
		"TLS": "\x16", "HTTP": "G", "a word like it": "PROXZ", "another signature": "\r\n\r\nx", "what looks like version 2": "\r\n\r\n\x00\r\nQUIX",
	} {
		near, far := net.Pipe()
		go func() { _, _ = far.Write([]byte(sent)) }() // and nothing more, without an end
		if _, _, err := proxyHeader(near); err == nil {
			t.Errorf("%s: taken for a header", name)
		}
		near.Close()
		far.Close()
	}
}

// TestAddressesAreAsPeopleWriteThem: a client of IPv4 has the same address whatever the socket that it came in by.
func TestAddressesAreAsPeopleWriteThem(t *testing.T) {
	for want, a := range map[string]net.Addr{
		"192.0.2.1:5":      &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 5},
		"192.0.2.1:6":      &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1).To16(), Port: 6},
		"[2001:db8::1]:7":  &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 7},
		"[fe80::1%eth0]:8": &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 8, Zone: "eth0"},
		"invalid AddrPort": &net.UnixAddr{Name: "x"},
	} {
		if got := addrOf(a).String(); got != want {
			t.Errorf("%v is %s, want %s", a, got, want)
		}
	}
}
