package footage

import (
	"bytes"
	"encoding/binary"
)

// Surgery on MP4 files: ISO/IEC 14496-12.

// box is a box within a file.
type box struct {
	typ  string
	at   int // of its header
	head int
	end  int
}

func boxes(b []byte, at, end int) (bs []box) {
	for at+8 <= end {
		x := box{string(b[at+4 : at+8]), at, 8, at + int(binary.BigEndian.Uint32(b[at:]))}
		if x.end-at == 1 {
			x.head, x.end = 16, at+int(binary.BigEndian.Uint64(b[at+8:]))
		}
		bs = append(bs, x)
		at = x.end
	}
	return bs
}

// walk visits all boxes that matter, parents first.
func walk(b []byte, at, end int, visit func(x box)) {
	for _, x := range boxes(b, at, end) {
		visit(x)
		switch x.typ {
		case "moof", "traf", "moov", "trak", "mdia", "mvex":
			walk(b, x.at+x.head, x.end, visit)
		}
	}
}

// untimed takes the decode times of fragments away, but for every keep-th; 0: of all.
func untimed(keep int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		n := -1
		walk(b, 0, len(b), func(x box) {
			if x.typ == "moof" {
				n++
			}
			if x.typ == "tfdt" && (keep == 0 || n%keep != 0) {
				copy(b[x.at+4:], "free")
			}
		})
		return b
	}
}

// allSync leaves all sample flags at 0, as some muxers do: each sample is marked as one to start from.
func allSync(b []byte) []byte {
	b = bytes.Clone(b)
	word := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	clear := func(at int) { binary.BigEndian.PutUint32(b[at:], 0) }
	walk(b, 0, len(b), func(x box) {
		at := x.at + x.head
		switch x.typ {
		case "trex":
			clear(at + 20)
		case "tfhd":
			flags := word(at) & 0xffffff
			at += 8
			for _, f := range [...]struct {
				flag uint32
				size int
			}{{1, 8}, {2, 4}, {8, 4}, {16, 4}} {
				if flags&f.flag != 0 {
					at += f.size
				}
			}
			if flags&0x20 != 0 {
				clear(at)
			}
		case "trun":
			flags, count := word(at)&0xffffff, word(at+4)
			at += 8
			if flags&1 != 0 {
				at += 4
			}
			if flags&4 != 0 {
				clear(at)
				at += 4
			}
			for range count {
				for _, f := range [...]uint32{0x100, 0x200, 0x400, 0x800} {
					if flags&f == 0 {
						continue
					}
					if f == 0x400 {
						clear(at)
					}
					at += 4
				}
			}
		}
	})
	return b
}

// wideSizes gives the data of fragments sizes of 64 bits.
func wideSizes(b []byte) []byte {
	var out []byte
	for _, x := range boxes(b, 0, len(b)) {
		raw := bytes.Clone(b[x.at:x.end])
		switch x.typ {
		case "moof": // the data come 8 bytes later
			walk(raw, 0, len(raw), func(x box) {
				if at := x.at + x.head; x.typ == "trun" && raw[at+3]&1 != 0 {
					binary.BigEndian.PutUint32(raw[at+8:], binary.BigEndian.Uint32(raw[at+8:])+8)
				}
			})
		case "mdat":
			head := append([]byte{0, 0, 0, 1}, "mdat"...)
			raw = append(binary.BigEndian.AppendUint64(head, uint64(len(raw)+8)), raw[8:]...)
		}
		out = append(out, raw...)
	}
	return out
}

// withEvents puts an event message and a free box before each fragment.
func withEvents(b []byte) []byte {
	var out []byte
	for _, x := range boxes(b, 0, len(b)) {
		if x.typ == "moof" {
			out = append(out, boxOf("emsg", append(make([]byte, 4), "urn:x\x00v\x00................"...))...)
			out = append(out, boxOf("free", make([]byte, 100))...)
		}
		out = append(out, b[x.at:x.end]...)
	}
	return out
}

func boxOf(typ string, body []byte) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), typ...), body...)
}
