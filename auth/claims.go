package auth

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"time"
)

// Audience is what the claim aud has to name, if there is one.
const Audience = "timedge"

// claims is the payload of a token, as far as it is of use here. README.md has the table.
type claims struct {
	account   string
	audience  []string // nil: none is given
	notBefore time.Time
	expires   time.Time // zero: never
	rights    Rights
}

// parseClaims reads a payload. It is stricter than encoding/json, which would take the last of several claims of one
// name, "SUB" for "sub" and null for anything: what one program checks and another signed must be the same.
func parseClaims(payload []byte) (*claims, error) {
	members, err := members(payload)
	if err != nil {
		return nil, errClaims
	}
	c := &claims{}
	for name, value := range members {
		if string(value) == "null" {
			return nil, errClaims
		}
		switch name {
		case "sub":
			err = json.Unmarshal(value, &c.account)
		case "aud":
			c.audience, err = audience(value)
		case "nbf":
			c.notBefore, err = numericDate(value)
		case "exp":
			c.expires, err = numericDate(value)
		case "register":
			err = json.Unmarshal(value, &c.rights.Register)
		case "subscribe":
			err = json.Unmarshal(value, &c.rights.Subscribe)
		case "push":
			err = json.Unmarshal(value, &c.rights.Push)
		case "send":
			err = json.Unmarshal(value, &c.rights.Send)
		case "accept":
			err = json.Unmarshal(value, &c.rights.Accept)
		}
		if err != nil {
			return nil, errClaims
		}
	}
	return c, nil
}

// check holds genuine claims against the client that presents them.
func (c *claims) check(account string, now time.Time) error {
	switch {
	case c.account != account:
		return errSubject
	case c.audience != nil && !slices.Contains(c.audience, Audience): // RFC 7519, section 4.1.3
		return errAudience
	case now.Add(skew).Before(c.notBefore):
		return ErrNotYetValid
	case !c.expires.IsZero() && !now.Before(c.expires):
		return ErrExpired
	}
	return nil
}

// members takes a JSON object apart. A name that is there twice is an error.
func members(object []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errClaims
	}
	m := make(map[string]json.RawMessage)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		s, ok := name.(string)
		if _, twice := m[s]; twice || !ok {
			return nil, errClaims
		}
		m[s] = value
	}
	_, err := d.Token()
	return m, err
}

// lastDate is the end of the year 9999, seconds since 1970.
const lastDate = 253402300799

// numericDate reads seconds since 1970, whole or not: RFC 7519, section 2.
func numericDate(value []byte) (time.Time, error) {
	var seconds float64
	if err := json.Unmarshal(value, &seconds); err != nil {
		return time.Time{}, err
	}
	if !(seconds >= 0 && seconds <= lastDate) {
		return time.Time{}, errClaims
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}

// audience reads one name, or an array of names.
func audience(value []byte) ([]string, error) {
	if len(value) > 0 && value[0] == '"' {
		var one string
		err := json.Unmarshal(value, &one)
		return []string{one}, err
	}
	names := []string{}
	err := json.Unmarshal(value, &names)
	return names, err
}
