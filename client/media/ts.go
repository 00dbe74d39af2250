package media

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// tsPacket is the size of a transport stream packet in bytes: ISO/IEC 13818-1, 2.4.3.
const tsPacket = 188

// firstPID is the first that is not kept for tables: ISO/IEC 13818-1, table 2-3; ETSI EN 300 468, 5.1.3.
const firstPID = 0x20

// tsFraming says how packets lie in a file: one every stride bytes, each behind lead bytes.
type tsFraming struct{ stride, lead int }

// tsFramings are bare packets, those of Blu-ray discs and cameras with a time stamp before each, and those with 16
// bytes of parity behind.
var tsFramings = [...]tsFraming{{188, 0}, {192, 4}, {204, 0}}

// How far the cutter looks ahead, in bytes.
const (
	tablesWindow  = 256 << 10 // from a PAT to the maps
	pictureWindow = 256 << 10 // to the next picture, and into it to its first slice
	maxOpening    = 8 << 20   // of the first picture that is kept with the tables
)

// tsCutter cuts a transport stream before each picture, or before each audio packet where there is no video.
//
// The init unit is a PAT and all up to the maps of its programs. Where the first picture behind it is a key picture
// with parameter sets, that picture belongs to it as well (further init units in a row): whether parameter sets come
// again nobody knows yet. As soon as another key picture has had its own, tables alone are the next init unit.
type tsCutter struct {
	tsFraming
	tables  tsTables // those of the newest init unit
	scanned tsTables // those just read
	parts   []pidSections
	stale   bool   // a map has changed since
	clock   uint16 // PID whose packets' starts are the cuts; 0: not known
	codec   codec  // of the clock, if that is video
	video   bool   // whether it is

	rich     bool // the init unit holds a picture
	opening  bool // and is not at its end yet
	opened   int  // bytes of it so far
	pictures int  // likewise
	halved   bool // the next packet goes on with the picture of the one before, which had parameter sets alone
	follows  bool // the next picture follows that one, so that a decoder can start there, too
	lacked   bool // a key picture had no parameter sets
	clean    bool // since the init unit one had

	line  timeline
	ref   int64 // the newest timestamp, 90 kHz, unwrapped
	timed bool  // ref is set

	head []byte // of the picture being looked at

	seen keyCount
}

// pidSections are the sections of a PID in a scan.
type pidSections struct {
	pid uint16
	sections
}

func newTSCutter(f tsFraming) *tsCutter {
	return &tsCutter{tsFraming: f, line: timeline{back: tsBack, ahead: tsAhead}}
}

// plausibleTSHead looks at a packet's header: not in error, not scrambled, not without content. Text that starts with a
// G fails here.
func plausibleTSHead(b []byte) bool {
	return len(b) >= 4 && b[0] == 0x47 && b[1]&0x80 == 0 && b[3]&0xc0 == 0 && b[3]&0x30 != 0
}

// synced counts the packets in a row from at on, up to most, as far as b reaches. at is where the first record begins.
func (f tsFraming) synced(b []byte, at, most int) (n int) {
	for i := at + f.lead; n < most && i < len(b) && b[i] == 0x47; i += f.stride {
		n++
	}
	return n
}

// findTS looks for a transport stream in b: enough packets in a row, the first of which has a plausible header.
func findTS(b []byte, enough int) (f tsFraming, at int, ok bool) {
	for at := range b {
		for _, f := range tsFramings {
			if at+f.lead < len(b) && plausibleTSHead(b[at+f.lead:]) && f.synced(b, at, enough) == enough {
				return f, at, true
			}
		}
	}
	return f, 0, false
}

// tsHead is the header of a packet.
type tsHead struct {
	pid     uint16
	start   bool // payload_unit_start_indicator
	random  bool // random_access_indicator
	payload []byte
}

// packet returns the packet at off: nil if there is none, or the input ends before its end.
func (c *tsCutter) packet(in *input, off int) []byte {
	b := in.peek(off + c.stride)
	if len(b) < off+c.lead+tsPacket || b[off+c.lead] != 0x47 {
		return nil
	}
	return b[off+c.lead : off+c.lead+tsPacket]
}

func parsePacket(b []byte) (h tsHead) {
	h.pid = binary.BigEndian.Uint16(b[1:]) & 0x1fff
	if b[1]&0x80 != 0 { // transport_error_indicator
		return h
	}
	h.start = b[1]&0x40 != 0
	at := 4
	if b[3]&0x20 != 0 {
		at += 1 + int(b[4])
		h.random = b[4] > 0 && b[5]&0x40 != 0
	}
	if b[3]&0x10 == 0 || at > len(b) {
		h.start = false
		return h
	}
	if b[3]&0xc0 == 0 { // scrambled content says nothing
		h.payload = b[at:]
	}
	return h
}

