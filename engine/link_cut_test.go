package engine_test

import (
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// A node asks for a mirror, and while the room is on its way to it by a link that takes no more at the moment, the
// relay learns that another relays the room. Whatever the mirror is told to be, it is: if ok comes, the publisher and
// all its frames have come before, for clients are let in by that word.
func TestMirrorCutOffMidwayIsWhole(t *testing.T) {
	const frames, payload = 60, 60_000 // much more than sockets take
	key := node.NewKey()
	e := start(t, func(c *engine.Config) {
		c.Node, c.Cluster = "a", &engine.ClusterConfig{Bind: "127.0.0.1:0", Keys: node.Keys{key}}
	})
	z := linkAs(t, "z", e, key)
	w := login(t, e, "owner", 1)
	id := w.register(codec.Register{})
	p := w.publish(id)
	for seq := uint64(1); seq <= frames; seq++ {
		f := codec.Stream{Room: id, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: seq, Payload: make([]byte, payload)}
		if seq == 1 {
			f.Flags = codec.FlagKey // all of it is the newest group, which is kept
		}
		w.write(enc(f.Append(nil)))
	}
	w.acked(frames)

	in := &linkReader{t: t, z: z}
	in.write(&codec.Mirror{Req: 1, Flags: codec.MirrorNew, Room: id})
	for {
		if _, is := in.next(4096).(*codec.Mirrored); is {
			break // and no more is read
		}
	}
	in.write(&codec.State{Req: 2, RoomState: codec.RoomState{RoomHead: codec.RoomHead{
		Room: id, Epoch: 2, Version: 1, Relay: z.self.Name, Birth: z.self.Birth, Owner: "owner", NextPub: p.Pub + 1,
	}}})
	for deadline := time.Now().Add(patience); e.Relays(id); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatal("the node goes on relaying the room")
		}
		in.write(&codec.Ping{}) // or the link would be taken for a dead one
	}
	e.Descriptor("nobody", 1) // the loops have done what they were given

	joined, seq := false, uint64(0)
	for {
		switch m := in.next(64 << 10).(type) {
		case *codec.Joined:
			joined = true
		case *codec.Stream:
			if m.Seq != seq+1 {
				t.Fatalf("frame %d behind frame %d", m.Seq, seq)
			}
			seq = m.Seq
		case *codec.OK:
			if m.Req != 1 {
				continue
			}
			if !joined || seq != frames {
				t.Errorf("the mirror is whole with %d frames of %d, and its publisher is known: %v", seq, frames, joined)
			}
			return
		case *codec.Closed: // instead
			return
		case *codec.Refused:
			t.Fatalf("%+v", m)
		}
	}
}

// linkReader reads the frames of a link, when it likes.
type linkReader struct {
	t   *testing.T
	z   *linkPeer
	buf []byte
}

func (r *linkReader) write(m codec.Control) {
	r.t.Helper()
	if _, err := r.z.up.Write(enc(m.Append(nil))); err != nil {
		r.t.Fatal(err)
	}
}

// next returns the next frame, reading so many bytes at once if there is none.
func (r *linkReader) next(chunk int) (m any) {
	r.t.Helper()
	for {
		frame, typ, err := codec.Next(r.buf, codec.MaxFrame)
		if err == codec.ErrIncomplete {
			b := make([]byte, chunk)
			_ = r.z.up.SetReadDeadline(time.Now().Add(patience))
			n, err := r.z.up.Read(b)
			if err != nil {
				r.t.Fatal(err)
			}
			r.buf = append(r.buf, b[:n]...)
			continue
		}
		if err == nil {
			r.buf = r.buf[len(frame):]
			switch {
			case typ&codec.TypeStream != 0:
				s := new(codec.Stream)
				m, err = s, codec.ParseStream(frame, s)
			case codec.NewLink(typ) != nil:
				m, err = codec.ParseLink(frame)
			default:
				m, err = codec.ParseControl(frame)
			}
		}
		if err != nil {
			r.t.Fatalf("frame %x: %v", frame[:min(len(frame), 64)], err)
		}
		switch m := m.(type) {
		case *codec.Ping:
			r.write(&codec.Pong{Echo: m.Echo})
		case *codec.State:
			r.write(&codec.OK{Req: m.Req})
		default:
			return m
		}
	}
}
