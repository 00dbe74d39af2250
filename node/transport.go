package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// transport carries memberlist's gossip and the node links on one port: UDP is all gossip; a TCP connection that begins
// with LinkMagic is a link, any other is memberlist's.
type transport struct {
	net     network
	tcp     net.Listener
	udp     net.PacketConn
	told    netip.AddrPort // the address that others are told
	keys    *memberlist.Keyring
	log     zerolog.Logger
	onLink  func(net.Conn)                 // called on a goroutine of its own
	odd     func(from net.Addr, err error) // hears of what a member says that means nothing; any goroutine
	packets chan *memberlist.Packet
	streams chan net.Conn
	stop    chan struct{}
	done    sync.WaitGroup

	mu     sync.Mutex
	places map[netip.Prefix][]*guest // by address, oldest first: connections that have not proved the cluster key; nil once stopped
	held   int                       // all of these
}

const (
	// maxPlaces bounds connections that have not proved the cluster key, maxPlacesPer those from one address (of IPv6 one
	// /64). Where there are as many, the oldest goes: a node is done within milliseconds.
	maxPlaces    = 256
	maxPlacesPer = 32
	// maxUnproved bounds what a stream of gossip may hold before it is unsealed: as much as the states of some 500 nodes,
	// of more when they are compressed. A link's handshake may hold strangerBytes.
	maxUnproved = 64 << 10
)

func newTransport(ctx context.Context, n network, bind, advertise string, keys *memberlist.Keyring, log zerolog.Logger) (*transport, error) {
	tcp, udp, err := n.listen(bind)
	if err != nil {
		return nil, err
	}
	bound := tcp.Addr().(*net.TCPAddr).AddrPort()
	told, err := advertised(ctx, n, netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port()), advertise)
	if err != nil {
		return nil, errors.Join(err, tcp.Close(), udp.Close())
	}
	t := &transport{
		net: n, tcp: tcp, udp: udp, told: told, keys: keys, log: log, places: make(map[netip.Prefix][]*guest),
		onLink: func(c net.Conn) { _ = c.Close() }, odd: func(net.Addr, error) {},
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), stop: make(chan struct{}),
	}
	return t, nil
}

// begin has what comes be taken, now that onLink and odd are set.
func (t *transport) begin() {
	t.done.Add(2)
	go t.accept()
	go t.receive()
}

func (t *transport) accept() {
	defer t.done.Done()
	for {
		c, err := t.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.log.Warn().Err(err).Msg("accepting from nodes failed")
			select {
			case <-time.After(10 * time.Millisecond):
			case <-t.stop:
				return
			}
			continue
		}
		if p := t.admit(c); p != nil {
			go func() {
				defer t.done.Done()
				t.sort(p)
			}()
		}
	}
}

// guest is a connection that has not proved the cluster key.
type guest struct {
	net.Conn
	t    *transport
	at   netip.Prefix
	once sync.Once
}

// leave gives the place up: the connection has proved the key, or is closed.
func (g *guest) leave() {
	g.once.Do(func() {
		t := g.t
		t.mu.Lock()
		defer t.mu.Unlock()
		list := t.places[g.at]
		if i := slices.Index(list, g); i >= 0 {
			t.held--
			if list = slices.Delete(list, i, i+1); len(list) == 0 {
				delete(t.places, g.at)
			} else {
				t.places[g.at] = list
			}
		}
	})
}

// Close closes the connection and gives the place up.
func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}

// admit gives a connection a place. Where all are taken the oldest loses its own: that of the same address, or of the
// address that has most. It returns nil, and has closed the connection, if the transport has stopped.
func (t *transport) admit(c net.Conn) *guest {
	p := &guest{Conn: c, t: t, at: origin(c.RemoteAddr())}
	t.mu.Lock()
	if t.places == nil {
		t.mu.Unlock()
		_ = c.Close()
		return nil
	}
	var out *guest
	if list := t.places[p.at]; len(list) >= maxPlacesPer {
		out = list[0]
	} else if t.held >= maxPlaces {
		most := list
		for _, list := range t.places {
			if len(list) > len(most) {
				most = list
			}
		}
		out = most[0]
	}
	t.places[p.at] = append(t.places[p.at], p)
	t.held++
	t.done.Add(1)
	t.mu.Unlock()
	if out != nil {
		_ = out.Close()
	}
	return p
}

// origin is what counts as one address.
func origin(a net.Addr) netip.Prefix {
	var at netip.Addr
	if tcp, ok := a.(*net.TCPAddr); ok {
		at = tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	bits := at.BitLen()
	if at.Is6() {
		bits = 64
	}
	p, _ := at.Prefix(bits)
	return p
}

// sort finds out what a connection is by its first bytes. A link leaves its place when onLink has it proved; a stream
// of gossip keeps it until memberlist closes it, which it does within its time-out.
func (t *transport) sort(c *guest) {
	r := bufio.NewReaderSize(c, 16)
	_ = c.SetReadDeadline(time.Now().Add(HandshakeTimeout))
	head, err := r.Peek(1)
	if err == nil {
		switch head[0] {
		case LinkMagic[0]:
			head, err = r.Peek(len(LinkMagic))
		case sealed:
			if head, err = r.Peek(sealedHead); err == nil && binary.BigEndian.Uint32(head[1:]) > maxUnproved {
				err = errTooMuch
			}
		default:
			err = ErrStranger // all gossip is sealed
		}
	}
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	rest, _ := r.Peek(r.Buffered())
	pc := &peeked{Conn: c, head: append([]byte(nil), rest...)}
	if string(head) == LinkMagic {
		t.onLink(pc)
		return
	}
	select {
	case t.streams <- &gossiped{Conn: pc, keys: t.keys, odd: t.odd}:
	case <-t.stop:
		_ = c.Close()
	}
}

// peeked gives back the bytes that were read to find out what the connection is.
type peeked struct {
	net.Conn
	head []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// proved gives up the place of a connection whose peer has proved the cluster key.
func proved(c net.Conn) {
	if pc, ok := c.(*peeked); ok {
		if p, ok := pc.Conn.(*guest); ok {
			p.leave()
		}
	}
}

func (t *transport) receive() {
	defer t.done.Done()
	b := make([]byte, 65536)
	for {
		n, from, err := t.udp.ReadFrom(b)
		now := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 1 {
			continue
		}
		if err := checkSealed(t.keys.GetKeys(), b[:n], nil); err != nil {
			t.odd(from, err)
			continue
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: bytes.Clone(b[:n]), From: from, Timestamp: now}:
		case <-t.stop:
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.told.Addr().AsSlice(), int(t.told.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	a, err := netip.ParseAddrPort(addr) // never a name, which would be looked up
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteTo(b, net.UDPAddrFromAddrPort(a))
	return time.Now(), err
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := t.net.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &gossiped{Conn: c, keys: t.keys, odd: t.odd}, nil
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. It closes what has not proved the key and blocks until its goroutines have
// ended.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	places := t.places
	t.places = nil
	t.mu.Unlock()
	if places == nil {
		return nil // it was shut down before
	}
	close(t.stop)
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	for _, list := range places {
		for _, p := range list {
			_ = p.Conn.Close()
		}
	}
	t.done.Wait()
	return err
}
