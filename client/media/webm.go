package media

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// webmCutter cuts a Matroska or WebM file (RFC 9559) into its head, all before the first cluster, and its blocks. A
// cluster's header goes with its first blocks, up to the first of video. Clusters are not followed to their end, for in
// a live stream nobody knows it: the elements of a cluster and those that come between clusters have different IDs.
//
// Where the first cluster has no size the header of it is the end of the init unit: a recorder that never begins
// another can so be entered at any key frame. (A decoder that starts with a later cluster passes over an empty one.)
type webmCutter struct {
	head    webmHead
	within  bool          // the head is out; clusters follow
	fresh   bool          // nothing but the head's beginning has come
	base    uint64        // timestamp of the cluster, in the segment's ticks
	known   bool          // the cluster's size is known,
	inside  uint64        // and so many bytes of it are to come
	carried bool          // the init unit ends with the header of a cluster
	current bool          // of the one that goes on
	left    uint64        // bytes still to come of an element that was too large for a unit
	rest    Kind          // of these
	line    timeline      //
	keyed   time.Duration // when the newest key unit was
	starts  starts
	seen    keyCount
}

// What is held of a cluster until its first video block comes. A stream without pictures for longer is not to be kept
// waiting.
const (
	heldTime  = time.Second
	heldBytes = 1 << 20
)

// soundEvery is how far the key units of a stream without video are apart, where nothing else decides.
const soundEvery = time.Second

// Element IDs that the cutting has to know, with their length marks: RFC 8794 and RFC 9559.
const (
	idEBML           = 0x1a45dfa3
	idSegment        = 0x18538067
	idCluster        = 0x1f43b675
	idInfo           = 0x1549a966
	idTracks         = 0x1654ae6b
	idSeekHead       = 0x114d9b74
	idCues           = 0x1c53bb6b
	idAttachments    = 0x1941a469
	idChapters       = 0x1043a770
	idTags           = 0x1254c367
	idTimestamp      = 0xe7
	idSimpleBlock    = 0xa3
	idBlockGroup     = 0xa0
	idEncryptedBlock = 0xaf
	idBlock          = 0xa1
	idReferenceBlock = 0xfb
	idPosition       = 0xa7
	idPrevSize       = 0xab
	idSilentTracks   = 0x5854
	idVoid           = 0xec
	idCRC            = 0xbf
	idTimestampScale = 0x2ad7b1
	idTrackEntry     = 0xae
	idTrackNumber    = 0xd7
	idTrackType      = 0x83
	idCodecID        = 0x86
	idCodecPrivate   = 0x63a2
	idEncodings      = 0x6d80
)

func newWebMCutter() *webmCutter {
	return &webmCutter{line: timeline{back: framesBack, ahead: otherAhead}, fresh: true}
}

func (c *webmCutter) next(in *input) (cut, error) {
	switch {
	case c.left > 0:
		b := in.peek(1)
		n := int(min(uint64(len(b)), c.left, MaxUnit))
		c.left -= uint64(n)
		if at := c.cluster(b[:n]); c.within && at >= 0 { // the size was wrong
			if n, c.left = at, 0; n == 0 {
				return c.nextBlock(in)
			}
		}
		return cut{n, c.rest, NoTime}, nil
	case c.within:
		return c.nextBlock(in)
	}
	return c.nextHead(in)
}

// large hands out the beginning of an element of size bytes in all, from the unit's start; the rest follows.
func (c *webmCutter) large(in *input, size uint64, k Kind, rest Kind, t time.Duration) (cut, error) {
	n := min(len(in.peek(MaxUnit)), MaxUnit)
	c.left, c.rest = size-uint64(n), rest
	return cut{n, k, t}, nil
}

