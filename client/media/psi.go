package media

import "encoding/binary"

// Program specific information: ISO/IEC 13818-1, 2.4.4.

// tsTables is what a PAT and the maps behind it say.
type tsTables struct {
	programs []tsProgram
	streams  []tsStream // of all programs
	pat      bool
}

type tsProgram struct {
	number, pid uint16
	seen        bool   // its map has come
	crc         uint32 // of the map
}

// tsStream is an elementary stream.
type tsStream struct {
	pid     uint16
	program uint16 // the PID of the map that names it
	kind    byte   // stream_type
	codec   codec  // of video
	class   trackClass
	name    string
	left    int // bytes still to come of the packet that has begun; 0 if that is not known
}

// trackClass is what a track is for.
type trackClass uint8

const (
	otherTrack   trackClass = iota
	privateTrack            // may be anything
	audioTrack
	videoTrack
)

func (t *tsTables) reset() { t.programs, t.streams, t.pat = t.programs[:0], t.streams[:0], false }

func (t *tsTables) copyFrom(o *tsTables) {
	t.programs = append(t.programs[:0], o.programs...)
	t.streams = append(t.streams[:0], o.streams...)
	t.pat = o.pat
}

// program returns the program whose map has a PID.
func (t *tsTables) program(pid uint16) *tsProgram {
	for i := range t.programs {
		if t.programs[i].pid == pid {
			return &t.programs[i]
		}
	}
	return nil
}

// stream returns the elementary stream with a PID.
func (t *tsTables) stream(pid uint16) *tsStream {
	for i := range t.streams {
		if t.streams[i].pid == pid {
			return &t.streams[i]
		}
	}
	return nil
}

// complete reports whether all maps have come.
func (t *tsTables) complete() bool {
	for i := range t.programs {
		if !t.programs[i].seen {
			return false
		}
	}
	return t.pat
}

// same reports whether a decoder that has the one needs nothing of the other: the same streams under the same PIDs.
func (t *tsTables) same(o *tsTables) bool {
	if len(t.streams) != len(o.streams) {
		return false
	}
	for i := range t.streams {
		a, b := &t.streams[i], &o.streams[i]
		if a.pid != b.pid { // in another order, as a map came late
			if b = o.stream(a.pid); b == nil {
				return false
			}
		}
		if a.kind != b.kind || a.program != b.program {
			return false
		}
	}
	return true
}

// fill takes over what an older table knows of programs whose maps have not come.
func (t *tsTables) fill(o *tsTables) {
	for i := range t.programs {
		p := &t.programs[i]
		old := o.program(p.pid)
		if p.seen || old == nil || !old.seen || old.number != p.number {
			continue
		}
		*p = *old
		for _, s := range o.streams {
			if s.program == p.pid {
				t.streams = append(t.streams, s)
			}
		}
	}
}

// clock returns the stream whose pictures are the cuts: the first video, else the first audio stream; nil if there is
// neither.
func (t *tsTables) clock() (clock *tsStream) {
	for i := range t.streams {
		if s := &t.streams[i]; s.class >= audioTrack && (clock == nil || s.class > clock.class) {
			clock = s
		}
	}
	return clock
}

// section takes a whole section with its CRC and reports whether it is one that says something of the programs.
func (t *tsTables) section(pid uint16, b []byte) bool {
	const tablePAT, tablePMT = 0, 2
	if len(b) < 12 || b[1]&0x80 == 0 || b[5]&1 == 0 || crc32MPEG(b) != 0 { // long form; current_next_indicator
		return false
	}
	body := b[8 : len(b)-4]
	switch {
	case pid == 0 && b[0] == tablePAT:
		if b[6] == 0 { // section_number
			t.reset()
		}
		t.pat = true
		for ; len(body) >= 4; body = body[4:] {
			number, at := binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])&0x1fff
			if number != 0 && len(t.programs) < maxPrograms && t.program(at) == nil { // 0 is the network's table
				t.programs = append(t.programs, tsProgram{number: number, pid: at})
			}
		}
		return true
	case pid != 0 && b[0] == tablePMT && len(body) >= 4:
		p := t.program(pid)
		if p == nil || p.number != binary.BigEndian.Uint16(b[3:]) {
			return false
		}
		t.streamsOf(p, body)
		p.seen, p.crc = true, binary.BigEndian.Uint32(b[len(b)-4:])
		return true
	}
	return false
}

// maxPrograms and maxStreams bound what is remembered of a stream's tables.
const (
	maxPrograms = 256
	maxStreams  = 1024
)

func (t *tsTables) streamsOf(p *tsProgram, body []byte) {
	kept := t.streams[:0]
	for _, s := range t.streams {
		if s.program != p.pid {
			kept = append(kept, s)
		}
	}
	t.streams = kept
	skip := 4 + int(binary.BigEndian.Uint16(body[2:])&0x0fff)
	for body = body[min(skip, len(body)):]; len(body) >= 5; {
		n := 5 + int(binary.BigEndian.Uint16(body[3:])&0x0fff)
		if n > len(body) {
			return
		}
		if len(t.streams) < maxStreams {
			s := tsStream{pid: binary.BigEndian.Uint16(body[1:]) & 0x1fff, program: p.pid, kind: body[0]}
			s.classify(body[5:n])
			t.streams = append(t.streams, s)
		}
		body = body[n:]
	}
}

