package over

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestUnframeInPieces: a server's messages and pings come out as the same bytes, however they are cut.
func TestUnframeInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var sent, want []byte
		for range 1 + r.IntN(6) {
			b := make([]byte, r.IntN(1+r.IntN(70_000)))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			switch n := len(b); {
			case r.IntN(4) == 0:
				b = b[:min(n, 125)]
				sent = append(append(sent, 0x89, byte(len(b))), b...)
				continue
			case n < 126:
				sent = append(sent, 0x82, byte(n))
			case n < 1<<16:
				sent = append(sent, 0x82, 126, byte(n>>8), byte(n))
			default:
				sent = append(sent, 0x82, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			}
			sent = append(sent, b...)
			want = append(want, b...)
		}
		c := &Conn{ws: true}
		var got []byte
		for len(sent) > 0 {
			n := 1 + r.IntN(min(len(sent), 1+r.IntN(30_000)))
			var err error
			if got, err = c.Open(got, sent[:n]); err != nil {
				t.Fatal(err)
			}
			sent = sent[n:]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d", len(got), len(want))
		}
	}
}

// BenchmarkOpen is what a receiver pays for the bytes of a full message beside the read.
func BenchmarkOpen(b *testing.B) {
	c := &Conn{ws: true}
	frame := append([]byte{0x82, 126, 0x3f, 0xfc}, make([]byte, 16380)...)
	dst := make([]byte, 0, 32<<10)
	b.SetBytes(16380)
	for b.Loop() {
		if _, err := c.Open(dst, frame); err != nil {
			b.Fatal(err)
		}
	}
}