// nextHead cuts what comes before the first cluster. Large elements, such as attachments, are units of their own.
func (c *webmCutter) nextHead(in *input) (cut, error) {
	for off := 0; ; {
		e, ok := parseElement(in.peek(off + longestHead)[off:])
		if !ok || e.unknown && e.id != idSegment && e.id != idCluster {
			return c.broken(in, off)
		}
		switch e.id {
		case idEBML:
			if off > 0 {
				return cut{off, Init, NoTime}, nil
			}
			c.head = webmHead{scale: 1e6}
			c.carried = false
			c.line.restart()
		case idSegment:
			off += e.head // and into it
			continue
		case idCluster:
			if len(c.head.tracks) == 0 {
				return c.broken(in, off)
			}
			c.within = true
			n := off
			if e.unknown {
				n = c.clusterHead(in, off)
			}
			if c.carried = n > off; !c.carried && off == 0 {
				return c.nextBlock(in) // all of the head is out
			}
			c.current, c.fresh = c.carried, false
			return cut{n, Init, NoTime}, nil
		case idInfo, idTracks, idSeekHead, idCues, idAttachments, idChapters, idTags, idVoid, idCRC:
		default:
			return c.broken(in, off)
		}
		if size := uint64(e.head) + e.size; size > MaxUnit-uint64(off) {
			if off > 0 {
				return cut{off, Init, NoTime}, nil
			}
			if e.id == idInfo || e.id == idTracks || c.fresh && size > 1<<40 {
				return c.broken(in, off)
			}
			return c.large(in, size, Init, Init, NoTime)
		}
		n := off + e.head + int(e.size)
		b := in.peek(n)
		if len(b) < n { // the file breaks off
			return cut{len(b), Init, NoTime}, nil
		}
		switch body := b[off+e.head : n]; e.id {
		case idInfo:
			c.head.readInfo(body)
		case idTracks:
			c.head.readTracks(body)
		}
		off = n
	}
}

// clusterHead returns where the header of the cluster at off ends, before its first block; off if that is not clear.
func (c *webmCutter) clusterHead(in *input, off int) int {
	e, _ := parseElement(in.peek(off + longestHead)[off:])
	timed := false
	for n := off + e.head; ; {
		e, ok := parseElement(in.peek(n + longestHead)[n:])
		switch {
		case ok && timed && isBlock(e.id):
			c.known = false
			return n
		case !ok || e.unknown || e.size > 1<<10:
			return off
		}
		b := in.peek(n + e.head + int(e.size))
		if len(b) < n+e.head+int(e.size) {
			return off
		}
		if e.id == idTimestamp {
			c.base, timed = bigEndian(b[n+e.head:n+e.head+int(e.size)]), true
		}
		n += e.head + int(e.size)
	}
}

func isBlock(id uint64) bool {
	return id == idSimpleBlock || id == idBlockGroup || id == idEncryptedBlock
}

// broken gives up a head, or passes on to the next one.
func (c *webmCutter) broken(in *input, off int) (cut, error) {
	if off > 0 {
		return cut{off, Init, NoTime}, nil
	}
	if c.fresh {
		return cut{}, errBroken
	}
	return cut{c.skip(in), Delta, NoTime}, nil
}

// skip returns how many bytes there are until the next file, cluster or blocks.
func (c *webmCutter) skip(in *input) int {
	const window, ahead = rawChunk, 3 * longestHead
	b := in.peek(window)
	ended := len(b) < window
	b = b[:min(len(b), window)]
	c.known = false
	for at := 1; at+ahead < len(b) || ended && at+4 <= len(b); at++ {
		switch b[at] {
		case idCluster >> 24, idEBML >> 24:
			if c.enters(b[at:]) {
				c.within = c.within && b[at] != idEBML>>24
				return at
			}
		case idSimpleBlock, idBlockGroup:
			if c.within && c.chained(in, at) {
				return at
			}
			b = in.peek(window)[:len(b)]
		}
	}
	if ended {
		return len(b)
	}
	return len(b) - ahead
}

// enters reports whether b begins with the header of a cluster, or of a file.
func (c *webmCutter) enters(b []byte) bool {
	e, ok := parseElement(b)
	if !ok {
		return false
	}
	switch e.id {
	case idCluster:
		if len(c.head.tracks) == 0 {
			return false
		}
		if b = b[e.head:]; len(b) == 0 {
			return true
		}
		return b[0] == idTimestamp || b[0] == idCRC || b[0] == idVoid || b[0] == idPosition || b[0] == idPrevSize
	case idEBML:
		return !e.unknown && e.size < 1<<10
	}
	return false
}

