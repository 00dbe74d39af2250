package media

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// mp4Cutter cuts a fragmented MP4 file (ISO/IEC 14496-12, 8.8) into its head, up to and with moov, and its fragments:
// whatever comes before a moof, the moof, and the data up to the end of its mdat. Of a long fragment the data are units
// of their own, each with its share of the time.
type mp4Cutter struct {
	tracks []mp4Track // of the newest moov; nil: none yet
	clock  int        // the track that gives time and key marks: the first video track, else the first
	video  bool       // whether that is video
	within bool       // the head is out

	left    uint64 // bytes still to come of a box that was too large for a unit
	rest    Kind   // of these
	samples bool   // they are the data of a fragment
	total   uint64 // all bytes of data of the fragment,
	chunk   int    // in units of so many
	track   uint32 // the track that gives their time; 0: they have none
	begin   time.Duration
	span    time.Duration

	line     timeline
	starts   starts
	seen     keyCount
	ordinary bool // samples without fragments,
	tail     bool // with moov behind them
	fixed    bool // there are offsets that count from the beginning of the file
	first    bool // the samples of moov itself come
}

const (
	maxMoov   = 16 << 20               // bytes of a moov box that is read
	chunkTime = 250 * time.Millisecond // of the data of a fragment in a unit
	minChunk  = 4 << 10                // bytes of such a unit
	firstLook = 64 << 10               // bytes of a sample that are looked at
)

func newMP4Cutter() *mp4Cutter {
	return &mp4Cutter{line: timeline{back: tsBack, ahead: otherAhead}}
}

func (c *mp4Cutter) next(in *input) (cut, error) {
	if c.left > 0 {
		return c.more(in)
	}
	unit := cut{kind: Delta, time: NoTime}
	if !c.within {
		unit.kind = Init
	}
	moof := -1 // where it begins
	var f mp4Fragment
	for off := 0; ; {
		end := func() (cut, error) {
			unit.n = off
			return unit, nil
		}
		h, ok := parseBox(in.peek(off + 16)[off:])
		if !ok || !knownBox(&h) && (c.tracks != nil || h.toEnd || h.size > maxMoov) || c.within && c.swallows(in, off, &h) {
			switch {
			case c.tracks == nil:
				return cut{}, errBroken
			case off > 0:
				return end()
			}
			return cut{c.skip(in), Delta, NoTime}, nil
		}
		// What another unit is to begin with ends this one; and what follows is not known to be needed first.
		if off > 0 &&
			(moof >= 0 && (h.typ == "moof" || h.typ == "styp") || c.within && (h.typ == "ftyp" || h.typ == "moov")) {
			return end()
		}
		switch h.typ {
		case "ftyp":
			c.within, unit.kind = false, Init
		case "moov":
			return c.readHead(in, off, &h)
		case "moof":
			if c.tracks == nil || h.toEnd || uint64(off)+h.size > MaxUnit {
				break
			}
			c.within, unit.kind = true, Delta
			b := in.peek(off + int(h.size))
			if len(b) < off+int(h.size) {
				break // the file breaks off
			}
			moof = off
			f = readMoof(b[off+h.head:off+int(h.size)], c.tracks, c.clock)
			c.fixed = c.fixed || f.fixed
		case "mdat":
			if c.tracks == nil {
				c.ordinary, c.tail = true, true
				return cut{}, errBroken
			}
			return c.data(in, off, moof, &h, &f)
		}
		if size := h.size; h.toEnd || uint64(off)+size > MaxUnit {
			if off > 0 {
				return end()
			}
			c.left, c.rest, c.samples, c.track, c.chunk = size, unit.kind, c.within, 0, MaxUnit
			if h.toEnd {
				c.left = 1 << 62
			}
			return c.more(in)
		}
		n := off + int(h.size)
		if b := in.peek(n); len(b) < n {
			off = len(b) // the file breaks off
			return end()
		}
		off = n
	}
}

// knownBox reports whether a box is one that files are made of. Another one may be damage.
func knownBox(h *boxHead) bool {
	switch h.typ {
	case "ftyp", "styp", "moov", "mdat", "moof", "sidx", "ssix", "emsg", "prft", "mfra", "free", "skip", "wide", "pdin",
		"meta", "uuid", "udta", "pnot":
		return h.size < 1<<40
	}
	return false
}

