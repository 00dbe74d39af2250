package engine_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// jwtAuth returns a file of keys, and what makes a server use it.
func jwtAuth(t testing.TB) (path string, change func(*engine.Config)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys")
	if err := auth.AddKey(path, "", "EdDSA"); err != nil {
		t.Fatal(err)
	}
	return path, func(c *engine.Config) {
		a, err := auth.New("jwt:"+path, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		c.Auth = a
	}
}

// everything is all that an account may do with its own rooms.
var everything = auth.Rights{Register: true, Subscribe: auth.AllRooms(), Push: auth.AllRooms()}

// sign makes a token that ends so long from now.
func sign(t testing.TB, path, account string, life time.Duration, rights auth.Rights) []byte {
	t.Helper()
	now := time.Now()
	token, err := auth.Sign(path, "", auth.Account{Name: account, Rights: rights, Expires: now.Add(life)}, now)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token)
}

// loginWith dials and says hello with a token and capabilities.
func loginWith(t testing.TB, e *engine.Engine, account string, token []byte, caps uint64) *wire {
	t.Helper()
	w := dial(t, e)
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	w.write(enc((&codec.Hello{Account: account, Token: token, Instance: 1, Caps: caps}).Append(b)))
	w.preface()
	if m := next[*codec.Welcome](w); m.Caps != caps&codec.CapToken {
		t.Fatalf("capabilities %#x are in force of %#x", m.Caps, caps)
	}
	return w
}

func TestSessionEndsWithItsTokenUnlessItHasAFreshOne(t *testing.T) {
	path, withJWT := jwtAuth(t)
	e := start(t, withJWT)
	short := sign(t, path, "alice", 4*time.Second, everything)
	renewing, ending, old := loginWith(t, e, "alice", short, codec.CapToken), loginWith(t, e, "alice", short, codec.CapToken), loginWith(t, e, "alice", short, 0)
	room := renewing.register(codec.Register{})

	m := next[*codec.Expiring](renewing)
	if m.Code != codec.CodeTokenExpired || m.WithinMillis > 4000 {
		t.Errorf("warned of %v within %d ms", m.Code, m.WithinMillis)
	}
	okayed(t, renewing.ask(&codec.Token{Req: 7, Token: sign(t, path, "alice", time.Hour, auth.Rights{Subscribe: auth.AllRooms()})}), 7)

	next[*codec.Expiring](ending)
	if m := next[*codec.Error](ending); m.Code != codec.CodeTokenExpired || m.Text == "" {
		t.Errorf("closed with %v %q", m.Code, m.Text)
	}
	if m, ok := old.any().(*codec.Error); !ok || m.Code != codec.CodeTokenExpired {
		t.Errorf("a client that knows of no warning got %+v", m)
	}
	again := dial(t, e)
	if m, ok := helloWith(again, "alice", string(short)).(*codec.Error); !ok || m.Code != codec.CodeTokenExpired {
		t.Errorf("an expired token was answered with %+v", m)
	}

	// The fresh token is in force, with its rights.
	renewing.subscribe(room)
	refusedWith(t, renewing.ask(&codec.Register{Req: 8}), 8, codec.CodeNotAllowed)
}

func TestFreshTokenIsCheckedLikeTheFirst(t *testing.T) {
	path, withJWT := jwtAuth(t)
	other, _ := jwtAuth(t)
	e := start(t, withJWT)
	w := loginWith(t, e, "alice", sign(t, path, "alice", time.Hour, everything), codec.CapToken)
	for name, token := range map[string][]byte{
		"nothing": nil, "garbage": []byte("garbage"), "expired": sign(t, path, "alice", -time.Minute, everything),
		"another account's": sign(t, path, "bob", time.Hour, everything), "another key's": sign(t, other, "alice", time.Hour, everything),
	} {
		t.Run(name, func(t *testing.T) { refusedWith(t, w.ask(&codec.Token{Req: 9, Token: token}), 9, codec.CodeBadToken) })
	}
	w.register(codec.Register{}) // the first one still counts

	w = loginWith(t, e, "alice", sign(t, path, "alice", time.Hour, everything), 0)
	w.send(&codec.Token{Req: 1})
	if m := next[*codec.Error](w); m.Code != codec.CodeUnexpected {
		t.Errorf("a token that was not agreed on: %v", m.Code)
	}
}

func TestServerWithoutTokensTakesAny(t *testing.T) {
	w := loginWith(t, start(t), "alice", nil, codec.CapToken|1<<40)
	okayed(t, w.ask(&codec.Token{Req: 3, Token: []byte("whatever")}), 3)
}
