package media

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"
)

// oggCutter cuts an Ogg file (RFC 3533) into its pages. Those with the streams' headers are init units in a row.
type oggCutter struct {
	streams []oggStream
	within  bool // data have come
	line    timeline
	keyed   time.Duration
	sounded bool // keyed is set
	starts  starts
	seen    keyCount
}

// oggStream is a logical stream.
type oggStream struct {
	serial  uint32
	name    string
	video   bool
	headers int    // packets of headers still to come; unknown: pages whose position is 0
	num     uint64 // positions in the second: num/den
	den     uint64
	shift   uint   // Theora: bits of the position that count from the key frame
	at      uint64 // the newest position
}

const (
	oggHeader  = 27
	oggMaxPage = oggHeader + 255 + 255*255
	oggUnknown = -1
	oggBegun   = 10 * time.Second // a first page that ends later does not begin at 0
)

func newOggCutter() *oggCutter {
	return &oggCutter{line: timeline{back: tsBack, ahead: otherAhead}}
}

func isOgg(b []byte) bool { return len(b) >= 5 && string(b[:5]) == "OggS\x00" }

// oggPage is a page: RFC 3533, 6.
type oggPage struct {
	continued, first bool
	position         uint64
	ends             bool // a packet ends on it, so that it has a position
	serial           uint32
	size             int
	packets          int // that end on it
	lacing, body     []byte
}

// page reads the page at the front. It fails on what is none, and on one that is cut off.
func (c *oggCutter) page(in *input) (p oggPage, ok bool) {
	b := in.peek(oggHeader)
	if len(b) < oggHeader || !isOgg(b) {
		return p, false
	}
	head := oggHeader + int(b[26])
	if b = in.peek(head); len(b) < head {
		return p, false
	}
	p.size = head
	for _, n := range b[oggHeader:head] {
		p.size += int(n)
		if n < 255 {
			p.packets++
		}
	}
	if b = in.peek(p.size); len(b) < p.size {
		return p, false
	}
	p.continued, p.first = b[5]&1 != 0, b[5]&2 != 0
	p.position = binary.LittleEndian.Uint64(b[6:])
	p.ends = p.position != ^uint64(0)
	p.serial = binary.LittleEndian.Uint32(b[14:])
	p.lacing, p.body = b[oggHeader:head], b[head:p.size]
	return p, true
}

// starting returns the first packet that begins on the page, as far as it is there.
func (p *oggPage) starting() []byte {
	at, i := 0, 0
	if p.continued {
		for i < len(p.lacing) {
			n := p.lacing[i]
			at, i = at+int(n), i+1
			if n < 255 {
				break
			}
		}
	}
	end := at
	for ; i < len(p.lacing); i++ {
		end += int(p.lacing[i])
		if p.lacing[i] < 255 {
			break
		}
	}
	return p.body[at:end]
}

func (c *oggCutter) next(in *input) (cut, error) {
	p, ok := c.page(in)
	if !ok {
		if len(c.streams) == 0 {
			return cut{}, errBroken
		}
		return cut{c.skip(in), Delta, NoTime}, nil
	}
	if p.first {
		if c.within { // another file follows
			c.streams, c.within, c.sounded = c.streams[:0], false, false
			c.line.restart()
		}
		if len(c.streams) < maxTracks {
			c.streams = append(c.streams, newOggStream(&p))
		}
	}
	s := c.stream(p.serial)
	if s == nil {
		return cut{p.size, Delta, NoTime}, nil
	}
	if s.headers > 0 || s.headers == oggUnknown && p.position == 0 {
		if s.headers > 0 {
			s.headers = max(0, s.headers-p.packets)
		}
		return cut{p.size, Init, NoTime}, nil
	}
	c.within = true
	unit := cut{p.size, Delta, NoTime}
	if s.num > 0 {
		if s.at == 0 && p.ends && s.time(p.position) > oggBegun {
			s.at = p.position // recorded from the midst: where the first page begins is not told
		}
		unit.time = c.line.at(uint64(s.serial), s.time(s.at))
	}
	if p.ends {
		s.at = p.position
	}
	if c.key(s, &p, max(unit.time, 0)) {
		unit.kind = Key
	}
	c.starts.add(unit.kind, p.size)
	return unit, nil
}

