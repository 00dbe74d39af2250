package node

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Key is the secret that all nodes of a cluster share: 32 random bytes.
type Key [32]byte

// NewKey returns a new random key.
func NewKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// String returns the key's text form, standard base64: what a key file holds.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ErrKey says that a text is not a cluster key.
var ErrKey = errors.New("a cluster key is 32 bytes in base64; make one with: timedge key")

// ParseKey reads the text form, with white space around it.
func ParseKey(s string) (k Key, err error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(b) != len(k) {
		return k, ErrKey
	}
	return Key(b), nil
}

// ReadKey reads a key file.
func ReadKey(path string) (Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, err
	}
	k, err := ParseKey(string(b))
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// derive returns n bytes for one purpose, so that no two uses share a key (HKDF, RFC 5869).
func (k Key) derive(purpose string, salt []byte, n int) []byte {
	b, err := hkdf.Key(sha256.New, k[:], salt, "timedge "+purpose, n)
	if err != nil {
		panic(err) // n is a constant far below the limit
	}
	return b
}
