package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/room"
)

// request sends a request and returns its answer; what comes before that is dropped.
func (w *wire) request(m codec.Control) any {
	w.t.Helper()
	w.send(m)
	for {
		switch x := w.any().(type) {
		case *codec.OK, *codec.Refused, *codec.Published, *codec.Subscribed, *codec.Info:
			return x
		case nil:
			w.t.Fatalf("closed instead of an answer to %T", m)
		}
	}
}

// refused sends a request and checks with which code it is refused.
func (w *wire) refused(m codec.Control, want codec.Code) *codec.Refused {
	w.t.Helper()
	r, ok := w.request(m).(*codec.Refused)
	if !ok || r.Code != want {
		w.t.Errorf("%T: %+v, want a refusal with %v", m, r, want)
		return &codec.Refused{}
	}
	return r
}

// granted sends a request that is answered by ok.
func (w *wire) granted(m codec.Control) {
	w.t.Helper()
	answer := w.request(m)
	if _, ok := answer.(*codec.OK); !ok {
		w.t.Fatalf("%T: %+v", m, answer)
	}
}

func openInbox(account string, policy codec.Policy, accept ...string) *codec.Inbox {
	return &codec.Inbox{Req: 7, Room: codec.InboxOf(account), Policy: policy, Accept: accept}
}

func sendTo(account string) *codec.Publish {
	return &codec.Publish{Req: 8, Room: codec.InboxOf(account), To: account}
}

// everywhere runs a test on one node, and on three with its clients on all of them.
func everywhere(t *testing.T, test func(t *testing.T, at func(i int) *engine.Engine)) {
	t.Run("one node", func(t *testing.T) {
		e := start(t)
		test(t, func(int) *engine.Engine { return e })
	})
	t.Run("three nodes", func(t *testing.T) {
		nodes := startCluster(t, "a", "b", "c")
		test(t, func(i int) *engine.Engine { return nodes[i%3] })
	})
}

func TestInbox(t *testing.T) {
	everywhere(t, func(t *testing.T, at func(int) *engine.Engine) {
		alice, bob, carol := login(t, at(0), "alice", 1), login(t, at(1), "bob", 1), login(t, at(2), "carol", 1)
		bob.refused(sendTo("alice"), codec.CodeNotAccepted)

		alice.refused(openInbox("bob", codec.PolicyLive), codec.CodeBadOption)
		alice.refused(openInbox("alice", 9), codec.CodeBadOption)
		alice.refused(openInbox("alice", codec.PolicyLive, "no name"), codec.CodeBadAccount)
		alice.granted(openInbox("alice", codec.PolicyLive, "bob"))
		bob.refused(sendTo("alice"), codec.CodeAway)
		carol.refused(sendTo("alice"), codec.CodeNotAccepted)
		bob.refused(&codec.Publish{Req: 9, Room: codec.InboxOf("alice")}, codec.CodeRoomUnknown)
		bob.refused(&codec.Publish{Req: 9, Room: codec.InboxOf("alice"), To: "carol"}, codec.CodeRoomUnknown)
		alice.refused(&codec.Publish{Req: 9, Room: codec.InboxOf("alice")}, codec.CodeRoomUnknown)

		// All sessions of hers receive, wherever they are.
		var hers []*wire
		for i := range 3 {
			w := login(t, at(i), "alice", uint64(10+i))
			w.granted(openInbox("alice", codec.PolicyLive))
			w.subscribe(codec.InboxOf("alice"))
			hers = append(hers, w)
		}
		p, ok := bob.request(sendTo("alice")).(*codec.Published)
		if !ok {
			t.Fatal("bob may not send")
		}
		f := codec.Stream{Room: p.Room, StreamKey: codec.StreamKey{Pub: p.Pub, Dtype: 4}, Seq: 1, Payload: []byte("hello")}
		bob.write(enc(f.Append(nil)))
		for i, w := range hers {
			if j := next[*codec.Joined](w); j.Account != "bob" {
				t.Errorf("session %d: from %q", i, j.Account)
			}
			if got := next[*codec.Stream](w); string(got.Payload) != "hello" || got.Dtype != 4 {
				t.Errorf("session %d: %q, dtype %d", i, got.Payload, got.Dtype)
			}
		}
		alice.refused(openInbox("alice", codec.PolicyLossless), codec.CodeBadOption) // it is open as live

		// The list may be changed while it is in use.
		alice.granted(grant(3, codec.InboxOf("alice"), codec.Everyone))
		if _, ok := carol.request(sendTo("alice")).(*codec.Published); !ok {
			t.Error("carol may not send")
		}
		alice.granted(revoke(4, codec.InboxOf("alice"), "bob"))
		if c := next[*codec.Closed](bob); c.Code != codec.CodeRevoked {
			t.Errorf("bob was told %v", c.Code)
		}
		bob.refused(sendTo("alice"), codec.CodeNotAccepted)
		alice.granted(openInbox("alice", codec.PolicyLive, "bob")) // says nothing new of him
		bob.refused(sendTo("alice"), codec.CodeNotAccepted)
		remove := &codec.Remove{}
		remove.Req, remove.Room = 5, codec.InboxOf("alice")
		alice.refused(remove, codec.CodeBadOption)
	})
}