// classify says what a stream is, by its type and descriptors: ISO/IEC 13818-1, table 2-34; ETSI TS 101 154 and EN 300
// 468, 6.1.
func (s *tsStream) classify(descriptors []byte) {
	video := func(c codec) { s.class, s.codec, s.name = videoTrack, c, c.String() }
	audio := func(name string) { s.class, s.name = audioTrack, name }
	switch s.kind {
	case 0x01, 0x02:
		video(codecMPEG2)
	case 0x10:
		video(codecMPEG4)
	case 0x1b, 0x1f, 0x20, 0xdb:
		video(codecH264)
	case 0x24, 0x25, 0x28, 0x29:
		video(codecH265)
	case 0x33:
		video(codecH266)
	case 0x42:
		video(codecAVS)
	case 0xea:
		video(codecVC1)
	case 0xd1:
		video(codecDirac)
	case 0x21: // JPEG 2000
		video(codecIntra)
	case 0xd2, 0xd4: // AVS2, AVS3
		video(codecUnknown)
	case 0x03, 0x04:
		audio("MPEG audio")
	case 0x0f, 0x11, 0x1c, 0xcf:
		audio("AAC")
	case 0x81, 0x87, 0xc1, 0xc2:
		audio("AC-3")
	case 0x80, 0x82, 0x83, 0x84, 0x85, 0x88, 0x8a:
		audio("audio")
	case 0x05, 0x08, 0x0a, 0x0b, 0x0c, 0x0d, 0x13, 0x14, 0x15, 0x16, 0x86: // sections, and data with times
		s.name = "data"
	default:
		s.class, s.name = privateTrack, "private data"
		s.private(descriptors)
	}
}

// private looks for descriptors that say what private data is.
func (s *tsStream) private(b []byte) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		tag, body := b[0], b[2:2+int(b[1])]
		b = b[2+len(body):]
		switch tag {
		case 0x6a, 0x7a, 0x7b, 0x7c, 0x15: // AC-3, E-AC-3, DTS, AAC
			s.class, s.name = audioTrack, "audio"
		case 0x56, 0x59, 0x45, 0x46: // teletext, subtitles, VBI
			s.class, s.name = otherTrack, "subtitles"
		case 0x05: // registration
			switch string(body[:min(4, len(body))]) {
			case "HEVC":
				s.class, s.codec, s.name = videoTrack, codecH265, codecH265.String()
			case "VVC ":
				s.class, s.codec, s.name = videoTrack, codecH266, codecH266.String()
			case "VC-1":
				s.class, s.codec, s.name = videoTrack, codecVC1, codecVC1.String()
			case "drac":
				s.class, s.codec, s.name = videoTrack, codecDirac, codecDirac.String()
			case "AV01":
				s.class, s.codec, s.name = videoTrack, codecUnknown, "video"
			case "Opus":
				s.class, s.name = audioTrack, "Opus"
			case "AC-3", "EAC3", "DTS1", "DTS2", "DTS3", "BSSD":
				s.class, s.name = audioTrack, "audio"
			case "KLVA", "ID3 ", "CUEI":
				s.class, s.name = otherTrack, "data"
			}
		}
	}
}

// sections puts the sections of a PID together.
type sections struct {
	buf  []byte
	open bool // a section has begun
}

// maxSection is the longest section there is, in bytes.
const maxSection = 4096

// add takes the payload of a packet and hands whole sections to t. It reports whether one of them said something new of
// the programs.
func (s *sections) add(t *tsTables, pid uint16, payload []byte, start bool) (news bool) {
	if start {
		begin := 1 // of the section in the payload
		if len(payload) > 0 {
			begin += int(payload[0])
		}
		if len(payload) < begin {
			s.open = false
			return false
		}
		if s.open {
			s.buf = append(s.buf, payload[1:begin]...)
			news = s.drain(t, pid)
		}
		s.buf, s.open = append(s.buf[:0], payload[begin:]...), true
	} else if s.open {
		s.buf = append(s.buf, payload...)
	}
	return s.drain(t, pid) || news
}

func (s *sections) drain(t *tsTables, pid uint16) (news bool) {
	for s.open && len(s.buf) >= 3 {
		if s.buf[0] == 0xff { // stuffing
			s.open = false
			break
		}
		n := 3 + int(binary.BigEndian.Uint16(s.buf[1:])&0x0fff)
		if n > maxSection {
			s.open = false
			break
		}
		if len(s.buf) < n {
			break
		}
		news = t.section(pid, s.buf[:n]) || news
		s.buf = append(s.buf[:0], s.buf[n:]...)
	}
	return news
}

// crcTable is of the polynomial of ISO/IEC 13818-1, annex A, which hash/crc32 has only the other way round.
var crcTable = func() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

// crc32MPEG returns 0 for a section that ends with its CRC.
func crc32MPEG(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c = c<<8 ^ crcTable[byte(c>>24)^v]
	}
	return c
}
