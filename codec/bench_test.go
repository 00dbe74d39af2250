package codec

import (
	"fmt"
	"testing"
)

var benchPayloads = []int{64, 1 << 10, 16 << 10}

func benchStream(payload int) *Stream {
	return &Stream{Room: 1 << 63, StreamKey: StreamKey{Pub: 3, Dtype: 1}, Flags: FlagKey, Seq: 700, Payload: make([]byte, payload)}
}

// BenchmarkParseStream cuts and reads one frame out of a buffer of many, as a loop does.
func BenchmarkParseStream(b *testing.B) {
	for _, n := range benchPayloads {
		b.Run(fmt.Sprintf("payload=%d", n), func(b *testing.B) {
			var buf []byte
			for len(buf) < 64<<10 {
				buf = enc(benchStream(n).Append(buf))
			}
			b.ReportAllocs()
			var s Stream
			rest := buf
			for b.Loop() {
				if len(rest) == 0 {
					rest = buf
				}
				frame, _, err := Next(rest, MaxFrame)
				if err != nil {
					b.Fatal(err)
				}
				if err := ParseStream(frame, &s); err != nil {
					b.Fatal(err)
				}
				rest = rest[len(frame):]
			}
		})
	}
}

func BenchmarkAppendStream(b *testing.B) {
	for _, n := range benchPayloads {
		b.Run(fmt.Sprintf("payload=%d", n), func(b *testing.B) {
			s := benchStream(n)
			dst := make([]byte, 0, MaxFrame)
			b.SetBytes(int64(n + StreamHeaderSize))
			b.ReportAllocs()
			for b.Loop() {
				dst = enc(s.Append(dst[:0]))
			}
		})
	}
}

func BenchmarkAck(b *testing.B) {
	ack := Ack{1 << 63, StreamKey{3, 1}, 700}
	frame := enc(ack.Append(nil))
	b.Run("op=append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			frame = enc(ack.Append(frame[:0]))
		}
	})
	b.Run("op=parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := ack.Parse(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRoomID(b *testing.B) {
	id := RoomID(1<<63 + 12345)
	text := id.String()
	b.Run("op=string", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			text = id.String()
		}
	})
	b.Run("op=parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseRoomID(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
