package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
)

// MaxToken is the longest token, bytes. One in a hello has less room still, for the frame has other fields.
const MaxToken = codec.MaxHandshakeFrame

// Authenticator says whether a client is who it says it is. Its methods may be called from many goroutines at once.
type Authenticator interface {
	// Authenticate returns who holds account and token at the time now, connected from remote. It may run on an event
	// loop, so it neither blocks nor does I/O: an authenticator that has to ask somebody must have asked before. Those of
	// this package take less than a microsecond (open, file), some tens (jwt with HS256) or about a hundred (EdDSA),
	// refusals included: at most what twenty writes to subscribers take, once a connection. BenchmarkAuthenticate measures
	// it.
	//
	// It neither keeps nor changes token. Every error is an *Error. The identity is shared and must not be changed.
	Authenticate(account string, token []byte, remote netip.Addr, now time.Time) (*Identity, error)

	// Close ends the authenticator's own goroutine, if it has one, and waits for it. What was last read stays in force.
	Close() error
}

// Reloader is an Authenticator with a file, which it looks at about once a second.
type Reloader interface {
	// Reload has it look now, and returns why what is there was not taken up.
	Reload() error
}

// New makes an authenticator of "open", "file:PATH" or "jwt:PATH". The file must be there and in order; from then on
// its changes are taken up, and logged, as they come. The caller closes the authenticator.
func New(spec string, log zerolog.Logger) (Authenticator, error) {
	kind, path, _ := strings.Cut(spec, ":")
	switch {
	case spec == "open":
		return open{}, nil
	case kind == "file" && path != "":
		return newFile(path, log)
	case kind == "jwt" && path != "":
		return newJWT(path, log)
	}
	// The spec is not quoted: somebody may have put a token there.
	return nil, fmt.Errorf("auth: authenticators are open, file:PATH and jwt:PATH")
}

// Identity is an authenticated account and what it may do. It does not change: see Current.
type Identity struct {
	Account string
	Expires time.Time // when the session must end; zero: never
	Rights  Rights

	// current returns what the same proof gives by now. Nil: always the same.
	current func() (*Identity, error)
}

// MayRegister reports whether the account may register rooms.
func (id *Identity) MayRegister() bool { return id.Rights.Register }

// MaySubscribe reports whether the account may subscribe to the room.
func (id *Identity) MaySubscribe(room codec.RoomID) bool { return id.Rights.Subscribe.Has(room) }

// MayPush reports whether the account may push into the room, provided that it owns the room or is granted.
func (id *Identity) MayPush(room codec.RoomID) bool { return id.Rights.Push.Has(room) }

// MaySendTo reports whether the account may send to that one, provided that the other accepts it.
func (id *Identity) MaySendTo(account string) bool { return id.Rights.Send.Has(account) }

// Accepts reports whether the account accepts what that one sends, unless its running list says otherwise.
func (id *Identity) Accepts(account string) bool { return id.Rights.Accept.Has(account) }

// Expired reports whether the identity has ended at the time now.
func (id *Identity) Expired(now time.Time) bool {
	return !id.Expires.IsZero() && !now.Before(id.Expires)
}

// Current returns what the identity has become since: itself or an equal one, one with other rights or expiry, or
// ErrRevoked if the account, its token or the key that signed it is no longer in the file. It neither blocks nor looks
// at the time, and costs tens of nanoseconds, so that a session can ask every few seconds.
func (id *Identity) Current() (*Identity, error) {
	if id.current == nil {
		return id, nil
	}
	return id.current()
}

// CheckAccount returns ErrAccount unless name can be an account's: 1 to 128 bytes of UTF-8 that can be printed, without
// spaces and commas, and neither "*", which means all accounts, nor beginning with "#". Such a name needs no quoting in
// files, flags and logs.
func CheckAccount(name string) error {
	if name == "" || len(name) > codec.MaxAccount || name == "*" || name[0] == '#' || !printable(name) {
		return ErrAccount
	}
	return nil
}

// printable reports whether a name is UTF-8 that can be printed, without spaces and commas. A request may hold thousands
// of names, nearly all of them ASCII.
func printable(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= utf8.RuneSelf:
			return utf8.ValidString(name) && !strings.ContainsFunc(name,
				func(r rune) bool { return r == ',' || unicode.IsSpace(r) || !unicode.IsPrint(r) })
		case c <= ' ', c == ',', c == 0x7f:
			return false
		}
	}
	return true
}
