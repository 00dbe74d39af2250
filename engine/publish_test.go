package engine_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

func TestRefusedPushes(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Rooms.MaxPayload = 1000 })
	type step struct {
		seq     uint64
		flags   codec.Flags
		payload int
	}
	for _, tc := range []struct {
		name    string
		frames  []step
		refused map[codec.Code]uint64
		taken   int
	}{
		{"a hole", []step{{1, 0, 1}, {3, 0, 1}, {4, 0, 1}, {9, 0, 1}}, map[codec.Code]uint64{codec.CodeSequence: 3}, 1},
		{"not from 1", []step{{2, 0, 1}}, map[codec.Code]uint64{codec.CodeSequence: 1}, 0},
		{"replays are no fault", []step{{1, 0, 1}, {1, 0, 1}, {2, 0, 1}, {1, 0, 1}, {2, 0, 1}, {3, 0, 1}}, nil, 3},
		{"cont without more", []step{{1, codec.FlagCont, 1}}, map[codec.Code]uint64{codec.CodeBadPieces: 1}, 0},
		{"more without cont", []step{{1, codec.FlagMore, 1}, {2, 0, 1}}, map[codec.Code]uint64{codec.CodeBadPieces: 1}, 1},
		{"one frame too large", []step{{1, 0, 1001}}, map[codec.Code]uint64{codec.CodePayloadSize: 1}, 0},
		{"pieces too large together", []step{{1, codec.FlagMore, 600}, {2, codec.FlagCont | codec.FlagMore, 600}},
			map[codec.Code]uint64{codec.CodePayloadSize: 2}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := login(t, e, "alice", 1)
			room := w.register(codec.Register{})
			src := newSource(w, room)
			viewer := login(t, e, "bob", 2)
			viewer.subscribe(room)
			var b []byte
			for _, f := range tc.frames {
				x := codec.Stream{Room: room, StreamKey: src.key(1), Seq: f.seq, Flags: f.flags, Payload: make([]byte, f.payload)}
				b = enc(x.Append(b))
			}
			w.write(enc(stat(7, room).Append(b)))
			got := make(map[codec.Code]uint64)
			notices := 0
			for len(got) < len(tc.refused) {
				m := next[*codec.PushRefused](w)
				if m.Room != room || m.Pub != src.pub {
					t.Errorf("refused %+v", m)
				}
				got[m.Code] += m.Frames
				notices++
			}
			for code, n := range tc.refused {
				if got[code] != n {
					t.Errorf("%v: %d frames refused, want %d", code, got[code], n)
				}
			}
			if notices > len(tc.refused) {
				t.Errorf("%d notices", notices)
			}
			// The connection and the stream go on.
			v := newVerifier(room)
			again := w.publish(room)
			at := uint64(1)
			for _, s := range again.Streams {
				at = s.Next
			}
			if int(at-1) != tc.taken {
				t.Errorf("%d frames taken, want %d", at-1, tc.taken)
			}
			g := codec.Gap{Room: room, StreamKey: src.key(1), From: at, To: at} // breaks an unfinished message off
			f := codec.Stream{Room: room, StreamKey: src.key(1), Seq: at + 1}
			w.write(enc(f.Append(enc(g.Append(nil)))))
			v.upTo(viewer, src.key(1), at+1)
			if n := v.stream(src.key(1)).frames; n != tc.taken+1 {
				t.Errorf("subscriber got %d frames, want %d", n, tc.taken+1)
			}
		})
	}
}

func TestPushesOfASessionThatDoesNotPublishAreRefused(t *testing.T) {
	e := start(t)
	alice, bob := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := alice.register(codec.Register{})
	src := newSource(alice, room)
	var b []byte
	for seq := uint64(1); seq <= 1000; seq++ {
		f := codec.Stream{Room: room, StreamKey: src.key(0), Seq: seq}
		b = enc(f.Append(b))
	}
	bob.write(b)
	for n := uint64(0); n < 1000; {
		m := next[*codec.PushRefused](bob)
		if m.Code != codec.CodeNotPublishing || m.Room != room {
			t.Fatalf("refused %+v", m)
		}
		n += m.Frames
	}
	// Under another's number, from a session that does publish.
	f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: src.pub + 1}, Seq: 1}
	alice.write(enc(f.Append(nil)))
	if m := next[*codec.PushRefused](alice); m.Code != codec.CodeNotPublishing || m.Pub != src.pub+1 || m.Frames != 1 {
		t.Errorf("refused %+v", m)
	}
	g := codec.Gap{Room: room, StreamKey: codec.StreamKey{Pub: src.pub + 1}, From: 1, To: 2}
	alice.write(enc(g.Append(nil)))
	if m := next[*codec.PushRefused](alice); m.Code != codec.CodeNotPublishing || m.Frames != 1 {
		t.Errorf("refused %+v", m)
	}
}

