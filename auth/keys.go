package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// minSecret is the size of the shortest secret for HS256, bytes: RFC 7518, section 3.2.
const minSecret = 32

// key is a key for the one algorithm that it is pinned to by its kind: what a token says of its algorithm only ever has
// to match. So a public key can never be taken for a secret.
type key struct {
	kid     string // empty: for tokens that name none
	method  jwt.SigningMethod
	verify  any // []byte for HS256, ed25519.PublicKey for EdDSA: the types that method takes
	sign    any // []byte or ed25519.PrivateKey; nil if the file has no private half
	encoded string
}

// keySet is the keys of a file, in its order.
type keySet []*key

// find returns the key of that kid, or nil. Sets are of a few keys.
func (s keySet) find(kid string) *key {
	for _, k := range s {
		if k.kid == kid {
			return k
		}
	}
	return nil
}

// jwk is a JSON Web Key: RFC 7517, section 4; RFC 7518, section 6.4 (oct); RFC 8037, section 2 (OKP).
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid,omitempty"`
	Alg    string   `json:"alg,omitempty"`
	Use    string   `json:"use,omitempty"`
	KeyOps []string `json:"key_ops,omitempty"`
	K      string   `json:"k,omitempty"`   // oct: the secret
	Crv    string   `json:"crv,omitempty"` // OKP
	X      string   `json:"x,omitempty"`   // OKP: the public half
	D      string   `json:"d,omitempty"`   // OKP: the private half, for Sign alone
}

var (
	errKeySet  = errors.New(`not a JWK set, that is {"keys": [{"kty": ...}, ...]}`)
	errNoKey   = errors.New("no key for HS256 (kty oct) or EdDSA (kty OKP, crv Ed25519) in it")
	errKid     = errors.New("its kid is another key's as well")
	errSecret  = errors.New("its secret (k) is not base64url of 32 bytes or more")
	errPublic  = errors.New("its public half (x) is not base64url of 32 bytes")
	errPrivate = errors.New("its private half (d) is not base64url of 32 bytes, or not that of x")
)

// parseKeys reads a JWK set. As RFC 7517, section 5, asks, it passes over keys of other kinds, algorithms and uses.
// Errors quote nothing of the content.
func parseKeys(content []byte) (keySet, error) {
	var file struct{ Keys []jwk }
	if json.Unmarshal(content, &file) != nil || file.Keys == nil {
		return nil, errKeySet
	}
	var set keySet
	for i := range file.Keys {
		k, err := file.Keys[i].key()
		if err == nil && k != nil && set.find(k.kid) != nil {
			err = errKid
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if k != nil {
			set = append(set, k)
		}
	}
	if set == nil {
		return nil, errNoKey
	}
	return set, nil
}

// key returns nil for a key of no use here.
func (j *jwk) key() (*key, error) {
	if j.Use != "" && j.Use != "sig" {
		return nil, nil
	}
	fits := func(method jwt.SigningMethod) bool { return j.Alg == "" || j.Alg == method.Alg() }
	switch {
	case j.Kty == "oct" && fits(jwt.SigningMethodHS256):
		secret, err := base64.RawURLEncoding.DecodeString(j.K)
		if err != nil || len(secret) < minSecret {
			return nil, errSecret
		}
		return &key{kid: j.Kid, method: jwt.SigningMethodHS256, verify: secret, sign: secret, encoded: j.K}, nil
	case j.Kty == "OKP" && j.Crv == "Ed25519" && fits(jwt.SigningMethodEdDSA):
		public, err := base64.RawURLEncoding.DecodeString(j.X)
		if err != nil || len(public) != ed25519.PublicKeySize {
			return nil, errPublic
		}
		k := &key{kid: j.Kid, method: jwt.SigningMethodEdDSA, verify: ed25519.PublicKey(public), encoded: j.X}
		if j.D == "" {
			return k, nil
		}
		seed, err := base64.RawURLEncoding.DecodeString(j.D)
		if err != nil || len(seed) != ed25519.SeedSize {
			return nil, errPrivate
		}
		private := ed25519.NewKeyFromSeed(seed)
		if !bytes.Equal(private.Public().(ed25519.PublicKey), public) {
			return nil, errPrivate
		}
		k.sign = private
		return k, nil
	}
	return nil, nil
}

// newKey draws a key.
func newKey(kid, alg string) (*jwk, error) {
	var b [minSecret]byte
	rand.Read(b[:]) // never fails
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	switch alg {
	case jwt.SigningMethodHS256.Alg():
		return &jwk{Kty: "oct", Kid: kid, Alg: alg, Use: "sig", K: secret}, nil
	case jwt.SigningMethodEdDSA.Alg():
		public := ed25519.NewKeyFromSeed(b[:]).Public().(ed25519.PublicKey)
		return &jwk{
			Kty: "OKP", Crv: "Ed25519", Kid: kid, Alg: alg, Use: "sig",
			X: base64.RawURLEncoding.EncodeToString(public), D: secret,
		}, nil
	}
	return nil, errors.New("algorithms are HS256 and EdDSA")
}
