package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/asticode/go-astits"
)

// tsPacket is the size of a transport stream packet in bytes: ISO/IEC 13818-1, 2.4.3.
const tsPacket = astits.MpegTsPacketSize

// maxTables bounds the packets with tables that are held back until it is known what follows them, in bytes.
const maxTables = 256 * tsPacket

// tsCutter cuts a transport stream before each picture, or before each audio packet where there is no video. Tables that
// stand before a key picture, as ffmpeg writes them, are a unit of their own.
type tsCutter struct {
	feed   bytes.Reader
	demux  *astits.Demuxer // reads packet headers from feed
	pmts   map[uint16]bool // PIDs that carry program maps
	layout string          // of the tables that were last marked Init; empty: none yet
	clock  uint16          // PID whose packets' starts are the cuts; 0: not known yet
	video  bool            // whether that is video
	time   time.Duration   // of the newest start
	dts    uint64          // likewise, 90 kHz, unwrapped
	ticked bool            // dts is set
}

func newTSCutter() *tsCutter {
	c := &tsCutter{time: NoTime}
	c.demux = astits.NewDemuxer(context.Background(), &c.feed, astits.DemuxerOptPacketSize(tsPacket))
	return c
}

// plausibleTSHead looks at a packet's header: not in error, not scrambled, not without content. Text that starts with a G
// fails here.
func plausibleTSHead(b []byte) bool {
	return b[0] == 0x47 && b[1]&0x80 == 0 && b[3]&0xc0 == 0 && b[3]&0x30 != 0
}

// isTS reports whether each packet of b starts with the sync byte; there are two at least.
func isTS(b []byte) bool {
	if len(b) < 2*tsPacket {
		return false
	}
	for i := 0; i <= 2*tsPacket && i < len(b); i += tsPacket {
		if b[i] != 0x47 {
			return false
		}
	}
	return true
}

// next walks the packets. A run of tables is held until the packet after it tells whether the run opens a unit.
func (c *tsCutter) next(in *input) (cut, error) {
	unit := cut{kind: Delta, time: c.time}
	run := -1         // where the tables at the end of the unit start
	var tables []byte // their packets
	for off := 0; ; off += tsPacket {
		if off > 0 && run < 0 && in.pausedBefore(off+tsPacket) || off+tsPacket > c.limit(run) {
			unit.n = off
			return unit, nil
		}
		b := in.peek(off + tsPacket)
		if len(b) < off+tsPacket {
			if off == 0 {
				off = len(b) // the file's last, incomplete packet
			}
			unit.n = off
			return unit, nil
		}
		raw := b[off : off+tsPacket]
		p, err := c.parse(raw)
		if err != nil {
			if off == 0 {
				return cut{}, errBroken
			}
			unit.n = off
			return unit, nil
		}
		if c.isTable(p.Header.PID) {
			if run < 0 {
				run = off
			}
			tables = append(tables, raw...)
			if p.Header.PID == astits.PIDPAT {
				c.learn(tables)
			}
			continue
		}
		starts := p.Header.PayloadUnitStartIndicator && p.Header.PID == c.clock && c.clock != 0
		key := starts && (!c.video || p.AdaptationField != nil && p.AdaptationField.RandomAccessIndicator)
		at := off
		if run >= 0 {
			t, whole := readTables(tables)
			if !whole && c.layout == "" && t.pat && len(tables) < maxTables && off-run < rawChunk {
				continue // the maps come later: the unit goes on until they are there
			}
			if whole && run == 0 && (t.layout != c.layout || key && c.video) {
				c.layout = t.layout
				c.setClock(t)
				return cut{off, Init, NoTime}, nil
			}
			if run > 0 && (starts || whole && t.layout != c.layout) {
				unit.n = run
				return unit, nil
			}
			at, run, tables = run, -1, nil
		}
		if !starts {
			continue
		}
		if at > 0 {
			unit.n = off
			return unit, nil
		}
		c.tick(p.Payload)
		unit.time = c.time
		if key {
			unit.kind = Key
		}
	}
}

// limit returns how long the unit may become: without known starts there is nothing to wait for.
func (c *tsCutter) limit(run int) int {
	if c.clock == 0 && run < 0 {
		return rawChunk
	}
	return MaxUnit
}

