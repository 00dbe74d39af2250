//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/timedge/timedge/auth"
)

// tokenCmd keeps the files that serve --auth takes, on the machine where they are: no server is asked.
type tokenCmd struct {
	Add    tokenAddCmd    `cmd:"" help:"Put an account into a file and print its token."`
	Remove tokenRemoveCmd `cmd:"" help:"Take an account out of a file."`
	List   tokenListCmd   `cmd:"" help:"Show the accounts of a file."`
	Key    tokenKeyCmd    `cmd:"" help:"Draw a key for signing and add it to a file."`
	Sign   tokenSignCmd   `cmd:"" help:"Print a token signed with a key of a file."`
}

// rightsFlags are what an account may do.
type rightsFlags struct {
	Register  bool          `negatable:"" default:"true" help:"It may register rooms (${default})."`
	Subscribe auth.Rooms    `placeholder:"ROOMS" default:"*" help:"Rooms to receive, comma-separated, or * for all (${default})."`
	Push      auth.Rooms    `placeholder:"ROOMS" default:"*" help:"Rooms to push into, if granted or its own (${default})."`
	Send      auth.Accounts `placeholder:"NAMES" default:"*" help:"Accounts to send to, if they accept (${default})."`
	Accept    auth.Accounts `placeholder:"NAMES" help:"Accounts to be sent to by (none)."`
}

type tokenAddCmd struct {
	File string `arg:"" help:"The file of serve --auth file:FILE; made if need be."`
	Name string `arg:"" help:"The account."`
	rightsFlags
	Expires time.Duration `placeholder:"TIME" help:"The token ends after so long, such as 720h (never)."`
}

type tokenRemoveCmd struct {
	File string `arg:"" help:"The file of serve --auth file:FILE."`
	Name string `arg:"" help:"The account."`
}

type tokenListCmd struct {
	File string `arg:"" help:"The file of serve --auth file:FILE."`
}

type tokenKeyCmd struct {
	File string `arg:"" help:"The file of serve --auth jwt:FILE; made if need be."`
	Kid  string `placeholder:"ID" help:"Tells the key from the others of the file (no ID)."`
	Alg  string `placeholder:"ALG" default:"EdDSA" enum:"EdDSA,HS256" help:"${enum} (${default})."`
}

type tokenSignCmd struct {
	File string `arg:"" help:"The file of serve --auth jwt:FILE, or one with private halves."`
	Name string `arg:"" help:"The account."`
	rightsFlags
	Expires time.Duration `placeholder:"TIME" default:"1h" help:"The token ends after so long; 0: never (${default})."`
	Kid     string        `placeholder:"ID" help:"Which key signs (the last that can)."`
}

// account is an account with these rights, whose token ends so long after now.
func (r *rightsFlags) account(name string, now time.Time, expires time.Duration) auth.Account {
	a := auth.Account{
		Name:   name,
		Rights: auth.Rights{Register: r.Register, Subscribe: r.Subscribe, Push: r.Push, Send: r.Send, Accept: r.Accept},
	}
	if expires != 0 {
		a.Expires = now.Add(expires)
	}
	return a
}

// Run prints the token of a new account, and nothing else.
func (c *tokenAddCmd) Run(std *streams) error {
	token, err := auth.Add(c.File, c.account(c.Name, time.Now(), c.Expires))
	if err != nil {
		return explainToken(err, c.File, c.Name)
	}
	return std.say("%s", token)
}

// Run takes an account out.
func (c *tokenRemoveCmd) Run() error {
	return explainToken(auth.Remove(c.File, c.Name), c.File, c.Name)
}

// Run shows the accounts.
func (c *tokenListCmd) Run(std *streams) error {
	list, err := auth.List(c.File)
	if err != nil {
		return explainToken(err, c.File, "")
	}
	w := std.table()
	w.row("ACCOUNT", "REGISTER", "SUBSCRIBE", "PUSH", "SEND", "ACCEPT", "EXPIRES")
	for _, a := range list {
		register, expires := "no", "never"
		if a.Rights.Register {
			register = "yes"
		}
		if !a.Expires.IsZero() {
			expires = a.Expires.UTC().Format(time.RFC3339)
		}
		w.row(a.Name, register,
			orDash(a.Rights.Subscribe), orDash(a.Rights.Push), orDash(a.Rights.Send), orDash(a.Rights.Accept), expires)
	}
	return w.flush()
}

func orDash(set fmt.Stringer) string {
	if s := set.String(); s != "" {
		return s
	}
	return "-"
}

// Run adds a key.
func (c *tokenKeyCmd) Run() error { return explainToken(auth.AddKey(c.File, c.Kid, c.Alg), c.File, "") }

// Run prints a signed token, and nothing else.
func (c *tokenSignCmd) Run(std *streams) error {
	now := time.Now()
	token, err := auth.Sign(c.File, c.Kid, c.account(c.Name, now, c.Expires), now)
	if err != nil {
		return explainToken(err, c.File, c.Name)
	}
	return std.say("%s", token)
}

// explainToken says what to do. Others, and nil, it returns as they are.
func explainToken(err error, file, name string) error {
	if errors.Is(err, auth.ErrAccountExists) {
		return fmt.Errorf("%s is in %s already: remove it first for a new token, or edit its line for other rights", name, file)
	}
	if errors.Is(err, auth.ErrNoAccount) {
		return fmt.Errorf("%s is not in %s: see 'timedge token list %s'", name, file, file)
	}
	if e, ok := errors.AsType[*auth.Error](err); ok {
		return errors.New(e.Text)
	}
	return err
}
