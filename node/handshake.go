package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"os"
	"slices"
	"time"

	"github.com/timedge/timedge/internal/record"
)

// The handshake of a link, before any frame:
//
//	dialer:   "TDGL" version(1)            in the clear: tells a link from gossip
//	acceptor: "TDGL" version(1)            in the clear: so nodes of different versions can say why they do not link
//	both:     TLS 1.3                      everything from here on is encrypted
//	dialer:   peer (itself) peer (whom it means)
//	acceptor: peer (itself)
//
//	peer: name-length(1) name birth(8)
//
// Both sides of the TLS handshake show a certificate whose Ed25519 key is derived from a cluster key for links of this
// version, and take those of the cluster keys that they hold and no other. It follows:
//
//   - Who holds the cluster key, and nobody else, can be at either end; an acceptor says no name to anybody else. What a stranger sees of it is
//     a public key that tells nothing about a key of 256 random bits.
//   - A recorded connection is worth nothing: each side signs the other's random bytes, the dialer with another prefix than the acceptor, so that
//     nothing can be sent back to who signed it either. It stays unreadable even if the cluster key is lost later (ephemeral keys).
//   - A stranger between two nodes can only pass bytes on. If it leads a dialer to another node than the one dialed, both notice by the names
//     and births, which it can neither read nor change.

// LinkVersion is the version of what nodes say to each other. Nodes of different versions do not link.
const LinkVersion = 1

// LinkMagic begins a link; memberlist's streams begin with other bytes.
const LinkMagic = "TDGL"

const (
	prefaceSize = len(LinkMagic) + 1
	birthSize   = 8
	maxName     = 128
	// strangerBytes bounds what is read of a peer that has not proved the cluster key; its part of a good handshake is
	// less than half of that.
	strangerBytes = 8 << 10
	// HandshakeTimeout bounds a handshake.
	HandshakeTimeout = 2 * time.Second
)

var (
	// ErrStranger says that the peer did not prove the cluster key: it has another, or is no node at all.
	ErrStranger = errors.New("node: the peer does not hold the cluster key")
	// ErrVersion says that the peer speaks another version of the link protocol.
	ErrVersion = errors.New("node: the peer speaks another version of the link protocol")
	// ErrNotMember says that another process answers than the one that was dialed: the member was restarted, or its
	// address is another's.
	ErrNotMember = errors.New("node: the peer is not the member that was dialed")
	// ErrSelf says that a node has dialed itself.
	ErrSelf = errors.New("node: the peer is this node itself")
	// errProbe says that the peer wanted to know whether this node is of its cluster, and has no more to say.
	errProbe = errors.New("node: the peer wanted a word, not a link")
)

// otherPeerError is an ErrNotMember that says who answered.
type otherPeerError struct{ is, want Peer }

func (e *otherPeerError) Error() string {
	return fmt.Sprintf("%v: %q (%x) answers instead of %q (%x)", ErrNotMember, e.is.Name, e.is.Birth, e.want.Name, e.want.Birth)
}

func (e *otherPeerError) Unwrap() error { return ErrNotMember }

// Peer is who is at the other end.
type Peer struct {
	Name  string
	Birth uint64 // see Member
}

// anybody is whom a probe means. No process has that birth.
var anybody = Peer{Name: "any"}

// Credentials are what a node proves the cluster key with. They do not change and may be used by many handshakes at
// once.
type Credentials struct {
	cfg   *tls.Config
	shown ed25519.PublicKey   // of the key that this node proves
	taken []ed25519.PublicKey // of the keys that it takes
}

// Credentials derives the keys that the ends of a link show. It takes about as long as a handshake for each, so keep
// the result.
func (ks Keys) Credentials() *Credentials {
	cr := &Credentials{}
	for _, k := range ks {
		cr.taken = append(cr.taken, k.linkKey().Public().(ed25519.PublicKey))
	}
	cr.shown = cr.taken[0]
	key, fingerprint := ks[0].linkKey(), sha256.Sum256(cr.shown)
	tmpl := &x509.Certificate{ // all nodes make the same one; nobody looks at anything but its key
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "timedge link"}, SubjectKeyId: fingerprint[:20],
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, cr.shown, key)
	if err != nil {
		panic(err) // the template is a constant
	}
	cr.cfg = record.Config(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert,
		// There is no authority and no host name: VerifyConnection takes the keys that this node holds and no other.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !cr.takes(s) {
				return ErrStranger
			}
			return nil
		},
		SessionTicketsDisabled: true, // every link proves the key anew
	})
	return cr
}

func (k Key) linkKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.derive("link v1", nil, ed25519.SeedSize))
}

// takes reports whether the peer has shown a key that this node holds.
func (cr *Credentials) takes(s tls.ConnectionState) bool {
	got, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	return ok && slices.ContainsFunc(cr.taken, func(k ed25519.PublicKey) bool { return k.Equal(got) })
}

// Link is a connection with a node that has proved a cluster key.
type Link struct {
	*record.Stream
	state tls.ConnectionState
	shown ed25519.PublicKey // of the key that this node has proved
}

