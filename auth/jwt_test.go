package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Keys of the tests. The signatures here are made without the library, so that it is checked, too.
var (
	secret  = []byte("0123456789abcdef0123456789abcdef")
	private = ed25519.NewKeyFromSeed([]byte("fedcba9876543210fedcba9876543210"))
	public  = private.Public().(ed25519.PublicKey)
)

func octKey(kid string, secret []byte) string {
	return fmt.Sprintf(`{"kty":"oct","kid":%q,"alg":"HS256","k":%q}`, kid, b64(secret))
}

func okpKey(kid string, public ed25519.PublicKey) string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, kid, b64(public))
}

func jwks(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func hs256(secret []byte) func(string) []byte {
	return func(text string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
}

func edDSA(text string) []byte { return ed25519.Sign(private, []byte(text)) }

func unsigned(string) []byte { return nil }

// compact makes a token of any header and payload.
func compact(header, payload string, sign func(string) []byte) string {
	text := b64([]byte(header)) + "." + b64([]byte(payload))
	return text + "." + b64(sign(text))
}

const (
	hsHeader = `{"alg":"HS256","typ":"JWT","kid":"hs"}`
	edHeader = `{"alg":"EdDSA","typ":"JWT","kid":"ed"}`
	alice    = `{"sub":"alice"}`
)

func TestJWTAuthenticate(t *testing.T) {
	a := start(t, "jwt:"+write(t, jwks(octKey("hs", secret), okpKey("ed", public))))
	unix := func(after time.Duration) string { return fmt.Sprint(noon.Add(after).Unix()) }
	goodHS, goodEd := compact(hsHeader, alice, hs256(secret)), compact(edHeader, alice, edDSA)
	// with puts a claim beside sub.
	with := func(claim string) string { return compact(hsHeader, `{"sub":"alice",`+claim+`}`, hs256(secret)) }
	// headed signs with the right secret under any header.
	headed := func(header string) string { return compact(header, alice, hs256(secret)) }
	flip := func(token string, at int) string {
		b := []byte(token)
		b[at] = map[bool]byte{true: 'B', false: 'A'}[b[at] == 'A']
		return string(b)
	}
	for _, c := range []struct {
		name, token string
		err         *Error
	}{
		{"HS256", goodHS, nil},
		{"EdDSA", goodEd, nil},

		{"empty", "", errMalformed},
		{"dots alone", "..", errMalformed},
		{"two parts", goodHS[:strings.LastIndex(goodHS, ".")], errMalformed},
		{"four parts", goodHS + ".", errMalformed},
		{"not base64", "!" + goodHS[1:], errMalformed},
		{"padded base64", goodHS + "=", errMalformed},
		{"header no object", compact(`"HS256"`, alice, hs256(secret)), errMalformed},
		{"header null", compact(`null`, alice, hs256(secret)), errAlgorithm},
		{"payload no JSON", compact(hsHeader, `{"sub":"alice"`, hs256(secret)), errMalformed},
		{"payload null", compact(hsHeader, `null`, hs256(secret)), errClaims},
		{"payload no object", compact(hsHeader, `["alice"]`, hs256(secret)), errClaims},
		{"payload with more behind", compact(hsHeader, alice+alice, hs256(secret)), errMalformed},

		{"forged signature", flip(goodHS, len(goodHS)-10), errSignature},
		{"forged signature, EdDSA", flip(goodEd, len(goodEd)-10), errSignature},
		{"last bits of the signature changed", goodHS[:len(goodHS)-1] + string(goodHS[len(goodHS)-1]+1), errMalformed},
		{"no signature", compact(hsHeader, alice, unsigned), errSignature},
		{"no signature, EdDSA", compact(edHeader, alice, unsigned), errSignature},
		{"short signature", compact(hsHeader, alice, func(s string) []byte { return hs256(secret)(s)[:16] }), errSignature},
		{"another's payload", strings.Replace(goodHS, b64([]byte(alice)), b64([]byte(`{"sub":"bob"}`)), 1), errSignature},
		{"wrong key", compact(hsHeader, alice, hs256([]byte("another secret of thirty-two byte"))), errSignature},

		{"alg none", compact(`{"alg":"none","kid":"hs"}`, alice, unsigned), errAlgorithm},
		{"alg none, no kid", compact(`{"alg":"none"}`, alice, unsigned), errUnknownKey},
		{"alg None", compact(`{"alg":"None","kid":"hs"}`, alice, unsigned), errAlgorithm},
		{"alg none with a signature", headed(`{"alg":"none","kid":"hs"}`), errAlgorithm},
		{"no alg", headed(`{"kid":"hs"}`), errAlgorithm},
		{"alg no text", headed(`{"alg":["HS256"],"kid":"hs"}`), errAlgorithm},
		{"alg in lower case", headed(`{"alg":"hs256","kid":"hs"}`), errAlgorithm},
		{"alg HS512", headed(`{"alg":"HS512","kid":"hs"}`), errAlgorithm},
		{"alg RS256", headed(`{"alg":"RS256","kid":"hs"}`), errAlgorithm},
		{"public key as secret", compact(`{"alg":"HS256","kid":"ed"}`, alice, hs256(public)), errAlgorithm},
		{"public key as secret, in base64", compact(`{"alg":"HS256","kid":"ed"}`, alice, hs256([]byte(b64(public)))), errAlgorithm},
		{"secret as public key", compact(`{"alg":"EdDSA","kid":"hs"}`, alice, edDSA), errAlgorithm},
		{"the other key's kid", compact(`{"alg":"EdDSA","kid":"hs"}`, alice, edDSA), errAlgorithm},

		{"unknown kid", headed(`{"alg":"HS256","kid":"other"}`), errUnknownKey},
		{"no kid", headed(`{"alg":"HS256"}`), errUnknownKey},
		{"empty kid", headed(`{"alg":"HS256","kid":""}`), errUnknownKey},
		{"kid no text", headed(`{"alg":"HS256","kid":1}`), errUnknownKey},
		{"kid a path", headed(`{"alg":"HS256","kid":"../../dev/null"}`), errUnknownKey},
		{"a key in the header", compact(fmt.Sprintf(`{"alg":"EdDSA","jwk":%s}`, okpKey("ed", public)), alice, edDSA), errUnknownKey},
		{"crit", headed(`{"alg":"HS256","kid":"hs","crit":["b64"],"b64":false}`), errCritical},
		{"crit null", headed(`{"alg":"HS256","kid":"hs","crit":null}`), errCritical},

		{"missing sub", compact(hsHeader, `{}`, hs256(secret)), errSubject},
		{"another sub", compact(hsHeader, `{"sub":"bob"}`, hs256(secret)), errSubject},
		{"sub in another case", compact(hsHeader, `{"sub":"Alice"}`, hs256(secret)), errSubject},
		{"sub of another name", compact(hsHeader, `{"Sub":"alice"}`, hs256(secret)), errSubject},
		{"sub no text", compact(hsHeader, `{"sub":["alice"]}`, hs256(secret)), errClaims},
		{"sub null", compact(hsHeader, `{"sub":null}`, hs256(secret)), errClaims},
		{"sub twice", compact(hsHeader, `{"sub":"bob","sub":"alice"}`, hs256(secret)), errClaims},
		{"sub twice, once escaped", compact(hsHeader, `{"sub":"alice","\u0073ub":"alice"}`, hs256(secret)), errClaims},
		{"exp twice", with(`"exp":` + unix(-time.Hour) + `,"exp":` + unix(time.Hour)), errClaims},
		{"a claim of others twice", with(`"jti":1,"jti":1`), errClaims},
		{"claims of others", with(`"jti":"x","iss":"y","iat":1,"azp":{"a":[null]}`), nil},

		{"expires later", with(`"exp":` + unix(time.Second)), nil},
		{"expires now", with(`"exp":` + unix(0)), ErrExpired},
		{"expired", with(`"exp":` + unix(-time.Hour)), ErrExpired},
		{"expired in 1970", with(`"exp":0`), ErrExpired},
		{"expires within the second", with(`"exp":` + unix(0) + `.5`), nil},
		{"exp as text", with(`"exp":"` + unix(time.Hour) + `"`), errClaims},
		{"exp null", with(`"exp":null`), errClaims},
		{"exp negative", with(`"exp":-1`), errClaims},
		{"exp beyond all calendars", with(`"exp":1e300`), errClaims},
		{"exp beyond all floats", with(`"exp":1e999`), errClaims},
		{"EXP for exp", with(`"EXP":` + unix(-time.Hour)), nil},
		{"valid since", with(`"nbf":` + unix(-time.Hour)), nil},
		{"valid within the skew of clocks", with(`"nbf":` + unix(skew)), nil},
		{"not valid yet", with(`"nbf":` + unix(skew+time.Second)), ErrNotYetValid},
		{"not valid for long", with(`"nbf":` + unix(1e4*time.Hour)), ErrNotYetValid},
		{"nbf as text", with(`"nbf":"now"`), errClaims},
		{"forged and expired", flip(with(`"exp":`+unix(-time.Hour)), len(with(`"exp":`+unix(-time.Hour)))-10), errSignature},

		{"for timedge", with(`"aud":"timedge"`), nil},
		{"for timedge and another", with(`"aud":["other","timedge"]`), nil},
		{"for another", with(`"aud":"other"`), errAudience},
		{"for others", with(`"aud":["other"]`), errAudience},
		{"for nobody", with(`"aud":[]`), errAudience},
		{"aud a number", with(`"aud":1`), errClaims},

		{"register as text", with(`"register":"true"`), errClaims},
		{"push as a name", with(`"push":"` + roomA.String() + `"`), errClaims},
		{"push into no room", with(`"push":["bob"]`), errClaims},
		{"send null", with(`"send":null`), errClaims},

		{"longest", with(`"jti":"` + strings.Repeat("x", 2900) + `"`), nil},
		{"huge", with(`"jti":"` + strings.Repeat("x", MaxToken) + `"`), errTooLong},
		{"huge nonsense", strings.Repeat(".", 1<<20), errTooLong},
		{"deep", compact(hsHeader, strings.Repeat("[", 2900), hs256(secret)), errMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := a.Authenticate("alice", []byte(c.token), remote, noon)
			if c.err != nil {
				wantErr(t, err, c.err, c.token)
				if id != nil {
					t.Errorf("an identity as well: %+v", id)
				}
				return
			}
			if err != nil || id.Account != "alice" {
				t.Fatalf("%+v, %v", id, err)
			}
		})
	}
	_, err := a.Authenticate("bob", []byte(goodHS), remote, noon)
	wantErr(t, err, errSubject, goodHS)
	_, err = a.Authenticate("", []byte(compact(hsHeader, `{"sub":""}`, hs256(secret))), remote, noon)
	wantErr(t, err, ErrAccount, goodHS)
}

func TestJWTRights(t *testing.T) {
	a := start(t, "jwt:"+write(t, jwks(octKey("hs", secret))))
	identify := func(claims string) *Identity {
		t.Helper()
		id, err := a.Authenticate("alice", []byte(compact(hsHeader, `{"sub":"alice"`+claims+`}`, hs256(secret))), remote, noon)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	none := identify("")
	if none.MayRegister() || none.MaySubscribe(roomA) || none.MayPush(roomA) || none.MaySendTo("bob") || none.Accepts("bob") ||
		!none.Expires.IsZero() {
		t.Errorf("rights that no claim gives: %+v", none)
	}
	some := identify(`,"register":true,"subscribe":"*","push":["` + roomA.String() + `"],"send":["bob"],"accept":["carol"],` +
		`"exp":1801396800.25`)
	if !some.MayRegister() || !some.MaySubscribe(roomB) || !some.MayPush(roomA) || some.MayPush(roomB) || !some.MaySendTo("bob") ||
		some.MaySendTo("carol") || !some.Accepts("carol") || some.Accepts("bob") {
		t.Errorf("other rights than the claims give: %+v", some)
	}
	if want := time.Unix(1801396800, 25e7); !some.Expires.Equal(want) || some.Expired(want.Add(-1)) || !some.Expired(want) {
		t.Errorf("expires %v, want %v", some.Expires, want)
	}
}

func TestParseKeys(t *testing.T) {
	oct, okp := octKey("hs", secret), okpKey("ed", public)
	signing := fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q,"d":%q}`, b64(public), b64(private.Seed()))
	for _, c := range []struct {
		name, content, err string
		keys               int
	}{
		{"one of each", jwks(oct, okp), "", 2},
		{"one without kid", jwks(okp, signing), "", 2},
		{"members and keys of others", `{"x":1,"keys":[{"kty":"RSA","n":"AQAB"},{"kty":"OKP","crv":"X25519"},` +
			`{"kty":"oct","alg":"HS512"},{"kty":"oct","use":"enc"},` + oct + `]}`, "", 1},
		{"empty", "", errKeySet.Error(), 0},
		{"no JSON", `{"keys":[}`, errKeySet.Error(), 0},
		{"a key alone", oct, errKeySet.Error(), 0},
		{"an array", `[` + oct + `]`, errKeySet.Error(), 0},
		{"no key", jwks(), errNoKey.Error(), 0},
		{"none for here", jwks(`{"kty":"RSA"}`), errNoKey.Error(), 0},
		{"kid twice", jwks(oct, okpKey("hs", public)), "key 2: " + errKid.Error(), 0},
		{"no kid twice", jwks(octKey("", secret), octKey("", secret)), "key 2: " + errKid.Error(), 0},
		{"short secret", jwks(octKey("hs", secret[1:])), "key 1: " + errSecret.Error(), 0},
		{"no secret", jwks(`{"kty":"oct"}`), "key 1: " + errSecret.Error(), 0},
		{"secret in another base64", jwks(`{"kty":"oct","k":"++++++++++++++++++++++++++++++++++++++++++++++++"}`), "key 1: " + errSecret.Error(), 0},
		{"short public half", jwks(okpKey("ed", public[1:])), "key 1: " + errPublic.Error(), 0},
		{"halves of two keys", jwks(strings.Replace(signing, b64(private.Seed()), b64(secret), 1)), "key 1: " + errPrivate.Error(), 0},
		{"short private half", jwks(strings.Replace(signing, b64(private.Seed()), "AA", 1)), "key 1: " + errPrivate.Error(), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, err := parseKeys([]byte(c.content))
			if c.err == "" && err != nil || c.err != "" && fmt.Sprint(err) != c.err {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if len(keys) != c.keys {
				t.Errorf("%d keys, want %d", len(keys), c.keys)
			}
		})
	}
}

func TestSign(t *testing.T) {
	rights := Rights{Register: true, Subscribe: AllRooms(), Push: OnlyRooms(roomA), Accept: OnlyAccounts("bob", "carol")}
	for _, c := range []struct{ name, kid, alg, use string }{
		{"HS256", "a", "HS256", ""},
		{"EdDSA", "a", "EdDSA", "a"},
		{"HS256 without kid", "", "HS256", ""},
		{"EdDSA without kid", "", "EdDSA", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := AddKey(path, c.kid, c.alg); err != nil {
				t.Fatal(err)
			}
			token, err := Sign(path, c.use, Account{"alice", rights, noon.Add(time.Hour)}, noon)
			if err != nil {
				t.Fatal(err)
			}
			id, err := start(t, "jwt:"+path).Authenticate("alice", []byte(token), remote, noon)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(id.Rights) != fmt.Sprint(rights) || !id.Expires.Equal(noon.Add(time.Hour)) {
				t.Errorf("signed and read: %+v", id)
			}
		})
	}
}

func TestAddKey(t *testing.T) {
	path := write(t, `{"note":"mine","keys":[{"kty":"RSA","n":"AQAB"},`+okpKey("old", public)+`]}`)
	if _, err := Sign(path, "", Account{Name: "alice"}, noon); err == nil {
		t.Error("signed with half a key")
	}
	for _, kid := range []string{"1", "2"} {
		if err := AddKey(path, kid, "EdDSA"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, kid, alg string }{
		{"kid twice", "1", "HS256"}, {"alg none", "3", "none"}, {"alg RS256", "3", "RS256"}, {"no alg", "3", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := AddKey(path, c.kid, c.alg); err == nil {
				t.Error("added")
			}
		})
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var file struct {
		Note string
		Keys []jwk
	}
	content, err := read(path)
	if err != nil || json.Unmarshal(content, &file) != nil || file.Note != "mine" || len(file.Keys) != 4 || file.Keys[0].Kty != "RSA" {
		t.Errorf("the file holds %+v, %v", file, err)
	}
	// The last key signs unless told otherwise.
	for use, want := range map[string]string{"": "2", "1": "1", "2": "2"} {
		token, err := Sign(path, use, Account{Name: "alice"}, noon)
		if err != nil {
			t.Fatal(err)
		}
		header, err := base64.RawURLEncoding.DecodeString(token[:strings.Index(token, ".")])
		if err != nil || !strings.Contains(string(header), `"kid":"`+want+`"`) {
			t.Errorf("asked for key %q: header %s, %v", use, header, err)
		}
	}
	for _, c := range []struct {
		name, kid string
		account   Account
	}{
		{"unknown key", "3", Account{Name: "alice"}},
		{"no account's name", "", Account{Name: "a b"}},
		{"more than fits into a hello", "", Account{Name: "alice", Rights: Rights{Send: OnlyAccounts(names(400)...)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if token, err := Sign(path, c.kid, c.account, noon); err == nil {
				t.Errorf("signed: %s", token)
			}
		})
	}
	broken := write(t, "{")
	if err := AddKey(broken, "1", "HS256"); err == nil {
		t.Error("added to a broken file")
	}
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("account-%04d", i)
	}
	return list
}
