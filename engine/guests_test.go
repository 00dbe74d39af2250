package engine_test

import (
	"testing"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

func helloGuest(w *wire, account, token string, instance uint64) any {
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	w.write(enc((&codec.Hello{Account: account, Token: []byte(token), Instance: instance}).Append(b)))
	w.preface()
	return w.any()
}

// TestGuests: who has no token may subscribe where the server lets guests, and can do nothing else.
func TestGuests(t *testing.T) {
	_, file := fileAuth(t)
	for _, c := range []struct {
		name           string
		guests         bool
		account, token string
		welcome        bool
	}{
		{"a guest", true, "", "", true},
		{"a guest, where there are none", false, "", "", false},
		{"an account without a token", true, "nobody", "", false},
		{"no account, but a token", true, "", "x", false},
		{"a guest's name", true, "#guest-0000000000000001", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := start(t, file, func(cfg *engine.Config) { cfg.Guests = c.guests })
			if _, ok := helloGuest(dial(t, e), c.account, c.token, 1).(*codec.Welcome); ok != c.welcome {
				t.Fatalf("welcome: %v", ok)
			}
		})
	}
}

func TestGuestsSubscribeAndNothingElse(t *testing.T) {
	for _, kind := range []string{"open", "file"} {
		t.Run(kind, func(t *testing.T) {
			path, file := fileAuth(t)
			token := addAccount(t, path, auth.Account{Name: "alice", Rights: auth.Rights{Register: true, Subscribe: auth.AllRooms(), Push: auth.AllRooms()}})
			change := func(cfg *engine.Config) { cfg.Guests = true }
			e := start(t, change)
			if kind == "file" {
				e = start(t, file, change)
			} else {
				token = ""
			}
			alice := dial(t, e)
			if _, ok := helloGuest(alice, "alice", token, 1).(*codec.Welcome); !ok {
				t.Fatal("alice is not welcome")
			}
			alice.send(&codec.Register{Req: 1})
			room := next[*codec.Registered](alice).Room
			alice.send(grant(2, room, codec.Everyone))
			next[*codec.OK](alice)

			w := dial(t, e)
			if _, ok := helloGuest(w, "", "", 7).(*codec.Welcome); !ok {
				t.Fatal("the guest is not welcome")
			}
			w.send(&codec.Subscribe{Req: 1, Room: room})
			next[*codec.Subscribed](w)
			own := codec.InboxOf("#guest-0000000000000007")
			for i, c := range []codec.Control{
				&codec.Register{Req: 10},
				&codec.Publish{Req: 11, Room: room},
				&codec.Publish{Req: 12, Room: codec.InboxOf("alice"), To: "alice"},
				grant(13, room, "bob"),
				revoke(14, room, "bob"),
				remove(15, room),
				stat(16, room),
				&codec.Inbox{Req: 17, Room: own},
				unpublish(18, room),
				&codec.Token{Req: 19, Token: []byte("x")},
			} {
				w.send(c)
				if r := next[*codec.Refused](w); r.Code != codec.CodeNotAllowed || r.Req != uint32(10+i) {
					t.Errorf("%T: %+v", c, r)
				}
			}
			w.send(unsubscribe(30, room))
			next[*codec.OK](w)
		})
	}
}
