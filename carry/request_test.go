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

// A room has ended at its relay, whose core has not heard of that yet: a node that wants it by way of this one, as if
// another relayed it, is told that there is none.
func TestNoDetourToWhatIsRelayedHere(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	d.link(1, "b", 0, true)
	b := d.link(2, "b", 0, false)
	id := d.elsewhere("a")
	head := codec.RoomHead{Room: id, Owner: "alice", Epoch: 1, Relay: "gone", Birth: 99, NextPub: 1}
	b.hear(&codec.State{Req: 1, RoomState: codec.RoomState{RoomHead: head}})
	r, err := d.rooms.Get(id)
	if err != nil || !d.n.Core().Relays(id) {
		t.Fatalf("not taken over: %v", err)
	}
	d.rooms.End(r, codec.CodeRemoved)
	b.sent = nil
	b.hear(&codec.Mirror{Req: 5, Room: id, Flags: codec.MirrorThrough})
	if got := take[*codec.Refused](b); len(got) != 1 || got[0].Code != codec.CodeRoomUnknown {
		t.Errorf("told %v", got)
	}
}
