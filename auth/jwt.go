package auth

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/zerolog"
)

// skew is by how much a token may be too early: the clock that its issuer set nbf by may be ahead of this one.
const skew = 5 * time.Second

// signed is the authenticator of signed tokens.
type signed struct {
	*watcher
	keys atomic.Pointer[keySet]
}

func newJWT(path string, log zerolog.Logger) (*signed, error) {
	a := &signed{}
	var err error
	a.watcher, err = watch(path, log, a.take)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (a *signed) take(content []byte) error {
	keys, err := parseKeys(content)
	if err != nil {
		return err
	}
	a.keys.Store(&keys)
	return nil
}

// parser does not look at the claims: that waits until the signature has proved them, and goes by the caller's clock.
// Nor does it have a list of valid methods: key is stricter, as each key is valid for one.
var parser = jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())

func (a *signed) Authenticate(account string, token []byte, _ netip.Addr, now time.Time) (*Identity, error) {
	if err := CheckAccount(account); err != nil {
		return nil, err
	}
	if len(token) > MaxToken {
		return nil, errTooLong
	}
	var (
		signer *key
		body   unparsed
	)
	_, err := parser.ParseWithClaims(string(token), &body, func(t *jwt.Token) (_ any, err error) {
		if signer, err = a.key(t); err != nil {
			return nil, err
		}
		return signer.verify, nil
	})
	if err != nil {
		return nil, refusal(err)
	}
	c, err := parseClaims(body.json)
	if err != nil {
		return nil, err
	}
	if err := c.check(account, now); err != nil {
		return nil, err
	}
	id := &Identity{Account: account, Expires: c.expires, Rights: c.rights}
	id.current = func() (*Identity, error) {
		if k := a.keys.Load().find(signer.kid); k == nil || k.method != signer.method || k.encoded != signer.encoded {
			return nil, ErrRevoked
		}
		return id, nil
	}
	return id, nil
}

// key finds the key that has to have signed a token.
func (a *signed) key(t *jwt.Token) (*key, error) {
	// Header fields named by crit must be understood, and none is: RFC 7515, section 4.1.11.
	if _, ok := t.Header["crit"]; ok {
		return nil, errCritical
	}
	kid := ""
	if v, ok := t.Header["kid"]; ok {
		if kid, ok = v.(string); !ok || kid == "" {
			return nil, errUnknownKey
		}
	}
	k := a.keys.Load().find(kid)
	if k == nil {
		return nil, errUnknownKey
	}
	if t.Method != k.method {
		return nil, errAlgorithm
	}
	return k, nil
}

// refusal turns what the parser says, which may quote the token, into one of ours.
func refusal(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return errSignature
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return errAlgorithm
	}
	return errMalformed
}

// unparsed keeps the payload as it is until the signature is known to be right. The embedded claims are never filled:
// they make it what the parser takes.
type unparsed struct {
	jwt.RegisteredClaims
	json []byte
}

func (u *unparsed) UnmarshalJSON(b []byte) error {
	u.json = append([]byte(nil), b...)
	return nil
}
