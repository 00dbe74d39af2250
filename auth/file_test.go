package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func line(account, token, options string) string {
	h := sha256.Sum256([]byte(token))
	return strings.TrimSpace(account+" sha256:"+hex.EncodeToString(h[:])+" "+options) + "\n"
}

func TestParseAccounts(t *testing.T) {
	good := line("alice", "x", "")
	for _, c := range []struct{ name, content, err string }{
		{"empty", "", ""},
		{"comments and empty lines", "# who\n\n   \n" + good + "  # and no more", ""},
		{"no newline at the end", strings.TrimSpace(good), ""},
		{"carriage returns", strings.ReplaceAll(good, "\n", "\r\n"), ""},
		{"all options", line("alice", "x", "register subscribe=* push="+roomA.String()+" send=bob,carol accept="+
			" expires=2027-01-31T13:00:00+01:00"), ""},
		{"account alone", "alice\n", "line 1: " + errFields.Error()},
		{"a token in place of its hash", "alice tdg_secret\n", "line 1: " + errFields.Error()},
		{"short hash", "alice sha256:00\n", "line 1: " + errFields.Error()},
		{"hash without its kind", strings.Replace(good, "sha256:", "", 1), "line 1: " + errFields.Error()},
		{"no account's name", good + "\n" + line("a,b", "x", ""), "line 3: " + ErrAccount.Error()},
		{"account twice", good + good, "line 2: " + errTwice.Error()},
		{"unknown option", line("alice", "x", "secret"), "line 1: " + errOption.Error()},
		{"option that takes a value", line("alice", "x", "push"), "line 1: " + errOption.Error()},
		{"option that takes none", line("alice", "x", "register=no"), "line 1: " + errOption.Error()},
		{"option twice", line("alice", "x", "push=* push="), "line 1: " + errOptionTwo.Error()},
		{"bad time", line("alice", "x", "expires=tomorrow"), "line 1: " + errExpires.Error()},
		{"the time that would mean never", line("alice", "x", "expires=0001-01-01T00:00:00Z"), "line 1: " + errExpires.Error()},
		{"a time that is in the year 10000 elsewhere", line("alice", "x", "expires=9999-12-31T23:59:59-01:00"), "line 1: " + errExpires.Error()},
		{"bad account in a set", line("alice", "x", "send=bob,,carol"), "line 1: " + ErrAccount.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := parseAccounts([]byte(c.content))
			if got := fmt.Sprint(err); c.err != "" && got != c.err || c.err == "" && err != nil {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the file: %v", err)
			}
			if err == nil && strings.Contains(c.content, "alice") && a["alice"] == nil {
				t.Error("alice is not there")
			}
		})
	}
}

func TestFileAuthenticate(t *testing.T) {
	a := start(t, "file:"+write(t, ""+
		line("alice", "tdg_alice-token", "register subscribe=* push="+roomA.String()+" send=bob expires=2027-01-31T12:00:01Z")+
		line("bob", "tdg_bob-token", "accept=alice")))
	for _, c := range []struct {
		name, account, token string
		now                  time.Time
		err                  *Error
	}{
		{"right", "alice", "tdg_alice-token", noon, nil},
		{"right, no expiry", "bob", "tdg_bob-token", noon.AddDate(100, 0, 0), nil},
		{"another's token", "alice", "tdg_bob-token", noon, errWrongToken},
		{"no token", "alice", "", noon, errWrongToken},
		{"prefix of the token", "alice", "tdg_alice-toke", noon, errWrongToken},
		{"the hash as token", "bob", strings.Fields(line("bob", "tdg_bob-token", ""))[1], noon, errWrongToken},
		{"unknown account", "carol", "tdg_bob-token", noon, errWrongToken},
		{"unknown account, no token", "carol", "", noon, errWrongToken},
		{"other case", "Alice", "tdg_alice-token", noon, errWrongToken},
		{"no account", "", "tdg_alice-token", noon, ErrAccount},
		{"longest token", "alice", strings.Repeat("x", MaxToken), noon, errWrongToken},
		{"huge token", "alice", strings.Repeat("x", MaxToken+1), noon, errTooLong},
		{"expired", "alice", "tdg_alice-token", noon.Add(time.Second), ErrExpired},
		{"expired, wrong token", "alice", "tdg_bob-token", noon.Add(time.Second), errWrongToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := a.Authenticate(c.account, []byte(c.token), remote, c.now)
			if c.err != nil {
				wantErr(t, err, c.err, c.token)
				return
			}
			if err != nil || id.Account != c.account {
				t.Fatalf("%+v, %v", id, err)
			}
		})
	}
	alice, err := a.Authenticate("alice", []byte("tdg_alice-token"), remote, noon)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := a.Authenticate("bob", []byte("tdg_bob-token"), remote, noon)
	if err != nil {
		t.Fatal(err)
	}
	if !alice.Expires.Equal(noon.Add(time.Second)) || !alice.MayRegister() || !alice.MaySubscribe(roomB) || !alice.MayPush(roomA) ||
		alice.MayPush(roomB) || !alice.MaySendTo("bob") || alice.MaySendTo("carol") || alice.Accepts("bob") {
		t.Errorf("alice has other rights than the file says: %+v", alice)
	}
	if bob.MayRegister() || bob.MaySubscribe(roomA) || bob.MayPush(roomA) || bob.MaySendTo("alice") || !bob.Accepts("alice") ||
		bob.Accepts("bob") {
		t.Errorf("bob has other rights than the file says: %+v", bob)
	}
}

