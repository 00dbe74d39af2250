package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// maskedFrame is a frame as clients send it.
func maskedFrame(first byte, payload []byte, mask uint32) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = append(b, masked|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	b = binary.LittleEndian.AppendUint32(b, mask)
	at := len(b)
	b = append(b, payload...)
	for i := range payload {
		b[at+i] ^= byte(mask >> (8 * (i % 4)))
	}
	return b
}

// TestWebSocketInputMayBeCutAnywhere: data and control frames come out the same, however what was sent is cut into
// reads.
func TestWebSocketInputMayBeCutAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sent, data []byte
		var controls []string
		begun := false
		for range rapid.IntRange(1, 12).Draw(t, "frames") {
			size := rapid.OneOf(rapid.IntRange(0, 130), rapid.IntRange(0, 70_000)).Draw(t, "size")
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(rand.Uint32())
			}
			mask := rapid.Uint32().Draw(t, "mask")
			switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
			case kind == 0:
				payload = payload[:min(size, maxControl)]
				op := rapid.SampledFrom([]opcode{opPing, opPong}).Draw(t, "op")
				sent = append(sent, maskedFrame(fin|byte(op), payload, mask)...)
				controls = append(controls, string(byte(op))+string(payload))
			default:
				first := byte(opBinary)
				if begun {
					first = byte(opContinuation)
				}
				if begun = kind == 1; !begun {
					first |= fin
				}
				sent = append(sent, maskedFrame(first, payload, mask)...)
				data = append(data, payload...)
			}
		}
		var w webSocket
		var got []byte
		var heard []string
		for len(sent) > 0 {
			n := min(len(sent), rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 100_000)).Draw(t, "read"))
			out, err := w.read(bytes.Clone(sent[:n]), func(op opcode, payload []byte) error {
				heard = append(heard, string(byte(op))+string(payload))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out...)
			sent = sent[n:]
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%d bytes of data, want %d", len(got), len(data))
		}
		if len(heard) != len(controls) {
			t.Fatalf("%d control frames, want %d", len(heard), len(controls))
		}
		for i := range heard {
			if heard[i] != controls[i] {
				t.Fatalf("control frame %d is %q, want %q", i, heard[i], controls[i])
			}
		}
		if w.cut != nil || w.left != 0 {
			t.Fatal("something is kept of what was whole")
		}
	})
}

// FuzzWebSocket: whatever is sent, and however it is cut, the same comes of it, and never more than was sent.
func FuzzWebSocket(f *testing.F) {
	for _, c := range webSocketCases {
		f.Add([]byte(c.sent), uint64(1))
	}
	f.Fuzz(func(t *testing.T, sent []byte, seed uint64) {
		read := func(pieces func(left int) int) (data []byte, said []byte, err error) {
			var w webSocket
			for b := bytes.Clone(sent); len(b) > 0 && err == nil; {
				n := pieces(len(b))
				var out []byte
				out, err = w.read(b[:n:n], func(op opcode, payload []byte) error {
					said = append(append(said, byte(op)), payload...)
					return nil
				})
				data = append(data, out...)
				b = b[n:]
			}
			return data, said, err
		}
		whole, words, err := read(func(left int) int { return left })
		r := rand.New(rand.NewPCG(seed, 1))
		cut, cutWords, cutErr := read(func(left int) int { return 1 + r.IntN(min(left, 1+r.IntN(64))) })
		if !bytes.Equal(whole, cut) || !bytes.Equal(words, cutWords) {
			t.Fatalf("in one read %x and %x, in several %x and %x", whole, words, cut, cutWords)
		}
		if codeOfClose(err) != codeOfClose(cutErr) {
			t.Fatalf("in one read %v, in several %v", err, cutErr)
		}
		if len(whole) > len(sent) {
			t.Fatalf("%d bytes in %d", len(whole), len(sent))
		}
	})
}

func codeOfClose(err error) uint16 {
	var we *webSocketError
	if errors.As(err, &we) {
		return we.code
	}
	return 0
}

