package media

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/abema/go-mp4"
)

// mp4Cutter cuts a fragmented MP4 file (ISO/IEC 14496-12, 8.8) into its head, up to and with moov, and its fragments:
// whatever comes before a moof, the moof, and all up to the end of its mdat.
type mp4Cutter struct {
	tracks map[uint32]mp4Track // set once the head has gone out
	clock  uint32              // the track that gives time and key marks: the first video track, else the first
	video  bool                // whether that is video
	left   uint64              // bytes still to come of a box that was too large for a unit
}

type mp4Track struct {
	timescale    uint32 // ticks per second
	defaultFlags uint32 // of samples that carry none
}

func (c *mp4Cutter) next(in *input) (cut, error) {
	if c.left > 0 {
		n := int(min(uint64(len(in.peek(1))), c.left, MaxUnit))
		c.left -= uint64(n)
		return cut{n, Delta, NoTime}, nil
	}
	unit := cut{kind: Delta, time: NoTime}
	moof := false
	for off := 0; ; {
		// What is not a box, or cannot be cut, ends the unit before it; at the unit's start it ends the parsing.
		end := func() (cut, error) {
			if off == 0 || c.tracks == nil {
				return cut{}, errBroken
			}
			unit.n = off
			return unit, nil
		}
		typ, size, ok := mp4Box(in, off)
		if !ok {
			return end()
		}
		switch {
		case typ == "ftyp" && c.tracks != nil && off > 0, typ == "moof" && moof, typ == "moov" && c.tracks != nil && off > 0:
			return end()
		case typ == "ftyp" && c.tracks != nil:
			c.tracks = nil // another file follows
		case typ == "mdat" && c.tracks == nil:
			return end() // samples without fragments
		}
		if uint64(off)+size > MaxUnit {
			if typ == "moof" || typ == "moov" || c.tracks == nil {
				return end()
			}
			unit.n = min(len(in.peek(MaxUnit)), MaxUnit)
			c.left = uint64(off) + size - uint64(unit.n)
			return unit, nil
		}
		n := off + int(size)
		b := in.peek(n)
		if len(b) < n {
			unit.n = len(b) // the file breaks off
			return unit, nil
		}
		switch typ {
		case "moov":
			if !c.readHead(b[off:n]) {
				return cut{}, errBroken
			}
			return cut{n, Init, NoTime}, nil
		case "moof":
			moof = true
			key, t, err := c.readFragment(b[off:n])
			if err != nil {
				return end()
			}
			unit.time = t
			if key {
				unit.kind = Key
			}
		case "mdat":
			unit.n = n
			return unit, nil
		}
		off = n
	}
}

// mp4Box reads the header of the box at off: ISO/IEC 14496-12, 4.2. It fails on what is none, and on a box that lasts to
// the end of the file.
func mp4Box(in *input, off int) (typ string, size uint64, ok bool) {
	b := in.peek(off + mp4.SmallHeaderSize)
	if len(b) < off+mp4.SmallHeaderSize {
		return "", 0, false
	}
	head := uint64(mp4.SmallHeaderSize)
	typ, size = string(b[off+4:off+8]), uint64(binary.BigEndian.Uint32(b[off:]))
	if size == 1 {
		if b = in.peek(off + mp4.LargeHeaderSize); len(b) < off+mp4.LargeHeaderSize {
			return "", 0, false
		}
		head, size = mp4.LargeHeaderSize, binary.BigEndian.Uint64(b[off+8:])
	}
	for i := range len(typ) {
		if typ[i] < ' ' || typ[i] > '~' {
			return "", 0, false
		}
	}
	return typ, size, size >= head && size < 1<<62
}

// readHead takes the tracks from a moov box. It reports whether the file is made of fragments.
func (c *mp4Cutter) readHead(moov []byte) bool {
	tracks := map[uint32]mp4Track{}
	flags := map[uint32]uint32{}
	fragmented := false
	var clock, id uint32
	var video bool
	err := guarded(func() error {
		_, err := mp4.ReadBoxStructure(bytes.NewReader(moov), func(h *mp4.ReadHandle) (any, error) {
			switch h.BoxInfo.Type {
			case mp4.BoxTypeMvex():
				fragmented = true
				return h.Expand()
			case mp4.BoxTypeMoov(), mp4.BoxTypeTrak(), mp4.BoxTypeMdia():
				return h.Expand()
			case mp4.BoxTypeTkhd(), mp4.BoxTypeMdhd(), mp4.BoxTypeHdlr(), mp4.BoxTypeTrex():
			default:
				return nil, nil
			}
			box, _, err := h.ReadPayload()
			switch box := box.(type) {
			case *mp4.Tkhd:
				id = box.TrackID
			case *mp4.Mdhd:
				tracks[id] = mp4Track{timescale: box.Timescale}
			case *mp4.Hdlr:
				if isVideo := string(box.HandlerType[:]) == "vide"; clock == 0 || isVideo && !video {
					clock, video = id, isVideo
				}
			case *mp4.Trex:
				flags[box.TrackID] = box.DefaultSampleFlags
			}
			return nil, err
		})
		return err
	})
	if err != nil || !fragmented || clock == 0 {
		return false
	}
	for id, t := range tracks {
		t.defaultFlags = flags[id]
		tracks[id] = t
	}
	c.tracks, c.clock, c.video = tracks, clock, video
	return true
}

