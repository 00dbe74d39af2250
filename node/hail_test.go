package node

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// Who is hailed answers, whatever the size, and takes nobody in.
func TestHail(t *testing.T) {
	keys := Keys{NewKey()}
	c, err := Join(Config{Name: "one", Bind: "127.0.0.1:0", Keys: keys, Log: zerolog.Nop(), OnView: func(*View) {}, OnLink: func(l *Link, _ Peer) { _ = l.Close() }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Shutdown()
	for _, size := range []int{0, 300, 1200, 1472} {
		if took, err := Hail(t.Context(), keys, c.Addr(), size, time.Minute); err != nil || took <= 0 {
			t.Errorf("a packet of %d bytes: %v, %v", size, took, err)
		}
	}
	if n := c.list.NumMembers(); n != 1 {
		t.Errorf("%d members", n)
	}
	const short = 100 * time.Millisecond // for an answer that cannot come
	if _, err := Hail(t.Context(), Keys{NewKey()}, c.Addr(), 0, short); !errors.Is(err, ErrSilent) {
		t.Errorf("with another key: %v", err)
	}
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if _, err := Hail(t.Context(), keys, nobody.LocalAddr().String(), 0, short); !errors.Is(err, ErrSilent) {
		t.Errorf("of who does not answer: %v", err)
	}
}
