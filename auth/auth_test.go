package auth

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
)

var (
	noon   = time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	remote = netip.MustParseAddr("192.0.2.1")
)

const (
	roomA = codec.RoomID(0x7f2c_11d0_93aa_45ef)
	roomB = codec.RoomID(0x0123_4567_89ab_cdef)
)

// write puts content into a file of the test's own and returns its path.
func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func start(t testing.TB, spec string) Authenticator {
	t.Helper()
	a, err := New(spec, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// wantErr checks a refusal, and that it tells nothing of the token.
func wantErr(t testing.TB, got error, want *Error, token string) {
	t.Helper()
	if got == nil {
		t.Fatalf("accepted; want %v", want)
	}
	e, ok := errors.AsType[*Error](got)
	if !ok || e != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	if len(token) >= 8 && strings.Contains(got.Error(), token[len(token)-8:]) {
		t.Fatalf("the error quotes the token: %v", got)
	}
}

func TestNew(t *testing.T) {
	accounts := write(t, "# nobody yet\n")
	keys := filepath.Join(t.TempDir(), "keys")
	if err := AddKey(keys, "", "HS256"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, spec string
		ok         bool
	}{
		{"open", "open", true},
		{"file", "file:" + accounts, true},
		{"jwt", "jwt:" + keys, true},
		{"empty", "", false},
		{"unknown kind", "ldap:" + accounts, false},
		{"no path", "file:", false},
		{"no colon", "jwt", false},
		{"open takes no path", "open:" + accounts, false},
		{"no such file", "file:" + accounts + ".none", false},
		{"a directory", "file:" + t.TempDir(), false},
		{"keys as accounts", "file:" + keys, false},
		{"accounts as keys", "jwt:" + accounts, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := New(c.spec, zerolog.Nop())
			if (err == nil) != c.ok {
				t.Fatalf("%v", err)
			}
			if err != nil {
				return
			}
			if IsOpen(a) != (c.spec == "open") {
				t.Errorf("IsOpen: %v", IsOpen(a))
			}
			for range 2 { // closing twice is no error
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := New("tdg_secret", zerolog.Nop()); strings.Contains(err.Error(), "secret") {
		t.Errorf("the error quotes the spec: %v", err)
	}
}

func TestOpen(t *testing.T) {
	a := start(t, "open")
	id, err := a.Authenticate("alice", nil, remote, noon)
	if err != nil {
		t.Fatal(err)
	}
	if id.Account != "alice" || !id.MayRegister() || !id.MaySubscribe(roomA) || !id.MayPush(roomA) || !id.MaySendTo("bob") {
		t.Errorf("%+v", id)
	}
	if id.Accepts("bob") {
		t.Error("accepts a sender unasked")
	}
	if now, err := id.Current(); now != id || err != nil || id.Expired(noon.AddDate(100, 0, 0)) {
		t.Errorf("an open identity has ended: %v, %v", now, err)
	}
	_, err = a.Authenticate("", nil, remote, noon)
	wantErr(t, err, ErrAccount, "")
}

func TestCheckAccount(t *testing.T) {
	for _, c := range []struct {
		name, account string
		ok            bool
	}{
		{"short", "a", true},
		{"mail address", "Alice.O'Neil+x@example.org", true},
		{"letters of all kinds", "Zoë-李", true},
		{"longest", strings.Repeat("a", codec.MaxAccount), true},
		{"star within", "a*", true},
		{"hash within", "a#1", true},
		{"empty", "", false},
		{"too long", strings.Repeat("a", codec.MaxAccount+1), false},
		{"all", "*", false},
		{"comment", "#a", false},
		{"space", "a b", false},
		{"no-break space", "a\u00a0b", false},
		{"comma", "a,b", false},
		{"newline", "a\nb", false},
		{"escape", "a\x1b[2J", false},
		{"right-to-left override", "a\u202eb", false},
		{"not UTF-8", "a\xff", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckAccount(c.account); (err == nil) != c.ok || err != nil && err != error(ErrAccount) {
				t.Errorf("%q: %v", c.account, err)
			}
		})
	}
}

func TestCodes(t *testing.T) {
	for _, e := range []*Error{
		ErrExpired, ErrNotYetValid, ErrRevoked, ErrAccount, errWrongToken, errTooLong, errMalformed, errAlgorithm, errCritical,
		errUnknownKey, errSignature, errClaims, errSubject, errAudience,
	} {
		if _, known := codec.Codes()[e.Code]; !known || e.Code.Retry() {
			t.Errorf("%v: code %v is unknown, or invites to try again", e, e.Code)
		}
		if e.Text == "" || e.Reason == "" || len(e.Text) > codec.MaxText {
			t.Errorf("%+v", e)
		}
	}
}
