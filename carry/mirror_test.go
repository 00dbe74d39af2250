package carry

import (
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// However many streams a mirror has, what it asks with fits: all of it where the other node understands that, otherwise
// what does.
func TestMirrorOfManyStreams(t *testing.T) {
	for level := range uint8(node.Level + 1) {
		t.Run(fmt.Sprint("level=", level), func(t *testing.T) {
			d := newDesk(t)
			d.view(level, "b")
			id := d.elsewhere("b")
			up := d.link(1, "b", 0, true)
			r, err := d.rooms.Mirror(&codec.RoomHead{Room: id, Owner: "alice"}, d.now)
			if err != nil {
				t.Fatal(err)
			}
			h := &holder{}
			for pub := range uint16(30) {
				p, err := r.Told(0, h, pub+1, "alice", codec.Life{Epoch: 1, Birth: 2, Version: uint64(pub)}, 0)
				if err != nil {
					t.Fatal(err)
				}
				for dtype := range 256 {
					g := codec.Gap{Room: id, StreamKey: codec.StreamKey{Pub: pub + 1, Dtype: uint8(dtype)}, From: 1, To: 5}
					if err := p.PushGap(h, g, d.now); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.Whole(0)
			e := d.n.edge(id)
			e.mirror, e.whole, e.wanted = r, true, true
			d.n.drive(e)
			d.settle()
			told, pubs := 0, 0
			for _, m := range up.sent {
				if b, err := m.Append(nil); err != nil || len(b) > codec.MaxFrame {
					t.Errorf("%T: %d bytes, %v", m, len(b), err)
				}
				switch m := m.(type) {
				case *codec.Have:
					for _, p := range m.Pubs {
						told += len(p.Streams)
						if p.Version != uint64(p.Num-1) {
							t.Errorf("publisher %d has the life %v", p.Num, p.Life)
						}
						pubs++
					}
				case *codec.Mirror:
					told += len(m.Have)
				}
			}
			want := codec.MaxMirrorPositions
			if level >= node.LevelChanges {
				want = 30 * 256
			}
			if told != want {
				t.Errorf("%d positions told, want %d", told, want)
			}
		})
	}
}

// lossless is the head of a room as its relay b tells it.
func lossless(id codec.RoomID, epoch uint32, relay string) codec.RoomHead {
	return codec.RoomHead{
		Room: id, Owner: "alice", Epoch: epoch, Relay: relay, Birth: 2, NextPub: 1,
		RoomSettings: codec.RoomSettings{Policy: codec.PolicyLossless},
	}
}

// wanted answers the request for a mirror that was sent last.
func (w *wire) wanted(head codec.RoomHead) (req uint32) {
	w.d.Helper()
	m := take[*codec.Mirror](w)
	if len(m) != 1 {
		w.d.Fatalf("%d requests for a mirror", len(m))
	}
	w.hear(&codec.Mirrored{Req: m[0].Req, RoomHead: head})
	return m[0].Req
}

// detour has node c ask for a lossless room of b's by way of this node, which has asked b by req.
func (d *desk) detour() (id codec.RoomID, up, c *wire, req uint32) {
	d.view(node.Level, "b", "c")
	up = d.link(1, "b", 0, true)
	d.link(2, "c", 1, true)
	c = d.link(3, "c", 1, false)
	id = d.elsewhere("b")
	c.hear(&codec.Mirror{Req: 5, Room: id, Flags: codec.MirrorNew | codec.MirrorThrough})
	return id, up, c, up.wanted(lossless(id, 1, "b"))
}

// A node waits for a room by way of this one: nothing that comes counts as arrived before it has its seat.
func TestNothingCountsBeforeGuestsAreSeated(t *testing.T) {
	for _, how := range []string{"seated", "gone"} {
		t.Run(how, func(t *testing.T) {
			d := newDesk(t)
			id, up, _, req := d.detour()
			r := d.n.edges[id].mirror
			up.port.whole(req)
			d.n.Report(1, answered{req, &codec.OK{Req: req}}, d.now)
			if how == "gone" { // what it was told is lost with it
				d.did = nil
			}
			if e := d.n.edges[id]; e.phase != fed || e.coming() != 1 || r.Stale() {
				t.Fatalf("phase %d, %d are on their way", e.phase, e.coming())
			}
			if how == "gone" {
				d.n.Unlinked(3, d.now)
			}
			d.settle()
			if n := d.n.edges[id].coming(); n != 0 {
				t.Errorf("%d are on their way still", n)
			}
		})
	}
}

// An attempt that is over, of which another loop has not heard yet, leaves the mirror alone that the newer one has
// made.
func TestNewerAttemptKeepsItsMirror(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b", "c")
	id := d.elsewhere("b")
	b, c := d.link(1, "b", 0, true), d.link(2, "c", 1, true)
	older, newer := d.n.next(), d.n.next()
	feedRoom{ticket: older, room: id, fresh: true}.do(b.port, d.now)
	feedRoom{ticket: newer, room: id, fresh: true}.do(c.port, d.now)
	head := lossless(id, 1, "b")
	c.port.mirrored(&codec.Mirrored{Req: newer.wire(), RoomHead: head}, d.now)
	r, err := d.rooms.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	b.port.mirrored(&codec.Mirrored{Req: older.wire(), RoomHead: head}, d.now)
	if is, err := d.rooms.Get(id); is != r {
		t.Errorf("the mirror of the newer attempt is gone: %v", err)
	}
}

// Who has a room by way of this node is sent away when that goes on in a newer reign.
func TestNewerReignSendsGuestsAway(t *testing.T) {
	d := newDesk(t)
	id, up, c, req := d.detour()
	up.hear(&codec.OK{Req: req})
	if len(c.subs) != 1 || len(take[*codec.Moved](c)) != 0 {
		t.Fatalf("%d members", len(c.subs))
	}
	up.hear(&codec.Moved{Room: id})
	d.pass(time.Second)
	up.wanted(lossless(id, 2, "b"))
	if m := take[*codec.Moved](c); len(m) != 1 || m[0].To != "b" || len(c.port.members) != 0 {
		t.Errorf("told %v, %d members", m, len(c.port.members))
	}
}

// An edge that pauses goes at once where it is sent then.
func TestPauseIsOfOneTarget(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b", "c")
	up := d.link(1, "b", 0, true)
	c := d.link(2, "c", 1, true)
	id := d.elsewhere("b")
	d.ask(10, &codec.Subscribe{Room: id})
	m := take[*codec.Mirror](up)
	if len(m) != 1 {
		t.Fatalf("%d requests for a mirror", len(m))
	}
	up.hear(&codec.Refused{Req: m[0].Req, Code: codec.CodeOverloaded})
	if e := d.n.edges[id]; !e.paused {
		t.Fatal("it does not pause")
	}
	d.n.aim(id, "c")
	d.n.leave()
	d.settle()
	if n := len(take[*codec.Mirror](c)); n != 1 {
		t.Errorf("%d requests for a mirror", n)
	}
	if d.pass(time.Second); len(take[*codec.Mirror](c)) != 0 {
		t.Error("it asks twice")
	}
}
