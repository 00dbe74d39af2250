package client

import (
	"encoding/binary"

	"github.com/timedge/timedge/codec"
)

// Where the fields of stream frames, and of the control frames about a room, lie: the room at the same place in all of
// them.
const (
	offType = codec.LengthSize
	offRoom = offType + 1
	offPub  = offRoom + 8
	offSeq  = offPub + 3 // stream frame: seq; gap frame: from
	offTo   = offSeq + 6 // gap frame
)

// frameAt returns the frame at the front of b, which holds whole frames that were checked before.
func frameAt(b []byte) []byte {
	n := int(binary.BigEndian.Uint16(b)) + codec.LengthSize
	return b[:n:n]
}

func isStream(frame []byte) bool { return frame[offType]&codec.TypeStream != 0 }

func roomOf(frame []byte) RoomID { return RoomID(binary.BigEndian.Uint64(frame[offRoom:])) }

func streamOf(frame []byte) codec.StreamKey {
	return codec.StreamKey{Pub: binary.BigEndian.Uint16(frame[offPub:]), Dtype: frame[offPub+2]}
}

// firstSeq and lastSeq return the numbers that a stream frame or a gap covers.
func firstSeq(frame []byte) uint64 { return getSeq(frame, offSeq) }

func lastSeq(frame []byte) uint64 {
	if isStream(frame) {
		return getSeq(frame, offSeq)
	}
	return getSeq(frame, offTo)
}

func getSeq(frame []byte, off int) uint64 {
	b := frame[off : off+6]
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

func putSeq(frame []byte, off int, seq uint64) {
	b := frame[off : off+6]
	binary.BigEndian.PutUint16(b, uint16(seq>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(seq))
}

// readdress gives a frame of ours the publisher number pub and takes less off the numbers it covers.
func readdress(frame []byte, pub uint16, less uint64) {
	binary.BigEndian.PutUint16(frame[offPub:], pub)
	putSeq(frame, offSeq, getSeq(frame, offSeq)-less)
	if !isStream(frame) {
		putSeq(frame, offTo, getSeq(frame, offTo)-less)
	}
}

// continues reports whether the frame is a piece of a message that began in an earlier one.
func continues(frame []byte) bool {
	return isStream(frame) && !codec.Flags(frame[offType]).Start()
}
