package codec

import (
	"errors"
	"math/bits"
)

// RoomID is the number of a room: 64 random bits, never zero. Its text form is 11 base58 characters.
type RoomID uint64

// RoomTextLen is the length of a room number in its text form.
const RoomTextLen = 11

// The Bitcoin alphabet: no 0, O, I or l.
const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// ErrRoomMalformed says that a text is not a room number.
var ErrRoomMalformed = errors.New("a room number is 11 characters of 1-9, A-Z without I and O, a-z without l")

var base58Value = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range len(base58) {
		t[base58[i]] = int8(i)
	}
	return t
}()

// String returns the 11 characters of a room number, most significant first, padded with '1'.
func (id RoomID) String() string {
	var b [RoomTextLen]byte
	for i := RoomTextLen - 1; i >= 0; i-- {
		b[i] = base58[id%58]
		id /= 58
	}
	return string(b[:])
}

// ParseRoomID reads the text form of a room number. Zero, other lengths, other characters and numbers above 64 bits are
// ErrRoomMalformed.
func ParseRoomID(s string) (RoomID, error) {
	if len(s) != RoomTextLen {
		return 0, ErrRoomMalformed
	}
	var v uint64
	for i := range len(s) {
		d := base58Value[s[i]]
		if d < 0 {
			return 0, ErrRoomMalformed
		}
		hi, lo := bits.Mul64(v, 58)
		sum, carry := bits.Add64(lo, uint64(d), 0)
		if hi != 0 || carry != 0 {
			return 0, ErrRoomMalformed
		}
		v = sum
	}
	if v == 0 {
		return 0, ErrRoomMalformed
	}
	return RoomID(v), nil
}