func TestFileAllocatesNothing(t *testing.T) {
	a := start(t, "file:"+write(t, line("alice", "tdg_alice-token", "")))
	token := []byte("tdg_alice-token")
	id, err := a.Authenticate("alice", token, remote, noon)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		_, _ = a.Authenticate("alice", token, remote, noon)
		_, _ = a.Authenticate("bob", token, remote, noon)
		_, _ = id.Current()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAddRemoveList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts")
	rights := Rights{Register: true, Push: OnlyRooms(roomA), Send: AllAccounts(), Accept: OnlyAccounts("carol")}
	token, err := Add(path, Account{Name: "alice", Rights: rights, Expires: noon})
	if err != nil {
		t.Fatal(err)
	}
	if len(token) < 40 {
		t.Fatalf("token of %d bytes", len(token))
	}
	// What somebody wrote by hand, without a newline at the end, stays.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), token) {
		t.Fatal("the file holds the token")
	}
	if err := os.WriteFile(path, append([]byte("# mine\n\n"), content[:len(content)-1]...), 0o644); err != nil {
		t.Fatal(err)
	}
	other, err := Add(path, Account{Name: "bob"})
	if err != nil || other == token {
		t.Fatalf("%v, or the same token", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	list, err := List(path)
	if err != nil || len(list) != 2 || list[0].Name != "alice" || list[1].Name != "bob" {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := list[0]; fmt.Sprint(got.Rights) != fmt.Sprint(rights) || !got.Expires.Equal(noon) {
		t.Errorf("alice reads %+v", got)
	}
	a := start(t, "file:"+path)
	for account, token := range map[string]string{"alice": token, "bob": other} {
		if _, err := a.Authenticate(account, []byte(token), remote, noon.Add(-time.Hour)); err != nil {
			t.Errorf("%s: %v", account, err)
		}
	}

	if _, err := Add(path, Account{Name: "bob"}); err != ErrAccountExists {
		t.Errorf("adding bob again: %v", err)
	}
	if err := Remove(path, "alice"); err != nil {
		t.Error(err)
	}
	if err := Remove(path, "alice"); err != ErrNoAccount {
		t.Errorf("removing alice again: %v", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "# mine\n\n"+line("bob", other, "") {
		t.Errorf("the file is %q, %v", content, err)
	}
}

func TestAddRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		account Account
	}{
		{"no account's name", Account{Name: "a b"}},
		{"no account's name in a right", Account{Name: "alice", Rights: Rights{Send: OnlyAccounts("a b")}}},
		{"no room's number", Account{Name: "alice", Rights: Rights{Push: OnlyRooms(0)}}},
		{"a time that cannot be written", Account{Name: "alice", Expires: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "accounts")
			if token, err := Add(path, c.account); err == nil || token != "" {
				t.Errorf("added, token %q", token)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("the file was made")
			}
		})
	}
	t.Run("a file that is broken", func(t *testing.T) {
		path := write(t, "?\n")
		if _, err := Add(path, Account{Name: "alice"}); err == nil {
			t.Error("added")
		}
		if content, err := os.ReadFile(path); err != nil || string(content) != "?\n" {
			t.Errorf("the file is %q now, %v", content, err)
		}
	})
	t.Run("a directory that is not there", func(t *testing.T) {
		if _, err := Add(filepath.Join(t.TempDir(), "none", "accounts"), Account{Name: "alice"}); err == nil {
			t.Error("added")
		}
	})
}

func TestEditKeepsLink(t *testing.T) {
	path := write(t, "")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(link, Account{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is none any more: %v, %v", info.Mode(), err)
	}
	if list, err := List(path); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
}

func TestConcurrentAdd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts")
	var want []string
	var wg sync.WaitGroup
	for i := range 20 {
		name := fmt.Sprintf("account-%02d", i)
		want = append(want, name)
		wg.Go(func() {
			if _, err := Add(path, Account{Name: name}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := List(path)
	var got []string
	for _, a := range list {
		got = append(got, a.Name)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
