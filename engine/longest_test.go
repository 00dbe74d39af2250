package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// What is as long as a client may make it goes on to other nodes, and what is longer goes nowhere: nothing of it ends a
// process or a link.

// positions returns n positions in as many streams.
func positions(n int, last uint64) (have []codec.Position) {
	for i := range n {
		have = append(have, codec.Position{StreamKey: codec.StreamKey{Pub: uint16(1 + i/256), Dtype: uint8(i)}, Last: last})
	}
	return have
}

// TestLongestSubscribe: as many positions as there may be, at a node that does not relay the room, for rooms that are
// there and that are not.
func TestLongestSubscribe(t *testing.T) {
	nodes := startCluster(t, "a", "b")
	owner := login(t, nodes[0], "alice", 1)
	room := owner.register(codec.Register{})
	src := newSource(owner, room)
	bob := login(t, nodes[1], "bob", 2)
	bob.subscribe(room)
	lost := count(t, "links_lost_total", nodes...)
	for i, id := range []codec.RoomID{room, owner.register(codec.Register{}), codec.InboxOf("mallory"), 0x1234567890abcdef} {
		for _, last := range []uint64{1, codec.MaxSeq - 1, codec.MaxSeq} {
			mallory := login(t, nodes[1], "mallory", uint64(10+i))
			mallory.send(&codec.Subscribe{Req: 1, Room: id, Have: positions(codec.MaxPositions, last)})
			switch m := mallory.any().(type) {
			case *codec.Subscribed:
				if i > 1 {
					t.Errorf("room %v: subscribed", id)
				}
			case *codec.Refused:
				if i < 2 || m.Code != codec.CodeRoomUnknown && m.Code != codec.CodeNotAccepted {
					t.Errorf("room %v: %v", id, m.Code)
				}
			default:
				t.Errorf("room %v: %T", id, m)
			}
		}
		// One more is not even read.
		mallory := dial(t, nodes[1])
		mallory.write(greeting("mallory"))
		long := enc((&codec.Subscribe{Req: 1, Room: id, Have: positions(codec.MaxPositions, 1)}).Append(nil))
		for range 7280 - codec.MaxPositions {
			long = append(long, 0, 29, 0, 0, 0, 0, 0, 0, 1)
		}
		long[0], long[1] = byte((len(long)-2)>>8), byte(len(long)-2)
		long[13], long[14] = 0xf0, 0x38 // 7280
		mallory.write(long)
		if m := mallory.lastWord(); m.Code != codec.CodeListTooLong {
			t.Errorf("room %v, 7280 positions: %v", id, m.Code)
		}
	}
	src.push(1, codec.FlagKey, []byte("still here"))
	if f := next[*codec.Stream](bob); string(f.Payload) != "still here" {
		t.Errorf("bob got %q", f.Payload)
	}
	if n := count(t, "links_lost_total", nodes...); n != lost {
		t.Errorf("%v links were lost", n-lost)
	}
}

// TestPositionsBesideGoodClients: as many positions as there may be, over and over, at a node that does not relay the
// room and has no other subscriber of it, so that its mirror comes and goes; good clients of both nodes miss nothing.
func TestPositionsBesideGoodClients(t *testing.T) {
	nodes := startCluster(t, "a", "b")
	owner, bob := login(t, nodes[0], "alice", 1), login(t, nodes[1], "bob", 2)
	room := owner.register(codec.Register{})
	bob.subscribe(room)
	pub := owner.publish(room).Pub
	target := owner.register(codec.Register{})
	mallory := login(t, nodes[1], "mallory", 3)
	const rounds, each = 12, 20
	v, have := newVerifier(room), positions(codec.MaxPositions, 1)
	for r := range rounds {
		mallory.send(&codec.Subscribe{Req: 1, Room: target, Have: have})
		owner.write(burst(room, pub, 1+r*each, each, 100))
		v.upTo(bob, codec.StreamKey{Pub: pub}, uint64((r+1)*each))
		next[*codec.Subscribed](mallory)
		u := &codec.Unsubscribe{}
		u.Req, u.Room = 2, target
		mallory.send(u)
		told := 0 // of the streams that it has named, which are not there
		for done := false; !done; {
			switch m := mallory.any().(type) {
			case *codec.Gap:
				told++
			case *codec.Left:
			case *codec.OK:
				done = true
			default:
				t.Fatalf("round %d: %T", r, m)
			}
		}
		if told != len(have) {
			t.Fatalf("round %d: told of %d streams that are not there, named %d", r, told, len(have))
		}
	}
}

