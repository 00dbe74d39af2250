package footage

import (
	"bytes"
	"encoding/binary"
)

// Surgery on transport streams: ISO/IEC 13818-1.

const packet = 188

func packets(b []byte) (ps [][]byte) {
	for b = bytes.Clone(b); len(b) >= packet; b = b[packet:] {
		ps = append(ps, b[:packet:packet])
	}
	return ps
}

func pidOf(p []byte) uint16 { return binary.BigEndian.Uint16(p[1:]) & 0x1fff }
func starts(p []byte) bool  { return p[1]&0x40 != 0 }
func adapted(p []byte) bool { return p[3]&0x20 != 0 && p[4] > 0 }
func payloadOf(p []byte) int { // where it begins
	if p[3]&0x20 != 0 {
		return 5 + int(p[4])
	}
	return 4
}

var null = append([]byte{0x47, 0x1f, 0xff, 0x10}, bytes.Repeat([]byte{0xff}, packet-4)...)

// eachPacket has every packet replaced.
func eachPacket(edit func(p []byte) [][]byte) func([]byte) []byte {
	return func(b []byte) []byte {
		var out [][]byte
		for _, p := range packets(b) {
			out = append(out, edit(p)...)
		}
		return bytes.Join(out, nil)
	}
}

// section returns where the section begins in a packet that starts one, and the section without its CRC.
func section(p []byte) (at int, body []byte) {
	at = payloadOf(p)
	at += 1 + int(p[at])
	n := int(binary.BigEndian.Uint16(p[at+1:]) & 0x0fff)
	return at, bytes.Clone(p[at : at+3+n-4])
}

// setSection puts a section into a packet, with its length and CRC.
func setSection(p []byte, at int, body []byte) {
	binary.BigEndian.PutUint16(body[1:], binary.BigEndian.Uint16(body[1:])&0xf000|uint16(len(body)-3+4))
	body = binary.BigEndian.AppendUint32(body, crc(body))
	n := copy(p[at:], body)
	for i := at + n; i < packet; i++ {
		p[i] = 0xff
	}
}

func crc(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c ^= uint32(v) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
	}
	return c
}

// mapPID is where ffmpeg puts the first program's map.
const mapPID = 0x1000

// videoPID and the next are where it puts streams.
const videoPID = 0x100

// unmarked takes the random access marks away.
func unmarked(b []byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		if adapted(p) {
			p[5] &^= 0x40
		}
		return [][]byte{p}
	})(b)
}

// allMarked puts a random access mark on each picture.
func allMarked(b []byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		if pidOf(p) == videoPID && starts(p) && adapted(p) {
			p[5] |= 0x40
		}
		return [][]byte{p}
	})(b)
}

// haunted names a program in the PAT whose map never comes.
func haunted(b []byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		if pidOf(p) == 0 && starts(p) {
			at, s := section(p)
			setSection(p, at, append(s, 0, 2, 0xe0|0x12, 0x34))
		}
		return [][]byte{p}
	})(b)
}

// apart puts n null packets between PAT and map.
func apart(n int) func([]byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		if pidOf(p) != mapPID || !starts(p) {
			return [][]byte{p}
		}
		var out [][]byte
		for range n {
			out = append(out, null)
		}
		return append(out, p)
	})
}

// typed changes a stream type in the map.
func typed(from, to byte) func([]byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		if pidOf(p) == mapPID && starts(p) {
			at, s := section(p)
			size := func(b []byte) int { return int(binary.BigEndian.Uint16(b) & 0x0fff) }
			for i := 12 + size(s[10:]); i < len(s); i += 5 + size(s[i+3:]) {
				if s[i] == from {
					s[i] = to
				}
			}
			setSection(p, at, s)
		}
		return [][]byte{p}
	})
}