// chained reports whether three blocks in a row begin at off.
func (c *webmCutter) chained(in *input, off int) bool {
	for range 3 {
		b := in.peek(off + longestHead + 16)[off:]
		e, ok := parseElement(b)
		if !ok || e.unknown || e.size > MaxUnit/4 {
			return false
		}
		if e.id == idSimpleBlock {
			track, n := vint(b[e.head:], 8)
			if n == 0 || c.head.track(track&^(1<<(7*n))) == nil {
				return false
			}
		} else if e.id != idBlockGroup && e.id != idCluster && e.id != idTimestamp {
			return false
		}
		if off += e.head + int(e.size); off > MaxUnit {
			return false
		}
		if len(in.peek(off)) < off {
			return false
		}
	}
	return true
}

// swallows reports whether an element of a damaged size would swallow clusters: what is behind it is no element, and
// there are others in it. It looks at what is there, without waiting.
func (c *webmCutter) swallows(in *input, off, size int) bool {
	b := in.peek(1)
	if off+size+longestHead <= len(b) {
		e, ok := parseElement(b[off+size:])
		if ok && (e.id == idCluster || e.id == idEBML || isBlock(e.id) || e.id == idTimestamp || e.id == idCues ||
			e.id == idVoid || e.id == idTags || e.id == idCRC) {
			return false
		}
	} else if off+size <= len(b) {
		return false // nothing is known of what is behind it
	}
	if c.cluster(b[off:min(len(b), off+size)]) >= 0 {
		return true
	}
	for at := off; at < min(len(b), off+size, off+rawChunk); at++ {
		if b[at] == idSimpleBlock && c.chained(in, at) {
			return true
		}
		b = in.peek(1)
	}
	return false
}

// cluster returns where in b a cluster begins; -1: nowhere.
func (c *webmCutter) cluster(b []byte) int {
	for at := 0; ; at += 4 {
		i := bytes.Index(b[at:], []byte{0x1f, 0x43, 0xb6, 0x75})
		if i < 0 {
			return -1
		}
		if at += i; c.enters(b[at:]) {
			return at
		}
	}
}

// nextBlock cuts clusters.
func (c *webmCutter) nextBlock(in *input) (cut, error) {
	unit := cut{kind: Delta, time: NoTime}
	opens := false // the unit holds a cluster's header, and no video yet
	held := NoTime // since when
	video := c.head.video()
	for off := 0; ; {
		e, ok := parseElement(in.peek(off + longestHead)[off:])
		damaged := !ok || e.unknown && e.id != idCluster && e.id != idSegment
		switch {
		case damaged:
		case e.id == idCluster, e.id == idEBML:
			if off > 0 {
				unit.n = off
				return unit, nil
			}
			if e.id == idEBML {
				c.within = false // another file follows
				return c.nextHead(in)
			}
			opens, c.current, c.known, c.inside = true, false, !e.unknown, e.size
			off += e.head
			continue
		case e.id == idSegment:
			off += e.head
			continue
		case isBlock(e.id), e.id == idTimestamp, e.id == idPosition, e.id == idPrevSize, e.id == idSilentTracks:
			damaged = c.known && uint64(e.head)+e.size > c.inside || !isBlock(e.id) && e.id != idSilentTracks && e.size > 8
			c.inside -= min(c.inside, uint64(e.head)+e.size)
		case e.id == idVoid, e.id == idCRC:
			damaged = e.id == idCRC && e.size != 4 || e.size > MaxUnit/4 || c.swallows(in, off+e.head, int(min(e.size, MaxUnit)))
			c.inside -= min(c.inside, uint64(e.head)+e.size)
		case e.id == idInfo, e.id == idTracks, e.id == idSeekHead, e.id == idCues, e.id == idAttachments, e.id == idChapters,
			e.id == idTags:
		default:
			damaged = true
		}
		size := uint64(e.head) + e.size
		var k block
		if !damaged && isBlock(e.id) {
			whole := in.peek(off + int(min(size, uint64(MaxUnit-off))))[off+e.head:]
			k, ok = c.readBlock(e.id, whole[:min(uint64(len(whole)), e.size)])
			damaged = !ok || c.swallows(in, off+e.head, int(min(e.size, MaxUnit)))
		}
		if damaged {
			if off > 0 {
				unit.n = off
				return unit, nil
			}
			return cut{c.skip(in), Delta, NoTime}, nil
		}
		if isBlock(e.id) {
			track := c.head.track(k.track)
			t := unit.time
			if track.class >= audioTrack {
				if t = c.head.time(c.base, k.time); t != NoTime {
					t = c.line.at(k.track, t)
				}
				if unit.time == NoTime {
					unit.time = t
				}
			}
			isVideo := k.track == video
			if opens && video != 0 && !isVideo && size <= MaxUnit-uint64(off) {
				if held == NoTime {
					held = t
				}
				if off < heldBytes && (t == NoTime || held == NoTime || t-held < heldTime) {
					off += int(size)
					continue
				}
			}
			unit.kind = c.kind(opens, video != 0, isVideo, k.key, max(t, 0))
			if size > MaxUnit-uint64(off) {
				c.starts.add(unit.kind, off+int(min(size, 1<<40)))
				return c.large(in, uint64(off)+size, unit.kind, Delta, unit.time)
			}
			unit.n = min(off+int(size), len(in.peek(off+int(size)))) // the file may break off
			c.starts.add(unit.kind, unit.n)
			return unit, nil
		}
		if size > MaxUnit-uint64(off) {
			return c.large(in, uint64(off)+size, Delta, Delta, unit.time)
		}
		n := off + int(size)
		b := in.peek(n)
		if len(b) < n {
			unit.n = len(b) // the file breaks off
			return unit, nil
		}
		if e.id == idTimestamp {
			c.base = bigEndian(b[off+e.head : n])
		}
		off = n
	}
}