// next walks the packets.
func (c *tsCutter) next(in *input) (cut, error) {
	unit := cut{kind: Delta, time: NoTime}
	if c.opening {
		unit.kind = Init
	}
	end := func(n int) (cut, error) {
		if unit.n = n; c.opening {
			c.opened += n
			c.opening = c.opened < maxOpening
		}
		return unit, nil
	}
	for off := 0; ; off += c.stride {
		if off > 0 && (in.pausedBefore(off+c.stride) || off+c.stride > MaxUnit || c.clock == 0 && off >= rawChunk) {
			return end(off)
		}
		b := c.packet(in, off)
		if b == nil {
			if off > 0 {
				return end(off)
			}
			return end(c.skip(in))
		}
		h := parsePacket(b)
		switch {
		case h.pid < firstPID && h.start: // the PAT, or other tables before it
			if n, rich := c.wantInit(in, off); n > 0 {
				if off > 0 {
					return end(off)
				}
				c.open(rich)
				c.opened = n
				return cut{n, Init, NoTime}, nil
			}
		case h.start && h.pid == c.clock && c.clock != 0:
			if off > 0 {
				return end(off)
			}
			unit.kind = c.startPicture(in)
		}
		if t := c.take(&h); unit.time == NoTime {
			unit.time = t
		}
	}
}

// skip returns how many bytes there are until the next packet.
func (c *tsCutter) skip(in *input) int {
	const enough = 3
	b := in.peek((enough + 1) * c.stride)
	b = b[:min(len(b), rawChunk)]
	for at := 1; at+c.lead < len(b); at++ {
		if n := c.synced(b, at, enough); n == enough || n > 0 && in.err != nil && at+c.lead+n*c.stride >= len(b) {
			return at
		}
	}
	if in.err != nil {
		return min(len(b), rawChunk)
	}
	return min(max(1, len(b)-enough*c.stride), rawChunk)
}

// wantInit looks at the tables that begin at off, and at the picture behind. It returns the length of a new init unit,
// 0 if there is to be none, and whether that picture is to belong to it.
func (c *tsCutter) wantInit(in *input, off int) (n int, rich bool) {
	if n = c.scan(in, off); n == 0 {
		return 0, false
	}
	if !c.scanned.same(&c.tables) {
		c.discover(in, off+n)
		clock := c.scanned.clock()
		p, ok := c.nextPicture(in, off+n, clock)
		return n, ok && p.known && p.key && p.sets && clock.codec.hasSets()
	}
	if !c.rich && !c.lacked {
		return 0, false
	}
	if c.rich && !c.lacked && c.clean {
		return n, false
	}
	if p, ok := c.nextPicture(in, off+n, c.tables.stream(c.clock)); ok && p.key && p.sets {
		return n, c.lacked
	}
	return 0, false
}

// scan reads the tables that begin at off into c.scanned, and returns how many bytes they take with all that lies
// between; 0 if no map comes, or not in time: it is not waited for maps that the PAT names in vain.
func (c *tsCutter) scan(in *input, off int) (n int) {
	t := &c.scanned
	t.reset()
	c.parts = c.parts[:0]
	known := c.clock != 0 && !c.stale
	for pos := off; pos-off < tablesWindow; pos += c.stride {
		b := c.packet(in, pos)
		if b == nil {
			break
		}
		h := parsePacket(b)
		if h.pid == 0 {
			if h.start && pos > off && (n > 0 || known) {
				break
			}
			c.part(0).add(t, 0, h.payload, h.start)
			continue
		}
		if h.pid < firstPID {
			continue
		}
		if t.program(h.pid) != nil {
			if c.part(h.pid).add(t, h.pid, h.payload, h.start) {
				if n = pos + c.stride - off; t.complete() {
					break
				}
			}
			continue
		}
		if !h.start {
			continue
		}
		if known && h.pid == c.clock {
			break
		}
		if clock := t.clock(); n > 0 && clock != nil && h.pid == clock.pid {
			break
		}
	}
	t.fill(&c.tables)
	if len(t.streams) == 0 {
		return 0
	}
	return n
}

func (c *tsCutter) part(pid uint16) *sections {
	for i := range c.parts {
		if c.parts[i].pid == pid {
			return &c.parts[i].sections
		}
	}
	if len(c.parts) < cap(c.parts) {
		c.parts = c.parts[:len(c.parts)+1]
		p := &c.parts[len(c.parts)-1]
		p.pid, p.open, p.buf = pid, false, p.buf[:0]
		return &p.sections
	}
	c.parts = append(c.parts, pidSections{pid: pid})
	return &c.parts[len(c.parts)-1].sections
}

// discover finds video among private data, for tables without any other.
func (c *tsCutter) discover(in *input, off int) {
	t := &c.scanned
	private := 0
	for i := range t.streams {
		switch t.streams[i].class {
		case videoTrack:
			return
		case privateTrack:
			private++
		}
	}
	for pos := off; private > 0 && pos-off < pictureWindow; pos += c.stride {
		b := c.packet(in, pos)
		if b == nil {
			return
		}
		h := parsePacket(b)
		s := t.stream(h.pid)
		if !h.start || s == nil || s.class != privateTrack {
			continue
		}
		if s.reveal(h.payload) {
			return
		}
		private--
	}
}

