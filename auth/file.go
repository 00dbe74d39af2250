package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// A file's tokens are 256 random bits each, drawn by newToken, and the file has their SHA-256. That is enough: a slow
// hash (bcrypt, Argon2) makes up for passwords that can be guessed, and nobody guesses 256 random bits, however fast
// each guess. So a hash that costs a microsecond keeps the file as safe, and the event loop from being held up by
// whoever sends bad tokens.
const (
	hashPrefix  = "sha256:"
	tokenPrefix = "tdg_" // lets people and secret scanners see what it is
	tokenBytes  = 32
)

func newToken() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// hash is the SHA-256 of a token's text.
type hash [sha256.Size]byte

// file is the authenticator of a list of accounts.
type file struct {
	*watcher
	accounts atomic.Pointer[accounts]
}

type accounts map[string]*entry

// entry is an account of the file. It is not changed once the file has been read.
type entry struct {
	id   Identity
	hash hash
	line int // for people
}

func newFile(path string, log zerolog.Logger) (*file, error) {
	f := &file{}
	var err error
	f.watcher, err = watch(path, log, f.take)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *file) take(content []byte) error {
	a, err := parseAccounts(content)
	if err != nil {
		return err
	}
	for _, e := range a {
		e.id.current = func() (*Identity, error) { return f.current(e) }
	}
	f.accounts.Store(&a)
	return nil
}

// current finds what has become of an entry.
func (f *file) current(was *entry) (*Identity, error) {
	e := (*f.accounts.Load())[was.id.Account]
	if e == nil || e.hash != was.hash { // hashes of the file's own, so how long it takes tells nobody anything
		return nil, ErrRevoked
	}
	return &e.id, nil
}

// nobody stands in for accounts that are not there, so that they take as long as a wrong token.
var nobody = &entry{}

func (f *file) Authenticate(account string, token []byte, _ netip.Addr, now time.Time) (*Identity, error) {
	if err := CheckAccount(account); err != nil {
		return nil, err
	}
	if len(token) > MaxToken {
		return nil, errTooLong
	}
	e := (*f.accounts.Load())[account]
	if e == nil {
		e = nobody
	}
	h := hash(sha256.Sum256(token))
	if subtle.ConstantTimeCompare(h[:], e.hash[:]) == 0 || e == nobody {
		return nil, errWrongToken
	}
	if e.id.Expired(now) {
		return nil, ErrExpired
	}
	return &e.id, nil
}

var (
	errFields    = errors.New("a line is an account, sha256: with 64 hexadecimal digits, and options")
	errTwice     = errors.New("the account is there already")
	errOption    = errors.New("options are register, subscribe=, push=, send=, accept= and expires=")
	errOptionTwo = errors.New("an option is there twice")
	errExpires   = errors.New("expires= takes a time such as 2027-01-31T12:00:00Z")
)

// parseAccounts reads the whole file. Errors name the line, and quote nothing, for somebody may have put a token there.
func parseAccounts(content []byte) (accounts, error) {
	all := make(accounts)
	n := 0
	for line := range bytes.Lines(content) {
		n++
		e, err := parseEntry(string(line))
		if err == nil && e != nil && all[e.id.Account] != nil {
			err = errTwice
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if e != nil {
			e.line = n
			all[e.id.Account] = e
		}
	}
	return all, nil
}

// parseEntry reads a line; an empty line, or a comment, gives nil.
func parseEntry(line string) (*entry, error) {
	fields := strings.Fields(line)
	if len(fields) == 0 || fields[0][0] == '#' {
		return nil, nil
	}
	if len(fields) < 2 {
		return nil, errFields
	}
	e := &entry{id: Identity{Account: fields[0]}}
	if err := CheckAccount(fields[0]); err != nil {
		return nil, err
	}
	digits, ok := strings.CutPrefix(fields[1], hashPrefix)
	h, err := hex.DecodeString(digits)
	if !ok || err != nil || len(h) != len(e.hash) {
		return nil, errFields
	}
	e.hash = hash(h)
	given := make(map[string]bool)
	for _, option := range fields[2:] {
		name, value, hasValue := strings.Cut(option, "=")
		if given[name] {
			return nil, errOptionTwo
		}
		given[name] = true
		if err := e.id.setOption(name, value, hasValue); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (id *Identity) setOption(name, value string, hasValue bool) (err error) {
	switch {
	case name == "register" && !hasValue:
		id.Rights.Register = true
	case name == "subscribe" && hasValue:
		return id.Rights.Subscribe.UnmarshalText([]byte(value))
	case name == "push" && hasValue:
		return id.Rights.Push.UnmarshalText([]byte(value))
	case name == "send" && hasValue:
		return id.Rights.Send.UnmarshalText([]byte(value))
	case name == "accept" && hasValue:
		return id.Rights.Accept.UnmarshalText([]byte(value))
	case name == "expires" && hasValue:
		id.Expires, err = time.Parse(time.RFC3339, value)
		if at := id.Expires.Unix(); err != nil || at < 0 || at > lastDate { // the zero time would mean never
			return errExpires
		}
	default:
		return errOption
	}
	return nil
}

// appendLine writes the line of an account, without its end.
func (e *entry) appendLine(dst []byte) []byte {
	dst = append(append(dst, e.id.Account...), " "+hashPrefix...)
	dst = hex.AppendEncode(dst, e.hash[:])
	if e.id.Rights.Register {
		dst = append(dst, " register"...)
	}
	for _, o := range []struct{ name, value string }{
		{"subscribe", e.id.Rights.Subscribe.String()}, {"push", e.id.Rights.Push.String()},
		{"send", e.id.Rights.Send.String()}, {"accept", e.id.Rights.Accept.String()},
	} {
		if o.value != "" {
			dst = append(append(append(append(dst, ' '), o.name...), '='), o.value...)
		}
	}
	if !e.id.Expires.IsZero() {
		dst = e.id.Expires.UTC().AppendFormat(append(dst, " expires="...), time.RFC3339)
	}
	return dst
}
