package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// suite is what a cipher suite's records need of it (RFC 8446, appendix B.4).
type suite struct {
	hash func() hash.Hash
	key  int // bytes
	aead func(key []byte) (cipher.AEAD, error)
}

var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256:       {sha256.New, 16, newGCM},
	tls.TLS_AES_256_GCM_SHA384:       {sha512.New384, 32, newGCM},
	tls.TLS_CHACHA20_POLY1305_SHA256: {sha256.New, chacha20poly1305.KeySize, chacha20poly1305.New},
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

const nonceBytes = 12

// half is one direction of a connection.
type half struct {
	suite  *suite
	secret []byte // the traffic secret that the key is of
	aead   cipher.AEAD
	iv     [nonceBytes]byte
	seq    uint64           // of the next record
	once   [nonceBytes]byte // the current record's nonce
}

// use begins with a traffic secret (section 7.3).
func (h *half) use(s *suite, secret []byte) error {
	h.suite, h.secret, h.seq = s, secret, 0
	copy(h.iv[:], s.expand(secret, "iv", nonceBytes))
	var err error
	h.aead, err = s.aead(s.expand(secret, "key", s.key))
	return err
}

// roll goes on with the next traffic secret (section 7.2).
func (h *half) roll() {
	if err := h.use(h.suite, h.suite.expand(h.secret, "traffic upd", len(h.secret))); err != nil {
		panic(err) // the key's length is the suite's
	}
}

// nonce is the current record's (section 5.3), valid until the next call.
func (h *half) nonce() []byte {
	h.once = h.iv
	n := h.once[nonceBytes-8:]
	binary.BigEndian.PutUint64(n, binary.BigEndian.Uint64(n)^h.seq)
	return h.once[:]
}

// expand is HKDF-Expand-Label with an empty context (section 7.1).
func (s *suite) expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := fmt.Sprintf("%c%c%c%s%c", 0, n, len(label), label, 0)
	b, err := hkdf.Expand(s.hash, secret, info, n)
	if err != nil {
		panic(err) // n is small
	}
	return b
}