// lateTables takes the tables away that come in the first part of the stream.
func lateTables(part float64) func([]byte) []byte {
	return func(b []byte) []byte {
		ps := packets(b)
		var out [][]byte
		for i, p := range ps {
			if float64(i) > part*float64(len(ps)) || pidOf(p) != 0 && pidOf(p) != mapPID {
				out = append(out, p)
			}
		}
		return bytes.Join(out, nil)
	}
}

// elsewhere moves the tables that stand before key pictures n packets on.
func elsewhere(n int) func([]byte) []byte {
	return func(b []byte) []byte {
		var out, held [][]byte
		wait := 0
		for i, p := range packets(b) {
			if i > 4 && (pidOf(p) == 0 || pidOf(p) == mapPID) {
				held, wait = append(held, p), n
				continue
			}
			if out = append(out, p); len(held) > 0 {
				if wait--; wait <= 0 {
					out, held = append(out, held...), nil
				}
			}
		}
		return bytes.Join(append(out, held...), nil)
	}
}

// stuffed puts a null packet behind every other packet.
func stuffed(b []byte) []byte {
	i := 0
	return eachPacket(func(p []byte) [][]byte {
		if i++; i%2 == 0 {
			return [][]byte{p, null}
		}
		return [][]byte{p}
	})(b)
}

// miscounted sets all continuity counters to 0.
func miscounted(b []byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		p[3] &= 0xf0
		return [][]byte{p}
	})(b)
}

// withParity makes packets of 204 bytes.
func withParity(b []byte) []byte {
	return eachPacket(func(p []byte) [][]byte { return [][]byte{append(bytes.Clone(p), make([]byte, 16)...)} })(b)
}

// setsOnce turns the parameter sets of H.264 behind the first picture into filler.
func setsOnce(b []byte) []byte {
	b = bytes.Clone(b)
	first := bytes.Index(b, []byte{0, 0, 1, 0x65})
	for _, set := range [...]byte{0x67, 0x68} {
		code := []byte{0, 0, 1, set}
		for at := first; ; {
			i := bytes.Index(b[at:], code)
			if i < 0 {
				break
			}
			b[at+i+3] = 0x0c
			at += i + 4
		}
	}
	return b
}

// setsNowAndThen does so in every other group.
func setsNowAndThen(b []byte) []byte {
	b = bytes.Clone(b)
	for _, set := range [...]byte{0x67, 0x68} {
		code := []byte{0, 0, 1, set}
		for at, n := 0, 0; ; n++ {
			i := bytes.Index(b[at:], code)
			if i < 0 {
				break
			}
			if n%2 == 1 {
				b[at+i+3] = 0x0c
			}
			at += i + 4
		}
	}
	return b
}

// setsApart puts what comes before the first slice of a key picture of H.264 into a PES packet of its own.
func setsApart(b []byte) []byte {
	return eachPacket(func(p []byte) [][]byte {
		if pidOf(p) != videoPID || !starts(p) {
			return [][]byte{p}
		}
		at := payloadOf(p)
		begin := at + 9 + int(p[at+8]) // of the elementary stream
		sei := bytes.Index(p[begin:], []byte{0, 0, 1, 0x06})
		if !bytes.Contains(p[begin:], []byte{0, 0, 1, 0x67}) || sei < 0 {
			return [][]byte{p}
		}
		sei += begin
		first := fill(p, p[at:sei], true)
		second := fill(p, append(bytes.Clone(p[at:begin]), p[sei:]...), true)
		return [][]byte{first, second}
	})(b)
}

// fill makes a packet like p of a payload, with stuffing before it. Continuity is not looked after.
func fill(p, payload []byte, start bool) []byte {
	out := bytes.Clone(p[:4])
	out[3] = out[3]&0x0f | 0x30
	if start {
		out[1] |= 0x40
	}
	stuffing := packet - 4 - len(payload)
	out = append(out, byte(stuffing-1))
	if stuffing > 1 {
		out = append(out, 0)
		out = append(out, bytes.Repeat([]byte{0xff}, stuffing-2)...)
	}
	return append(out, payload...)
}