// kind decides what a unit is whose last block is of video, or not, and stands alone, or not.
func (c *webmCutter) kind(opens, video, isVideo, key bool, now time.Duration) Kind {
	switch {
	case video && !(isVideo && key):
		if opens && isVideo && c.starts.overdue() {
			return Key
		}
		return Delta
	case !video && !opens && (!c.current || now < c.keyed+soundEvery):
		return Delta
	}
	if isVideo {
		c.seen.key()
	}
	if opens || c.current || c.carried && c.starts.overdue() {
		c.keyed = now
		return Key
	}
	c.starts.missed++
	return Delta
}

// block is what precedes the frames of a block: RFC 9559, section 10.
type block struct {
	track uint64
	time  int16 // ticks from the cluster's timestamp
	key   bool
}

// readBlock reads as much of a block as there is: a SimpleBlock, or a BlockGroup, which holds a key frame if it refers
// to no other block. It fails on what is none of a known track.
func (c *webmCutter) readBlock(id uint64, b []byte) (k block, ok bool) {
	refers, group := false, id == idBlockGroup
	data := b
	if group {
		data = nil
		for len(b) > 0 {
			e, whole := parseElement(b)
			if !whole || e.unknown {
				break
			}
			content := b[e.head:]
			content = content[:min(uint64(len(content)), e.size)]
			switch e.id {
			case idBlock:
				data = content
			case idReferenceBlock:
				refers = true
			}
			b = b[e.head+len(content):]
		}
	}
	track, n := vint(data, 8)
	if n == 0 || len(data) < n+3 {
		return k, false
	}
	k.track = track &^ (1 << (7 * n))
	t := c.head.track(k.track)
	if t == nil {
		return k, false
	}
	k.time = int16(bigEndian(data[n : n+2]))
	flags := data[n+2]
	k.key = flags&0x80 != 0
	if group {
		k.key = !refers
	}
	if t.class != videoTrack || flags&0x06 != 0 || id == idEncryptedBlock { // laced frames stay as they are marked
		return k, true
	}
	if p := t.codec.look(data[n+3:], t.lengthSize, true); p.known {
		k.key = p.key || k.key && p.intra
	}
	return k, true
}

func (c *webmCutter) info(d *Info) {
	d.Keys, d.Timed = c.seen.n, c.line.begun
	var names []string
	for i := range c.head.tracks {
		if t := &c.head.tracks[i]; t.class >= audioTrack {
			names = append(names, fmt.Sprintf("%s (%d)", t.name, t.number))
		}
	}
	d.Tracks = strings.Join(names, ", ")
}