// Current reports whether a link would be proved today as it was: the peer by a key that is still taken, this node by
// the key that it shows now.
func (cr *Credentials) Current(l *Link) (peer, self bool) {
	return cr.takes(l.state), cr.shown.Equal(l.shown)
}

func appendPreface(b []byte) []byte { return append(append(b, LinkMagic...), LinkVersion) }

// readPreface reads no more than the preface.
func readPreface(r io.Reader) error {
	var b [prefaceSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("node: reading the peer's preface: %w", err)
	}
	if string(b[:len(LinkMagic)]) != LinkMagic {
		return ErrStranger
	}
	if v := b[len(LinkMagic)]; v != LinkVersion {
		return fmt.Errorf("%w: %d, this node %d", ErrVersion, v, LinkVersion)
	}
	return nil
}

func (p Peer) append(b []byte) []byte {
	b = append(append(b, byte(len(p.Name))), p.Name...)
	return binary.BigEndian.AppendUint64(b, p.Birth)
}

// readPeer reads no more than the peer.
func readPeer(r io.Reader) (p Peer, err error) {
	var b [maxName + birthSize]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return p, tlsError("reading the peer's name", err)
	}
	n := int(b[0])
	if n == 0 || n > maxName {
		return p, ErrStranger
	}
	if _, err := io.ReadFull(r, b[:n+birthSize]); err != nil {
		return p, tlsError("reading the peer's name", err)
	}
	return Peer{string(b[:n]), binary.BigEndian.Uint64(b[n:])}, nil
}

// tlsError says of a peer that was silent that it was, of any other that it is a stranger: one that closes or complains
// has another key itself.
func tlsError(doing string, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("node: %s: %w", doing, err)
	case errors.Is(err, ErrStranger):
		return err
	}
	return fmt.Errorf("%w: %s: %v", ErrStranger, doing, err)
}

// bounded ends a connection on which more comes than a handshake has.
type bounded struct {
	net.Conn
	left int // bytes that may still be read
}

var errTooMuch = errors.New("more bytes than a handshake has")

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// secure runs the TLS handshake over c, as one side or the other: record.Client or record.Server.
func (cr *Credentials) secure(c net.Conn, side tlsSide) (*Link, error) {
	b := &bounded{c, strangerBytes}
	records, rest, state, err := side(b, cr.cfg)
	if err != nil {
		return nil, tlsError("shaking hands", err)
	}
	b.left = math.MaxInt // a node may say as much as it likes
	return &Link{record.NewStream(b, records, rest), state, cr.shown}, nil
}

type tlsSide func(net.Conn, *tls.Config) (c *record.Conn, rest []byte, s tls.ConnectionState, err error)

// Client shakes hands as the node that dialed, and wants the other to be want. It blocks for at most HandshakeTimeout.
// The link is what it returns, which closes c when it is closed; after an error c is still the caller's to close.
func Client(c net.Conn, cr *Credentials, self, want Peer) (*Link, error) {
	if err := c.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(appendPreface(nil)); err != nil {
		return nil, fmt.Errorf("node: sending a preface: %w", err)
	}
	if err := readPreface(c); err != nil {
		return nil, err
	}
	t, err := cr.secure(c, record.Client)
	if err != nil {
		return nil, err
	}
	if _, err := t.Write(want.append(self.append(nil))); err != nil {
		return nil, tlsError("sending a name", err)
	}
	peer, err := readPeer(t)
	switch {
	case err != nil:
		return nil, err
	case peer == self:
		return nil, ErrSelf
	case peer != want:
		return nil, &otherPeerError{peer, want}
	}
	return t, c.SetDeadline(time.Time{})
}

// Server shakes hands as the node that was dialed. It blocks for at most HandshakeTimeout. The link is what it returns,
// which closes c when it is closed; after an error c is still the caller's to close. To a peer of another version it
// says its own, so that the other can tell why.
func Server(c net.Conn, cr *Credentials, self Peer) (*Link, Peer, error) {
	if err := c.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return nil, Peer{}, err
	}
	err := readPreface(c)
	if err == nil || errors.Is(err, ErrVersion) {
		if _, sent := c.Write(appendPreface(nil)); err == nil && sent != nil {
			err = fmt.Errorf("node: sending a preface: %w", sent)
		}
	}
	if err != nil {
		return nil, Peer{}, err
	}
	t, err := cr.secure(c, record.Server)
	if err != nil {
		return nil, Peer{}, err
	}
	peer, err := readPeer(t)
	if err != nil {
		return nil, Peer{}, err
	}
	meant, err := readPeer(t)
	if err != nil {
		return nil, Peer{}, err
	}
	if _, err := t.Write(self.append(nil)); err != nil {
		return nil, Peer{}, tlsError("sending a name", err)
	}
	switch {
	case meant == anybody:
		return nil, Peer{}, errProbe
	case peer == self:
		return nil, Peer{}, ErrSelf
	case meant != self:
		return nil, Peer{}, fmt.Errorf("%w: %q (%x) was meant, this is %q (%x)", ErrNotMember, meant.Name, meant.Birth, self.Name, self.Birth)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, Peer{}, err
	}
	return t, peer, nil
}
