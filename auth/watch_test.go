package auth

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// put replaces a file as an administrator's tool does, in one step.
func put(t *testing.T, path, content string) {
	t.Helper()
	if err := replace(path, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// look waits until the watcher has looked at the file again. In a synctest bubble only.
func look() {
	time.Sleep(pollEvery)
	synctest.Wait()
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was logged since the last call.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func TestFileReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		path := write(t, line("alice", "one", "push=*")+line("bob", "two", ""))
		a, err := New("file:"+path, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		may := func(account, token string) *Error {
			_, err := a.Authenticate(account, []byte(token), remote, noon)
			e, _ := errors.AsType[*Error](err)
			return e
		}
		expect := func(when string, alice, bob, carol *Error) {
			t.Helper()
			look()
			for _, c := range []struct {
				account, token string
				want           *Error
			}{{"alice", "one", alice}, {"bob", "two", bob}, {"carol", "three", carol}} {
				if got := may(c.account, c.token); got != c.want {
					t.Errorf("%s, %s: got %v, want %v", when, c.account, got, c.want)
				}
			}
		}
		expect("at first", nil, nil, errWrongToken)
		session, err := a.Authenticate("alice", []byte("one"), remote, noon)
		if err != nil {
			t.Fatal(err)
		}
		bob, err := a.Authenticate("bob", []byte("two"), remote, noon)
		if err != nil {
			t.Fatal(err)
		}
		if logged := log.take(); logged != "" {
			t.Errorf("nothing changed, and yet: %s", logged)
		}

		put(t, path, line("alice", "one", "register")+line("carol", "three", ""))
		expect("after a change", nil, errWrongToken, nil)
		if now, err := session.Current(); err != nil || now.MayPush(roomA) || !now.MayRegister() || now.Account != "alice" {
			t.Errorf("alice's session now: %+v, %v", now, err)
		}
		if !session.MayPush(roomA) {
			t.Error("an identity changed under its holder")
		}
		if _, err := bob.Current(); err != error(ErrRevoked) {
			t.Errorf("bob's session now: %v", err)
		}
		if logged := log.take(); strings.Count(logged, "\n") != 1 || !strings.Contains(logged, "taken up") {
			t.Errorf("logged %s", logged)
		}

		put(t, path, "alice tdg_secret\n")
		expect("after a mistake", nil, errWrongToken, nil)
		look()
		logged := log.take()
		if strings.Count(logged, "\n") != 1 || !strings.Contains(logged, "line 1") || !strings.Contains(logged, path) {
			t.Errorf("a broken file should be told of once, with its path and line: %s", logged)
		}
		if strings.Contains(logged, "secret") {
			t.Errorf("the log quotes the file: %s", logged)
		}

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("without a file", nil, errWrongToken, nil)
		look()
		if logged := log.take(); strings.Count(logged, "\n") != 1 {
			t.Errorf("a missing file should be told of once: %s", logged)
		}

		put(t, path, line("alice", "four", ""))
		expect("with a file again", errWrongToken, errWrongToken, errWrongToken)
		if e := may("alice", "four"); e != nil {
			t.Errorf("the new token: %v", e)
		}
		if _, err := session.Current(); err != error(ErrRevoked) {
			t.Errorf("alice's session has the old token, and yet: %v", err)
		}

		a.Close()
		put(t, path, line("bob", "two", ""))
		expect("after Close", errWrongToken, errWrongToken, errWrongToken)
	})
}

func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys")
		sign := func() string {
			t.Helper()
			token, err := Sign(path, "", Account{Name: "alice"}, noon)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		if err := AddKey(path, "1", "HS256"); err != nil {
			t.Fatal(err)
		}
		a := start(t, "jwt:"+path)
		old := sign()
		session, err := a.Authenticate("alice", []byte(old), remote, noon)
		if err != nil {
			t.Fatal(err)
		}

		// First the new key is put beside the old one, and both are good.
		if err := AddKey(path, "2", "EdDSA"); err != nil {
			t.Fatal(err)
		}
		fresh := sign()
		_, err = a.Authenticate("alice", []byte(fresh), remote, noon)
		wantErr(t, err, errUnknownKey, fresh) // not looked at yet
		look()
		for _, token := range []string{old, fresh} {
			if _, err := a.Authenticate("alice", []byte(token), remote, noon); err != nil {
				t.Error(err)
			}
		}
		if now, err := session.Current(); now != session || err != nil {
			t.Errorf("the session during the change: %v, %v", now, err)
		}

		// Then the old one goes.
		keys, err := read(path)
		if err != nil {
			t.Fatal(err)
		}
		set, err := parseKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2","x":"`+set.find("2").encoded+`"}]}`)
		look()
		_, err = a.Authenticate("alice", []byte(old), remote, noon)
		wantErr(t, err, errUnknownKey, old)
		if _, err := a.Authenticate("alice", []byte(fresh), remote, noon); err != nil {
			t.Error(err)
		}
		if _, err := session.Current(); err != error(ErrRevoked) {
			t.Errorf("the session of the old key: %v", err)
		}

		// A kid that comes back with another secret is another key.
		put(t, path, jwks(octKey("1", secret)))
		look()
		_, err = a.Authenticate("alice", []byte(old), remote, noon)
		wantErr(t, err, errSignature, old)
		if _, err := session.Current(); err != error(ErrRevoked) {
			t.Errorf("the session of a key whose kid was used again: %v", err)
		}
	})
}

