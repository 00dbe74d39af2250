package media

import (
	"bytes"
	"io"
	"math"
	"math/bits"
	"time"

	"github.com/remko/go-mkvparse"
)

// webmCutter cuts a Matroska or WebM file (RFC 9559) into its head, all before the first cluster, and its blocks. A
// cluster's header goes with its first blocks. Clusters are not followed to their end, for in a live stream nobody knows
// it: the elements of a cluster and those that come between clusters have different IDs.
type webmCutter struct {
	head *webmHead // set once the head has gone out
	base uint64    // timestamp of the cluster, in the segment's ticks
	left uint64    // bytes still to come of an element that was too large for a unit
}

type webmHead struct {
	scale  uint64          // nanoseconds per tick
	video  map[uint64]bool // track numbers
	tracks int
}

// clusterHold bounds the blocks of other tracks before the first of a video track in a cluster that is to be a key unit.
// ffmpeg puts one there; more would only keep sound waiting where pictures are rare.
const clusterHold = 4

// Element IDs that the cutting has to know: RFC 8794 and RFC 9559, with their length marks.
const (
	idEBML           = 0x1a45dfa3
	idSegment        = 0x18538067
	idCluster        = 0x1f43b675
	idTimestamp      = 0xe7
	idSimpleBlock    = 0xa3
	idBlockGroup     = 0xa0
	idBlock          = 0xa1
	idReferenceBlock = 0xfb
)

func (c *webmCutter) next(in *input) (cut, error) {
	if c.left > 0 {
		n := int(min(uint64(len(in.peek(1))), c.left, MaxUnit))
		c.left -= uint64(n)
		return cut{n, Delta, NoTime}, nil
	}
	unit := cut{kind: Delta, time: NoTime}
	opens, held := false, 0 // the unit starts a cluster, with so many blocks not of video
	for off := 0; ; {
		end := func() (cut, error) {
			if off == 0 || c.head == nil {
				return cut{}, errBroken
			}
			unit.n = off
			return unit, nil
		}
		e, ok := ebmlElement(in, off)
		if !ok {
			return end()
		}
		switch {
		case off > 0 && c.head != nil && (e.id == idCluster || e.id == idEBML):
			return end()
		case e.id == idEBML && off == 0:
			c.head = nil // the file starts, or another follows
		case e.id == idCluster && c.head == nil:
			if c.head = readWebMHead(in.peek(off)[:off]); c.head == nil {
				return cut{}, errBroken
			}
			return cut{off, Init, NoTime}, nil
		case e.id == idCluster:
			opens = true
		}
		if e.id == idCluster || e.id == idSegment {
			off += e.head // and into it
			continue
		}
		if e.unknown {
			return end()
		}
		if e.size > uint64(MaxUnit-off-e.head) {
			if c.head == nil {
				return cut{}, errBroken
			}
			unit.n = min(len(in.peek(MaxUnit)), MaxUnit)
			c.left = uint64(off+e.head) + e.size - uint64(unit.n)
			return unit, nil
		}
		n := off + e.head + int(e.size)
		b := in.peek(n)
		if len(b) < n {
			unit.n = len(b) // the file breaks off
			return unit, nil
		}
		body := b[off+e.head : n]
		off = n
		if e.id == idTimestamp {
			c.base = bigEndian(body)
		}
		if c.head == nil || e.id != idSimpleBlock && e.id != idBlockGroup {
			continue
		}
		k, ok := readBlock(e.id, body)
		if !ok {
			unit.n = off
			return unit, nil
		}
		if unit.time == NoTime {
			unit.time = c.head.time(c.base, k.time)
		}
		video := c.head.video[k.track]
		if opens && !video && len(c.head.video) > 0 && held+1 < clusterHold {
			held++
			continue
		}
		if opens && (video && k.key || len(c.head.video) == 0) {
			unit.kind = Key
		}
		unit.n = off
		return unit, nil
	}
}

// element is the head of an EBML element.
type element struct {
	id      uint64
	head    int // bytes of ID and size
	size    uint64
	unknown bool // it lasts until an element comes that cannot be in it
}

// ebmlElement reads the ID and size at off: RFC 8794, sections 5 and 6.
func ebmlElement(in *input, off int) (e element, ok bool) {
	const longestHead = 4 + 8
	if off+longestHead > MaxUnit {
		return e, false
	}
	id, n := vint(in, off, 4)
	size, m := vint(in, off+n, 8)
	if n == 0 || m == 0 {
		return e, false
	}
	value := uint64(1)<<(7*m) - 1 // without the length mark; all ones: unknown
	return element{id: id, head: n + m, size: size & value, unknown: size&value == value}, true
}

