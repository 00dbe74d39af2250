package auth_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
)

// A server with a list of accounts.
func ExampleNew() {
	dir, _ := os.MkdirTemp("", "auth")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "accounts")

	// timedge token add: the token goes to the client, its hash into the file.
	token, err := auth.Add(path, auth.Account{Name: "alice", Rights: auth.Rights{Register: true, Push: auth.AllRooms()}})
	if err != nil {
		fmt.Println(err)
		return
	}

	// timedge serve --auth file:PATH
	a, err := auth.New("file:"+path, zerolog.Nop())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()

	from := netip.MustParseAddr("192.0.2.1")
	id, err := a.Authenticate("alice", []byte(token), from, time.Now())
	fmt.Println(id.Account, id.MayRegister(), id.MaySendTo("bob"), err)

	_, err = a.Authenticate("alice", []byte("guessed"), from, time.Now())
	refusal, _ := errors.AsType[*auth.Error](err)
	fmt.Println(refusal.Code, "-", refusal.Text)
	// Output:
	// alice true false <nil>
	// auth_failed - account and token do not fit
}

// A token for one account and an hour.
func ExampleSign() {
	dir, _ := os.MkdirTemp("", "auth")
	defer os.RemoveAll(dir)
	keys := filepath.Join(dir, "keys.json")

	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	if err := auth.AddKey(keys, "2027-01", "EdDSA"); err != nil {
		fmt.Println(err)
		return
	}
	token, err := auth.Sign(keys, "", auth.Account{
		Name:    "alice",
		Rights:  auth.Rights{Subscribe: auth.AllRooms(), Accept: auth.OnlyAccounts("bob")},
		Expires: now.Add(time.Hour),
	}, now)
	if err != nil {
		fmt.Println(err)
		return
	}

	a, err := auth.New("jwt:"+keys, zerolog.Nop())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	id, err := a.Authenticate("alice", []byte(token), netip.Addr{}, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(id.Account, id.Accepts("bob"), id.Accepts("carol"), id.MayRegister(), id.Expires.UTC().Format(time.TimeOnly))
	// Output: alice true false false 13:00:00
}
