package engine_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// safeLog takes lines from many goroutines.
type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *safeLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestForgedTokens presents tokens that somebody without the keys can make, or had once: at the hello and on an open
// connection. None gets in, and neither the log, with all that it can say, nor any answer has a part of a token.
func TestForgedTokens(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, otherPriv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	path := filepath.Join(t.TempDir(), "keys")
	key := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"1","x":%q}]}`, b64(pub))
	if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &safeLog{}
	e := start(t, func(c *engine.Config) {
		c.Log = zerolog.New(log).Level(zerolog.TraceLevel)
		a, err := auth.New("jwt:"+path, c.Log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		c.Auth = a
	})

	before := descriptors(t)
	now := time.Now()
	claims := func(change jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "alice", "register": true, "subscribe": "*", "push": "*", "exp": now.Add(time.Hour).Unix()}
		for k, v := range change {
			c[k] = v
		}
		return c
	}
	sign := func(method jwt.SigningMethod, key any, kid string, change jwt.MapClaims) string {
		tok := jwt.NewWithClaims(method, claims(change))
		if kid != "" {
			tok.Header["kid"] = kid
		}
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := sign(jwt.SigningMethodEdDSA, priv, "1", nil)
	bob := sign(jwt.SigningMethodEdDSA, priv, "1", jwt.MapClaims{"sub": "bob"})
	part := func(i int, s string) string { return strings.Split(s, ".")[i] }
	swapped := good[:len(good)-10] + "AAAAAAAAAA"

	presented := []string{good, bob}
	for _, c := range []struct {
		name, token string
		code        codec.Code
	}{
		{"none", "", codec.CodeAuthFailed},
		{"garbage", "no-token-at-all", codec.CodeAuthFailed},
		{"alg none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "1", nil), codec.CodeAuthFailed},
		{"alg none, with a signature",
			part(0, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "1", nil)) + "." + part(1,
				good) + "." + part(2, good), codec.CodeAuthFailed},
		{"HS256 with the public key as the secret", sign(jwt.SigningMethodHS256, []byte(pub), "1", nil),
			codec.CodeAuthFailed},
		{"another key", sign(jwt.SigningMethodEdDSA, otherPriv, "1", nil), codec.CodeAuthFailed},
		{"another key's name", sign(jwt.SigningMethodEdDSA, priv, "2", nil), codec.CodeAuthFailed},
		{"signature changed", swapped, codec.CodeAuthFailed},
		{"without its signature", part(0, good) + "." + part(1, good) + ".", codec.CodeAuthFailed},
		{"another token's signature", part(0, good) + "." + part(1, good) + "." + part(2, bob), codec.CodeAuthFailed},
		{"another account's", bob, codec.CodeAuthFailed},
		{"expired", sign(jwt.SigningMethodEdDSA, priv, "1", jwt.MapClaims{"exp": now.Add(-time.Second).Unix()}),
			codec.CodeTokenExpired},
		{"not yet valid", sign(jwt.SigningMethodEdDSA, priv, "1", jwt.MapClaims{"nbf": now.Add(time.Hour).Unix()}),
			codec.CodeAuthFailed},
		{"for another service", sign(jwt.SigningMethodEdDSA, priv, "1", jwt.MapClaims{"aud": "elsewhere"}),
			codec.CodeAuthFailed},
		{"as long as fits", strings.Repeat("x", 3900), codec.CodeAuthFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := dial(t, e)
			m, ok := helloWith(w, "alice", c.token).(*codec.Error)
			if !ok || m.Code != c.code || w.any() != nil {
				t.Fatalf("answered %+v, want %v and a close", m, c.code)
			}
			inside := loginWith(t, e, "alice", []byte(good), codec.CapToken)
			r, ok := inside.ask(&codec.Token{Req: 9, Token: []byte(c.token)}).(*codec.Refused)
			if !ok || r.Code != codec.CodeBadToken {
				t.Fatalf("on an open connection: answered %+v", r)
			}
			inside.register(codec.Register{}) // which goes on
			if len(c.token) > 10 {
				presented = append(presented, c.token)
				for _, text := range []string{m.Text, r.Text} {
					if strings.Contains(c.token, text) || strings.Contains(text, c.token[len(c.token)-10:]) {
						t.Errorf("the answer %q has a part of the token", text)
					}
				}
			}
		})
	}
	if n := metric(t, e, "timedge_auth_denied_total"); n != 30 {
		t.Errorf("%v denials are counted", n)
	}
	flat(t, e, before)

	said := log.String()
	if !strings.Contains(said, "not authenticated") || !strings.Contains(said, `"level":"debug"`) {
		t.Errorf("the log does not tell of it:\n%s", said)
	}
	for _, token := range presented {
		for _, p := range append(strings.Split(token, "."), token) {
			if len(p) >= 10 && strings.Contains(said, p) {
				t.Errorf("the log has %q of a token", p)
			}
		}
	}
	if strings.Contains(said, b64(pub)) {
		t.Error("the log has a key")
	}
}
