package carry

import (
	"slices"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// Of two links to one node the older is hung up, and what waited on it goes on by the newer.
func TestSecondLink(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	d.link(1, "b", 0, true)
	d.ask(10, &codec.Publish{Room: d.elsewhere("b")})
	up := d.link(2, "b", 0, true)
	if !slices.Equal(d.hung, []LinkID{1}) {
		t.Errorf("hung up %v", d.hung)
	}
	up.published(3)
	if len(d.gave) != 1 {
		t.Error("the request was lost")
	}
	d.n.Unlinked(1, d.now) // is no news
	d.settle()
	if d.n.peers["b"].up == nil || len(d.dials) != 1 {
		t.Error("the end of the older link counts as that of the newer")
	}
	d.link(3, "b", 0, false)
	d.link(4, "b", 0, false)
	if !slices.Equal(d.hung, []LinkID{1, 3}) {
		t.Errorf("hung up %v", d.hung)
	}
}

// What the core has asked on a link that another takes the place of is asked again: nobody answers it there.
func TestSecondLinkIsToldWhatTheFirstWas(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	first, id, done := d.link(1, "b", 0, true), d.elsewhere("a"), 0
	head := codec.RoomHead{Room: id, Owner: "alice", NextPub: 1}
	d.n.Core().Create(&codec.RoomState{RoomHead: head}, func(bool) { done++ })
	d.settle()
	second := d.link(2, "b", 0, true)
	asked, again := take[*codec.State](first), take[*codec.State](second)
	if len(asked) != 1 || len(again) != 1 {
		t.Fatalf("told %d times by the first link, %d by the second", len(asked), len(again))
	}
	second.hear(&codec.OK{Req: again[0].Req})
	if done != 1 {
		t.Error("the answer to a change that both know waits for ever")
	}
}

// What a node sends before it is in the view waits, whatever it is.
func TestStrangersWait(t *testing.T) {
	d := newDesk(t)
	w := d.link(1, "b", 0, false)
	if w.port.Ready() {
		t.Fatal("frames of a stranger may come")
	}
	d.view(node.Level, "b")
	if !w.port.Ready() {
		t.Fatal("frames of a member may not come")
	}
	w = d.link(2, "c", 1, false)
	if d.pass(3 * time.Second); w.port.Ready() || !slices.Equal(d.hung, []LinkID{2}) {
		t.Errorf("hung up %v", d.hung)
	}
}
