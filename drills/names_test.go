package drills

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// nameServer is a small DNS server for the nodes of a network. It answers each node as the test says, over UDP.
type nameServer struct {
	w    *network
	conn net.PacketConn

	mu    sync.Mutex
	delay time.Duration
	shows map[string]func(asker netip.Addr) []string // by name; a name that is not there has no address
	fails bool                                       // nobody gets an answer that helps
}

// newNameServer has the nodes of w ask a server of the test's own.
func newNameServer(t *testing.T, w *network) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(w.net+".254", "53"))
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{w: w, conn: conn, shows: make(map[string]func(netip.Addr) []string)}
	t.Cleanup(func() { conn.Close() })
	go s.serve()
	return s
}

// resolve has node i ask the server. Its namespace has its own resolv.conf, which lies where "ip netns exec" looks for
// it.
func (s *nameServer) resolve(i int) {
	s.w.t.Helper()
	dir := filepath.Join("/etc/netns", s.w.space(i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.w.t.Fatal(err)
	}
	s.w.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+s.w.net+".254\noptions attempts:1\n"), 0o644); err != nil {
		s.w.t.Fatal(err)
	}
}

// show says what a name's addresses are, for everybody.
func (s *nameServer) show(name string, addrs ...string) {
	s.showEach(name, func(netip.Addr) []string { return addrs })
}

// showEach says what a name's addresses are for each who asks.
func (s *nameServer) showEach(name string, addrs func(asker netip.Addr) []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shows[name] = addrs
}

// trouble has answers come late, or be of no help.
func (s *nameServer) trouble(delay time.Duration, fails bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay, s.fails = delay, fails
}

func (s *nameServer) serve() {
	for b := make([]byte, 1500); ; {
		n, from, err := s.conn.ReadFrom(b)
		if err != nil {
			return
		}
		q := append([]byte(nil), b[:n]...)
		s.mu.Lock()
		delay := s.delay
		s.mu.Unlock()
		time.AfterFunc(delay, func() {
			if a := s.answer(q, from.(*net.UDPAddr).AddrPort().Addr().Unmap()); a != nil {
				_, _ = s.conn.WriteTo(a, from)
			}
		})
	}
}

// answer answers a question of RFC 1035: 12 bytes of header, a name, a type and a class; nil if it is none.
func (s *nameServer) answer(q []byte, asker netip.Addr) []byte {
	if len(q) < 12 {
		return nil
	}
	var labels []string
	at := 12
	for at < len(q) && q[at] != 0 {
		end := at + 1 + int(q[at])
		if end >= len(q) {
			return nil
		}
		labels = append(labels, string(q[at+1:end]))
		at = end
	}
	if at += 5; at > len(q) {
		return nil
	}
	typ := binary.BigEndian.Uint16(q[at-4:])
	s.mu.Lock()
	fails, shows := s.fails, s.shows[strings.ToLower(strings.Join(labels, "."))]
	s.mu.Unlock()
	code, records := uint16(3), [][]byte(nil) // no such name
	if shows != nil {
		if addrs := shows(asker); len(addrs) > 0 {
			code = 0
			for _, text := range addrs {
				a := netip.MustParseAddr(text)
				if a.Is4() && typ == 1 || a.Is6() && typ == 28 {
					r := []byte{0xc0, 12} // the name asked for
					r = binary.BigEndian.AppendUint16(r, typ)
					r = append(r, 0, 1, 0, 0, 0, 0) // the class; not to be kept
					r = binary.BigEndian.AppendUint16(r, uint16(a.BitLen()/8))
					records = append(records, append(r, a.AsSlice()...))
				}
			}
		}
	}
	if fails {
		code, records = 2, nil // it could not find out
	}
	m := append([]byte(nil), q[:2]...)
	for _, v := range []uint16{0x8180 | code, 1, uint16(len(records)), 0, 0} {
		m = binary.BigEndian.AppendUint16(m, v)
	}
	m = append(m, q[12:at]...)
	for _, r := range records {
		m = append(m, r...)
	}
	return m
}
