package node

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The handshake of a link, before any frame. Both sides prove the cluster key over both hellos:
//
//	dialer:   hello
//	acceptor: hello proof(32)
//	dialer:   proof(32)
//
//	hello: "TDGL" version(1) name-length(1) name birth(8) nonce(32)
//
// A proof is HMAC-SHA256, under a key derived for links of this version, over the prover's role and both hellos, the dialer's first. The
// hellos delimit themselves, so no two conversations give the same input. It follows:
//
//   - A proof is good for one connection, since each side's own nonce is in it; a recorded one is worth nothing.
//   - A proof sent back to who made it is not valid: the role differs. Nor can a node be led to talk to itself or to have its
//     handshake relayed to another node under a third one's name: the names and births of both ends are in it.
//   - The acceptor proves first. So a stranger gets one HMAC per connection for a nonce of its own choice, which tells nothing about a key
//     of 256 random bits, and the names of those it could have dialed anyway.
//
// The handshake says who is there when the link begins. What follows is neither encrypted nor signed: between nodes whose network is not
// trusted a tunnel is needed (docs/cluster.md).

// LinkVersion is the version of what nodes say to each other. Nodes of different versions do not link.
const LinkVersion = 1

// LinkMagic begins a link; memberlist's streams begin with other bytes.
const LinkMagic = "TDGL"

const (
	helloHead = len(LinkMagic) + 2
	birthSize = 8
	nonceSize = 32
	proofSize = sha256.Size
	maxName   = 128
	// HandshakeTimeout bounds a handshake.
	HandshakeTimeout = 2 * time.Second
)

var (
	// ErrStranger says that the peer did not prove the cluster key: it has another, or is no node at all.
	ErrStranger = errors.New("node: the peer does not hold the cluster key")
	// ErrVersion says that the peer speaks another version of the link protocol.
	ErrVersion = errors.New("node: the peer speaks another version of the link protocol")
	// ErrNotMember says that another process answers than the one that was dialed: the member was restarted, or its address is another's.
	ErrNotMember = errors.New("node: the peer is not the member that was dialed")
	// ErrSelf says that a node has dialed itself.
	ErrSelf = errors.New("node: the peer is this node itself")
)

// Peer is who proved the key.
type Peer struct {
	Name  string
	Birth uint64 // see Member
}

func (k Key) proof(role string, dialer, acceptor []byte) []byte {
	m := hmac.New(sha256.New, k.derive("link v1", nil, 32))
	m.Write([]byte(role))
	m.Write(dialer)
	m.Write(acceptor)
	return m.Sum(nil)
}

const roleDialer, roleAcceptor = "timedge link dialer:", "timedge link acceptor:"

func appendHello(self Peer) []byte {
	b := append([]byte(LinkMagic), LinkVersion, byte(len(self.Name)))
	b = binary.BigEndian.AppendUint64(append(b, self.Name...), self.Birth)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return append(b, nonce[:]...)
}

// readHello reads no more than the hello. What the length says is bounded before anything is allocated for it.
func readHello(r io.Reader) (b []byte, peer Peer, err error) {
	b = make([]byte, helloHead, helloHead+maxName+birthSize+nonceSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, peer, fmt.Errorf("node: reading the peer's hello: %w", err)
	}
	if string(b[:len(LinkMagic)]) != LinkMagic {
		return nil, peer, ErrStranger
	}
	if v := b[len(LinkMagic)]; v != LinkVersion {
		return nil, peer, fmt.Errorf("%w: %d, this node %d", ErrVersion, v, LinkVersion)
	}
	n := int(b[helloHead-1])
	if n == 0 || n > maxName {
		return nil, peer, ErrStranger
	}
	b = b[:helloHead+n+birthSize+nonceSize]
	if _, err := io.ReadFull(r, b[helloHead:]); err != nil {
		return nil, peer, fmt.Errorf("node: reading the peer's hello: %w", err)
	}
	name, rest := b[helloHead:helloHead+n], b[helloHead+n:]
	return b, Peer{string(name), binary.BigEndian.Uint64(rest)}, nil
}

// Client shakes hands as the node that dialed, and wants the other to be want. It blocks for at most HandshakeTimeout and leaves
// the connection open, whatever happens. It reads no byte of what follows.
func Client(c net.Conn, k Key, self, want Peer) error {
	if err := c.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return err
	}
	mine := appendHello(self)
	if _, err := c.Write(mine); err != nil {
		return fmt.Errorf("node: sending a hello: %w", err)
	}
	theirs, peer, err := readHello(c)
	if err != nil {
		return err
	}
	if err := checkProof(c, k.proof(roleAcceptor, mine, theirs)); err != nil {
		return err
	}
	if peer != want { // only now is it known that the peer may say who it is
		return fmt.Errorf("%w: %q (%x) answers instead of %q (%x)", ErrNotMember, peer.Name, peer.Birth, want.Name, want.Birth)
	}
	if _, err := c.Write(k.proof(roleDialer, mine, theirs)); err != nil {
		return fmt.Errorf("node: sending a proof: %w", err)
	}
	return c.SetDeadline(time.Time{})
}

// Server shakes hands as the node that was dialed. It blocks for at most HandshakeTimeout and returns the peer; it leaves the connection open,
// whatever happens, and reads no byte of what follows. To a peer of another version it says its own, so that the other can tell why.
func Server(c net.Conn, k Key, self Peer) (peer Peer, err error) {
	if err := c.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return peer, err
	}
	theirs, peer, err := readHello(c)
	if errors.Is(err, ErrVersion) {
		_, _ = c.Write(appendHello(self)[:helloHead])
	}
	if err != nil {
		return Peer{}, err
	}
	if peer == self {
		return Peer{}, ErrSelf
	}
	mine := appendHello(self)
	if _, err := c.Write(append(mine[:len(mine):len(mine)], k.proof(roleAcceptor, theirs, mine)...)); err != nil {
		return Peer{}, fmt.Errorf("node: sending a hello: %w", err)
	}
	if err := checkProof(c, k.proof(roleDialer, theirs, mine)); err != nil {
		return Peer{}, err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return Peer{}, err
	}
	return peer, nil
}

// checkProof compares in constant time. A peer that closes instead has another key itself, or is none.
func checkProof(r io.Reader, want []byte) error {
	got := make([]byte, proofSize)
	if _, err := io.ReadFull(r, got); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrStranger
		}
		return fmt.Errorf("node: reading the peer's proof: %w", err)
	}
	if !hmac.Equal(got, want) {
		return ErrStranger
	}
	return nil
}