func frame(first byte, payload string) string {
	return string(maskedFrame(first, []byte(payload), 0x12345678))
}

// webSocketCases follow the sections of the Autobahn test suite, as far as a carrier of bytes in binary messages has
// an answer of its own: text is not spoken here, so what Autobahn has echoed as text is closed with 1003, and what it
// looks for in text of wrong UTF-8 is not looked at.
var webSocketCases = []struct {
	name string
	sent string
	data string // that comes out
	code uint16 // with which it ends; 0: it goes on
}{
	{"1.1 text", frame(0x81, "hello"), "", closeUnsupported},
	{"1.2.1 an empty binary message", frame(0x82, ""), "", 0},
	{"1.2.2 125 bytes", frame(0x82, string(make([]byte, 125))), string(make([]byte, 125)), 0},
	{"1.2.3 126 bytes", frame(0x82, string(make([]byte, 126))), string(make([]byte, 126)), 0},
	{"1.2.5 128 bytes", frame(0x82, string(make([]byte, 128))), string(make([]byte, 128)), 0},
	{"1.2.6 65,535 bytes", frame(0x82, string(make([]byte, 65_535))), string(make([]byte, 65_535)), 0},
	{"1.2.7 65,536 bytes", frame(0x82, string(make([]byte, 65_536))), string(make([]byte, 65_536)), 0},
	{"2.1 a ping without payload", frame(0x89, ""), "", 0},
	{"2.3 a ping with bytes that are no text", frame(0x89, "\x00\xff\xfe"), "", 0},
	{"2.4 a ping of 125 bytes", frame(0x89, string(make([]byte, 125))), "", 0},
	{"2.5 a ping of 126 bytes", frame(0x89, string(make([]byte, 126))), "", closeProtocol},
	{"2.7 a pong that nobody asked for", frame(0x8a, "x"), "", 0},
	{"2.10 ten pings", frame(0x89, "1") + frame(0x89, "2") + frame(0x89, "3"), "", 0},
	{"3.1 RSV1", frame(0xc2, "x"), "", closeProtocol},
	{"3.2 RSV2 behind a good message", frame(0x82, "a") + frame(0xa2, "x"), "a", closeProtocol},
	{"3.3 RSV3", frame(0x92, "x"), "", closeProtocol},
	{"3.6 RSV on a ping", frame(0xf9, ""), "", closeProtocol},
	{"4.1.1 opcode 3", frame(0x83, ""), "", closeProtocol},
	{"4.1.5 opcode 7 behind a message", frame(0x82, "a") + frame(0x87, "x"), "a", closeProtocol},
	{"4.2.1 opcode 11", frame(0x8b, ""), "", closeProtocol},
	{"4.2.5 opcode 15", frame(0x8f, "x"), "", closeProtocol},
	{"5.1 a ping in two fragments", frame(0x09, "a") + frame(0x80, "b"), "", closeProtocol},
	{"5.2 a pong in two fragments", frame(0x0a, "a") + frame(0x80, "b"), "", closeProtocol},
	{"5.3 a message in two fragments", frame(0x02, "a") + frame(0x80, "b"), "ab", 0},
	{"5.6 with a ping between", frame(0x02, "a") + frame(0x89, "p") + frame(0x80, "b"), "ab", 0},
	{"5.9 a continuation of nothing", frame(0x80, "a"), "", closeProtocol},
	{"5.10 a continuation of nothing, to go on", frame(0x00, "a"), "", closeProtocol},
	{"5.15 a continuation of what has ended", frame(0x02, "a") + frame(0x80, "b") + frame(0x80, "c"), "ab", closeProtocol},
	{"5.18 a message within another", frame(0x02, "a") + frame(0x82, "b"), "a", closeProtocol},
	{"5.19 many fragments and pings", frame(0x02, "a") + frame(0x89, "1") + frame(0x00, "b") + frame(0x89, "2") + frame(0x00, "") + frame(0x80, "c"), "abc", 0},
	{"7.1.1 a message, then close", frame(0x82, "a") + frame(0x88, "\x03\xe8"), "a", closeNormal},
	{"7.1.2 two closes", frame(0x88, "\x03\xe8") + frame(0x88, "\x03\xe9"), "", closeNormal},
	{"7.1.3 a ping behind a close", frame(0x88, "\x03\xe8") + frame(0x89, ""), "", closeNormal},
	{"7.1.5 close within a message", frame(0x02, "a") + frame(0x88, "\x03\xe8") + frame(0x80, "b"), "a", closeNormal},
	{"7.3.1 close without a code", frame(0x88, ""), "", closeNormal},
	{"7.3.2 half a code", frame(0x88, "\x03"), "", closeProtocol},
	{"7.3.4 a code with a reason", frame(0x88, "\x03\xe8bye"), "", closeNormal},
	{"7.3.5 a reason of 123 bytes", frame(0x88, "\x03\xe8"+string(bytes.Repeat([]byte("x"), 123))), "", closeNormal},
	{"7.3.6 a reason of 124 bytes", frame(0x88, "\x03\xe8"+string(bytes.Repeat([]byte("x"), 124))), "", closeProtocol},
	{"7.5.1 a reason that is not UTF-8", frame(0x88, "\x03\xe8\xce\xba\xed\xa0\x80"), "", closeNotUTF8},
	{"7.7 going away", frame(0x88, "\x03\xe9"), "", closeGoingAway},
	{"7.7 a code of one's own", frame(0x88, "\x0f\xa0"), "", 4000},
	{"7.9 code 0", frame(0x88, "\x00\x00"), "", closeProtocol},
	{"7.9 code 999", frame(0x88, "\x03\xe7"), "", closeProtocol},
	{"7.9 code 1004", frame(0x88, "\x03\xec"), "", closeProtocol},
	{"7.9 code 1005", frame(0x88, "\x03\xed"), "", closeProtocol},
	{"7.9 code 1006", frame(0x88, "\x03\xee"), "", closeProtocol},
	{"7.9 code 1016", frame(0x88, "\x03\xf8"), "", closeProtocol},
	{"7.9 code 2999", frame(0x88, "\x0b\xb7"), "", closeProtocol},
	{"7.13 code 5000", frame(0x88, "\x13\x88"), "", closeProtocol},
	{"9 a message of more than 64 MiB", string([]byte{0x82, 0xff, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0, 0}), "", closeTooBig},
	{"9 a length with its highest bit", string([]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), "", closeProtocol},
	{"a length of 16 bits below 126", string([]byte{0x82, 0xfe, 0, 125, 0, 0, 0, 0}), "", closeProtocol},
	{"a length of 64 bits below 65,536", string([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}), "", closeProtocol},
	{"a frame without a mask", "\x82\x01a", "", closeProtocol},
}

