package media

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// psiSection builds a section with its CRC: ISO/IEC 13818-1, 2.4.4.
func psiSection(table byte, id uint16, number byte, body []byte) []byte {
	b := []byte{table, 0xb0, 0}
	b = append(binary.BigEndian.AppendUint16(b, id), 0xc1, number, number)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[1:], 0xb000|uint16(len(b)-3+4))
	c := crc32MPEG(b)
	return binary.BigEndian.AppendUint32(b, c)
}

// TestSections puts tables together from packets cut anywhere, with several sections in a row and stuffing behind them.
func TestSections(t *testing.T) {
	pat := psiSection(0, 1, 0, []byte{0, 0, 0xe0, 0x10, 0, 1, 0xe1, 0x00, 0, 2, 0xe1, 0x01})
	pmt := psiSection(2, 1, 0,
		[]byte{0xe1, 0x10, 0xf0, 0, 0x1b, 0xe1, 0x10, 0xf0, 0, 0x0f, 0xe1, 0x11, 0xf0, 0, 0x06, 0xe1, 0x12, 0xf0, 6, 5, 4,
			'O', 'p', 'u', 's'})
	for cut := 1; cut < len(pmt); cut++ {
		var tables tsTables
		var of sections
		if !of.add(&tables, 0, append(append([]byte{0}, pat...), 0xff, 0xff), true) || len(tables.programs) != 2 ||
			tables.complete() {
			t.Fatalf("PAT: %+v", tables)
		}
		var parts sections
		parts.add(&tables, 0x100, append([]byte{0}, pmt[:cut]...), true)
		if len(tables.streams) > 0 {
			t.Fatalf("%d bytes are taken for a map", cut)
		}
		// The rest comes in a packet in which another section starts.
		rest := append([]byte{byte(len(pmt) - cut)}, pmt[cut:]...)
		if !parts.add(&tables, 0x100, append(rest, pmt...), true) {
			t.Fatalf("cut after %d bytes, the map is lost", cut)
		}
		if got := tables.clock(); got == nil || got.pid != 0x110 || got.codec != codecH264 {
			t.Fatalf("the clock is %+v", got)
		}
		if got := tables.stream(0x112); got == nil || got.class != audioTrack || got.name != "Opus" {
			t.Errorf("the third stream is %+v", got)
		}
	}
}

func TestDamagedSections(t *testing.T) {
	pat := psiSection(0, 1, 0, []byte{0, 1, 0xe1, 0x00})
	for i := range pat {
		var tables tsTables
		b := bytes.Clone(pat)
		b[i] ^= 0x10
		if tables.section(0, b) {
			t.Errorf("a section with byte %d damaged is taken", i)
		}
	}
}

func FuzzTables(f *testing.F) {
	f.Add(append([]byte{0}, psiSection(0, 1, 0, []byte{0, 1, 0xe1, 0x00})...),
		append([]byte{0}, psiSection(2, 1, 0, []byte{0xe1, 0x10, 0xf0, 0, 0x1b, 0xe1, 0x10, 0xf0, 0})...), 20)
	f.Add([]byte{0xff}, append([]byte{0}, make([]byte, 300)...), 82) // a section begins 255 bytes behind the pointer
	f.Add([]byte{0}, append(append(make([]byte, 82), 0xff), make([]byte, 300)...), 82)
	f.Fuzz(func(t *testing.T, pat, pmt []byte, cut int) {
		var tables tsTables
		var first, second sections
		first.add(&tables, 0, pat, true)
		if len(tables.programs) == 0 {
			tables.programs = append(tables.programs, tsProgram{number: 1, pid: 0x100})
		}
		pid := tables.programs[0].pid
		if cut > 0 && cut < len(pmt) {
			second.add(&tables, pid, pmt[:cut], true)
			pmt = pmt[cut:]
		}
		second.add(&tables, pid, pmt, cut&1 == 0)
		if len(pmt) >= 4 {
			tables.streamsOf(&tables.programs[0], pmt)
		}
		var other tsTables
		other.copyFrom(&tables)
		if !tables.same(&other) {
			t.Fatal("a copy is another layout")
		}
		tables.clock()
		changed(pmt, 1)
		if len(tables.streams) > maxStreams || len(tables.programs) > maxPrograms {
			t.Fatal("no bound")
		}
	})
}

// FuzzMP4Boxes reads boxes that are whole, as the splitter hands them over.
func FuzzMP4Boxes(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x10mvex\x00\x00\x00\x08trex"), []byte("\x00\x00\x00\x10traf\x00\x00\x00\x08tfhd"))
	f.Fuzz(func(t *testing.T, moov, moof []byte) {
		tracks, _ := readMoov(moov)
		tracks = append(tracks, mp4Track{id: 1, timescale: 90000, class: videoTrack})
		for i := range tracks {
			fragment := readMoof(moof, tracks, i)
			if fragment.timed && (fragment.time < 0 || fragment.duration < 0) {
				t.Fatalf("%+v", fragment)
			}
		}
		CountsFromStart(moof)
		esdsCodec(moov)
		readTrack(moov)
	})
}
