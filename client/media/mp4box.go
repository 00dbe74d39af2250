package media

import (
	"encoding/binary"
	"slices"
	"time"
)

// What is read of MP4 boxes: ISO/IEC 14496-12.

// mp4Track is what moov says of a track.
type mp4Track struct {
	id          uint32
	timescale   uint32 // ticks per second
	class       trackClass
	codec       codec
	lengthSize  int // of NAL units
	name        string
	flags, size uint32 // of samples that carry none: trex
	duration    uint32
	next        uint64 // decode time of the sample after the newest, in ticks
	samples     bool   // moov itself has some, at places that count from the beginning of the file
}

// boxIn splits off the first box of b, which holds whole boxes. ok: there is one.
func boxIn(b []byte) (typ string, body, rest []byte, ok bool) {
	h, ok := parseBox(b)
	if !ok || h.toEnd && len(b) < h.head || !h.toEnd && h.size > uint64(len(b)) {
		return "", nil, nil, false
	}
	n := len(b)
	if !h.toEnd {
		n = int(h.size)
	}
	return h.typ, b[h.head:n], b[n:], true
}

// boxHead is the header of a box.
type boxHead struct {
	typ   string
	head  int
	size  uint64 // with the header
	toEnd bool   // of the file; size is 0
}

// parseBox reads the header of the box at the start of b: ISO/IEC 14496-12, 4.2. It fails on what is none, and if it is
// not whole.
func parseBox(b []byte) (h boxHead, ok bool) {
	if len(b) < 8 {
		return h, false
	}
	h.head, h.size = 8, uint64(binary.BigEndian.Uint32(b))
	for _, c := range b[4:8] {
		if (c < ' ' || c > '~') && c != 0xa9 {
			return h, false
		}
	}
	h.typ = fourCC(b[4:8])
	switch h.size {
	case 0:
		h.toEnd = true
		return h, true
	case 1:
		if len(b) < 16 {
			return h, false
		}
		h.head, h.size = 16, binary.BigEndian.Uint64(b[8:])
	}
	return h, h.size >= uint64(h.head) && h.size < 1<<62
}

// fourCC returns the name of a box without allocating for those that are looked at.
func fourCC(b []byte) string {
	switch string(b) {
	case "ftyp":
		return "ftyp"
	case "moov":
		return "moov"
	case "moof":
		return "moof"
	case "mdat":
		return "mdat"
	case "traf":
		return "traf"
	case "tfhd":
		return "tfhd"
	case "tfdt":
		return "tfdt"
	case "trun":
		return "trun"
	case "mfhd":
		return "mfhd"
	case "styp":
		return "styp"
	case "sidx":
		return "sidx"
	}
	return string(b)
}

// readMoov takes the tracks of a moov box, given without its header. fragmented: it says that fragments follow.
func readMoov(moov []byte) (tracks []mp4Track, fragmented bool) {
	for b := moov; ; {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			break
		}
		if typ == "trak" && len(tracks) < maxTracks {
			tracks = append(tracks, readTrak(body))
		}
		b = rest
	}
	for b := moov; ; { // which may stand before the tracks
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return tracks, fragmented
		}
		if typ == "mvex" {
			fragmented = true
			readMvex(tracks, body)
		}
		b = rest
	}
}

func readMvex(tracks []mp4Track, b []byte) {
	for {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return
		}
		if typ == "trex" && len(body) >= 24 {
			for i := range tracks {
				if t := &tracks[i]; t.id == binary.BigEndian.Uint32(body[4:]) {
					t.duration = binary.BigEndian.Uint32(body[12:])
					t.size = binary.BigEndian.Uint32(body[16:])
					t.flags = binary.BigEndian.Uint32(body[20:])
				}
			}
		}
		b = rest
	}
}

func readTrak(b []byte) (t mp4Track) {
	for {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			break
		}
		switch typ {
		case "tkhd": // version and flags, then two times of 4 or 8 bytes
			at := 12
			if len(body) > 0 && body[0] == 1 {
				at = 20
			}
			if len(body) >= at+4 {
				t.id = binary.BigEndian.Uint32(body[at:])
			}
		case "mdia":
			t.readMdia(body)
		}
		b = rest
	}
	return t
}

func (t *mp4Track) readMdia(b []byte) {
	for {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return
		}
		switch typ {
		case "mdhd":
			at := 12
			if len(body) > 0 && body[0] == 1 {
				at = 20
			}
			if len(body) >= at+4 {
				t.timescale = binary.BigEndian.Uint32(body[at:])
			}
		case "hdlr":
			if len(body) >= 12 {
				switch string(body[8:12]) {
				case "vide":
					t.class = videoTrack
				case "soun":
					t.class = audioTrack
				}
			}
		case "minf", "stbl":
			t.readMdia(body)
		case "stts": // entries of a count and a duration
			for e := body[min(8, len(body)):]; len(e) >= 8; e = e[8:] {
				t.next += uint64(binary.BigEndian.Uint32(e)) * uint64(binary.BigEndian.Uint32(e[4:]))
				t.samples = t.samples || binary.BigEndian.Uint32(e) > 0
			}
		case "stsd":
			if len(body) >= 8 {
				if typ, entry, _, ok := boxIn(body[8:]); ok {
					t.readEntry(typ, entry)
				}
			}
		}
		b = rest
	}
}