// TestHighestSequence: a stream ends before its numbers do, so that the next one can always be told; by whatever node
// the publisher comes.
func TestHighestSequence(t *testing.T) {
	nodes := startCluster(t, "a", "b")
	for i, e := range nodes {
		t.Run("node "+string(rune('a'+i)), func(t *testing.T) {
			lost := count(t, "links_lost_total", nodes...)
			room := login(t, nodes[0], "alice", 1).register(codec.Register{})
			w := login(t, e, "alice", 2)
			p := w.publish(room)
			key := codec.StreamKey{Pub: p.Pub, Dtype: 1}
			refused := func() {
				t.Helper()
				if m := next[*codec.PushRefused](w); m.Code != codec.CodeSequence {
					t.Errorf("refused with %v", m.Code)
				}
			}
			w.send(&codec.Gap{Room: room, StreamKey: key, From: 1, To: codec.MaxSeq})
			refused()
			w.send(&codec.Gap{Room: room, StreamKey: key, From: 1, To: codec.MaxSeq - 1})
			next[*codec.Ack](w)
			w.write(enc((&codec.Stream{Room: room, StreamKey: key, Seq: codec.MaxSeq}).Append(nil)))
			refused()
			w.send(&codec.Gap{Room: room, StreamKey: key, From: 5, To: codec.MaxSeq})
			refused()
			_ = w.c.Close()
			for _, e := range nodes { // it comes back, here and there
				w = login(t, e, "alice", 2)
				if p = w.publish(room); len(p.Streams) != 1 || p.Streams[0].Next != codec.MaxSeq {
					t.Errorf("goes on with %v", p.Streams)
				}
			}
			if n := count(t, "links_lost_total", nodes...); n != lost {
				t.Errorf("%v links were lost", n-lost)
			}
		})
	}
}

// TestManyStreamsMove: a room of more streams than one frame can name goes on at another node when its relay leaves.
func TestManyStreamsMove(t *testing.T) {
	nodes := startClusterOf(t, quiet, "a", "b", "c") // the clients answer no pings
	owner := login(t, nodes[0], "alice", 1)
	var room codec.RoomID
	for { // of which the node that is neither relay nor next in line serves a subscriber
		room = owner.register(codec.Register{})
		if rep, _ := inspect(t, nodes[0], room); len(rep.Chain) > 1 && rep.Chain[1] == "b" {
			break
		}
	}
	sub := login(t, nodes[2], "bob", 2)
	sub.subscribe(room)
	const publishers = 29
	want := publishers * 256
	v := newVerifier(room)
	take := func(w *wire) {
		x := w.any()
		if x == nil {
			t.Fatal("the connection closed")
		}
		if err := v.take(x); err != nil {
			t.Fatal(err)
		}
	}
	var sources []*source
	for i := range publishers {
		src := newSource(login(t, nodes[2], "alice", uint64(100+i)), room)
		for dtype := range 256 {
			src.frame(uint8(dtype), codec.FlagKey, []byte("first"))
		}
		src.flush()
		sources = append(sources, src)
	}
	for len(v.streams) < want {
		take(sub)
	}
	for _, src := range sources { // what is acknowledged needs not be sent again
		for n := 0; n < 256; n++ {
			next[*codec.Ack](src.wire)
		}
	}
	left := make(chan struct{})
	defer func() { <-left }()
	go func() {
		defer close(left)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = nodes[0].Shutdown(ctx)
	}()
	for deadline := time.Now().Add(patience); !nodes[1].RelayOf(room); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatal("nobody took the room over")
		}
	}
	var following sync.WaitGroup
	defer following.Wait()
	for _, src := range sources {
		for dtype := range 256 {
			src.frame(uint8(dtype), codec.FlagKey, []byte("second"))
		}
		src.flush()
		following.Go(src.follow)
		defer src.c.Close()
	}
	second := 0
	for second < want {
		x := sub.any()
		if x == nil {
			t.Fatal("the connection closed")
		}
		if err := v.take(x); err != nil {
			t.Fatal(err)
		}
		if f, ok := x.(*codec.Stream); ok && string(f.Payload) == "second" {
			second++
		}
	}
}