// TestSameLook changes a file so that nothing but its content shows it.
func TestSameLook(t *testing.T) {
	path := write(t, line("alice", "one", ""))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, "file:"+path).(*file)
	a.Close() // polled here instead
	if err := os.WriteFile(path, []byte(line("alice", "two", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if changed, err := a.poll(); !changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
	// Once its last change is old enough to be told from another, an untouched file is not read any more.
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	if changed, err := a.poll(); changed || err != nil || !a.settled {
		t.Errorf("changed %v, settled %v, %v", changed, a.settled, err)
	}
	if changed, err := a.poll(); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
}

// TestConcurrentReload authenticates while the file changes: whoever is in all its contents is never refused.
func TestConcurrentReload(t *testing.T) {
	contents := []string{
		line("alice", "one", "") + line("bob", "two", ""),
		"# another\n" + line("alice", "one", "push=*"),
		"broken\n",
	}
	path := write(t, contents[0])
	a := start(t, "file:"+path).(*file)
	a.Close() // polled here instead, more often
	session, err := a.Authenticate("alice", []byte("one"), remote, noon)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := a.Authenticate("alice", []byte("one"), remote, noon); err != nil {
					t.Errorf("alice: %v", err)
					return
				}
				if _, err := session.Current(); err != nil {
					t.Errorf("alice's session: %v", err)
					return
				}
				_, _ = a.Authenticate("bob", []byte("two"), remote, noon)
			}
		})
	}
	for i := range 60 {
		put(t, path, contents[i%len(contents)])
		if _, err := a.poll(); (err != nil) != (i%len(contents) == 2) {
			t.Errorf("content %d: %v", i%len(contents), err)
		}
	}
	close(done)
	wg.Wait()
}

// TestFaultInAFile: a file that makes its parser panic is refused like one that is no good, and the next is taken up.
func TestFaultInAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		taken := ""
		put(t, path, "good")
		w, err := watch(path, zerolog.Nop(), func(b []byte) error {
			if string(b) == "bad" {
				panic("a fault")
			}
			taken = string(b)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, content := range []string{"bad", "better"} {
			put(t, path, content)
			time.Sleep(2 * pollEvery)
			synctest.Wait()
		}
		if taken != "better" {
			t.Errorf("taken up: %q", taken)
		}
	})
}