func (c *tsCutter) parse(raw []byte) (p *astits.Packet, err error) {
	c.feed.Reset(raw)
	err = guarded(func() error {
		p, err = c.demux.NextPacket()
		return err
	})
	return p, err
}

// isTable reports whether a PID carries tables: PAT, CAT, the maps that the PAT names, and what DVB reserves (ETSI EN 300
// 468, 5.1.3).
func (c *tsCutter) isTable(pid uint16) bool { return pid < 0x20 || c.pmts[pid] }

// learn takes the PIDs of program maps from a PAT among the tables, so that the maps that follow are known as such.
func (c *tsCutter) learn(tables []byte) {
	if len(tables) > maxTables {
		return
	}
	if t, _ := readTables(tables); t.pat {
		c.pmts = t.pmts
	}
}

func (c *tsCutter) setClock(t programs) {
	if t.clock != c.clock {
		c.ticked = false
	}
	c.clock, c.video = t.clock, t.video
}

// programs is what the tables say.
type programs struct {
	pat    bool
	pmts   map[uint16]bool
	layout string // names every program, stream and codec: two layouts differ if a decoder needs the tables anew
	clock  uint16 // the first video stream, else the first audio stream, else the first of all
	video  bool
}

// readTables reads packets with tables. whole says that there is a PAT, and a map for each program it names.
func readTables(packets []byte) (t programs, whole bool) {
	// The programs' maps are known to the demuxer only from the PAT on; other packets must not reach it.
	t.pmts = map[uint16]bool{}
	known := map[uint16]bool{}
	rank := 0
	var layout strings.Builder
	d := astits.NewDemuxer(context.Background(), bytes.NewReader(packets), astits.DemuxerOptPacketSize(tsPacket),
		astits.DemuxerOptPacketSkipper(func(p *astits.Packet) bool { return p.Header.PID != 0 && !t.pmts[p.Header.PID] }))
	err := guarded(func() error {
		for {
			data, err := d.NextData()
			if err != nil {
				return err
			}
			if data.PAT != nil {
				t.pat = true
				for _, p := range data.PAT.Programs {
					if p.ProgramNumber != 0 { // 0 is the network's table
						t.pmts[p.ProgramMapID] = true
					}
				}
			}
			if data.PMT == nil {
				continue
			}
			known[data.PID] = true
			fmt.Fprintf(&layout, "%d:", data.PID)
			for _, s := range data.PMT.ElementaryStreams {
				fmt.Fprintf(&layout, "%d/%d,", s.ElementaryPID, s.StreamType)
				r := 1
				switch {
				case s.StreamType.IsVideo():
					r = 3
				case s.StreamType.IsAudio():
					r = 2
				}
				if r > rank {
					rank, t.clock, t.video = r, s.ElementaryPID, r == 3
				}
			}
		}
	})
	t.layout = layout.String()
	return t, errors.Is(err, astits.ErrNoMorePackets) && len(t.pmts) > 0 && len(known) == len(t.pmts) && t.clock != 0
}

// tick takes the decode time of the PES packet that starts in b, if it has one: ISO/IEC 13818-1, 2.4.3.6.
func (c *tsCutter) tick(b []byte) {
	if len(b) < 14 || b[0] != 0 || b[1] != 0 || b[2] != 1 || b[7]&0x80 == 0 {
		return
	}
	stamp := b[9:14] // PTS
	if b[7]&0x40 != 0 && len(b) >= 19 {
		stamp = b[14:19] // DTS
	}
	const wrap = 1 << 33
	v := uint64(stamp[0]>>1&7)<<30 | uint64(stamp[1])<<22 | uint64(stamp[2]>>1)<<15 | uint64(stamp[3])<<7 | uint64(stamp[4]>>1)
	if c.ticked {
		// The nearest time that ends in these 33 bits, so that the wrap after 26 hours goes on.
		v += c.dts &^ (wrap - 1)
		switch {
		case v+wrap/2 < c.dts:
			v += wrap
		case v > c.dts+wrap/2 && v >= wrap:
			v -= wrap
		}
	}
	c.dts, c.ticked = v, true
	c.time = ticks(v, 90000)
}
