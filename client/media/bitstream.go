package media

import (
	"bytes"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/vp9"
)

// codec is how a track is encoded. Of what has no reader here, the container's marks are taken.
type codec uint8

// The codecs that this package can look into, and those that have only a name.
const (
	codecUnknown codec = iota
	codecH264
	codecH265
	codecH266
	codecMPEG2 // MPEG-1 and MPEG-2 video
	codecMPEG4 // MPEG-4 part 2
	codecVC1
	codecAVS
	codecVP8
	codecVP9
	codecAV1
	codecTheora
	codecDirac // and VC-2
	codecIntra // every picture stands alone: Motion JPEG, ProRes, DV ...
)

var codecNames = [...]string{
	codecUnknown: "unknown", codecH264: "H.264", codecH265: "H.265", codecH266: "H.266", codecMPEG2: "MPEG-2 video",
	codecMPEG4: "MPEG-4 part 2", codecVC1: "VC-1", codecAVS: "AVS", codecVP8: "VP8", codecVP9: "VP9", codecAV1: "AV1",
	codecTheora: "Theora", codecDirac: "Dirac", codecIntra: "intra-only video",
}

func (c codec) String() string { return codecNames[c] }

// hasSets reports whether a decoder needs parameter sets that streams without a header of their own (MPEG-TS) carry
// among the pictures.
func (c codec) hasSets() bool {
	switch c {
	case codecH264, codecH265, codecH266, codecMPEG2, codecMPEG4, codecVC1, codecAVS, codecDirac:
		return true
	}
	return false
}

// picture is what the first bytes of an access unit say.
type picture struct {
	known bool // there were enough bytes, of a codec with a reader here
	key   bool // a decoder that has the parameter sets can start here
	intra bool // all of it stands alone, as far as can be seen; whether a decoder can start here the container has to say
	sets  bool // it carries the parameter sets that it needs
}

// startCodes says that NAL units are set apart by start codes (ITU-T H.264, annex B), not preceded by their lengths.
const startCodes = 0

// look reads the start of an access unit. lengthSize is that of NAL units in bytes, or startCodes. whole says that b is
// all of the unit; otherwise more may follow, and a picture that is not known asks for it. b is only read, and nothing
// is kept or allocated.
func (c codec) look(b []byte, lengthSize int, whole bool) picture {
	nals := nalReader{b: b, lengthSize: lengthSize, whole: whole}
	switch c {
	case codecH264:
		return lookH264(&nals)
	case codecH265:
		return lookH265(&nals)
	case codecH266:
		return lookH266(&nals)
	case codecMPEG2:
		return lookMPEG2(&nals)
	case codecMPEG4:
		return lookMPEG4(&nals)
	case codecVC1:
		return lookVC1(&nals)
	case codecAVS:
		return lookAVS(&nals)
	case codecVP8:
		return lookVP8(b)
	case codecVP9:
		return lookVP9(b)
	case codecAV1:
		return lookAV1(b)
	case codecTheora:
		if len(b) > 0 { // Theora specification, 7.1: data packet, then frame type
			key := b[0]&0xc0 == 0
			return picture{known: true, key: key, intra: key}
		}
	case codecDirac:
		return lookDirac(b)
	case codecIntra:
		return picture{known: true, key: true, intra: true}
	}
	return picture{}
}

// onlySets reports whether b, with start codes, has parameter sets and no picture.
func (c codec) onlySets(b []byte) bool {
	if c.look(b, startCodes, true).known {
		return false
	}
	for r := (nalReader{b: b, whole: true}); r.next(); {
		switch c {
		case codecH264:
			if h264.NALUType(r.nal[0]&0x1f) == h264.NALUTypeSPS {
				return true
			}
		case codecH265:
			if h265.NALUType(r.nal[0]>>1&0x3f) == h265.NALUType_SPS_NUT {
				return true
			}
		}
	}
	return false
}

// lookMPEG2 finds the picture header: ISO/IEC 13818-2, 6.2.3.
func lookMPEG2(r *nalReader) (p picture) {
	const pictureStart, sequence = 0x00, 0xb3
	sets := false
	for r.next() {
		switch r.nal[0] {
		case sequence:
			sets = true
		case pictureStart:
			if len(r.nal) < 3 {
				return picture{known: r.ended}
			}
			intra := r.nal[2]>>3&7 == 1
			return picture{known: true, key: intra, intra: intra, sets: sets}
		}
	}
	return picture{}
}

// lookMPEG4 finds the video object plane: ISO/IEC 14496-2, 6.2.5.
func lookMPEG4(r *nalReader) (p picture) {
	const layerFirst, layerLast, plane = 0x20, 0x2f, 0xb6
	sets := false
	for r.next() {
		switch k := r.nal[0]; {
		case k >= layerFirst && k <= layerLast:
			sets = true
		case k == plane:
			if len(r.nal) < 2 {
				return picture{known: r.ended}
			}
			intra := r.nal[1]>>6 == 0
			return picture{known: true, key: intra, intra: intra, sets: sets}
		}
	}
	return picture{}
}

