package engine

import (
	"net"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// What ends thousands of sessions at a time, as a bound on memory ends an account's, closes them over many rounds of
// the loop, between which it reads its sockets. What they hold is free at once.
func TestManyAreClosedInRounds(t *testing.T) {
	const conns = 5 * closesAtOnce
	e, err := Start(Config{Listen: []string{"127.0.0.1:0"}, Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.close() })
	hello, err := (&codec.Hello{Account: "alice", Instance: 1}).Append(
		codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax))
	if err != nil {
		t.Fatal(err)
	}
	half := append(hello, 0xf0, 0, codec.TypeSubscribe)
	half = append(half, make([]byte, 8<<10)...) // the beginning of a frame
	for range conns {
		c, err := net.Dial("tcp", e.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write(half); err != nil {
			t.Fatal(err)
		}
	}
	l := e.loops[0]
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			var is bool
			l.onLoop(func() { is = done() })
			if is {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not after a minute", what)
			}
		}
	}
	until("all are in, with what they sent", func() bool {
		n := 0
		for _, s := range l.sessions {
			if len(s.partial()) > 8<<10 {
				n++
			}
		}
		return n == conns
	})
	l.onLoop(func() {
		share := l.sessions[0].share
		share.Hold(1 << 40)
		_ = e.rooms.Balance(1 << 20) // finds that the account holds too much
		l.relieve(reliefSessions)
		share.Hold(-1 << 40)
		for _, s := range l.sessions {
			if !s.doomed || s.partial() != nil {
				t.Errorf("a session is to be closed: %v, and holds %d bytes", s.doomed, cap(s.partial()))
				break
			}
		}
		l.settle()
		if n := conns - len(l.sessions); n == 0 || n > closesAtOnce {
			t.Errorf("%d of %d connections were closed at once, want 1 to %d", n, conns, closesAtOnce)
		}
	})
	until("all are closed", func() bool { return len(l.sessions) == 0 })
}
