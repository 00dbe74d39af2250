package engine

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// webSocket takes the frames of RFC 6455 off what a client sends. It carries bytes: where messages begin and end
// means nothing, so data is handed on as it comes and nothing is collected, but for a header or a control frame that
// a read has cut.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-------+-+-------------+-------------------------------+
//	|F|R|R|R| opcode|M| length      | 16 or 64 bits more of it      |
//	|I|S|S|S|       |A| 126: 16 bits| if length is 126 or 127       |
//	|N|V|V|V|       |S| 127: 64 bits|                               |
//	+-+-+-+-+-------+-+-------------+-------------------------------+
//	| mask (4 bytes, client to server always)       | payload ...   |
type webSocket struct {
	left    uint64 // bytes of the current data frame that are still to come
	message uint64 // bytes of the current message so far
	mask    uint32 // of the current data frame, turned so that its low byte is for the next byte
	begun   bool   // a message's last fragment is still to come
	over    bool   // a close frame has come: nothing more is looked at
	cut     []byte // a header, or a control frame, whose rest is still to come
}

type opcode byte

const (
	opContinuation opcode = 0
	opText         opcode = 1
	opBinary       opcode = 2
	opClose        opcode = 8
	opPing         opcode = 9
	opPong         opcode = 10
)

// Close codes (RFC 6455, section 7.4.1).
const (
	closeNormal      = 1000
	closeGoingAway   = 1001
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNotUTF8     = 1007
	closePolicy      = 1008
	closeTooBig      = 1009
)

const (
	maxControl = 125            // bytes of a control frame's payload
	maxMessage = 64 << 20       // bytes of a client's message: far more than any frame of ours
	maxHeader  = 2 + 8 + 4      // bytes before a client's payload
	fin        = byte(1) << 7   // first byte
	reserved   = byte(0x70)     // first byte
	masked     = byte(1) << 7   // second byte
	control    = opcode(1) << 3 // of an opcode
)

// webSocketError is why a client's connection is closed, as a close code with a reason.
type webSocketError struct {
	code uint16
	text string
}

func (e *webSocketError) Error() string {
	return fmt.Sprintf("websocket: close %d: %s", e.code, e.text)
}

func violation(text string) error { return &webSocketError{closeProtocol, text} }

// wsHeader is what lies before a payload.
type wsHeader struct {
	op   opcode
	fin  bool
	mask uint32
	size uint64 // of the payload
}

// parseHeader reads a client's frame header. n is its length; if b does not hold all of it, n is what it needs at
// least, more than len(b). What is illegal is told by the first bytes that show it.
func parseHeader(b []byte) (h wsHeader, n int, err error) {
	if len(b) < 2 {
		return h, 2, nil
	}
	h.op, h.fin = opcode(b[0]&0x0f), b[0]&fin != 0
	switch {
	case b[0]&reserved != 0:
		return h, 0, violation("reserved bits are set, and no extension was agreed on")
	case b[1]&masked == 0:
		return h, 0, violation("a client's frames are masked")
	}
	n = 2
	length := b[1] &^ masked
	switch h.op {
	case opContinuation, opText, opBinary:
	case opClose, opPing, opPong:
		if !h.fin {
			return h, 0, violation("control frames are not fragmented")
		}
		if length > maxControl {
			return h, 0, violation("a control frame is longer than 125 bytes")
		}
	default:
		return h, 0, violation("an opcode that is reserved")
	}
	least := uint64(0) // that the length's form is for
	switch length {
	case 126:
		n, least = n+2, 126
	case 127:
		n, least = n+8, 1<<16
	default:
		h.size = uint64(length)
	}
	if len(b) < n {
		return h, n, nil
	}
	switch length {
	case 126:
		h.size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		h.size = binary.BigEndian.Uint64(b[2:])
	}
	if h.size < least || h.size > 1<<63-1 {
		return h, 0, violation("a length in a form that is not for it")
	}
	n += 4
	if len(b) < n {
		return h, n, nil
	}
	h.mask = binary.LittleEndian.Uint32(b[n-4:])
	return h, n, nil
}

// read takes frames off b and returns the data in them, unmasked, in b's own memory. Control frames go to on, in
// their place among the data only as far as a close frame ends it. An error, as one of on, ends the connection; what
// is returned with it came before and counts.
func (w *webSocket) read(b []byte, on func(op opcode, payload []byte) error) (data []byte, err error) {
	data = b[:0]
	for len(b) > 0 && !w.over {
		if w.left > 0 {
			n := int(min(w.left, uint64(len(b))))
			w.unmask(b[:n])
			data = append(data, b[:n]...) // towards the front of the same memory
			w.left -= uint64(n)
			b = b[n:]
			continue
		}
		if len(w.cut) == 0 {
			h, n, err := parseHeader(b)
			if err != nil {
				return data, err
			}
			if n <= len(b) {
				b = b[n:]
				if h.op&control == 0 {
					if err := w.begin(h); err != nil {
						return data, err
					}
					continue
				}
				if h.size <= uint64(len(b)) {
					payload := b[:h.size]
					b = b[h.size:]
					if err := w.control(h, payload, on); err != nil {
						return data, err
					}
					continue
				}
				// Cut within its payload: once more from its beginning, below.
				w.cut = appendHeader(make([]byte, 0, maxHeader+maxControl), h)
			}
		}
		if b, err = w.mend(b, on); err != nil {
			return data, err
		}
	}
	return data, nil
}

