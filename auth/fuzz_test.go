package auth

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParseAccounts: any content is a list of accounts or an error, and the accounts written again read the same.
func FuzzParseAccounts(f *testing.F) {
	f.Add([]byte("# comment\n\n" + line("alice", "x",
		"register subscribe=* push="+roomA.String()+" send=bob,carol accept=* expires=2027-01-31T12:00:00Z")))
	f.Add([]byte(line("alice", "x", "") + line("bob", "y", "expires=0001-01-01T00:00:00Z") + "\r\n"))
	f.Add([]byte(line("alice", "x", "push=*,a push push= =")))
	f.Add([]byte("alice sha256:\n\xff\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		first, err := parseAccounts(content)
		if err != nil {
			return
		}
		var written []byte
		for _, e := range first {
			written = append(e.appendLine(written), '\n')
		}
		second, err := parseAccounts(written)
		if err != nil {
			t.Fatalf("written as %q: %v", written, err)
		}
		if len(second) != len(first) {
			t.Fatalf("%d accounts, written and read %d", len(first), len(second))
		}
		for name, e := range first {
			if again := second[name]; string(again.appendLine(nil)) != string(e.appendLine(nil)) {
				t.Fatalf("%q is written as %q, then as %q", name, e.appendLine(nil), again.appendLine(nil))
			}
		}
	})
}

// FuzzParseKeys: any content is a set of keys, each found by its kid, or an error.
func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(jwks(octKey("hs", secret), okpKey("ed", public))))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + b64(public) + `","d":"` + b64(private.Seed()) + `"},{"kty":"RSA"}]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Add([]byte(`{"keys":[{"kty":1}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := parseKeys(content)
		if err == nil && len(keys) == 0 {
			t.Fatal("an empty set")
		}
		for _, k := range keys {
			if keys.find(k.kid) != k {
				t.Fatalf("kid %q finds another key", k.kid)
			}
		}
	})
}

// FuzzParseClaims: payloads are parsed only once their signature is right, so FuzzAuthenticate does not get there.
func FuzzParseClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"alice","exp":1801396800.25,"nbf":0,"aud":["timedge"],"register":true,"subscribe":"*","push":[],"send":["bob"]}`))
	f.Add([]byte(`{"sub":"alice","sub":"bob"}`))
	f.Add([]byte(`{"exp":1e400}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"":[{}]} `))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := parseClaims(payload)
		if err != nil {
			if err != error(errClaims) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if err := c.check("alice", noon); err == nil && c.account != "alice" {
			t.Fatalf("%q passes for alice", c.account)
		}
	})
}

// FuzzAuthenticate: whatever comes is refused with an *Error, but for the account of the genuine tokens.
func FuzzAuthenticate(f *testing.F) {
	hs, ed := compact(hsHeader, alice, hs256(secret)), compact(edHeader, alice, edDSA)
	list := start(f, "file:"+write(f, line("alice", "tdg_alice-token", "")))
	signed := start(f, "jwt:"+write(f, jwks(octKey("hs", secret), okpKey("ed", public))))
	for _, token := range []string{
		hs, ed, "tdg_alice-token", "", "..", hs + ".", strings.ToUpper(hs),
		compact(`{"alg":"none"}`, alice, unsigned), compact(`{"alg":"HS256","kid":"ed"}`, alice, hs256(public)),
		compact(`null`, `null`, unsigned), compact(hsHeader, `{"sub":"mallory"}`, unsigned),
	} {
		f.Add("alice", []byte(token))
		f.Add("mallory", []byte(token))
	}
	f.Add("", []byte(hs))
	f.Fuzz(func(t *testing.T, account string, token []byte) {
		for _, a := range []Authenticator{list, signed} {
			id, err := a.Authenticate(account, token, remote, noon)
			if err == nil {
				if account != "alice" || id.Account != "alice" {
					t.Fatalf("%q got in as %q with %q", account, id.Account, token)
				}
				continue
			}
			if _, ok := errors.AsType[*Error](err); !ok || id != nil {
				t.Fatalf("%T %v, and the identity %v", err, err, id)
			}
		}
	})
}
