package media

import (
	"bytes"
	"strings"
	"time"
)

// flvCutter cuts an FLV file (Adobe Flash Video File Format Specification 10.1, annex E; Enhanced RTMP) into its head,
// up to the configurations of its tracks, and its tags.
type flvCutter struct {
	within bool   // the head is out
	flags  byte   // of the file's header: what tracks there are
	avc    []byte // the newest configuration of video: the tag's data
	kept   []byte // the one in the init unit
	video  flvTrack
	audio  flvTrack

	line  timeline
	keyed time.Duration
	left  uint64
	rest  Kind
	seen  keyCount
}

// flvTrack is what tags have shown of a track.
type flvTrack struct {
	there      bool
	codec      codec
	lengthSize int
	name       string
}

const (
	flvHeader  = 9
	flvTag     = 11 // bytes before the data
	flvSize    = 4  // bytes of the size behind them
	flvAudio   = 8
	flvVideo   = 9
	flvScript  = 18
	flvMaxHead = 1 << 20 // bytes of a head that waits for configurations
)

func newFLVCutter() *flvCutter {
	return &flvCutter{line: timeline{back: tsBack, ahead: otherAhead}}
}

func isFLV(b []byte) bool {
	return len(b) >= flvHeader && string(b[:4]) == "FLV\x01" && bigEndian(b[5:9]) == flvHeader
}

// flvHead is the header of a tag.
type flvHead struct {
	kind byte
	size int // of its data
	time time.Duration
}

// tag reads the header of the tag at off. It fails on what is none.
func (c *flvCutter) tag(in *input, off int) (h flvHead, ok bool) {
	b := in.peek(off + flvTag)
	if len(b) < off+flvTag {
		return h, false
	}
	return parseFLVTag(b[off:])
}

func parseFLVTag(b []byte) (h flvHead, ok bool) {
	h.kind, h.size = b[0]&0x1f, int(bigEndian(b[1:4]))
	h.time = time.Duration(int32(uint32(b[7])<<24|uint32(bigEndian(b[4:7])))) * time.Millisecond
	return h, (h.kind == flvAudio || h.kind == flvVideo || h.kind == flvScript) && b[0]&0xc0 == 0 &&
		bigEndian(b[8:11]) == 0
}

func (c *flvCutter) next(in *input) (cut, error) {
	if c.left > 0 {
		n := int(min(uint64(len(in.peek(1))), c.left, MaxUnit))
		c.left -= uint64(n)
		return cut{n, c.rest, NoTime}, nil
	}
	off := 0
	if b := in.peek(flvTag); isFLV(b) && b[0] == 'F' {
		c.within, c.flags = false, b[4]
		c.video, c.audio, c.avc = flvTrack{}, flvTrack{}, nil
		c.line.restart()
		off = flvHeader + flvSize
	}
	unit := cut{kind: Delta, time: NoTime}
	for {
		if b := in.peek(off + flvTag); off > 0 && len(b) > off && isFLV(b[off:]) {
			unit.n = off
			return unit, nil
		}
		h, ok := c.tag(in, off)
		if !ok {
			if off > 0 {
				unit.n = min(off, len(in.peek(off)))
				return unit, nil
			}
			if c.video.there || c.audio.there {
				return cut{c.skip(in), Delta, NoTime}, nil
			}
			return cut{}, errBroken
		}
		size := flvTag + h.size + flvSize
		look := min(h.size, firstLook)
		b := in.peek(off + flvTag + look)
		data := b[min(len(b), off+flvTag):]
		data = data[:min(len(data), h.size)]
		config, key := c.read(&h, data)
		if !c.within && h.kind != flvScript && !config || !c.within && off > flvMaxHead {
			// The first coded frame: what was before it is the head.
			c.within = true
			c.kept = append(c.kept[:0], c.avc...)
			if off > 0 {
				return cut{off, Init, NoTime}, nil
			}
		}
		if !c.within {
			unit.kind = Init
		}
		waits := c.within && config && h.kind == flvVideo // a configuration goes with the picture that follows
		if waits || !c.within {
			if n := off + size; n <= MaxUnit {
				if len(in.peek(n)) < n {
					unit.n = len(in.peek(n))
					return unit, nil
				}
				off = n
				continue
			}
		}
		if h.kind != flvScript {
			unit.time = c.line.at(uint64(h.kind), h.time)
		}
		switch {
		case !c.within:
		case h.kind == flvVideo && key:
			c.seen.key()
			// With another configuration than that of the init unit, a picture is one to start from only right behind it.
			if off > 0 || bytes.Equal(c.kept, c.avc) {
				unit.kind = Key
			}
		case h.kind == flvAudio && !c.video.there && c.flags&1 == 0, h.kind == flvAudio && !c.video.there &&
			unit.time > 5*time.Second:
			if c.keyed == 0 || unit.time >= c.keyed+soundEvery {
				unit.kind, c.keyed = Key, max(unit.time, 1)
				c.seen.key()
			}
		}
		if n := off + size; n > MaxUnit {
			unit.n = min(MaxUnit, len(in.peek(MaxUnit)))
			c.left, c.rest = uint64(n-unit.n), Delta
			if unit.kind == Init {
				c.rest = Init
			}
			return unit, nil
		}
		unit.n = min(off+size, len(in.peek(off+size)))
		return unit, nil
	}
}