// What a stranger is told of somebody's inbox is word for word what it is told of an account that does not exist, and
// nothing is left behind of such questions.
func TestInboxIsNotShownToStrangers(t *testing.T) {
	everywhere(t, func(t *testing.T, at func(int) *engine.Engine) {
		inbox := codec.InboxOf("alice")
		for i := range 3 { // the relay is one of them
			w := login(t, at(i), "alice", uint64(i+1))
			w.granted(openInbox("alice", codec.PolicyLive, "bob"))
			w.subscribe(inbox)
			if i == 0 {
				continue
			}
			w.c.Close()
		}
		for i := range 3 {
			mallory := login(t, at(i), "mallory", uint64(i+1))
			for name, ask := range map[string]func(id codec.RoomID, to string) codec.Control{
				"send":          func(id codec.RoomID, to string) codec.Control { return &codec.Publish{Req: 1, Room: id, To: to} },
				"publish":       func(id codec.RoomID, _ string) codec.Control { return &codec.Publish{Req: 1, Room: id} },
				"subscribe":     func(id codec.RoomID, _ string) codec.Control { return &codec.Subscribe{Req: 1, Room: id} },
				"stat":          func(id codec.RoomID, _ string) codec.Control { return stat(1, id) },
				"grant":         func(id codec.RoomID, _ string) codec.Control { return grant(1, id, "mallory") },
				"grant no name": func(id codec.RoomID, _ string) codec.Control { return grant(1, id, "") },
				"revoke":        func(id codec.RoomID, _ string) codec.Control { return revoke(1, id, "bob") },
				"remove": func(id codec.RoomID, _ string) codec.Control {
					m := &codec.Remove{}
					m.Req, m.Room = 1, id
					return m
				},
				"unpublish": func(id codec.RoomID, _ string) codec.Control {
					m := &codec.Unpublish{}
					m.Req, m.Room = 1, id
					return m
				},
			} {
				want := codec.CodeRoomUnknown
				if name == "send" {
					want = codec.CodeNotAccepted
				}
				there := mallory.refused(ask(inbox, "alice"), want)
				nobody := mallory.refused(ask(codec.InboxOf("nobody"), "nobody"), want)
				if *there != *nobody {
					t.Errorf("%s, node %d: %+v of an account that is there, %+v of one that does not exist", name, i, there, nobody)
				}
			}
			for n := range 200 {
				mallory.send(sendTo(fmt.Sprint("account", n)))
				mallory.send(&codec.Subscribe{Req: 1, Room: codec.InboxOf(fmt.Sprint("account", n))})
			}
			for range 400 {
				next[*codec.Refused](mallory)
			}
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			rooms, edges := 0, 0
			for i := range 3 {
				rooms, edges = rooms+at(i).Rooms().Len(), edges+at(i).Edges()
			}
			if at(0) == at(1) {
				rooms /= 3
			}
			if rooms == 1 && edges <= 2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d rooms are counted, and %d known of that another node relays", rooms, edges)
			}
		}
	})
}

