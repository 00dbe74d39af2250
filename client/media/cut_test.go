package media_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/asticode/go-astits"
	"github.com/timedge/timedge/client/media"
)

// box builds an MP4 box.
func box(typ string, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), typ...), body...)
}

// TestLargeFragment: a fragment beyond MaxUnit is cut, and the part after the first is no point to start from.
func TestLargeFragment(t *testing.T) {
	file := sample(t, "sample.mp4")
	_, units := split(t, bytes.NewReader(file))
	head, first, second := units[0].data, units[1].data, units[2].data
	moof := first[:binary.BigEndian.Uint32(first)]
	large := bytes.Join([][]byte{head, moof, box("mdat", make([]byte, 9<<20)), second}, nil)

	_, got := split(t, bytes.NewReader(large))
	if !bytes.Equal(join(got), large) {
		t.Fatal("the units joined are not the file")
	}
	if got, want := starts(got), fmt.Sprintf("init@0 key@%d key@%d ", len(head), len(large)-len(second)); got != want {
		t.Errorf("starts at %s, want %s", got, want)
	}
}

// TestFixedOffsets: fragments that count from the start of the file cannot be decoded without it.
func TestFixedOffsets(t *testing.T) {
	file := bytes.Clone(sample(t, "sample.mp4"))
	for rest := file; ; {
		at := bytes.Index(rest, []byte("tfhd"))
		if at < 0 {
			break
		}
		// Turns the default flags (4 bytes) and size (4 bytes) into the 8 bytes of a base data offset.
		rest = rest[at:]
		flags := binary.BigEndian.Uint32(rest[4:])
		if flags&0x30 != 0x30 {
			t.Fatalf("flags %x are not those of the sample", flags)
		}
		binary.BigEndian.PutUint32(rest[4:], flags&^0x30|1)
		rest = rest[4:]
	}
	_, units := split(t, bytes.NewReader(file))
	if got, want := kinds(units), "init 1, delta 3"; got != want {
		t.Errorf("units are %s, want %s", got, want)
	}
}

// muxTS writes a transport stream of one picture a second, from the 90 kHz time given, every other one with the random
// access mark.
func muxTS(t *testing.T, start int64, pictures int, between func(mux *astits.Muxer, i int)) []byte {
	t.Helper()
	var b bytes.Buffer
	mux := astits.NewMuxer(context.Background(), &b)
	video := astits.PMTElementaryStream{ElementaryPID: 256, StreamType: astits.StreamTypeH264Video}
	if err := mux.AddElementaryStream(video); err != nil {
		t.Fatal(err)
	}
	mux.SetPCRPID(256)
	for i := range pictures {
		if between != nil {
			between(mux, i)
		}
		pts := &astits.ClockReference{Base: (start + int64(i)*90000) & (1<<33 - 1)}
		_, err := mux.WriteData(&astits.MuxerData{
			PID:             256,
			AdaptationField: &astits.PacketAdaptationField{RandomAccessIndicator: i%2 == 0},
			PES: &astits.PESData{
				Header: &astits.PESHeader{StreamID: 0xe0, OptionalHeader: &astits.PESOptionalHeader{
					MarkerBits: 2, PTSDTSIndicator: astits.PTSDTSIndicatorOnlyPTS, PTS: pts,
				}},
				Data: make([]byte, 400),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestClockWrap: the 33 bits of a transport stream's clock run over after 26 hours; the units' times go on.
func TestClockWrap(t *testing.T) {
	const start = 1<<33 - 2*90000
	_, units := split(t, bytes.NewReader(muxTS(t, start, 5, nil)))
	var first time.Duration
	n := 0
	for _, u := range units {
		if u.kind == media.Init {
			continue
		}
		if n == 0 {
			first = u.time
		}
		if got, want := u.time-first, time.Duration(n)*time.Second; got.Round(time.Millisecond) != want {
			t.Errorf("picture %d is %v after the first, want %v", n, got, want)
		}
		n++
	}
	if n != 5 {
		t.Errorf("%d pictures", n)
	}
}

// TestScatteredTables: a PAT whose map comes only after other packets still makes an init unit; before it there is no
// mark.
func TestScatteredTables(t *testing.T) {
	file := muxTS(t, 0, 4, nil)
	const packet = astits.MpegTsPacketSize
	null := bytes.Repeat([]byte{0xff}, packet)
	copy(null, "\x47\x1f\xff\x10")
	pat, pmt, rest := file[:packet], file[packet:2*packet], file[2*packet:]
	scattered := bytes.Join([][]byte{null, pat, null, null, pmt, rest}, nil)

	_, units := split(t, bytes.NewReader(scattered))
	if !bytes.Equal(join(units), scattered) {
		t.Fatal("the units joined are not the file")
	}
	if got, want := starts(units)[:len("init@188 key@940 ")], "init@188 key@940 "; got != want {
		t.Errorf("starts at %s, want %s", got, want)
	}
	if !bytes.Contains(units[1].data, pat) || !bytes.Contains(units[1].data, pmt) {
		t.Error("the init unit lacks a table")
	}
}

// TestNewLayout: tables that name other streams than before are an init unit, wherever they stand.
func TestNewLayout(t *testing.T) {
	file := muxTS(t, 0, 6, func(mux *astits.Muxer, i int) {
		if i != 3 { // before a picture without the random access mark
			return
		}
		err := mux.AddElementaryStream(astits.PMTElementaryStream{ElementaryPID: 257, StreamType: astits.StreamTypeAACAudio})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mux.WriteTables(); err != nil {
			t.Fatal(err)
		}
	})
	_, units := split(t, bytes.NewReader(file))
	if !bytes.Equal(join(units), file) {
		t.Fatal("the units joined are not the file")
	}
	var inits [][]byte
	for _, u := range units {
		if u.kind == media.Init {
			inits = append(inits, u.data)
		}
	}
	if len(inits) < 2 || len(inits[0]) != 2*astits.MpegTsPacketSize {
		t.Fatalf("units are %s", kinds(units))
	}
	if bytes.Equal(inits[0], inits[len(inits)-1]) {
		t.Error("the newest init unit is the oldest")
	}
}