// read reads the data of a tag: whether it is a configuration, and whether a decoder can start with it.
func (c *flvCutter) read(h *flvHead, b []byte) (config, key bool) {
	if len(b) == 0 {
		return false, false
	}
	switch h.kind {
	case flvAudio:
		return c.readAudio(b), false
	case flvVideo:
		return c.readVideo(h, b)
	}
	return false, false
}

var flvSounds = [...]string{"PCM", "ADPCM", "MP3", "PCM", "Nellymoser", "Nellymoser", "Nellymoser", "G.711", "G.711",
	"audio", "AAC", "Speex", "", "", "MP3", "audio"}

func (c *flvCutter) readAudio(b []byte) (config bool) {
	const aac, extended = 10, 9
	c.audio.there = true
	format := b[0] >> 4
	c.audio.name = flvSounds[format]
	switch format {
	case aac:
		return len(b) > 1 && b[1] == 0
	case extended: // sequence start, multichannel configuration
		kind := b[0] & 0x0f
		if len(b) >= 5 {
			c.audio.name = printable(string(b[1:5]))
		}
		return kind == 0 || kind == 4
	}
	return false
}

func (c *flvCutter) readVideo(h *flvHead, b []byte) (config, key bool) {
	const (
		keyFrame, command   = 1, 5
		sequenceStart       = 0
		sequenceEnd         = 2
		codedFrames         = 1
		codedFramesX        = 3
		metadata            = 4
		sorenson, avc, hevc = 2, 7, 12
	)
	t := &c.video
	frame, kind := b[0]>>4&7, b[0]&0x0f
	t.there = true
	var body []byte
	if b[0]&0x80 != 0 { // Enhanced RTMP
		if len(b) < 5 {
			return false, false
		}
		t.codec = mp4Codecs[string(b[1:5])]
		t.name = t.codec.String()
		body = b[5:]
		switch kind {
		case sequenceStart:
			return c.configure(h, b, body), false
		case metadata:
			return true, false
		case codedFrames:
			if t.codec == codecH264 || t.codec == codecH265 || t.codec == codecH266 {
				body = body[min(3, len(body)):] // composition time
			}
		case codedFramesX:
		default:
			return false, false
		}
	} else {
		switch kind {
		case avc:
			t.codec = codecH264
		case hevc:
			t.codec = codecH265
		default:
			t.codec, t.name = codecUnknown, "video"
			if kind == sorenson {
				t.name = "Sorenson H.263"
			}
			return false, frame == keyFrame
		}
		t.name = t.codec.String()
		if len(b) < 5 {
			return false, false
		}
		body = b[5:]
		switch b[1] {
		case sequenceStart:
			return c.configure(h, b, body), false
		case sequenceEnd:
			return false, false
		}
	}
	if frame == command {
		return false, false
	}
	key = frame == keyFrame
	if p := t.codec.look(body, t.lengthSize, len(b) == h.size); p.known {
		key = p.key || key && p.intra
	}
	return false, key
}

// configure takes a configuration of video.
func (c *flvCutter) configure(h *flvHead, b, record []byte) bool {
	t := &c.video
	switch t.codec {
	case codecH264:
		_, t.lengthSize = avcC(record)
	case codecH265:
		_, t.lengthSize = hvcC(record)
	case codecH266:
		t.lengthSize = 4
	}
	if len(b) == h.size {
		c.avc = append(c.avc[:0], b...)
	}
	return true
}

// skip returns how many bytes there are until the next tag.
func (c *flvCutter) skip(in *input) int {
	const window = rawChunk
	b := in.peek(window)
	b = b[:min(len(b), window)]
	for at := 1; at+flvTag <= len(b); at++ {
		if isFLV(b[at:]) {
			return at
		}
		h, ok := parseFLVTag(b[at:])
		if !ok || h.size > MaxUnit {
			continue
		}
		// The size behind it tells, where the input reaches so far.
		end := at + flvTag + h.size
		all := in.peek(min(end+flvSize, MaxUnit))
		b = all[:min(len(all), len(b))]
		if len(all) >= end+flvSize && bigEndian(all[end:end+flvSize]) == uint64(flvTag+h.size) {
			return at
		}
	}
	if in.err != nil {
		return min(len(b), window)
	}
	return max(1, min(len(b), window)-flvTag)
}

func (c *flvCutter) info(d *Info) {
	d.Keys, d.Timed = c.seen.n, c.line.begun
	var names []string
	for _, t := range []*flvTrack{&c.video, &c.audio} {
		if t.there {
			names = append(names, t.name)
		}
	}
	d.Tracks = strings.Join(names, ", ")
}