// swallows reports whether a box has a size that is wrong: there is a fragment in it. Data may be too long to be looked
// at here.
func (c *mp4Cutter) swallows(in *input, off int, h *boxHead) bool {
	if h.typ == "mdat" {
		return false
	}
	if h.typ == "moof" && (h.toEnd || h.size > MaxUnit) {
		return true
	}
	n := min(h.size, uint64(max(0, MaxUnit-off)))
	b := in.peek(off + int(n))
	return len(b) >= off+h.head && nested(b[off+h.head:min(len(b), off+int(n))]) >= 0
}

// nested returns where in the data of a fragment the next one begins, as the size of the data is wrong; -1: nowhere.
func nested(b []byte) int {
	const head = 12 // size and type of moof, size of mfhd
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("mfhd"))
		if i < 0 {
			return -1
		}
		if at += i; at >= head && string(b[at-8:at-4]) == "moof" {
			return at - head
		}
		at += 4
	}
}

// readHead takes the tracks of the moov box at off, which ends a unit.
func (c *mp4Cutter) readHead(in *input, off int, h *boxHead) (cut, error) {
	if h.toEnd || h.size > maxMoov {
		c.ordinary = true
		return cut{}, errBroken
	}
	n := off + int(h.size)
	b := in.peek(n)
	if len(b) < n {
		if c.tracks == nil {
			return cut{}, errBroken
		}
		return cut{min(len(b), MaxUnit), Delta, NoTime}, nil
	}
	tracks, fragmented := readMoov(b[off+h.head : n])
	if !fragmented || len(tracks) == 0 {
		c.ordinary = true
		return cut{}, errBroken
	}
	if c.tracks != nil {
		c.line.restart()
	}
	c.tracks, c.clock, c.video, c.within = tracks, 0, false, true
	for i := range tracks {
		if c.fixed = c.fixed || tracks[i].samples; tracks[i].class == videoTrack && !c.video {
			c.clock, c.video = i, true
		}
	}
	c.first = tracks[c.clock].samples
	if n > MaxUnit {
		c.left, c.rest, c.samples, c.track, c.chunk = uint64(n), Init, false, 0, MaxUnit
		return c.more(in)
	}
	return cut{n, Init, NoTime}, nil
}

// data cuts a fragment, or its beginning, whose mdat is at off.
func (c *mp4Cutter) data(in *input, off, moof int, h *boxHead, f *mp4Fragment) (cut, error) {
	unit := cut{kind: Delta, time: NoTime}
	c.total, c.chunk, c.track = h.size-uint64(h.head), MaxUnit, 0
	if h.toEnd {
		c.total = 1 << 62
	}
	if t := &c.tracks[c.clock]; moof < 0 && c.first && t.timescale > 0 {
		*f = mp4Fragment{timed: true, track: t.id, duration: max(0, ticks(t.next, t.timescale))}
	}
	c.first = false
	if moof >= 0 || f.timed {
		if moof >= 0 && c.start(in, off+h.head, moof, f) {
			unit.kind = Key
		}
		if f.timed {
			unit.time = c.line.at(uint64(f.track), f.time)
			c.track, c.begin, c.span = f.track, f.time, f.duration
			if c.span > chunkTime && !h.toEnd {
				share := float64(c.total) * float64(chunkTime) / float64(c.span)
				c.chunk = max(minChunk, int(min(share, MaxUnit)))
			}
		}
	}
	unit.n = off + h.head + int(min(uint64(c.chunk), c.total))
	unit.n = min(unit.n, max(MaxUnit, off+h.head))
	if b := in.peek(unit.n); len(b) > off+h.head {
		if at := nested(b[off+h.head : min(unit.n, len(b))]); at >= 0 {
			unit.n, c.total = off+h.head+at, uint64(at)
		}
	}
	if unit.n = min(unit.n, len(in.peek(unit.n))); unit.n > off+h.head {
		c.left = c.total - uint64(unit.n-off-h.head)
	} else {
		c.left = c.total
	}
	c.rest, c.samples = Delta, true
	c.starts.add(unit.kind, unit.n+int(min(c.left, 1<<40)))
	return unit, nil
}