// mp4Codecs are the sample entries that say what the samples are.
var mp4Codecs = map[string]codec{
	"avc1": codecH264, "avc2": codecH264, "avc3": codecH264, "avc4": codecH264, "dva1": codecH264, "dvav": codecH264,
	"hvc1": codecH265, "hev1": codecH265, "hvc2": codecH265, "hev2": codecH265, "dvh1": codecH265, "dvhe": codecH265,
	"vvc1": codecH266, "vvi1": codecH266, "vp08": codecVP8, "vp09": codecVP9, "av01": codecAV1, "mp4v": codecMPEG4,
	"vc-1": codecVC1,
	"m1v ": codecMPEG2, "m2v1": codecMPEG2, "mjpa": codecIntra, "mjpb": codecIntra, "jpeg": codecIntra,
	"mjpg": codecIntra, "png ": codecIntra,
	"apch": codecIntra, "apcn": codecIntra, "apcs": codecIntra, "apco": codecIntra, "ap4h": codecIntra,
	"ap4x": codecIntra, "mjp2": codecIntra,
}

var mp4Audio = map[string]string{
	"mp4a": "AAC", "Opus": "Opus", "ac-3": "AC-3", "ec-3": "E-AC-3", "fLaC": "FLAC", "alac": "ALAC", ".mp3": "MP3",
	"mp3 ": "MP3",
}

// readEntry reads a sample entry: for video, its configuration lies behind 78 bytes.
func (t *mp4Track) readEntry(typ string, b []byte) {
	const fixed = 78
	t.name = printable(typ)
	if name := mp4Audio[typ]; name != "" {
		t.name = name
	}
	if t.class != videoTrack {
		return
	}
	if t.codec = mp4Codecs[typ]; t.codec != codecUnknown {
		t.name = t.codec.String()
	}
	t.lengthSize = startCodes
	if t.codec == codecH266 {
		t.lengthSize = 4
	}
	for b = b[min(fixed, len(b)):]; ; {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return
		}
		switch typ {
		case "avcC":
			_, t.lengthSize = avcC(body)
		case "hvcC":
			_, t.lengthSize = hvcC(body)
		case "vvcC":
			if len(body) > 4 {
				t.lengthSize = int(body[4]>>1&3) + 1
			}
		case "esds":
			if c, ok := esdsCodec(body); ok {
				t.codec, t.name = c, c.String()
			}
		}
		b = rest
	}
}

// esdsCodec reads objectTypeIndication: ISO/IEC 14496-1, 7.2.6.6.
func esdsCodec(b []byte) (codec, bool) {
	const decoderConfig = 4
	if len(b) < 4 {
		return 0, false
	}
	skipSize := func(b []byte) []byte {
		for len(b) > 0 && b[0]&0x80 != 0 {
			b = b[1:]
		}
		return b[min(1, len(b)):]
	}
	b = b[4:]
	if len(b) > 0 && b[0] == 3 {
		b = skipSize(b[1:])
		b = b[min(3, len(b)):] // ES_ID and flags, which here have nothing behind them
	}
	if len(b) < 1 || b[0] != decoderConfig {
		return 0, false
	}
	if b = skipSize(b[1:]); len(b) < 1 {
		return 0, false
	}
	switch v := b[0]; {
	case v == 0x20:
		return codecMPEG4, true
	case v >= 0x60 && v <= 0x65, v == 0x6a:
		return codecMPEG2, true
	case v == 0x6c, v == 0x6d, v == 0x6e:
		return codecIntra, true
	}
	return codecUnknown, true
}

// Bits of the boxes in a fragment: ISO/IEC 14496-12, 8.8.3.1, 8.8.7.1 and 8.8.8.1.
const (
	sampleIsNonSync = 0x010000

	tfhdBaseOffset = 0x000001
	tfhdEntry      = 0x000002
	tfhdDuration   = 0x000008
	tfhdSize       = 0x000010
	tfhdFlags      = 0x000020

	trunDataOffset = 0x000001
	trunFirstFlags = 0x000004
	trunDuration   = 0x000100
	trunSize       = 0x000200
	trunFlags      = 0x000400
	trunOffset     = 0x000800
)

// mp4Fragment is what a moof box says.
type mp4Fragment struct {
	fixed    bool // it counts from the beginning of the file
	timed    bool
	track    uint32        // that gives the time
	time     time.Duration // of its first sample
	duration time.Duration // of that track's samples

	// Of the first sample of the clock: whether it is marked as one to start from, where it lies, counted from moof, and
	// its size.
	sample     bool
	sync       bool
	placed     bool // at is told; otherwise it lies at the start of mdat
	at         int64
	size       uint32
	laterSyncs int // samples behind it that are marked so
}