// lookVC1 looks for an entry point before the frame: SMPTE 421M, annex E.
func lookVC1(r *nalReader) (p picture) {
	const frame, entry, sequence = 0x0d, 0x0e, 0x0f
	for r.next() {
		switch r.nal[0] {
		case sequence:
			p.sets = true
		case entry:
			p.key = true
		case frame:
			p.known, p.intra = true, p.key
			return p
		}
	}
	return picture{}
}

// lookAVS finds the picture: GB/T 20090.2, 7.1.
func lookAVS(r *nalReader) (p picture) {
	const sequence, intra, inter = 0xb0, 0xb3, 0xb6
	for r.next() {
		switch r.nal[0] {
		case sequence:
			p.sets = true
		case intra, inter:
			key := r.nal[0] == intra
			return picture{known: true, key: key, intra: key, sets: p.sets}
		}
	}
	return picture{}
}

// lookDirac finds the first picture: Dirac specification 2.2.3, 9.6; SMPTE ST 2042-1, 10.5.
func lookDirac(b []byte) (p picture) {
	const prefix, sequence, pictureBit, references = "BBCD", 0x00, 0x08, 0x03
	for {
		at := bytes.Index(b, []byte(prefix))
		if at < 0 || at+len(prefix) >= len(b) {
			return picture{}
		}
		b = b[at+len(prefix):]
		switch code := b[0]; {
		case code == sequence:
			p.sets = true
		case code&pictureBit != 0:
			key := code&references == 0
			return picture{known: true, key: key, intra: key, sets: p.sets}
		}
	}
}

// lookVP8 reads a frame tag: RFC 6386, 9.1.
func lookVP8(b []byte) picture {
	if len(b) < 10 {
		return picture{known: len(b) >= 3 && b[0]&1 != 0}
	}
	key := b[0]&1 == 0 && b[3] == 0x9d && b[4] == 0x01 && b[5] == 0x2a
	return picture{known: true, key: key, intra: key}
}

// lookVP9 reads a frame header. Those of a key frame hold more; what the library cannot read is no key frame.
func lookVP9(b []byte) picture {
	// The first two bytes tell most frames, without the library: VP9 specification, 7.2.
	const marker, profile3, interBit = 0x80, 0x30, 0x04
	if len(b) == 0 {
		return picture{}
	}
	if b[0]&0xc0 != marker || b[0]&profile3 != profile3 && b[0]&(interBit|0x08) != 0 {
		return picture{known: true}
	}
	var h vp9.Header
	err := guarded(func() error { return h.Unmarshal(b) })
	key := err == nil && !h.NonKeyFrame && !h.ShowExistingFrame
	return picture{known: true, key: key, intra: key}
}

// lookAV1 finds the first frame of a temporal unit: AV1 specification, 5.3 to 5.9. The library reads no OBU with an
// extension, and copies.
func lookAV1(b []byte) picture {
	const frameHeader, frame, keyFrame = 3, 6, 0
	for len(b) > 0 {
		head := b[0]
		b = b[1:]
		if head&0x04 != 0 && len(b) > 0 { // extension
			b = b[1:]
		}
		size := len(b)
		if head&0x02 != 0 {
			var n av1.LEB128
			used, err := n.Unmarshal(b)
			if err != nil {
				return picture{}
			}
			b = b[used:]
			size = min(int(n), len(b))
		}
		switch head >> 3 & 0x0f {
		case frameHeader, frame:
			if size == 0 {
				return picture{}
			}
			key := b[0]&0x80 == 0 && b[0]>>5&3 == keyFrame // show_existing_frame, frame_type
			return picture{known: true, key: key, intra: key}
		}
		b = b[size:]
	}
	return picture{}
}

// sniff tells the codec of an elementary stream with start codes, as a container that does not say it carries it.
func sniff(b []byte) codec {
	r := nalReader{b: b, whole: true}
	for r.next() {
		k := r.nal[0]
		if len(r.nal) < 2 {
			continue
		}
		switch {
		case k == 0xb3 && len(r.nal) >= 8:
			return codecMPEG2
		case k == 0xb0 && len(r.nal) >= 3:
			return codecMPEG4
		case k>>1 >= byte(h265.NALUType_VPS_NUT) && k>>1 <= byte(h265.NALUType_AUD_NUT) && k&1 == 0 && r.nal[1] == 1:
			return codecH265 // layer 0, temporal sublayer 1: a header that H.264 has not
		case k == byte(h264.NALUTypeAccessUnitDelimiter) && r.nal[1]&0x1f == 0x10, // trailing bits
			k&0x9f == byte(h264.NALUTypeSPS) && len(r.nal) >= 4 && h264Profiles[r.nal[1]]:
			return codecH264
		}
	}
	return codecUnknown
}

// h264Profiles are the values of profile_idc: ITU-T H.264, annex A.
var h264Profiles = [256]bool{44: true, 66: true, 77: true, 88: true, 100: true, 110: true, 122: true, 244: true}

// guarded runs a library's parser. The input is a stranger's, and a fault of the parser is to cost the marks, not the
// stream.
func guarded(parse func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("media: parser gave up: %v", p)
		}
	}()
	return parse()
}