// more cuts what is left of a box.
func (c *mp4Cutter) more(in *input) (cut, error) {
	n := int(min(c.left, uint64(c.chunk)))
	if in.pausedBefore(n) {
		n = max(1, in.buffered())
	}
	b := in.peek(n)
	n = min(n, len(b))
	ends := -1
	if c.samples {
		ends = nested(b[:n])
	}
	if ends == 0 {
		c.left = 0
		return c.next(in)
	}
	if ends > 0 {
		n = ends
	}
	unit := cut{n, c.rest, NoTime}
	if c.track != 0 && c.total > 0 {
		done := float64(c.total-c.left) / float64(c.total)
		unit.time = c.line.at(uint64(c.track), c.begin+time.Duration(done*float64(c.span)))
	}
	if c.left -= uint64(n); ends > 0 {
		c.left = 0
	}
	return unit, nil
}

// start decides whether a decoder can start with a fragment, whose moof box and whose data begin at the offsets given.
func (c *mp4Cutter) start(in *input, data, moof int, f *mp4Fragment) (key bool) {
	if !f.sample {
		return false
	}
	key = f.sync || !c.video
	if c.video {
		at := int64(moof) + f.at
		if !f.placed {
			at = int64(data)
		}
		if at >= int64(data) && at < MaxUnit && f.size > 0 {
			t := &c.tracks[c.clock]
			n := int(min(at+int64(f.size), at+firstLook))
			if b := in.peek(n); int64(len(b)) > at {
				b = b[at:min(n, len(b))]
				if p := t.codec.look(b, t.lengthSize, len(b) == int(f.size)); p.known {
					key = p.key || f.sync && p.intra
				}
			}
		}
	}
	if key {
		c.seen.key()
	} else if f.laterSyncs > 0 {
		c.starts.missed++
		key = c.starts.overdue()
	}
	return key && !c.fixed // offsets into the whole file are wrong for whoever did not see all of it
}

// skip returns how many bytes there are until the next fragment or file.
func (c *mp4Cutter) skip(in *input) int {
	const window = rawChunk
	b := in.peek(window)
	b = b[:min(len(b), window)]
	for at := 1; at+16 <= len(b); at++ {
		if b[at] != 0 || b[at+4] != 'm' && b[at+4] != 's' && b[at+4] != 'f' {
			continue
		}
		switch fourCC(b[at+4 : at+8]) {
		case "moof":
			if fourCC(b[at+12:at+16]) == "mfhd" {
				return at
			}
		case "styp", "ftyp", "moov", "sidx":
			return at
		}
	}
	if in.err != nil {
		return min(len(b), window)
	}
	return max(1, min(len(b), window)-15)
}

// CountsFromStart reports whether a piece of an MP4 file begins with a fragment, or a head, whose offsets count from
// the beginning of the file, so that who does not have all of the file cannot decode it.
func CountsFromStart(b []byte) bool {
	for {
		typ, body, rest, ok := boxIn(b)
		if !ok {
			return false
		}
		switch typ {
		case "moof":
			return readMoof(body, nil, 0).fixed
		case "moov":
			tracks, fragmented := readMoov(body)
			for i := range tracks {
				if fragmented && tracks[i].samples {
					return true
				}
			}
			return false
		}
		b = rest
	}
}

func (c *mp4Cutter) info(d *Info) {
	d.Keys, d.Timed = c.seen.n, c.line.begun
	var names []string
	for i := range c.tracks {
		if t := &c.tracks[i]; t.class >= audioTrack {
			names = append(names, fmt.Sprintf("%s (%d)", t.name, t.id))
		}
	}
	d.Tracks = strings.Join(names, ", ")
	switch {
	case c.ordinary:
		d.Format = OrdinaryMP4
		d.Late = "an MP4 file that is not fragmented can be played from its beginning only"
	case c.fixed:
		d.Late = "it counts from the beginning of the file: write it " +
			"with -movflags frag_keyframe+empty_moov+default_base_moof"
	}
}
