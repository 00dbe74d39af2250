package node

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The handshake of a link, before any frame. Both sides prove the cluster key over both nonces and both names:
//
//	dialer:   "TDGL" version name-length name nonce(32)
//	acceptor: "TDGL" version name-length name nonce(32) proof(32)
//	dialer:   proof(32)
//
// A proof is HMAC-SHA256 under a key derived for links, over its side, what the dialer sent and what the acceptor sent before
// the proof. So a proof is good for one connection, one direction and one pair of names.

// LinkVersion is the version of what nodes say to each other. Nodes of different versions do not link.
const LinkVersion = 1

// LinkMagic begins a link; memberlist's streams begin with other bytes.
const LinkMagic = "TDGL"

const (
	nonceSize = 32
	proofSize = sha256.Size
	maxName   = 128
	// HandshakeTimeout bounds a handshake.
	HandshakeTimeout = 2 * time.Second
)

var (
	// ErrStranger says that the peer did not prove the cluster key.
	ErrStranger = errors.New("node: the peer does not hold the cluster key")
	// ErrVersion says that the peer speaks another version of the link protocol.
	ErrVersion = errors.New("node: the peer speaks another version of the link protocol")
)

func (k Key) proof(side string, hellos ...[]byte) []byte {
	m := hmac.New(sha256.New, k.derive("link", nil, 32))
	m.Write([]byte(side))
	for _, h := range hellos {
		m.Write(h)
	}
	return m.Sum(nil)
}

func hello(name string) []byte {
	b := append([]byte(LinkMagic), LinkVersion, byte(len(name)))
	b = append(b, name...)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:])
	return append(b, nonce[:]...)
}

func readHello(r io.Reader) (b []byte, name string, err error) {
	b = make([]byte, len(LinkMagic)+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, "", err
	}
	if string(b[:4]) != LinkMagic {
		return nil, "", ErrStranger
	}
	if b[4] != LinkVersion {
		return nil, "", fmt.Errorf("%w: %d, this node %d", ErrVersion, b[4], LinkVersion)
	}
	n := int(b[5])
	if n == 0 || n > maxName {
		return nil, "", ErrStranger
	}
	b = append(b, make([]byte, n+nonceSize)...)
	if _, err := io.ReadFull(r, b[6:]); err != nil {
		return nil, "", err
	}
	return b, string(b[6 : 6+n]), nil
}

// Client shakes hands as the node that dialed. It blocks for at most HandshakeTimeout and returns the peer's name.
func Client(c net.Conn, k Key, self string) (peer string, err error) {
	_ = c.SetDeadline(time.Now().Add(HandshakeTimeout))
	mine := hello(self)
	if _, err := c.Write(mine); err != nil {
		return "", err
	}
	theirs, peer, err := readHello(c)
	if err != nil {
		return "", err
	}
	if err := checkProof(c, k.proof("acceptor", mine, theirs)); err != nil {
		return "", err
	}
	if _, err := c.Write(k.proof("dialer", mine, theirs)); err != nil {
		return "", err
	}
	return peer, c.SetDeadline(time.Time{})
}

// Server shakes hands as the node that was dialed. It blocks for at most HandshakeTimeout and returns the peer's name.
func Server(c net.Conn, k Key, self string) (peer string, err error) {
	_ = c.SetDeadline(time.Now().Add(HandshakeTimeout))
	theirs, peer, err := readHello(c)
	if err != nil {
		return "", err
	}
	mine := hello(self)
	if _, err := c.Write(append(mine, k.proof("acceptor", theirs, mine)...)); err != nil {
		return "", err
	}
	if err := checkProof(c, k.proof("dialer", theirs, mine)); err != nil {
		return "", err
	}
	return peer, c.SetDeadline(time.Time{})
}

func checkProof(r io.Reader, want []byte) error {
	got := make([]byte, proofSize)
	if _, err := io.ReadFull(r, got); err != nil {
		return ErrStranger
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return ErrStranger
	}
	return nil
}
