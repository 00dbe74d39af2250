package engine_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// on returns a logged-in wire to a server in another process.
func on(t testing.TB, addr, account string, instance uint64) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &wire{t: t, c: c}
	w.write(enc((&codec.Hello{Account: account, Instance: instance}).Append(codec.AppendClientPreface(nil, 1, 1))))
	w.preface()
	next[*codec.Welcome](w)
	return w
}

// The subscribers are in a process of their own, for the sake of descriptors.
func TestManySubscribers(t *testing.T) {
	rooms, each, frames := 1, 10_000, 20
	t.Run("one room", func(t *testing.T) { manySubscribers(t, rooms, each, frames) })
	t.Run("many rooms", func(t *testing.T) { manySubscribers(t, 1000, 10, frames) })
}

func manySubscribers(t *testing.T, rooms, each, frames int) {
	if testing.Short() || raceEnabled {
		if rooms > 1 {
			rooms = 50
		} else {
			each = 500
		}
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if most := max(int(min(lim.Cur, 1<<20))-300, 1); rooms*each > most {
		rooms = min(rooms, most)
		each = most / rooms
		t.Logf("%d rooms with %d subscribers each: the descriptor limit is %d", rooms, each, lim.Cur)
	}
	e := start(t, func(c *engine.Config) {
		c.MaxConns, c.MaxHandshakes = 2*rooms*each, rooms*each // whatever the descriptor limit is
		c.Limits.ConnAtOnce, c.Limits.AccountConns = rooms*each+1, rooms*each+1
	})
	crowd := spawn(t, "crowd")
	pub := login(t, e, "alice", 1)
	var srcs []*source
	for range rooms {
		room := pub.register(codec.Register{})
		srcs = append(srcs, newSource(pub, room))
		crowd.tell("join %v %d %d", e.Addrs()[0], uint64(room), each)
	}
	for range rooms {
		if l := crowd.line(); l != "joined" {
			t.Fatal(l)
		}
	}
	for range frames {
		var b []byte
		for _, s := range srcs {
			s.frame(1, 0, make([]byte, 100))
			b = append(b, s.buf...)
			s.buf = s.buf[:0]
		}
		pub.write(b)
	}
	crowd.tell("count %d", frames)
	if l := crowd.line(); l != "counted" {
		t.Fatal(l)
	}
}
