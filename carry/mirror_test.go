package carry

import (
	"fmt"
	"testing"

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
