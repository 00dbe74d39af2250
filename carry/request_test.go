package carry

import (
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// What a request takes while it waits for its room is counted for who asks, the lists in it above all, until it is
// answered or its session has left.
func TestAsksAreHeld(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b") // to which there is no link
	id := d.elsewhere("b")
	long := &codec.Subscribe{Room: id, Have: make([]codec.Position, 4096)}
	inbox := &codec.Inbox{Room: id, Accept: make([]string, 1024)}
	for i := range inbox.Accept {
		inbox.Accept[i] = "somebody"
	}
	least := 0
	for s, m := range []codec.Control{long, long, inbox} {
		d.ask(SessionID(10+s), m)
		if least += 16 << 10; d.pool.Held() < int64(least) {
			t.Errorf("%d bytes are held for %d requests", d.pool.Held(), s+1)
		}
	}
	d.n.Left(10, d.now)
	d.pass(11 * time.Second)
	if n := d.pool.Held(); n != 0 {
		t.Errorf("%d bytes are held though all is answered: %q", n, d.said)
	}
}
