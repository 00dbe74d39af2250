package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// ErrSilent says that a node does not answer by UDP.
var ErrSilent = errors.New("no answer")

// Hail asks the node at addr for a sign of life by UDP, as members ask each other, and becomes no member by it. It
// returns how long the answer took. The question is a packet of size bytes, if that is more than what it needs. It
// blocks for within at most, and for as long again if there is a size.
func Hail(ctx context.Context, keys Keys, addr string, size int, within time.Duration) (time.Duration, error) {
	took, sent, err := hail(ctx, keys, addr, "?", within)
	if err != nil || size <= sent {
		return took, err
	}
	// Who asks names itself, and how long that name is nobody cares. A longer one takes two more bytes to say how long.
	took, now, err := hail(ctx, keys, addr, strings.Repeat("?", 1+size-sent-2), within)
	if err == nil && now != size {
		err = fmt.Errorf("node: a packet of %d bytes instead of %d", now, size)
	}
	return took, err
}

func hail(ctx context.Context, keys Keys, addr, name string, within time.Duration) (took time.Duration, sent int, err error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return 0, 0, err
	}
	way, err := net.DialUDP("udp", nil, to) // sends nothing: it tells which address of this machine the answer can come to
	if err != nil {
		return 0, 0, err
	}
	from := way.LocalAddr().(*net.UDPAddr).IP.String()
	_ = way.Close()
	derived := keys.gossip()
	ring, err := memberlist.NewKeyring(derived, derived[0])
	if err != nil {
		return 0, 0, err
	}
	t, err := newTransport(ctx, system{}, net.JoinHostPort(from, "0"), "", ring, zerolog.Nop())
	if err != nil {
		return 0, 0, err
	}
	t.begin()
	m := &measured{transport: t}
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.Transport, mc.Alive, mc.LogOutput = name, m, loner(name), io.Discard
	mc.UDPBufferSize = 1            // so that a question goes alone, and tells nothing of who asks
	mc.EnableCompression = false    // or the name would be no load
	mc.ProbeTimeout = within        // of Ping
	mc.ProbeInterval = time.Hour    // of who is not there
	mc.GossipInterval = time.Hour   // likewise
	mc.PushPullInterval = time.Hour // likewise
	mc.Keyring = ring
	list, err := memberlist.Create(mc)
	if err != nil {
		_ = t.Shutdown()
		return 0, 0, err
	}
	defer list.Shutdown()
	began := time.Now() // what Ping returns counts from when the packet was sent, after which the answer may be there already
	_, err = list.Ping("", to)
	took = time.Since(began)
	if _, is := errors.AsType[memberlist.NoPingResponseError](err); is {
		err = ErrSilent
	}
	return took, int(m.sent.Load()), err
}

// measured notes how large the last packet was.
type measured struct {
	*transport
	sent atomic.Int64
}

// WriteTo implements memberlist.Transport.
func (m *measured) WriteTo(b []byte, addr string) (time.Time, error) {
	m.sent.Store(int64(len(b)))
	return m.transport.WriteTo(b, addr)
}

// loner is who knows nobody but itself, whatever it hears.
type loner string

var errAlone = errors.New("node: not a member")

// NotifyAlive implements memberlist.AliveDelegate.
func (l loner) NotifyAlive(n *memberlist.Node) error {
	if n.Name != string(l) {
		return errAlone
	}
	return nil
}