// readMoof reads a moof box, given without its header. tracks are those of moov; their times go on. clock is the track
// that gives the time.
func readMoof(b []byte, tracks []mp4Track, clock int) (f mp4Fragment) {
	for {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return f
		}
		if typ == "traf" {
			f.readTraf(body, tracks, clock)
		}
		b = rest
	}
}

func (f *mp4Fragment) readTraf(b []byte, tracks []mp4Track, clock int) {
	var t *mp4Track
	var defaults mp4Track
	isClock := false
	for {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return
		}
		switch typ {
		case "tfhd":
			if len(body) < 8 {
				return
			}
			f.fixed = f.fixed || binary.BigEndian.Uint32(body)&tfhdBaseOffset != 0
			id := binary.BigEndian.Uint32(body[4:])
			i := slices.IndexFunc(tracks, func(t mp4Track) bool { return t.id == id })
			if i < 0 {
				return
			}
			t, isClock = &tracks[i], i == clock
			defaults = *t
			f.readTfhd(body, &defaults)
		case "tfdt":
			if t != nil && len(body) >= 8 {
				t.next = uint64(binary.BigEndian.Uint32(body[4:]))
				if body[0] == 1 && len(body) >= 12 {
					t.next = binary.BigEndian.Uint64(body[4:])
				}
			}
		case "trun":
			if t != nil && t.timescale > 0 {
				f.readTrun(body, t, &defaults, isClock)
			}
		}
		b = rest
	}
}

func (f *mp4Fragment) readTfhd(b []byte, defaults *mp4Track) {
	flags := binary.BigEndian.Uint32(b) & 0xffffff
	at := 8
	if flags&tfhdBaseOffset != 0 {
		at += 8
	}
	if flags&tfhdEntry != 0 {
		at += 4
	}
	for _, field := range [...]struct {
		flag uint32
		to   *uint32
	}{{tfhdDuration, &defaults.duration}, {tfhdSize, &defaults.size}, {tfhdFlags, &defaults.flags}} {
		if flags&field.flag != 0 && len(b) >= at+4 {
			*field.to = binary.BigEndian.Uint32(b[at:])
			at += 4
		}
	}
}

// readTrun reads the samples that are there, whatever their number is said to be.
func (f *mp4Fragment) readTrun(b []byte, t, defaults *mp4Track, clock bool) {
	if len(b) < 8 {
		return
	}
	has, count := binary.BigEndian.Uint32(b)&0xffffff, binary.BigEndian.Uint32(b[4:])
	b = b[8:]
	word := func() (v uint32) {
		if len(b) >= 4 {
			v, b = binary.BigEndian.Uint32(b), b[4:]
		}
		return v
	}
	at, first := int64(0), defaults.flags
	if has&trunDataOffset != 0 {
		at = int64(int32(word()))
	}
	if has&trunFirstFlags != 0 {
		first = word()
	}
	width := 0
	for _, field := range [...]uint32{trunDuration, trunSize, trunFlags, trunOffset} {
		if has&field != 0 {
			width += 4
		}
	}
	if width > 0 {
		count = min(count, uint32(len(b)/width))
	}
	begin := t.next
	for i := range count {
		duration, size, flags := defaults.duration, defaults.size, defaults.flags
		if width == 0 && i > 0 { // all alike
			t.next += uint64(duration) * uint64(count-1)
			if clock && flags&sampleIsNonSync == 0 {
				f.laterSyncs += int(min(count-1, 1<<20))
			}
			break
		}
		if has&trunDuration != 0 {
			duration = word()
		}
		if has&trunSize != 0 {
			size = word()
		}
		if has&trunFlags != 0 {
			flags = word()
		}
		if has&trunOffset != 0 {
			word()
		}
		if i == 0 && has&trunFirstFlags != 0 {
			flags = first
		}
		t.next += uint64(duration)
		if !clock {
			continue
		}
		sync := flags&sampleIsNonSync == 0
		switch {
		case !f.sample:
			f.sample, f.sync, f.at, f.size = true, sync, at, size
			f.placed = has&trunDataOffset != 0
		case sync:
			f.laterSyncs++
		}
	}
	if !clock && f.timed && f.track != t.id {
		return
	}
	start, end := ticks(begin, t.timescale), ticks(t.next, t.timescale)
	if start == NoTime || end < start {
		return
	}
	if !f.timed || f.track != t.id {
		f.timed, f.track, f.time = true, t.id, start
	}
	f.duration = end - f.time
}

// ticks turns a count of ticks, scale to the second, into a duration; beyond 290 years it is unknown.
func ticks(n uint64, scale uint32) time.Duration {
	s := n / uint64(scale)
	if s >= 1<<33 {
		return NoTime
	}
	return time.Duration(s)*time.Second + time.Duration(n%uint64(scale))*time.Second/time.Duration(scale)
}