func TestRefusalsOfOneSessionAreBounded(t *testing.T) {
	e := start(t)
	w := login(t, e, "mallory", 1)
	const frames = 5000
	var b []byte
	for i := range codec.RoomID(frames) {
		f := codec.Stream{Room: i + 1, StreamKey: codec.StreamKey{Pub: 1}, Seq: 1}
		b = enc(f.Append(b))
	}
	w.write(b)
	notices := 0
	for n := uint64(0); n < frames; notices++ {
		n += next[*codec.PushRefused](w).Frames
	}
	if notices > frames/10 {
		t.Errorf("%d notices of %d frames", notices, frames)
	}
}

// A publisher that ignores the window of a lossless room, where nobody acknowledges, is cut off with the code.
func TestWindowIgnoredClosesTheConnection(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Rooms.Window = 128 << 10 })
	w := login(t, e, "alice", 1)
	room := w.register(codec.Register{Policy: codec.PolicyLossless})
	src := newSource(w, room)
	viewer := login(t, e, "bob", 2)
	viewer.subscribe(room)
	for range 40 {
		src.frame(1, 0, make([]byte, 16<<10))
	}
	w.write(src.buf)
	if m := next[*codec.Error](w); m.Code != codec.CodeFlowViolation {
		t.Errorf("error %v", m.Code)
	}
	if x := w.any(); x != nil {
		t.Errorf("%T after the error", x)
	}
}

func TestAcknowledgingWhatWasNeverSentClosesTheConnection(t *testing.T) {
	e := start(t)
	alice, bob := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := alice.register(codec.Register{Policy: codec.PolicyLossless})
	src := newSource(alice, room)
	bob.subscribe(room)
	src.push(1, 0, []byte("x"))
	next[*codec.Stream](bob)
	bob.send(&codec.Ack{Room: room, StreamKey: codec.StreamKey{Pub: 99}, Seq: 5}) // an unknown stream is ignored
	bob.send(&codec.Ack{Room: room, StreamKey: src.key(1), Seq: 2})
	if m := next[*codec.Error](bob); m.Code != codec.CodeFlowViolation {
		t.Errorf("error %v", m.Code)
	}
}

func TestAGapAloneIsAcknowledged(t *testing.T) {
	e := start(t)
	w := login(t, e, "alice", 1)
	room := w.register(codec.Register{})
	src := newSource(w, room)
	w.send(&codec.Gap{Room: room, StreamKey: src.key(4), From: 1, To: 10})
	if a := next[*codec.Ack](w); a.Seq != 10 || a.StreamKey != src.key(4) {
		t.Errorf("ack %+v", a)
	}
}

func TestRevokeCutsAStreamAtOnce(t *testing.T) {
	e := start(t)
	owner, guest, viewer := login(t, e, "alice", 1), login(t, e, "bob", 2), login(t, e, "carol", 3)
	room := owner.register(codec.Register{})
	okayed(t, owner.ask(grant(1, room, "bob")), 1)
	src := newSource(guest, room)
	v := newVerifier(room)
	viewer.subscribe(room)
	src.push(1, codec.FlagMore, []byte("the beginning of a message"))
	v.upTo(viewer, src.key(1), 1)
	okayed(t, owner.ask(revoke(2, room, "bob")), 2)
	src.push(1, codec.FlagCont, []byte("and its end"))
	v.until(viewer, func(x any) bool { _, ok := x.(*codec.Left); return ok })
	if v.left[src.pub] != codec.CodeRevoked {
		t.Errorf("left %v", v.left[src.pub])
	}
	closed, refused := false, false
	for !closed || !refused {
		switch m := guest.any().(type) {
		case nil:
			t.Fatal("connection closed")
		case *codec.Closed:
			closed = m.Room == room && m.Code == codec.CodeRevoked
		case *codec.PushRefused:
			refused = m.Code == codec.CodeRevoked || m.Code == codec.CodeNotPublishing
		}
	}
	refusedWith(t, guest.ask(&codec.Publish{Req: 5, Room: room}), 5, codec.CodeNotGranted)
	// Nothing came after the cut: what the owner pushes next is next.
	own := newSource(owner, room)
	own.push(1, 0, []byte("mine"))
	v.upTo(viewer, own.key(1), 1)
	if n := v.stream(src.key(1)).frames; n != 1 {
		t.Errorf("%d frames of the revoked publisher", n)
	}
}

