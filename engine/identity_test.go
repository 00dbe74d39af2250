package engine_test

import (
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// fileAuth returns a file of accounts, and what makes a server use it.
func fileAuth(t *testing.T) (path string, change func(*engine.Config)) {
	path = filepath.Join(t.TempDir(), "accounts")
	addAccount(t, path, auth.Account{Name: "nobody"})
	return path, func(c *engine.Config) {
		a, err := auth.New("file:"+path, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		c.Auth = a
	}
}

func addAccount(t *testing.T, path string, a auth.Account) (token string) {
	t.Helper()
	token, err := auth.Add(path, a)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// helloWith dials and says hello with a token; it returns the first frame after the server's preface.
func helloWith(w *wire, account, token string) any {
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	w.write(enc((&codec.Hello{Account: account, Token: []byte(token), Instance: 1}).Append(b)))
	w.preface()
	return w.any()
}

func TestTokenDecidesWhoMayDoWhat(t *testing.T) {
	path, withFile := fileAuth(t)
	alice := addAccount(t, path, auth.Account{Name: "alice", Rights: auth.Rights{
		Register: true, Subscribe: auth.AllRooms(), Push: auth.AllRooms(),
	}})
	viewer := addAccount(t, path, auth.Account{Name: "viewer"})
	e := start(t, withFile)

	for name, c := range map[string]struct{ account, token string }{
		"no token":        {"alice", ""},
		"wrong token":     {"alice", viewer},
		"no such account": {"mallory", alice},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, e)
			m, ok := helloWith(w, c.account, c.token).(*codec.Error)
			if !ok || m.Code != codec.CodeAuthFailed {
				t.Fatalf("answered %+v, want error auth_failed", m)
			}
			if x := w.any(); x != nil {
				t.Fatalf("the connection goes on with %+v", x)
			}
		})
	}

	owner := dial(t, e)
	if _, ok := helloWith(owner, "alice", alice).(*codec.Welcome); !ok {
		t.Fatal("alice was not welcome")
	}
	room := owner.register(codec.Register{})
	owner.publish(room)
	owner.subscribe(room)

	w := dial(t, e)
	if _, ok := helloWith(w, "viewer", viewer).(*codec.Welcome); !ok {
		t.Fatal("the viewer was not welcome")
	}
	for name, m := range map[string]codec.Control{
		"register":  &codec.Register{Req: 1},
		"publish":   &codec.Publish{Req: 1, Room: room},
		"subscribe": &codec.Subscribe{Req: 1, Room: room},
	} {
		w.send(m)
		if r, ok := w.any().(*codec.Refused); !ok || r.Code != codec.CodeNotAllowed {
			t.Errorf("%s: answered %+v, want refused not_allowed", name, r)
		}
	}
}

func TestSessionEndsWhenItsTokenIsTakenBack(t *testing.T) {
	path, withFile := fileAuth(t)
	token := addAccount(t, path, auth.Account{Name: "alice"})
	e := start(t, withFile)
	w := dial(t, e)
	if _, ok := helloWith(w, "alice", token).(*codec.Welcome); !ok {
		t.Fatal("alice was not welcome")
	}
	if err := auth.Remove(path, "alice"); err != nil {
		t.Fatal(err)
	}
	if m := next[*codec.Error](w); m.Code != codec.CodeTokenRevoked {
		t.Fatalf("closed with %v, want token_revoked", m.Code)
	}
}

func TestOpenServesLoopbackOnlyUnlessForced(t *testing.T) {
	for name, c := range map[string]struct {
		listen string
		force  bool
		ok     bool
	}{
		"loopback": {"127.0.0.1:0", false, true},
		"name":     {"localhost:0", false, true},
		"all":      {"0.0.0.0:0", false, false},
		"no host":  {":0", false, false},
		"forced":   {"0.0.0.0:0", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine.Start(engine.Config{Listen: []string{c.listen}, Loops: 1, Log: zerolog.Nop(), InsecureOpen: c.force})
			if (err == nil) != c.ok {
				t.Fatalf("start: %v", err)
			}
			if err == nil {
				if err := e.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
