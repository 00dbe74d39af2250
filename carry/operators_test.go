package carry

import (
	"reflect"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// What operators hear of the cluster, and what they want of other nodes.

// How long a room that is used had no relay is told once, whatever it took; one that was not used yet had lost nothing.
func TestRegained(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	d.link(1, "b", 0, true)
	id := d.elsewhere("b")
	d.ask(10, &codec.Publish{Room: id})
	d.n.Unlinked(1, d.now) // nobody had taken the publisher
	d.settle()
	d.pass(20 * time.Millisecond)
	up := d.link(2, "b", 0, true)
	up.published(3)
	if d.back != nil {
		t.Fatalf("regained %v, and had nothing", d.back)
	}
	d.gave[0].o.Hold(&holder{})
	d.n.Given(d.gave[0].t, true, d.now)
	for i, gone := range []time.Duration{30 * time.Millisecond, 2 * time.Second} {
		d.n.Unlinked(up.id, d.now)
		d.settle()
		d.pass(gone / 2)
		broken := d.link(up.id+1, "b", 0, true) // a link that does not last
		d.n.Unlinked(broken.id, d.now)
		d.settle()
		d.pass(gone / 2)
		up = d.link(broken.id+1, "b", 0, true)
		up.published(3)
		if len(d.back) != i+1 || d.back[i] != gone {
			t.Errorf("regained after %v, want %v", d.back, gone)
		}
	}
}

// What an operator wants of another node comes back answered, or with the reason why it was not asked.
func TestOperate(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	up, down := d.link(1, "b", 0, true), d.link(2, "b", 0, false)
	got := ""
	yield := func(b []byte) { got = string(b) + "." }
	if err := d.n.Operate("b", []byte("wish"), d.now, yield); err != nil {
		t.Fatal(err)
	}
	if d.settle(); len(take[*codec.Operate](up)) != 1 {
		t.Error("nothing was asked")
	}
	up.hear(&codec.Report{Req: Ticket(1).wire(), JSON: []byte("done")})
	if got != "done." {
		t.Errorf("answered %q", got)
	}
	down.hear(&codec.Operate{Req: 7, JSON: []byte("wish")})
	want := []*codec.Report{{Req: 7, JSON: []byte("done: wish")}}
	if said := take[*codec.Report](down); !reflect.DeepEqual(said, want) {
		t.Errorf("answered %v", said)
	}
	got = ""
	_ = d.n.Operate("b", nil, d.now, yield)
	d.n.Unlinked(1, d.now)
	if d.settle(); got != "." {
		t.Errorf("a link that breaks gives %q", got)
	}
	if err := d.n.Operate("b", nil, d.now, yield); err != ErrNode {
		t.Errorf("without a link: %v", err)
	}
	d.view(node.LevelOperate-1, "b")
	d.link(3, "b", 0, true)
	if err := d.n.Operate("b", nil, d.now, yield); err != ErrLevel {
		t.Errorf("of an older version: %v", err)
	}
}