// key decides whether a decoder can start with a page.
func (c *oggCutter) key(s *oggStream, p *oggPage, now time.Duration) bool {
	if c.video() {
		if !s.video || p.packets == 0 && p.continued {
			return false
		}
		b := p.starting()
		if !codecTheora.look(b, 0, true).key {
			return false
		}
		c.seen.key()
		if p.continued && !c.starts.overdue() {
			c.starts.missed++
			return false
		}
		return true
	}
	if p.continued || c.sounded && now < c.keyed+soundEvery {
		return false
	}
	c.seen.key()
	c.keyed, c.sounded = now, true
	return true
}

func (c *oggCutter) video() bool {
	for i := range c.streams {
		if c.streams[i].video {
			return true
		}
	}
	return false
}

func (c *oggCutter) stream(serial uint32) *oggStream {
	for i := range c.streams {
		if c.streams[i].serial == serial {
			return &c.streams[i]
		}
	}
	return nil
}

// newOggStream reads the first packet of a stream: RFC 7845, 5.1; Vorbis I, 4.2.2; Theora, 6.2; the mapping of FLAC and
// that of Speex.
func newOggStream(p *oggPage) oggStream {
	s := oggStream{serial: p.serial, name: "unknown stream", headers: oggUnknown}
	little := func(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }
	switch b := p.body; {
	case bytes.HasPrefix(b, []byte("OpusHead")):
		s.name, s.headers, s.num, s.den = "Opus", 2, 48000, 1
	case bytes.HasPrefix(b, []byte("\x01vorbis")) && len(b) >= 30:
		s.name, s.headers, s.num, s.den = "Vorbis", 3, little(b[12:]), 1
	case bytes.HasPrefix(b, []byte("\x80theora")) && len(b) >= 42:
		s.name, s.headers, s.num, s.den = "Theora", 3, bigEndian(b[22:26]), bigEndian(b[26:30])
		s.shift, s.video = uint(b[40]&3)<<3|uint(b[41]>>5), true
	case bytes.HasPrefix(b, []byte("\x7fFLAC")) && len(b) >= 30:
		s.name, s.num, s.den = "FLAC", bigEndian(b[27:30])>>4, 1
		if n := int(bigEndian(b[7:9])); n > 0 {
			s.headers = 1 + n
		}
	case bytes.HasPrefix(b, []byte("Speex   ")) && len(b) >= 72:
		s.name, s.num, s.den = "Speex", little(b[36:]), 1
		s.headers = 2 + int(min(little(b[68:]), 16))
	case bytes.HasPrefix(b, []byte("fishead\x00")):
		s.name = "" // of no use to anybody else
	}
	if s.den == 0 {
		s.num = 0
	}
	return s
}

// time returns the time of a position.
func (s *oggStream) time(at uint64) time.Duration {
	if s.shift > 0 {
		at = at>>s.shift + at&(1<<s.shift-1)
	}
	if at > 1<<50 {
		return 0
	}
	return time.Duration(float64(at) * float64(s.den) / float64(s.num) * float64(time.Second))
}

// skip returns how many bytes there are until the next page.
func (c *oggCutter) skip(in *input) int {
	b := in.peek(oggMaxPage)
	b = b[:min(len(b), oggMaxPage)]
	if len(b) > 1 {
		if at := bytes.Index(b[1:], []byte("OggS\x00")); at >= 0 {
			return at + 1
		}
	}
	if in.err != nil {
		return min(len(b), MaxUnit)
	}
	return len(b) - 4
}

func (c *oggCutter) info(d *Info) {
	d.Keys, d.Timed = c.seen.n, c.line.begun
	var names []string
	for i := range c.streams {
		if n := c.streams[i].name; n != "" {
			names = append(names, n)
		}
	}
	d.Tracks = strings.Join(names, ", ")
}