// follow publishes again whenever the room has moved, and sends the second frames that are not there, until the
// connection is closed.
func (s *source) follow() {
	publish := enc((&codec.Publish{Req: 99, Room: s.room}).Append(nil))
	_ = s.c.SetReadDeadline(time.Time{})
	chunk := make([]byte, 64<<10)
	for {
		b, _, err := codec.Next(s.wire.buf, codec.MaxFrame)
		if err != nil {
			n, err := s.c.Read(chunk)
			if err != nil {
				return
			}
			s.wire.buf = append(s.wire.buf, chunk[:n]...)
			continue
		}
		s.wire.buf = s.wire.buf[len(b):]
		switch m, _ := codec.ParseControl(b); m := m.(type) {
		case *codec.Closed, *codec.Refused:
			_, _ = s.c.Write(publish)
		case *codec.Published:
			next := make(map[uint8]uint64)
			for _, st := range m.Streams {
				next[st.Dtype] = st.Next
			}
			var out []byte
			for dtype := range 256 {
				f := codec.Stream{Room: s.room, StreamKey: codec.StreamKey{Pub: m.Pub, Dtype: uint8(dtype)}, Flags: codec.FlagKey}
				for f.Seq = max(1, next[f.Dtype]); f.Seq <= 2; f.Seq++ {
					f.Payload = []byte([]string{"first", "second"}[f.Seq-1])
					out = enc(f.Append(out))
				}
			}
			_, _ = s.c.Write(out)
		}
	}
}

// inspect asks a node for what the cluster knows of a room.
func inspect(t *testing.T, e *engine.Engine, id codec.RoomID) (rep engine.RoomReport, status int) {
	t.Helper()
	answer := httptest.NewRecorder()
	e.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/rooms/"+id.String(), nil))
	if answer.Code == http.StatusOK {
		if err := json.Unmarshal(answer.Body.Bytes(), &rep); err != nil {
			t.Fatal(err)
		}
	}
	return rep, answer.Code
}

// TestReportOfLongNames: names that JSON makes six times longer make a report longer than a frame.
func TestReportOfLongNames(t *testing.T) {
	nodes := startCluster(t, "a", "b")
	owner := strings.Repeat("<", codec.MaxAccount)
	w := login(t, nodes[0], owner, 1)
	room := w.register(codec.Register{})
	for i := range 200 {
		account := fmt.Sprintf("%s%03d", strings.Repeat("&", codec.MaxAccount-3), i)
		grant := &codec.Grant{}
		grant.Req, grant.Room, grant.Account = w.nextReq(), room, account
		w.send(grant)
		next[*codec.OK](w)
		login(t, nodes[0], account, 2).publish(room)
	}
	rep, status := inspect(t, nodes[1], room)
	if status != http.StatusOK || rep.Owner != owner || len(rep.Publishers) == 0 || !rep.Cut {
		t.Errorf("status %d: owner %q, %d publishers, cut %v", status, rep.Owner, len(rep.Publishers), rep.Cut)
	}
	if rep, _ := inspect(t, nodes[0], room); len(rep.Publishers) != 200 || rep.Cut {
		t.Errorf("at the relay: %d publishers, cut %v", len(rep.Publishers), rep.Cut)
	}
}