// vint reads a number of variable length with its length mark, and its length: 0 if there is none of at most longest bytes.
func vint(in *input, off, longest int) (v uint64, n int) {
	b := in.peek(off + 1)
	if len(b) <= off {
		return 0, 0
	}
	n = bits.LeadingZeros8(b[off]) + 1
	if n > longest {
		return 0, 0
	}
	if b = in.peek(off + n); len(b) < off+n {
		return 0, 0
	}
	return bigEndian(b[off : off+n]), n
}

// bigEndian reads a number of up to 8 bytes; of a longer one, the last 8.
func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// block is what precedes the frames of a block: RFC 9559, section 10.
type block struct {
	track uint64
	time  int16 // ticks from the cluster's timestamp
	key   bool
}

// readBlock reads a SimpleBlock, or a BlockGroup, which holds a key frame if it refers to no other block.
func readBlock(id uint64, body []byte) (k block, ok bool) {
	if id == idSimpleBlock {
		return blockHead(body)
	}
	refers := false
	for in := (&input{buf: body, hi: len(body), err: io.EOF}); in.buffered() > 0; {
		e, whole := ebmlElement(in, 0)
		if !whole || e.unknown || e.size > uint64(in.buffered()-e.head) {
			return k, false
		}
		in.take(e.head)
		switch content := in.take(int(e.size)); e.id {
		case idBlock:
			if k, ok = blockHead(content); !ok {
				return k, false
			}
		case idReferenceBlock:
			refers = true
		}
	}
	k.key = !refers
	return k, ok
}

func blockHead(b []byte) (k block, ok bool) {
	in := &input{buf: b, hi: len(b), err: io.EOF}
	track, n := vint(in, 0, 8)
	if n == 0 || len(b) < n+3 {
		return k, false
	}
	return block{track &^ (1 << (7 * n)), int16(bigEndian(b[n : n+2])), b[n+2]&0x80 != 0}, true
}

// time turns a block's time into a duration; what is not in range is unknown.
func (h *webmHead) time(cluster uint64, rel int16) time.Duration {
	t := int64(cluster) + int64(rel)
	if cluster > math.MaxInt64/2 || t < 0 || uint64(t) > math.MaxInt64/h.scale {
		return NoTime
	}
	return time.Duration(uint64(t) * h.scale)
}

// readWebMHead reads all that comes before the first cluster. It returns nil if that names no track.
func readWebMHead(b []byte) *webmHead {
	p := headParser{head: webmHead{scale: 1e6, video: map[uint64]bool{}}}
	// The segment goes on beyond b, and the parser stops there.
	err := guarded(func() error { return mkvparse.Parse(bytes.NewReader(b), &p) })
	if err != nil || p.head.tracks == 0 || p.head.scale == 0 {
		return nil
	}
	return &p.head
}

// headParser collects tracks.
type headParser struct {
	mkvparse.DefaultHandler
	head         webmHead
	number, kind int64 // of the track being read
}

func (p *headParser) HandleMasterBegin(id mkvparse.ElementID, _ mkvparse.ElementInfo) (bool, error) {
	switch id {
	case mkvparse.SegmentElement, mkvparse.InfoElement, mkvparse.TracksElement:
		return true, nil
	case mkvparse.TrackEntryElement:
		p.number, p.kind = 0, 0
		return true, nil
	}
	return false, nil
}

func (p *headParser) HandleMasterEnd(id mkvparse.ElementID, _ mkvparse.ElementInfo) error {
	if id == mkvparse.TrackEntryElement {
		p.head.tracks++
		if p.kind == trackTypeVideo {
			p.head.video[uint64(p.number)] = true
		}
	}
	return nil
}

func (p *headParser) HandleInteger(id mkvparse.ElementID, v int64, _ mkvparse.ElementInfo) error {
	switch id {
	case mkvparse.TimecodeScaleElement:
		p.head.scale = uint64(v)
	case mkvparse.TrackNumberElement:
		p.number = v
	case mkvparse.TrackTypeElement:
		p.kind = v
	}
	return nil
}

// trackTypeVideo is a value of TrackType: RFC 9559, 5.1.4.1.3.
const trackTypeVideo = 1