// Bits of the boxes in a fragment: ISO/IEC 14496-12, 8.8.3.1 and 8.8.7.1.
const (
	sampleIsNonSync   = 0x010000
	tfhdBaseOffset    = 0x000001
	tfhdDefaultFlags  = 0x000020
	trunDataOffset    = 0x000001
	trunFirstFlags    = 0x000004
	trunDuration      = 0x000100
	trunSize          = 0x000200
	trunFlags         = 0x000400
	trunFixedPartSize = 8 // version and flags, sample count
)

// readFragment reads a moof box: whether a decoder can start with it, and when it is to be decoded.
func (c *mp4Cutter) readFragment(moof []byte) (key bool, t time.Duration, err error) {
	t = NoTime
	var track, flags uint32
	fixed, seen := false, false
	err = guarded(func() error {
		_, err := mp4.ReadBoxStructure(bytes.NewReader(moof), func(h *mp4.ReadHandle) (any, error) {
			switch h.BoxInfo.Type {
			case mp4.BoxTypeMoof(), mp4.BoxTypeTraf():
				return h.Expand()
			case mp4.BoxTypeTfhd(), mp4.BoxTypeTfdt():
				box, _, err := h.ReadPayload()
				switch box := box.(type) {
				case *mp4.Tfhd:
					track, flags, seen = box.TrackID, c.tracks[box.TrackID].defaultFlags, false
					if box.CheckFlag(tfhdDefaultFlags) {
						flags = box.DefaultSampleFlags
					}
					// Offsets into the whole file are wrong for whoever did not see all of it.
					fixed = fixed || box.CheckFlag(tfhdBaseOffset)
				case *mp4.Tfdt:
					at := uint64(box.BaseMediaDecodeTimeV0)
					if box.Version == 1 {
						at = box.BaseMediaDecodeTimeV1
					}
					if scale := c.tracks[track].timescale; scale > 0 && (t == NoTime || track == c.clock) {
						t = ticks(at, scale)
					}
				}
				return nil, err
			case mp4.BoxTypeTrun():
				if track != c.clock || seen {
					return nil, nil
				}
				var b bytes.Buffer
				if _, err := h.ReadData(&b); err != nil {
					return nil, err
				}
				if first, ok := firstSampleFlags(b.Bytes(), flags); ok {
					seen, key = true, first&sampleIsNonSync == 0
				}
			}
			return nil, nil
		})
		return err
	})
	return key && !fixed, t, err
}

// firstSampleFlags reads the flags of the first sample of a trun box, given without its header; ok: there is a sample. The
// samples themselves are left alone, for their number is the sender's word.
func firstSampleFlags(b []byte, flags uint32) (first uint32, ok bool) {
	if len(b) < trunFixedPartSize || binary.BigEndian.Uint32(b[4:]) == 0 {
		return 0, false
	}
	has := binary.BigEndian.Uint32(b) & 0xffffff
	at := trunFixedPartSize
	if has&trunDataOffset != 0 {
		at += 4
	}
	switch {
	case has&trunFirstFlags != 0:
	case has&trunFlags != 0:
		for _, field := range [...]uint32{trunDuration, trunSize} {
			if has&field != 0 {
				at += 4
			}
		}
	default:
		return flags, true
	}
	if len(b) < at+4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[at:]), true
}

// ticks turns a count of ticks, scale to the second, into a duration; beyond 290 years it is unknown.
func ticks(n uint64, scale uint32) time.Duration {
	s := n / uint64(scale)
	if s >= 1<<33 {
		return NoTime
	}
	return time.Duration(s)*time.Second + time.Duration(n%uint64(scale))*time.Second/time.Duration(scale)
}
