package e2ee

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// Secret is what all who may read a room have and the server has not. It prints as nothing: a log is no place for it.
type Secret [32]byte

// NewSecret draws a secret.
func NewSecret() (s Secret) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// String returns a word in the secret's place; LinkKey.Text writes it.
func (Secret) String() string { return "(secret)" }

// GoString does what String does.
func (Secret) GoString() string { return "(secret)" }

// LinkKey is what a link carries behind &key=: the secret of an epoch. A room begins with epoch 0; it rises by one when
// somebody is removed.
type LinkKey struct {
	Secret Secret
	Epoch  uint64
}

// ErrLinkKey says that a text is no key of a link. It does not repeat the text.
var ErrLinkKey = errors.New("e2ee: not a key: want 43 letters and digits, - or _, as behind key= in a link")

// Text writes the key as links carry it: 43 characters of base64url, and from epoch 1 on a dot and the epoch.
func (k LinkKey) Text() string {
	text := base64.RawURLEncoding.EncodeToString(k.Secret[:])
	if k.Epoch > 0 {
		text += "." + strconv.FormatUint(k.Epoch, 10)
	}
	return text
}

// ParseLinkKey reads a key as Text writes it. Its error is ErrLinkKey.
func ParseLinkKey(text string) (k LinkKey, err error) {
	letters, epoch, numbered := strings.Cut(text, ".")
	b, err := base64.RawURLEncoding.Strict().DecodeString(letters)
	if err != nil || len(b) != len(k.Secret) || strings.ContainsAny(letters, "\r\n") {
		return LinkKey{}, ErrLinkKey
	}
	k.Secret = Secret(b)
	if numbered {
		if k.Epoch, err = strconv.ParseUint(epoch, 10, 32); err != nil || k.Epoch == 0 || epoch[0] == '0' {
			return LinkKey{}, ErrLinkKey
		}
	}
	return k, nil
}
