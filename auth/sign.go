package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/timedge/timedge/codec"
)

// AddKey draws a key for alg, "HS256" or "EdDSA", and puts it at the end of a file of keys, which it makes if need be.
// Sign uses the last key unless told otherwise. A kid may be empty, for tokens that name no key, but not be in the file
// already.
func AddKey(path, kid, alg string) error {
	k, err := newKey(kid, alg)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return edit(path, func(content []byte) ([]byte, error) {
		// Members and keys of others stay as they are.
		file := map[string]json.RawMessage{}
		var keys []json.RawMessage
		if len(content) > 0 && (json.Unmarshal(content, &file) != nil || json.Unmarshal(file["keys"], &keys) != nil) {
			return nil, fmt.Errorf("auth: %s: %w", path, errKeySet)
		}
		added, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		if file["keys"], err = json.Marshal(append(keys, added)); err != nil {
			return nil, err
		}
		content, err = json.MarshalIndent(file, "", "  ")
		if err != nil {
			return nil, err
		}
		if _, err := parseKeys(content); err != nil {
			return nil, fmt.Errorf("auth: %s: %w", path, err)
		}
		return append(content, '\n'), nil
	})
}

// Sign makes a token for an account with the key of that kid, or the last of the file that can sign if kid is empty.
// now goes into the token as the time of issue. A token that would not fit into a hello is an error.
func Sign(path, kid string, a Account, now time.Time) (token string, err error) {
	if err := CheckAccount(a.Name); err != nil {
		return "", err
	}
	content, err := read(path)
	if err != nil {
		return "", err
	}
	keys, err := parseKeys(content)
	if err != nil {
		return "", fmt.Errorf("auth: %s: %w", path, err)
	}
	k := keys.signer(kid)
	if k == nil {
		return "", errors.New("auth: no such key in the file, or none with the half that signs")
	}
	t := jwt.NewWithClaims(k.method, payload(a, now))
	if k.kid != "" {
		t.Header["kid"] = k.kid
	}
	token, err = t.SignedString(k.sign)
	if err != nil {
		return "", fmt.Errorf("auth: signing: %w", err)
	}
	if _, err := (&codec.Hello{Account: a.Name, Token: []byte(token)}).Append(nil); err != nil {
		return "", fmt.Errorf("auth: the token takes %d bytes, which does not fit into a hello: name fewer rooms and accounts", len(token))
	}
	return token, nil
}

func (s keySet) signer(kid string) *key {
	for _, k := range slices.Backward(s) {
		if k.sign != nil && (kid == "" || k.kid == kid) {
			return k
		}
	}
	return nil
}

// payload leaves out what is not given: a missing right is no right.
func payload(a Account, now time.Time) jwt.MapClaims {
	c := jwt.MapClaims{"sub": a.Name, "iat": now.Unix()}
	if !a.Expires.IsZero() {
		c["exp"] = a.Expires.Unix()
	}
	if a.Rights.Register {
		c["register"] = true
	}
	for name, set := range map[string]fmt.Stringer{
		"subscribe": a.Rights.Subscribe, "push": a.Rights.Push, "send": a.Rights.Send, "accept": a.Rights.Accept,
	} {
		if set.String() != "" {
			c[name] = set
		}
	}
	return c
}
