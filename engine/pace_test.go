package engine_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// In a latest room the kernel holds no more for a subscriber that does not read than its path has room for and a
// little, so that what it gets when it reads again is new.
func TestLatestUnsent(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Loops = 1 })
	pub := login(t, e, "alice", 1)
	room := pub.register(codec.Register{Policy: codec.PolicyLatest})
	src := newSource(pub, room)
	slow := narrow(t, e, "mallory", 2)
	slow.subscribe(room)
	fast := login(t, e, "bob", 3)
	fast.subscribe(room)
	v := newVerifier(room)
	for range 2000 {
		for range 10 {
			src.push(1, 0, make([]byte, 1000))
		}
		v.upTo(fast, src.key(1), src.seq[1])
	}
	fd := e.Descriptor("mallory", 2)
	unsent, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
	if err != nil {
		t.Fatal(err)
	}
	if most := 16 << 10; unsent > most {
		t.Errorf("%d bytes are unsent, at most %d", unsent, most)
	}
}