func TestTheSameClientOnAnotherConnectionTakesOver(t *testing.T) {
	e := start(t)
	old, viewer := login(t, e, "alice", 7), login(t, e, "bob", 2)
	room := old.register(codec.Register{})
	src := newSource(old, room)
	viewer.subscribe(room)
	v := newVerifier(room)
	src.push(1, 0, []byte("one"))
	src.push(1, 0, []byte("two"))
	src.settle()

	young := login(t, e, "alice", 7)
	p := young.publish(room)
	if p.Pub != src.pub || len(p.Streams) != 1 || p.Streams[0] != (codec.StreamNext{Dtype: 1, Next: 3}) {
		t.Fatalf("published %+v", p)
	}
	if m := next[*codec.Closed](old); m.Code != codec.CodeSuperseded || m.Room != room {
		t.Errorf("closed %+v", m)
	}
	src.frame(1, 0, []byte("three, from the old one"))
	src.flush()
	if m := next[*codec.PushRefused](old); m.Code != codec.CodeNotPublishing && m.Code != codec.CodeSuperseded {
		t.Errorf("refused %+v", m)
	}
	replay := codec.Stream{Room: room, StreamKey: src.key(1), Seq: 2, Payload: []byte("two")}
	b := enc(replay.Append(nil))
	three := codec.Stream{Room: room, StreamKey: src.key(1), Seq: 3, Payload: []byte("three")}
	young.write(enc(three.Append(b)))
	v.upTo(viewer, src.key(1), 3)
	if s := v.stream(src.key(1)); s.frames != 3 || s.payload != 11 || len(v.joined) != 1 {
		t.Errorf("%d frames, %d bytes, publishers %v", s.frames, s.payload, v.joined)
	}
}

func TestAPublisherThatComesBackInTimeIsTheSame(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Rooms.Linger = time.Minute })
	w, viewer := login(t, e, "alice", 7), login(t, e, "bob", 2)
	room := w.register(codec.Register{})
	src := newSource(w, room)
	viewer.subscribe(room)
	v := newVerifier(room)
	src.push(1, 0, []byte("one"))
	v.upTo(viewer, src.key(1), 1)
	w.c.Close()

	again := login(t, e, "alice", 7)
	p := again.publish(room)
	if p.Pub != src.pub || len(p.Streams) != 1 || p.Streams[0].Next != 2 {
		t.Fatalf("published %+v", p)
	}
	f := codec.Stream{Room: room, StreamKey: src.key(1), Seq: 2}
	again.write(enc(f.Append(nil)))
	v.upTo(viewer, src.key(1), 2)
	if len(v.left) != 0 {
		t.Errorf("left: %v", v.left)
	}
}

func TestAPublisherThatDoesNotComeBackIsGone(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Rooms.Linger = time.Millisecond })
	w, viewer := login(t, e, "alice", 7), login(t, e, "bob", 2)
	room := w.register(codec.Register{})
	src := newSource(w, room)
	viewer.subscribe(room)
	v := newVerifier(room)
	src.push(1, 0, []byte("one"))
	w.c.Close()
	v.until(viewer, func(x any) bool { _, ok := x.(*codec.Left); return ok })
	if v.left[src.pub] != codec.CodeGone || v.stream(src.key(1)).frames != 1 {
		t.Errorf("left %v after %d frames", v.left[src.pub], v.stream(src.key(1)).frames)
	}
}

// Frames of several rooms and streams, cut and joined at random by TCP, reach a session that subscribes to all of them.
func TestOneSessionInManyRooms(t *testing.T) {
	e := start(t)
	const rooms, frames = 20, 50
	pub, sub := login(t, e, "alice", 1), login(t, e, "bob", 2)
	var srcs []*source
	var vs []*verifier
	for range rooms {
		room := pub.register(codec.Register{})
		srcs = append(srcs, newSource(pub, room))
		sub.send(&codec.Subscribe{Req: sub.nextReq(), Room: room})
		vs = append(vs, newVerifier(room))
	}
	take := func() any {
		x := sub.any()
		for i, v := range vs {
			if err := v.take(x); err != nil {
				t.Fatalf("room %d: %v", i, err)
			}
		}
		return x
	}
	for left := rooms; left > 0; {
		if _, ok := take().(*codec.Subscribed); ok {
			left--
		}
	}
	var b []byte
	for range frames {
		for i, s := range srcs {
			s.buf = s.buf[:0]
			s.frame(uint8(i%3), 0, bytes.Repeat([]byte{byte(i)}, i*10))
			b = append(b, s.buf...)
		}
	}
	pub.write(b)
	for left := rooms; left > 0; {
		if f, ok := take().(*codec.Stream); ok && f.Seq == frames {
			left--
		}
	}
	for i, v := range vs {
		if s := v.stream(srcs[i].key(uint8(i % 3))); s.frames != frames || s.payload != frames*i*10 {
			t.Errorf("room %d: %d frames, %d bytes", i, s.frames, s.payload)
		}
	}
}
