package media

import (
	"bytes"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

// nalReader walks NAL units, or what else start codes set apart.
type nalReader struct {
	b          []byte
	lengthSize int
	whole      bool

	nal   []byte // the unit; not empty
	ended bool   // all of it is there
}

var startCode = []byte{0, 0, 1}

func (r *nalReader) next() bool {
	if r.lengthSize != startCodes {
		return r.nextPrefixed()
	}
	at := bytes.Index(r.b, startCode)
	if at < 0 || at+len(startCode) == len(r.b) {
		return false
	}
	r.nal = r.b[at+len(startCode):]
	r.b = r.nal
	if end := bytes.Index(r.nal, startCode); end >= 0 {
		r.nal, r.b = r.nal[:end], r.nal[end:]
		r.ended = true
		if end == 0 {
			return r.next()
		}
		return true
	}
	r.b = nil
	r.ended = r.whole
	return true
}

func (r *nalReader) nextPrefixed() bool {
	for len(r.b) > r.lengthSize {
		n := bigEndian(r.b[:r.lengthSize])
		r.b = r.b[r.lengthSize:]
		if n == 0 {
			continue
		}
		if n > uint64(len(r.b)) {
			r.nal, r.b, r.ended = r.b, nil, r.whole
		} else {
			r.nal, r.b, r.ended = r.b[:n], r.b[n:], true
		}
		return true
	}
	return false
}

// sliceHead is what of a slice has to be there to be read.
const sliceHead = 12

// lookH264 finds the first slice: ITU-T H.264, 7.3.1 to 7.3.3. The library's own test knows IDR pictures only.
func lookH264(r *nalReader) (p picture) {
	sps, pps, recovery := false, false, false
	for r.next() {
		switch h264.NALUType(r.nal[0] & 0x1f) {
		case h264.NALUTypeSPS:
			sps = true
		case h264.NALUTypePPS:
			pps = true
		case h264.NALUTypeSEI:
			if !r.ended {
				return picture{}
			}
			recovery = recovery || hasRecoveryPoint(r.nal[1:])
		case h264.NALUTypeIDR, h264.NALUTypeNonIDR, h264.NALUTypeDataPartitionA:
			if len(r.nal) < sliceHead && !r.ended {
				return picture{}
			}
			bits := bitReader{b: r.nal[1:]}
			first, kind := bits.ue(), bits.ue() // first_mb_in_slice, slice_type
			if bits.failed {
				return picture{known: true}
			}
			idr := h264.NALUType(r.nal[0]&0x1f) == h264.NALUTypeIDR
			p = picture{known: true, intra: kind%5 == 2 || kind%5 == 4, sets: sps && pps}
			// Parameter sets before an I picture say that it is to be started from, where nothing else does.
			p.key = first == 0 && (idr || recovery || p.sets && p.intra)
			return p
		}
	}
	return picture{}
}

// lookH265 finds the first slice segment: ITU-T H.265, 7.3.1.2 and 7.4.2.2.
func lookH265(r *nalReader) (p picture) {
	sps, pps, recovery := false, false, false
	for r.next() {
		switch t := h265.NALUType(r.nal[0] >> 1 & 0x3f); {
		case t == h265.NALUType_SPS_NUT:
			sps = true
		case t == h265.NALUType_PPS_NUT:
			pps = true
		case t == h265.NALUType_PREFIX_SEI_NUT:
			if !r.ended {
				return picture{}
			}
			recovery = recovery || len(r.nal) > 2 && hasRecoveryPoint(r.nal[2:])
		case t <= h265.NALUType_RSV_IRAP_VCL23:
			if len(r.nal) < 3 && !r.ended {
				return picture{}
			}
			first := len(r.nal) > 2 && r.nal[2]&0x80 != 0 // first_slice_segment_in_pic_flag
			irap := t >= h265.NALUType_BLA_W_LP
			return picture{known: true, key: first && (irap || recovery), intra: irap, sets: sps && pps}
		}
	}
	return picture{}
}

// Types of NAL units in ITU-T H.266, 7.4.2.2, which the library does not know.
const (
	h266LastSlice  = 11
	h266FirstIRAP  = 7
	h266LastIRAP   = 10 // GDR, which is entered like a recovery point
	h266SPS        = 15
	h266PPS        = 16
	h266HeaderSize = 2
)

func lookH266(r *nalReader) (p picture) {
	sps, pps := false, false
	for r.next() {
		if len(r.nal) < h266HeaderSize {
			continue
		}
		switch t := r.nal[1] >> 3; {
		case t == h266SPS:
			sps = true
		case t == h266PPS:
			pps = true
		case t <= h266LastSlice:
			key := t >= h266FirstIRAP && t <= h266LastIRAP
			return picture{known: true, key: key, intra: key, sets: sps && pps}
		}
	}
	return picture{}
}

// hasRecoveryPoint reports whether an SEI message without its NAL header has a recovery point: ITU-T H.264, 7.3.2.3 and
// D.1.8; H.265, D.2.8.
func hasRecoveryPoint(b []byte) bool {
	const recoveryPoint = 6
	r := sei{b: b}
	for len(r.b) > 1 { // the trailing bits are one byte
		kind, size := r.number(), r.number()
		if kind == recoveryPoint {
			return true
		}
		for range size {
			if _, ok := r.next(); !ok {
				return false
			}
		}
	}
	return false
}

// sei reads bytes without those that prevent start codes.
type sei struct {
	b     []byte
	zeros int
}

func (r *sei) next() (c byte, ok bool) {
	if r.zeros >= 2 && len(r.b) > 0 && r.b[0] == 3 {
		r.b, r.zeros = r.b[1:], 0
	}
	if len(r.b) == 0 {
		return 0, false
	}
	c, r.b = r.b[0], r.b[1:]
	if c == 0 {
		r.zeros++
	} else {
		r.zeros = 0
	}
	return c, true
}

// number reads a type or a size: 255 means that more is to be added.
func (r *sei) number() (n int) {
	for {
		c, ok := r.next()
		if n += int(c); !ok || c != 0xff {
			return n
		}
	}
}

// bitReader reads Exp-Golomb codes.
type bitReader struct {
	b      []byte
	at     int // in bits
	failed bool
}

func (r *bitReader) bit() uint32 {
	if r.at>>3 >= len(r.b) {
		r.failed = true
		return 0
	}
	v := r.b[r.at>>3] >> (7 - r.at&7) & 1
	r.at++
	return uint32(v)
}

// ue reads an unsigned number: ITU-T H.264, 9.1.
func (r *bitReader) ue() uint32 {
	zeros := 0
	for r.bit() == 0 {
		if zeros++; zeros > 31 || r.failed {
			r.failed = true
			return 0
		}
	}
	v := uint32(1)
	for range zeros {
		v = v<<1 | r.bit()
	}
	return v - 1
}