// appendHeader writes the header of a control frame again.
func appendHeader(b []byte, h wsHeader) []byte {
	b = append(b, fin|byte(h.op), masked|byte(h.size))
	return binary.LittleEndian.AppendUint32(b, h.mask)
}

// mend adds to what a read has cut until it is whole, and returns what is left of b.
func (w *webSocket) mend(b []byte, on func(opcode, []byte) error) ([]byte, error) {
	for {
		h, n, err := parseHeader(w.cut)
		if err != nil {
			return nil, err
		}
		whole := n <= len(w.cut)
		if whole && h.op&control != 0 {
			n += int(h.size)
		}
		if missing := n - len(w.cut); missing > 0 {
			k := min(missing, len(b))
			w.cut = append(w.cut, b[:k]...)
			if b = b[k:]; k < missing {
				return b, nil
			}
			continue
		}
		frame := w.cut
		w.cut = nil
		if h.op&control == 0 {
			return b, w.begin(h)
		}
		return b, w.control(h, frame[n-int(h.size):], on)
	}
}

// begin starts a data frame.
func (w *webSocket) begin(h wsHeader) error {
	switch {
	case h.op == opText:
		return &webSocketError{closeUnsupported, "messages are binary here"}
	case h.op == opContinuation && !w.begun:
		return violation("a continuation of nothing")
	case h.op == opBinary && w.begun:
		return violation("a message begins within another")
	case h.op == opBinary:
		w.message = 0
	}
	if w.message += h.size; w.message > maxMessage {
		return &webSocketError{closeTooBig, "a message of more than 64 MiB"}
	}
	w.begun, w.left, w.mask = !h.fin, h.size, h.mask
	return nil
}

// control handles a whole control frame.
func (w *webSocket) control(h wsHeader, payload []byte, on func(opcode, []byte) error) error {
	unmask(payload, h.mask)
	if h.op == opClose {
		w.over = true
		if err := checkClose(payload); err != nil {
			return err
		}
	}
	return on(h.op, payload)
}

// checkClose says what is wrong with a close frame's payload: nothing, or a code, which may be followed by a reason
// in UTF-8.
func checkClose(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) == 1 {
		return violation("half a close code")
	}
	switch code := binary.BigEndian.Uint16(payload); {
	case code < 1000, code >= 1004 && code <= 1006, code >= 1015 && code < 3000, code >= 5000:
		return violation("a close code that nobody may send")
	case !utf8.Valid(payload[2:]):
		return &webSocketError{closeNotUTF8, "a close reason that is not UTF-8"}
	}
	return nil
}

// unmask takes the current frame's mask off the next bytes of it.
func (w *webSocket) unmask(b []byte) {
	unmask(b, w.mask)
	w.mask = turn(w.mask, len(b))
}

// turn returns the mask for what comes n bytes later.
func turn(mask uint32, n int) uint32 {
	bits := 8 * (n & 3)
	return mask>>bits | mask<<(32-bits)
}

// unmask takes a mask off b in place. The mask's low byte is for b's first.
func unmask(b []byte, mask uint32) {
	if mask == 0 {
		return
	}
	wide := uint64(mask)<<32 | uint64(mask)
	le := binary.LittleEndian
	for ; len(b) >= 32; b = b[32:] {
		le.PutUint64(b[0:8], le.Uint64(b[0:8])^wide)
		le.PutUint64(b[8:16], le.Uint64(b[8:16])^wide)
		le.PutUint64(b[16:24], le.Uint64(b[16:24])^wide)
		le.PutUint64(b[24:32], le.Uint64(b[24:32])^wide)
	}
	for ; len(b) >= 4; b = b[4:] {
		le.PutUint32(b, le.Uint32(b)^mask)
	}
	for i := range b {
		b[i] ^= byte(mask >> (8 * i))
	}
}

// appendFrameHeader appends the header of a server's frame with a payload of so many bytes, below 64 KiB.
func appendFrameHeader(b []byte, op opcode, size int) []byte {
	if size < 126 {
		return append(b, fin|byte(op), byte(size))
	}
	return append(b, fin|byte(op), 126, byte(size>>8), byte(size))
}

// appendClose appends a close frame. A reason that is too long is cut.
func appendClose(b []byte, code uint16, reason string) []byte {
	for len(reason) > maxControl-2 || !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	b = appendFrameHeader(b, opClose, 2+len(reason))
	b = binary.BigEndian.AppendUint16(b, code)
	return append(b, reason...)
}