func TestWebSocketCases(t *testing.T) {
	for _, c := range webSocketCases {
		t.Run(c.name, func(t *testing.T) {
			var w webSocket
			code := uint16(0)
			data, err := w.read([]byte(c.sent), func(op opcode, payload []byte) error {
				if op == opClose {
					if code = closeNormal; len(payload) >= 2 {
						code = binary.BigEndian.Uint16(payload)
					}
				}
				return nil
			})
			if err != nil {
				code = codeOfClose(err)
			}
			if string(data) != c.data || code != c.code {
				t.Errorf("%d bytes, then %d; want %d bytes, then %d", len(data), code, len(c.data), c.code)
			}
		})
	}
}

func TestUnmaskGoesOnWhereItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "payload")
		mask := rapid.Uint32().Draw(t, "mask")
		b := bytes.Clone(payload)
		for i := range b {
			b[i] ^= byte(mask >> (8 * (i % 4)))
		}
		w := webSocket{mask: mask}
		for at := 0; at < len(b); {
			n := min(len(b)-at, rapid.IntRange(1, 70).Draw(t, "n"))
			w.unmask(b[at : at+n])
			at += n
		}
		if !bytes.Equal(b, payload) {
			t.Fatalf("%x, want %x", b, payload)
		}
	})
}
