package e2ee

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"math/bits"
)

// suite is a cipher suite of RFC 9605, section 4.5. Both have nonces of 12 bytes and tags of 16.
type suite struct {
	id      uint16
	hash    func() hash.Hash
	keySize int // bytes
}

var (
	aes128 = suite{4, sha256.New, 16} // AES_128_GCM_SHA256_128
	aes256 = suite{5, sha512.New, 32} // AES_256_GCM_SHA512_128: the one in use
)

// Sizes in bytes.
const (
	nonceSize = 12
	tagSize   = 16
	maxHeader = 1 + 8 + 8
)

// Overhead is how many bytes a sealed message is longer than the plain one, at most.
const Overhead = maxHeader + tagSize

// extended, in either half of a header's first byte, says that the other three bits are the length of the number, less
// one, and not the number itself.
const extended = 8

// appendHeader appends the header of a key and a counter: RFC 9605, section 4.3.
func appendHeader(dst []byte, kid, ctr uint64) []byte {
	k, kn := nibble(kid)
	c, cn := nibble(ctr)
	dst = append(dst, k<<4|c)
	dst = appendNumber(dst, kid, kn)
	return appendNumber(dst, ctr, cn)
}

// nibble returns what stands for a number in the first byte, and how many bytes follow.
func nibble(v uint64) (bits4 byte, following int) {
	if v < extended {
		return byte(v), 0
	}
	n := (bits.Len64(v) + 7) / 8
	return extended | byte(n-1), n
}

func appendNumber(dst []byte, v uint64, n int) []byte {
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

// parseHeader returns key and counter of a sealed message and the size of its header. ok is false for what is no
// header, one that is cut off, and one that is longer than it need be: of a message there is one form only.
func parseHeader(b []byte) (kid, ctr uint64, size int, ok bool) {
	if len(b) == 0 {
		return 0, 0, 0, false
	}
	size = 1
	if kid, size, ok = parseNumber(b, b[0]>>4, size); !ok {
		return 0, 0, 0, false
	}
	ctr, size, ok = parseNumber(b, b[0]&0xf, size)
	return kid, ctr, size, ok
}

func parseNumber(b []byte, bits4 byte, at int) (v uint64, next int, ok bool) {
	if bits4 < extended {
		return uint64(bits4), at, true
	}
	n := int(bits4&7) + 1
	if len(b) < at+n || b[at] == 0 {
		return 0, 0, false
	}
	for _, c := range b[at : at+n] {
		v = v<<8 | uint64(c)
	}
	return v, at + n, v >= extended
}

// frameKey is what one sender seals one stream with.
type frameKey struct {
	aead cipher.AEAD
	salt [nonceSize]byte
}

// derive makes a key of a base key: RFC 9605, section 4.4.2.
func derive(s suite, kid uint64, baseKey []byte) (frameKey, error) {
	secret, err := hkdf.Extract(s.hash, baseKey, nil)
	if err != nil {
		return frameKey{}, err
	}
	tail := string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, kid), s.id))
	key, err := hkdf.Expand(s.hash, secret, "SFrame 1.0 Secret key "+tail, s.keySize)
	if err != nil {
		return frameKey{}, err
	}
	salt, err := hkdf.Expand(s.hash, secret, "SFrame 1.0 Secret salt "+tail, nonceSize)
	if err != nil {
		return frameKey{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return frameKey{}, err
	}
	k := frameKey{salt: [nonceSize]byte(salt)}
	k.aead, err = cipher.NewGCM(block)
	return k, err
}

// nonce returns the nonce of a counter: RFC 9605, section 4.4.3.
func (k *frameKey) nonce(ctr uint64) (n [nonceSize]byte) {
	n = k.salt
	low := n[nonceSize-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^ctr)
	return n
}

// seal appends header, ciphertext and tag. metadata is what the receiver has to know already.
func (k *frameKey) seal(dst []byte, kid, ctr uint64, metadata, plain []byte) []byte {
	at := len(dst)
	dst = appendHeader(dst, kid, ctr)
	aad := append(dst[at:len(dst):len(dst)], metadata...)
	nonce := k.nonce(ctr)
	return k.aead.Seal(dst, nonce[:], plain, aad)
}

// open returns what was sealed, in the place of what it opens, which it destroys if that was not sealed so.
func (k *frameKey) open(sealed []byte, ctr uint64, headerSize int, metadata []byte) ([]byte, error) {
	aad := append(sealed[:headerSize:headerSize], metadata...)
	nonce := k.nonce(ctr)
	return k.aead.Open(sealed[headerSize:headerSize], nonce[:], sealed[headerSize:], aad)
}
