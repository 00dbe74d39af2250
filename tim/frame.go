package tim

import (
	"bytes"
	"encoding/binary"
)

// A frame is a type byte and a body; one WebSocket message is one frame. From a client bit 0x80 of the type says that
// the body is JSON.
const (
	typeAck             = 12
	typePing            = 13
	typeRegister        = 14
	typeToken           = 15
	typeAuth            = 16
	typeOfflineMsg      = 17
	typeOfflineMsgEnd   = 18
	typeBroadPresence   = 19
	typeLogout          = 20
	typePullMessage     = 21
	typeVroom           = 22
	typeBusiness        = 41
	typeNodes           = 42
	typeMessage         = 90
	typePresence        = 91
	typeRevoke          = 92
	typeBurn            = 93
	typeStream          = 94
	typeBigString       = 95
	typeBigBinary       = 96
	typeBigBinaryStream = 97

	jsonBit = 0x80
)

// Separators of frames that are not structs: what comes before is an account or a room, what comes behind is data.
const (
	binarySeparator = 0x83
	textSeparator   = '|'
)

// split returns a frame's type, whether its body is JSON, and its body, which aliases frame. frame is not empty.
func split(frame []byte) (typ byte, json bool, body []byte) {
	return frame[0] &^ jsonBit, frame[0]&jsonBit != 0, frame[1:]
}

// splitBig takes a frame of type 95, 96 or 97 apart: whom it is for, and the data, which aliases frame. Before the
// address may be four bytes with the length of the whole frame: timjs writes them, timgo and atim do not. timjs writes
// 0 in place of the text separator.
func splitBig(frame []byte) (to string, data []byte, ok bool) {
	body := frame[1:]
	if len(body) >= 4 && uint64(binary.BigEndian.Uint32(body)) == uint64(len(frame)) {
		body = body[4:]
	}
	var at int
	if frame[0]&^jsonBit == typeBigString {
		at = bytes.IndexAny(body[:min(len(body), maxAddress+1)], "|\x00")
	} else {
		at = bytes.IndexByte(body[:min(len(body), maxAddress+1)], binarySeparator)
	}
	if at <= 0 {
		return "", nil, false
	}
	return string(body[:at]), body[at+1:], true
}

// maxAddress is the longest account or room in such a frame, bytes.
const maxAddress = 128
