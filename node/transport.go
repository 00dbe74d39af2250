package node

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// transport carries memberlist's gossip and the node links on one port: UDP is all gossip; a TCP connection that begins with
// LinkMagic is a link, any other is memberlist's.
type transport struct {
	tcp     net.Listener
	udp     net.PacketConn
	log     zerolog.Logger
	onLink  func(net.Conn) // called on a goroutine of its own
	packets chan *memberlist.Packet
	streams chan net.Conn
	stop    chan struct{}
	done    sync.WaitGroup

	mu      sync.Mutex
	pending map[net.Conn]struct{} // connections that have not shown yet what they are, or are shaking hands; nil once stopped
}

// maxPending bounds connections that have not shown yet what they are.
const maxPending = 256

func newTransport(addr string, log zerolog.Logger, onLink func(net.Conn)) (*transport, error) {
	tcp, udp, err := listen(addr)
	if err != nil {
		return nil, err
	}
	t := &transport{
		tcp: tcp, udp: udp, log: log, onLink: onLink, pending: make(map[net.Conn]struct{}),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), stop: make(chan struct{}),
	}
	t.done.Add(2)
	go t.accept()
	go t.receive()
	return t, nil
}

// listen opens the same port for TCP and UDP, also when addr leaves it open.
func listen(addr string) (tcp net.Listener, udp net.PacketConn, err error) {
	for range 10 { // a port that the system chose for the one may be taken for the other
		if tcp, err = net.Listen("tcp", addr); err != nil {
			return nil, nil, err
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close()
	}
	return nil, nil, err
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
		if !t.admit(c) {
			_ = c.Close()
			continue
		}
		go func() {
			defer t.done.Done()
			t.sort(c)
			t.known(c)
		}()
	}
}

// admit counts a connection among the pending ones, unless there are too many already or the transport has stopped.
func (t *transport) admit(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending == nil || len(t.pending) >= maxPending {
		return false
	}
	t.pending[c] = struct{}{}
	t.done.Add(1)
	return true
}

func (t *transport) known(c net.Conn) {
	t.mu.Lock()
	delete(t.pending, c)
	t.mu.Unlock()
}

// sort finds out what a connection is by its first bytes.
func (t *transport) sort(c net.Conn) {
	r := bufio.NewReaderSize(c, 16)
	_ = c.SetReadDeadline(time.Now().Add(HandshakeTimeout))
	head, err := r.Peek(1)
	if err == nil && head[0] == LinkMagic[0] {
		head, err = r.Peek(len(LinkMagic))
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
	case t.streams <- pc:
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

func (t *transport) receive() {
	defer t.done.Done()
	for {
		b := make([]byte, 65536)
		n, from, err := t.udp.ReadFrom(b)
		now := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 1 {
			continue
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: b[:n], From: from, Timestamp: now}:
		case <-t.stop:
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip != "" {
		return net.ParseIP(ip), port, nil
	}
	a := t.tcp.Addr().(*net.TCPAddr)
	if a.IP.IsUnspecified() {
		return nil, 0, errors.New("node: --cluster must name the address that other nodes reach this one at, not " + a.IP.String())
	}
	return a.IP, a.Port, nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteTo(b, a)
	return time.Now(), err
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. It closes what is pending and blocks until its goroutines have ended.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	pending := t.pending
	t.pending = nil
	t.mu.Unlock()
	if pending == nil {
		return nil // it was shut down before
	}
	close(t.stop)
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	for c := range pending {
		_ = c.Close()
	}
	t.done.Wait()
	return err
}
