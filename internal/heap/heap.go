// Package heap has the system hold this process's heap in pages of 2 MiB, where those are full anyway.
//
// When a process is killed the system frees its memory first, page by page, and closes its connections afterwards: 0.1
// ms for each MiB in pages of 4 KiB, and 0.003 in pages of 2 MiB. The other nodes of a cluster hear of a death by these
// connections, so that without this package the pause of every stream would grow with all else that a node holds.
//
// Start at [Gatherer]. It belongs to one goroutine.
package heap

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Gatherer makes large pages of the heap's full ones, a few at a time. It goes round again when the heap has grown, and
// now and then for blocks that have become full since.
// The zero value is ready to use.
type Gatherer struct {
	spans   []span // what is left of this round
	reached uint64 // bytes of the heap when the last round began
	rested  int    // steps since the last round
	given   bool   // the system does not do it
}

// span is a range of addresses, in whole blocks.
type span struct{ from, to uint64 }

const (
	page  = 4 << 10
	block = 2 << 20
	// least is by how much the heap grows before it is worth another round.
	least = 16 << 20
	// again is after how many steps it goes round again anyway.
	again = 20
)

// Step looks at so many blocks of 2 MiB, and gathers those that are full: half a millisecond each at most, and next to
// nothing for one that is a large page already. A block that is not full stays as it is, so that the process does not
// come to hold much more by it. It returns how many were full.
func (g *Gatherer) Step(blocks int) (full int) {
	if g.given || len(g.spans) == 0 && !g.begin() {
		return 0
	}
	pages, err := os.Open("/proc/self/pagemap")
	if err != nil {
		g.given = true
		return 0
	}
	defer pages.Close()
	for ; blocks > 0 && len(g.spans) > 0; blocks-- {
		s := &g.spans[0]
		if isFull(pages, s.from) {
			switch err := gather(s.from); {
			case errors.Is(err, errors.ErrUnsupported):
				g.given, g.spans = true, nil
				return full
			case err == nil:
				full++
			} // any other: there was no large page to be had, or the range is not what it was
		}
		if s.from += block; s.from >= s.to {
			g.spans = g.spans[1:]
		}
	}
	return full
}

// begin begins another round if it is time for one.
func (g *Gatherer) begin() bool {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(sample)
	now := sample[0].Value.Uint64() + sample[1].Value.Uint64()
	g.rested++
	if grown := now >= g.reached+least; !grown && (g.reached == 0 || g.rested < again) {
		return false
	}
	g.reached, g.rested = now, 0
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil || os.Getpagesize() != page {
		g.given = true
		return false
	}
	g.spans = spansOf(maps)
	return len(g.spans) > 0
}

// spansOf returns where memory is that can be written and belongs to no file, by the system's list of a process's
// memory: address-address permissions offset device inode, and maybe a name. Beside the heap that is little.
func spansOf(maps []byte) (spans []span) {
	for line := range strings.Lines(string(maps)) {
		field := strings.Fields(line)
		if len(field) < 5 || field[1] != "rw-p" || field[4] != "0" {
			continue
		}
		first, last, _ := strings.Cut(field[0], "-")
		from, err1 := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		from, to = (from+block-1)/block*block, to/block*block
		if err1 == nil && err2 == nil && from < to {
			spans = append(spans, span{from, to})
		}
	}
	return spans
}

// isFull reports whether 15 of 16 pages of a block are in memory, or more: the list has 8 bytes for each, the highest bit
// of which says so. So the process holds 7 % more at most by what becomes of it.
func isFull(pages io.ReaderAt, at uint64) bool {
	var list [block / page * 8]byte
	if _, err := pages.ReadAt(list[:], int64(at/page*8)); err != nil {
		return false
	}
	absent := 0
	for i := 0; i < len(list); i += 8 {
		if binary.NativeEndian.Uint64(list[i:])>>63 == 0 {
			absent++
		}
	}
	return absent <= block/page/16
}
