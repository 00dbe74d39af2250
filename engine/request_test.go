package engine_test

import (
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// ask sends a request and returns its answer; frames that are no answers are dropped.
func (w *wire) ask(m codec.Control) codec.Control {
	w.t.Helper()
	w.send(m)
	for {
		switch x := w.any().(type) {
		case nil:
			w.t.Fatalf("connection closed instead of an answer to %#x", m.Type())
		case *codec.OK, *codec.Refused, *codec.Registered, *codec.Published, *codec.Subscribed, *codec.Info:
			return x.(codec.Control)
		}
	}
}

// The request types embed their fields in an unexported struct; these name them.
func remove(req uint32, id codec.RoomID) *codec.Remove {
	m := &codec.Remove{}
	m.Req, m.Room = req, id
	return m
}

func grant(req uint32, id codec.RoomID, account string) *codec.Grant {
	m := &codec.Grant{}
	m.Req, m.Room, m.Account = req, id, account
	return m
}

func revoke(req uint32, id codec.RoomID, account string) *codec.Revoke {
	m := &codec.Revoke{}
	m.Req, m.Room, m.Account = req, id, account
	return m
}

func unpublish(req uint32, id codec.RoomID) *codec.Unpublish {
	m := &codec.Unpublish{}
	m.Req, m.Room = req, id
	return m
}

func unsubscribe(req uint32, id codec.RoomID) *codec.Unsubscribe {
	m := &codec.Unsubscribe{}
	m.Req, m.Room = req, id
	return m
}

func stat(req uint32, id codec.RoomID) *codec.Stat {
	m := &codec.Stat{}
	m.Req, m.Room = req, id
	return m
}

// refusedWith fails the test unless c refuses request req with code.
func refusedWith(t testing.TB, c codec.Control, req uint32, code codec.Code) {
	t.Helper()
	r, ok := c.(*codec.Refused)
	if !ok || r.Code != code || r.Req != req || r.Text == "" {
		t.Fatalf("got %#v, want request %d refused with %v and a text", c, req, code)
	}
}

func okayed(t testing.TB, c codec.Control, req uint32) {
	t.Helper()
	if r, ok := c.(*codec.OK); !ok || r.Req != req {
		t.Fatalf("got %#v, want ok of request %d", c, req)
	}
}

func TestRefusals(t *testing.T) {
	e := start(t, func(c *engine.Config) {
		c.MaxSubsPer, c.MaxPubsPer = 3, 2
		c.Rooms.MaxRoomsPerAccount, c.Rooms.MaxPublishers, c.Rooms.IdleMin = 5, 2, time.Minute
	})
	alice, bob := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := alice.register(codec.Register{MaxSubs: 1})
	second, third, fourth := alice.register(codec.Register{}), alice.register(codec.Register{}), alice.register(codec.Register{})
	carol, dave := login(t, e, "carol", 3), login(t, e, "dave", 4)
	for _, name := range []string{"carol", "dave"} {
		okayed(t, alice.ask(grant(7, room, name)), 7)
	}
	carol.publish(room)
	dave.publish(room)
	alice.publish(second)
	alice.publish(third)
	alice.subscribe(room)
	for _, r := range []codec.RoomID{second, third, fourth} {
		bob.subscribe(r)
	}
	alice.register(codec.Register{}) // the fifth of five

	const unknown = codec.RoomID(42)
	for _, tc := range []struct {
		name string
		w    *wire
		m    codec.Control
		code codec.Code
	}{
		{"remove, unknown room", alice, remove(9, unknown), codec.CodeRoomUnknown},
		{"remove, room 0", alice, remove(9, 0), codec.CodeRoomMalformed},
		{"remove, not the owner", bob, remove(9, room), codec.CodeNotOwner},
		{"grant, unknown room", alice, grant(9, unknown, "bob"), codec.CodeRoomUnknown},
		{"grant, room 0", alice, grant(9, 0, "bob"), codec.CodeRoomMalformed},
		{"grant, not the owner", bob, grant(9, room, "bob"), codec.CodeNotOwner},
		{"grant, no name", alice, grant(9, room, ""), codec.CodeBadAccount},
		{"revoke, unknown room", alice, revoke(9, unknown, "bob"), codec.CodeRoomUnknown},
		{"revoke, room 0", alice, revoke(9, 0, "bob"), codec.CodeRoomMalformed},
		{"revoke, not the owner", bob, revoke(9, room, "carol"), codec.CodeNotOwner},
		{"revoke, the owner", alice, revoke(9, room, "alice"), codec.CodeBadOption},
		{"publish, unknown room", bob, &codec.Publish{Req: 9, Room: unknown}, codec.CodeRoomUnknown},
		{"publish, room 0", bob, &codec.Publish{Req: 9}, codec.CodeRoomMalformed},
		{"publish, not granted", bob, &codec.Publish{Req: 9, Room: room}, codec.CodeNotGranted},
		{"publish, room has enough", login(t, e, "carol", 33), &codec.Publish{Req: 9, Room: room}, codec.CodePublisherFull},
		{"publish, session has enough", alice, &codec.Publish{Req: 9, Room: fourth}, codec.CodeSessionFull},
		{"unpublish, does not publish", bob, unpublish(9, room), codec.CodeNotPublishing},
		{"unpublish, room 0", bob, unpublish(9, 0), codec.CodeRoomMalformed},
		{"subscribe, unknown room", alice, &codec.Subscribe{Req: 9, Room: unknown}, codec.CodeRoomUnknown},
		{"subscribe, room 0", alice, &codec.Subscribe{Req: 9}, codec.CodeRoomMalformed},
		{"subscribe, room full", carol, &codec.Subscribe{Req: 9, Room: room}, codec.CodeRoomFull},
		{"subscribe, twice", alice, &codec.Subscribe{Req: 9, Room: room}, codec.CodeSubscribed},
		{"subscribe, session has enough", bob, &codec.Subscribe{Req: 9, Room: room}, codec.CodeSessionFull},
		{"unsubscribe, not subscribed", carol, unsubscribe(9, room), codec.CodeNotSubscribed},
		{"unsubscribe, room 0", alice, unsubscribe(9, 0), codec.CodeRoomMalformed},
		{"stat, unknown room", bob, stat(9, unknown), codec.CodeRoomUnknown},
		{"stat, room 0", bob, stat(9, 0), codec.CodeRoomMalformed},
		{"register, account has enough", alice, &codec.Register{Req: 9}, codec.CodeTooManyRooms},
		{"register, unknown policy", bob, &codec.Register{Req: 9, Policy: 9}, codec.CodeBadOption},
		{"register, idle too short", bob, &codec.Register{Req: 9, IdleMillis: 1}, codec.CodeBadOption},
		{"register, idle beyond all numbers", bob, &codec.Register{Req: 9, IdleMillis: 1<<64 - 1}, codec.CodeBadOption},
		{"register, queue beyond all numbers", bob, &codec.Register{Req: 9, QueueBytes: 1<<64 - 1}, codec.CodeBadOption},
		{"register, age beyond all numbers", bob, &codec.Register{Req: 9, QueueMillis: 1<<64 - 1}, codec.CodeBadOption},
		{"register, subscribers beyond all numbers", bob, &codec.Register{Req: 9, MaxSubs: 1<<64 - 1}, codec.CodeBadOption},
	} {
		t.Run(tc.name, func(t *testing.T) { refusedWith(t, tc.w.ask(tc.m), 9, tc.code) })
	}
	// After all of that everybody still works.
	for _, w := range []*wire{alice, bob, carol, dave} {
		w.send(&codec.Ping{Echo: 5})
		if p := next[*codec.Pong](w); p.Echo != 5 {
			t.Fatalf("pong %d", p.Echo)
		}
	}
}

func TestRequestsAreAnsweredOnceEach(t *testing.T) {
	e := start(t)
	w := login(t, e, "alice", 1)
	room := w.register(codec.Register{Policy: codec.PolicyDisconnect})
	var b []byte
	reqs := []codec.Control{
		grant(1, room, "bob"), grant(2, room, "bob"), revoke(3, room, "bob"), revoke(4, room, "bob"),
		&codec.Publish{Req: 5, Room: room}, &codec.Publish{Req: 6, Room: room},
		&codec.Subscribe{Req: 7, Room: room}, &codec.Subscribe{Req: 8, Room: room},
		unsubscribe(9, room), unsubscribe(10, room), stat(11, room), unpublish(12, room), unpublish(13, room),
		remove(14, room), remove(15, room), stat(16, room), unsubscribe(17, room),
	}
	for _, m := range reqs {
		b = enc(m.Append(b))
	}
	w.write(b)
	got := make(map[uint32]codec.Code) // 0: granted
	for len(got) < len(reqs) {
		var req uint32
		var code codec.Code
		switch m := w.any().(type) {
		case *codec.OK:
			req = m.Req
		case *codec.Published:
			req = m.Req
		case *codec.Subscribed:
			req = m.Req
			if m.Policy != codec.PolicyDisconnect || m.Window != 0 {
				t.Errorf("subscribed %+v", m)
			}
		case *codec.Info:
			req = m.Req
			if m.Owner != "alice" || m.Policy != codec.PolicyDisconnect || m.Publishers != 1 {
				t.Errorf("info %+v", m)
			}
		case *codec.Refused:
			req, code = m.Req, m.Code
		case nil:
			t.Fatal("connection closed")
		default:
			continue
		}
		if _, twice := got[req]; twice {
			t.Fatalf("two answers to request %d", req)
		}
		got[req] = code
	}
	for req, want := range map[uint32]codec.Code{
		1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: codec.CodeSubscribed, 9: 0, 10: codec.CodeNotSubscribed, 11: 0, 12: 0,
		13: codec.CodeNotPublishing, 14: 0, 15: codec.CodeRoomUnknown, 16: codec.CodeRoomUnknown, 17: codec.CodeNotSubscribed,
	} {
		if got[req] != want {
			t.Errorf("request %d: %v, want %v", req, got[req], want)
		}
	}
}