// reveal looks at the start of a PES packet of private data, and reports whether it is video.
func (s *tsStream) reveal(payload []byte) bool {
	if !isPES(payload) {
		return false
	}
	codec := codecUnknown
	switch id := payload[3]; {
	case id&0xf0 == 0xe0: // a video stream
	case id == 0xbd, id == 0xfd: // private, extended
		if codec = sniff(payload[min(pesHeader(payload), len(payload)):]); codec == codecUnknown {
			return false
		}
	default:
		return false
	}
	s.class, s.codec, s.name = videoTrack, codec, "video"
	return true
}

// open begins an init unit of the tables just read.
func (c *tsCutter) open(rich bool) {
	if !c.scanned.same(&c.tables) {
		c.lacked = false
		c.line.retrack()
		c.tables.copyFrom(&c.scanned)
		c.clock, c.codec, c.video = 0, codecUnknown, false
		if s := c.tables.clock(); s != nil {
			c.setClock(s)
		}
	}
	c.stale, c.rich, c.opening, c.pictures, c.clean, c.follows = false, rich, rich, 0, false, false
	c.halved = false
}

func (c *tsCutter) setClock(s *tsStream) {
	c.clock, c.codec, c.video = s.pid, s.codec, s.class == videoTrack
}

// take notes what a packet that goes out says: the time of its stream, how much of it is to come, that a map has
// changed. It returns the time of what starts in it.
func (c *tsCutter) take(h *tsHead) time.Duration {
	if p := c.tables.program(h.pid); p != nil && h.start {
		c.stale = c.stale || changed(h.payload, p.crc)
		return NoTime
	}
	s := c.tables.stream(h.pid)
	if s == nil {
		return NoTime
	}
	if !h.start || !isPES(h.payload) {
		s.left = max(0, s.left-len(h.payload))
		return NoTime
	}
	s.left = 0
	if n := int(binary.BigEndian.Uint16(h.payload[4:])); n > 0 {
		s.left = max(0, n+6-len(h.payload))
	}
	if s.class == privateTrack && !c.video && s.reveal(h.payload) {
		c.setClock(s)
	}
	if s.class < audioTrack || c.clock != 0 && s.program != c.tables.stream(c.clock).program {
		return NoTime // other programs have clocks of their own
	}
	stamp, ok := decodeTime(h.payload)
	if !ok {
		return NoTime
	}
	return c.line.at(uint64(s.pid), c.unwrap(stamp))
}

// changed reports whether the map that starts in a packet is whole and not the one with that CRC.
func changed(payload []byte, crc uint32) bool {
	if len(payload) < 4 || payload[0] != 0 { // pointer_field
		return false
	}
	b := payload[1:]
	n := 3 + int(binary.BigEndian.Uint16(b[1:])&0x0fff)
	return n >= 12 && n <= len(b) && b[0] == 2 && b[5]&1 != 0 && binary.BigEndian.Uint32(b[n-4:]) != crc
}

// decodeTime reads the decode time of a PES packet, 90 kHz, if it has one: ISO/IEC 13818-1, 2.4.3.6.
func decodeTime(b []byte) (v int64, ok bool) {
	if len(b) < 14 || b[7]&0x80 == 0 {
		return 0, false
	}
	stamp := b[9:14] // PTS
	if b[7]&0x40 != 0 && len(b) >= 19 {
		stamp = b[14:19] // DTS
	}
	high, mid, low := stamp[0]>>1&7, stamp[2]>>1, stamp[4]>>1
	return int64(high)<<30 | int64(stamp[1])<<22 | int64(mid)<<15 | int64(stamp[3])<<7 | int64(low), true
}

// unwrap takes a timestamp of 33 bits for the one nearest to the newest, so that time goes on when they run over after
// 26 hours.
func (c *tsCutter) unwrap(v int64) time.Duration {
	if c.timed {
		v = c.ref + (v-c.ref)<<31>>31
	}
	c.ref, c.timed = v, true
	return time.Duration(v/90000)*time.Second + time.Duration(v%90000)*time.Second/90000
}

func (c *tsCutter) info(d *Info) {
	d.Keys = c.seen.n
	d.Framing = ""
	if c.stride != tsPacket {
		d.Framing = fmt.Sprintf("packets of %d bytes", c.stride)
	}
	var names []string
	for i := range c.tables.streams {
		s := &c.tables.streams[i]
		if s.class != otherTrack {
			names = append(names, fmt.Sprintf("%s (%d)", s.name, s.pid))
		}
	}
	d.Tracks = strings.Join(names, ", ")
	d.Timed = c.timed
}