// One session of the recipient that does not read hurts neither the others nor who sends.
func TestInboxWithASlowSession(t *testing.T) {
	everywhere(t, func(t *testing.T, at func(int) *engine.Engine) {
		inbox := codec.InboxOf("alice")
		var hers []*wire
		for i := range 3 {
			w := login(t, at(i), "alice", uint64(i+1))
			w.granted(openInbox("alice", codec.PolicyLive, "bob"))
			w.subscribe(inbox)
			hers = append(hers, w)
		}
		bob := login(t, at(1), "bob", 1)
		p := bob.request(sendTo("alice")).(*codec.Published)
		src := &source{wire: bob, room: p.Room, pub: p.Pub, window: int(p.Window), seq: make(map[uint8]uint64)}
		const messages = 400 // of 60 KiB: more than its socket, its queue and the window hold
		for n := range messages {
			f := codec.FlagKey
			if n%10 != 0 {
				f = 0
			}
			src.push(4, f, make([]byte, 60<<10))
			for _, w := range hers[1:] {
				for got := false; !got; {
					switch x := w.any().(type) {
					case *codec.Stream:
						got = true
					case *codec.Gap:
						t.Fatalf("gap %d to %d", x.From, x.To)
					case nil:
						t.Fatal("closed")
					}
				}
			}
		}
		src.settle()
		// The slow one is told what it has missed, and goes on.
		v := newVerifier(inbox)
		for v.stream(src.key(4)).next <= messages {
			if err := v.take(hers[0].any()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestTokensDecideWhoMaySend(t *testing.T) {
	path, withFile := fileAuth(t)
	alice := addAccount(t, path, auth.Account{Name: "alice", Rights: auth.Rights{Accept: auth.OnlyAccounts("bob")}})
	bob := addAccount(t, path, auth.Account{Name: "bob", Rights: auth.Rights{Send: auth.OnlyAccounts("alice", "nobody")}})
	carol := addAccount(t, path, auth.Account{Name: "carol", Rights: auth.Rights{Push: auth.AllRooms(), Subscribe: auth.AllRooms()}})
	dave := addAccount(t, path, auth.Account{Name: "dave", Rights: auth.Rights{Send: auth.AllAccounts()}})
	e := start(t, withFile)
	in := func(account, token string) *wire {
		w := dial(t, e)
		if _, ok := helloWith(w, account, token).(*codec.Welcome); !ok {
			t.Fatalf("%s is not let in", account)
		}
		return w
	}
	a, b, c, d := in("alice", alice), in("bob", bob), in("carol", carol), in("dave", dave)
	a.granted(openInbox("alice", codec.PolicyLive)) // no right is needed, and the token says who is accepted
	a.subscribe(codec.InboxOf("alice"))
	if _, ok := b.request(sendTo("alice")).(*codec.Published); !ok {
		t.Error("bob may not send")
	}
	b.refused(sendTo("nobody"), codec.CodeNotAccepted)
	b.refused(sendTo("carol"), codec.CodeNotAllowed)
	b.refused(sendTo("nobody else"), codec.CodeRoomUnknown) // no name of an account
	there, nobody := c.refused(sendTo("alice"), codec.CodeNotAllowed), c.refused(sendTo("nobody"), codec.CodeNotAllowed)
	if *there != *nobody {
		t.Errorf("%+v, %+v", there, nobody)
	}
	c.refused(&codec.Subscribe{Req: 1, Room: codec.InboxOf("alice")}, codec.CodeRoomUnknown)
	d.refused(sendTo("alice"), codec.CodeNotAccepted)
	a.granted(&codec.Inbox{Req: 1, Room: codec.InboxOf("alice"), Accept: []string{"dave"}})
	if _, ok := d.request(sendTo("alice")).(*codec.Published); !ok {
		t.Error("dave may not send")
	}
}

// When the last session is gone the senders are told, wherever they and it were.
func TestInboxIsLeft(t *testing.T) {
	short := func(c *engine.Config) { c.Rooms = room.Config{Stall: time.Second} }
	for name, nodes := range map[string]func(t *testing.T) []*engine.Engine{
		"one node":    func(t *testing.T) []*engine.Engine { return []*engine.Engine{start(t, short)} },
		"three nodes": func(t *testing.T) []*engine.Engine { return startClusterOf(t, short, "a", "b", "c") },
	} {
		t.Run(name, func(t *testing.T) {
			ns := nodes(t)
			for i := range ns {
				alice := login(t, ns[i], "alice", uint64(i+1))
				alice.granted(openInbox("alice", codec.PolicyLossless, "bob"))
				alice.subscribe(codec.InboxOf("alice"))
				bob := login(t, ns[(i+1)%len(ns)], "bob", uint64(i+1))
				answer := bob.request(sendTo("alice"))
				p, ok := answer.(*codec.Published)
				if !ok {
					t.Fatalf("round %d: bob may not send: %+v", i, answer)
				}
				f := codec.Stream{Room: p.Room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: 1, Payload: []byte("in vain")}
				bob.write(enc(f.Append(nil)))
				next[*codec.Stream](alice) // and does not acknowledge it
				alice.c.Close()
				for left := false; !left; {
					switch m := bob.any().(type) {
					case *codec.Ack:
						t.Errorf("acknowledged up to %d", m.Seq)
					case *codec.Closed:
						if m.Code != codec.CodeAway {
							t.Errorf("closed with %v", m.Code)
						}
						left = true
					case nil:
						t.Fatal("the connection was closed")
					}
				}
				bob.refused(sendTo("alice"), codec.CodeAway)
			}
		})
	}
}

// An inbox that has ended, and one of another policy that nobody is in, are made anew, by whichever node.
func TestInboxIsMadeAnew(t *testing.T) {
	short := func(c *engine.Config) { c.Rooms = room.Config{Idle: time.Second, Stall: 500 * time.Millisecond} }
	ns := startClusterOf(t, short, "a", "b", "c")
	inbox := codec.InboxOf("alice")
	lives := func() (n int) {
		for _, e := range ns {
			n += e.Rooms().Len()
		}
		return n
	}
	for i, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless, codec.PolicyLossless, codec.PolicyLatest} {
		alice := login(t, ns[i%3], "alice", uint64(i+1))
		alice.granted(openInbox("alice", policy, "bob"))
		alice.subscribe(inbox)
		bob := login(t, ns[(i+1)%3], "bob", uint64(i+1))
		p, ok := bob.request(sendTo("alice")).(*codec.Published)
		if !ok || p.Policy != policy {
			t.Fatalf("round %d: %+v", i, p)
		}
		f := codec.Stream{Room: p.Room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: 1, Payload: []byte{byte(i)}}
		bob.write(enc(f.Append(nil)))
		if got := next[*codec.Stream](alice); got.Payload[0] != byte(i) {
			t.Errorf("round %d: %v", i, got.Payload)
		}
		alice.granted(unsubscribe(9, inbox))
		bob.c.Close()
		for alice.request(stat(1, inbox)).(*codec.Info).Subscribers > 0 { // the relay hears of it a little later
		}
		if i%2 == 1 {
			for deadline := time.Now().Add(patience); lives() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("round %d: the inbox does not end", i)
				}
			}
		}
	}
}
