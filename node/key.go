package node

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Key is the secret that all nodes of a cluster share: 32 random bytes.
type Key [32]byte

// NewKey returns a new random key.
func NewKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// String returns the key's text form, standard base64: a line of a key file.
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

// Keys are the cluster keys that a node holds: at least one. It proves itself and seals gossip with the first, and
// takes any of them from others. So a cluster changes its key without a stop: the new one is added everywhere, then
// made the first everywhere, then the old one is taken out everywhere.
type Keys []Key

// maxKeys bounds the keys of a file: each costs a try at what was sealed with another.
const maxKeys = 8

// ParseKeys reads keys in their text form, one a line. Empty lines and those that begin with # are passed over.
func ParseKeys(text []byte) (ks Keys, err error) {
	for n := 1; len(text) > 0; n++ {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k, err := ParseKey(string(line))
		switch {
		case err != nil && n > 1:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case err != nil:
			return nil, err
		}
		if !slices.Contains(ks, k) {
			ks = append(ks, k)
		}
	}
	switch {
	case len(ks) == 0:
		return nil, ErrKey
	case len(ks) > maxKeys:
		return nil, fmt.Errorf("%d keys; a node holds %d at most", len(ks), maxKeys)
	}
	return ks, nil
}

// ReadKeys reads a key file.
func ReadKeys(path string) (Keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ks, err := ParseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ks, nil
}

// gossip returns the keys that gossip is sealed with, in the same order.
func (ks Keys) gossip() (derived [][]byte) {
	for _, k := range ks {
		derived = append(derived, k.derive("gossip", nil, 32))
	}
	return derived
}

// derive returns n bytes for one purpose, so that no two uses share a key (HKDF, RFC 5869).
func (k Key) derive(purpose string, salt []byte, n int) []byte {
	b, err := hkdf.Key(sha256.New, k[:], salt, "timedge "+purpose, n)
	if err != nil {
		panic(err) // n is a constant far below the limit
	}
	return b
}
