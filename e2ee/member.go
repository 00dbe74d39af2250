package e2ee

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/timedge/timedge/client"
)

// Member is somebody to whom the next secret of a room can be handed. It has a key pair of its own, whose public half
// it says to the others in the room, sealed as all else. The secret is sealed to it by HPKE (RFC 9180): base mode,
// DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.
type Member struct{ private hpke.PrivateKey }

// rekeyInfo begins what a sealed secret is bound to; the room and the epoch follow, 8 bytes each.
const rekeyInfo = "timedge e2ee 1 rekey"

// Sizes in bytes.
const (
	nameSize  = 8  // what says whom an entry is for: the beginning of the SHA-256 of the public key
	pointSize = 65 // of a public key, not compressed
	entrySize = nameSize + pointSize + len(Secret{}) + tagSize
	// maxMembers is how many a message holds: as many publishers as a room may have.
	maxMembers = 4096
)

var (
	// ErrRekey says that a message is none that hands a secret out.
	ErrRekey = errors.New("e2ee: not a message that hands out a secret")
	// ErrRemoved says that a message hands out a secret, but not to this member.
	ErrRemoved = errors.New("e2ee: the new secret is not for this member")
)

// NewMember draws a key pair.
func NewMember() (*Member, error) {
	k, err := hpke.DHKEM(ecdh.P256()).GenerateKey()
	if err != nil {
		return nil, err
	}
	return &Member{k}, nil
}

// Public returns the public key: 65 bytes, a point of P-256 that is not compressed.
func (m *Member) Public() []byte { return m.private.PublicKey().Bytes() }

// Next draws the secret of the next epoch and seals it to those who stay, by their public keys. The message goes to all
// in the room, through the Publisher, under the present secret; only then Rotate takes the next one up.
//
// Who has said a public key that is none gets nothing: it must not keep the others from going on.
//
// Whoever receives it has to know that it comes from somebody who may remove others: the room's owner. This package
// does not.
func (k *Keys) Next(room client.RoomID, stay [][]byte) (next LinkKey, message []byte, err error) {
	next = LinkKey{NewSecret(), k.Epoch() + 1}
	message = binary.BigEndian.AppendUint64(nil, next.Epoch)
	if len(stay) > maxMembers {
		return LinkKey{}, nil, errors.New("e2ee: more members than a message holds")
	}
	for _, public := range stay {
		to, err := hpke.DHKEM(ecdh.P256()).NewPublicKey(public)
		if err != nil {
			continue
		}
		sealed, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES128GCM(), bound(room, next.Epoch), next.Secret[:])
		if err != nil {
			return LinkKey{}, nil, err
		}
		message = append(append(message, name(public)...), sealed...)
	}
	return next, message, nil
}

// Open takes the secret out of a message that Next made.
func (m *Member) Open(room client.RoomID, message []byte) (LinkKey, error) {
	if len(message) < 8 || (len(message)-8)%entrySize != 0 || len(message) > 8+maxMembers*entrySize {
		return LinkKey{}, ErrRekey
	}
	epoch := binary.BigEndian.Uint64(message)
	mine := name(m.Public())
	for rest := message[8:]; len(rest) > 0; rest = rest[entrySize:] {
		if !bytes.Equal(rest[:nameSize], mine) {
			continue
		}
		secret, err := hpke.Open(m.private, hpke.HKDFSHA256(), hpke.AES128GCM(), bound(room, epoch), rest[nameSize:entrySize])
		if err != nil {
			return LinkKey{}, ErrRekey
		}
		return LinkKey{Secret(secret), epoch}, nil
	}
	return LinkKey{}, ErrRemoved
}

func name(public []byte) []byte {
	sum := sha256.Sum256(public)
	return sum[:nameSize]
}

func bound(room client.RoomID, epoch uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(rekeyInfo), uint64(room))
	return binary.BigEndian.AppendUint64(b, epoch)
}
