package e2ee

import (
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/timedge/timedge/client"
)

// epochBits is how many bits of a key's number say which epoch's secret it comes from; the others tell the sessions of
// senders apart.
const epochBits = 4

// baseSalt tells this use of a secret from any other.
const baseSalt = "timedge e2ee 1"

// Keys are the secrets of a link: the present one, and the one before it, under which messages may still be on their
// way.
type Keys struct {
	mu     sync.RWMutex
	epochs []*epoch // rising; at most two
}

type epoch struct {
	number uint64
	prk    []byte // what base keys are expanded from
}

func newEpoch(k LinkKey) *epoch {
	prk, err := hkdf.Extract(sha512.New, k.Secret[:], []byte(baseSalt))
	if err != nil {
		panic("e2ee: " + err.Error()) // not with these sizes
	}
	return &epoch{k.Epoch, prk}
}

// NewKeys returns the keys of a link.
func NewKeys(k LinkKey) *Keys { return &Keys{epochs: []*epoch{newEpoch(k)}} }

// ErrEpoch says that a secret is of an epoch that is not the next.
var ErrEpoch = errors.New("e2ee: the secret is not of the next epoch")

// Rotate takes up the secret of the next epoch: what is sealed from now on is sealed under it. The secret before it
// opens what is on its way, until Forget or the next Rotate.
func (k *Keys) Rotate(next LinkKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	newest := k.epochs[len(k.epochs)-1]
	if next.Epoch != newest.number+1 {
		return ErrEpoch
	}
	k.epochs = []*epoch{newest, newEpoch(next)}
	return nil
}

// Forget gives the secrets before the present one up. What is sealed under them does not open any more.
func (k *Keys) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.epochs = k.epochs[len(k.epochs)-1:]
}

// Epoch returns the number of the present epoch.
func (k *Keys) Epoch() uint64 { return k.newest().number }

func (k *Keys) newest() *epoch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.epochs[len(k.epochs)-1]
}

// of returns the epoch that a key's number names, or nil.
func (k *Keys) of(kid uint64) *epoch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, e := range k.epochs {
		if kid&(1<<epochBits-1) == e.number&(1<<epochBits-1) {
			return e
		}
	}
	return nil
}

// stream is what a key is for, and what it is bound to: the messages of one account and dtype in a room.
type stream struct {
	room    client.RoomID
	account string
	dtype   uint8
}

// key derives what a session of a sender seals a stream with.
func (e *epoch) key(kid uint64, s stream) (frameKey, error) {
	info := binary.BigEndian.AppendUint64(nil, kid)
	info = append(binary.BigEndian.AppendUint64(info, uint64(s.room)), s.dtype)
	base, err := hkdf.Expand(sha512.New, e.prk, string(append(info, s.account...)), aes256.keySize)
	if err != nil {
		return frameKey{}, err
	}
	return derive(aes256, kid, base)
}

// metadata is what a message is bound to beside its bytes.
func (s stream) metadata(kind client.Kind) []byte {
	b := make([]byte, 0, 10+len(s.account))
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint64(b, uint64(s.room))
	return append(append(b, s.dtype), s.account...)
}
