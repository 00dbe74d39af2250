package media

import (
	"bytes"
	"testing"
)

// annexB joins NAL units with start codes, avcc with lengths of 4 bytes.
func annexB(nals ...string) (b []byte) {
	for _, n := range nals {
		b = append(append(b, 0, 0, 0, 1), n...)
	}
	return b
}

func avcc(nals ...string) (b []byte) {
	for _, n := range nals {
		b = append(append(b, 0, 0, 0, byte(len(n))), n...)
	}
	return b
}

// NAL units of H.264: the slice's first bits are first_mb_in_slice and slice_type.
const (
	sps264      = "\x67\x64\x00\x1e\xac"
	pps264      = "\x68\xeb\xe3"
	aud264      = "\x09\xf0"
	idr264      = "\x65\x88\x84\x00\x33\xff\x00\x00\x00\x00\x00\x00\x00" // 0, 7: I
	later264    = "\x65\x48\x84\x00\x33\xff\x00\x00\x00\x00\x00\x00\x00" // 1, 1: not the first slice
	i264        = "\x61\x88\x84\x00\x33\xff\x00\x00\x00\x00\x00\x00\x00"
	p264        = "\x41\x9a\x24\x6c\x41\x4f\x00\x00\x00\x00\x00\x00\x00" // 0, 5: P
	recovery264 = "\x06\x06\x01\xc4\x80"
	user264     = "\x06\x05\x04\x01\x02\x03\x04\x80"
	both264     = "\x06\x05\x03\x00\x00\x03\x01\x06\x01\xc4\x80" // behind a message with a byte that prevents start codes
)

func TestLook(t *testing.T) {
	const none = startCodes
	for _, test := range []struct {
		name   string
		codec  codec
		length int
		b      []byte
		want   picture
	}{
		{"H.264: IDR with sets", codecH264, none, annexB(aud264, sps264, pps264, idr264), picture{true, true, true, true}},
		{"H.264: IDR without", codecH264, none, annexB(aud264, idr264), picture{true, true, true, false}},
		{"H.264: IDR, lengths", codecH264, 4, avcc(aud264, idr264), picture{true, true, true, false}},
		{"H.264: a slice in the midst of an IDR picture", codecH264, none, annexB(later264),
			picture{true, false, false, false}},
		{"H.264: P", codecH264, none, annexB(aud264, p264), picture{true, false, false, false}},
		{"H.264: I alone", codecH264, none, annexB(aud264, i264), picture{true, false, true, false}},
		{"H.264: I with sets", codecH264, none, annexB(sps264, pps264, i264), picture{true, true, true, true}},
		{"H.264: recovery point", codecH264, none, annexB(recovery264, p264), picture{true, true, false, false}},
		{"H.264: recovery point behind another message", codecH264, none, annexB(both264, i264),
			picture{true, true, true, false}},
		{"H.264: another message", codecH264, none, annexB(user264, p264), picture{true, false, false, false}},
		{"H.264: no picture", codecH264, none, annexB(aud264, sps264, pps264), picture{}},
		{"H.264: nothing", codecH264, none, nil, picture{}},
		{"H.264: length beyond the end", codecH264, 4, []byte{0xff, 0xff, 0xff, 0xff, 0x65},
			picture{true, false, false, false}},
		{"H.265: IDR", codecH265, none, annexB("\x40\x01\x0c", "\x42\x01\x01", "\x44\x01\xc1", "\x26\x01\xaf\x00"),
			picture{true, true, true, true}},
		{"H.265: CRA", codecH265, none, annexB("\x2a\x01\xaf\x00"), picture{true, true, true, false}},
		{"H.265: BLA", codecH265, 4, avcc("\x20\x01\xaf\x00"), picture{true, true, true, false}},
		{"H.265: trailing", codecH265, none, annexB("\x02\x01\xd0\x00"), picture{true, false, false, false}},
		{"H.265: recovery point", codecH265, none, annexB("\x4e\x01\x06\x01\x80\x80", "\x02\x01\xd0\x00"),
			picture{true, true, false, false}},
		{"H.265: second segment of an IDR", codecH265, none, annexB("\x26\x01\x2f\x00"), picture{true, false, true, false}},
		{"H.266: IDR", codecH266, none, annexB("\x00\x79\x00", "\x00\x81\x00", "\x00\x39\x00"),
			picture{true, true, true, true}},
		{"H.266: trailing", codecH266, none, annexB("\x00\x01\x00"), picture{true, false, false, false}},
		{"MPEG-2: I with its sequence", codecMPEG2, none, annexB("\xb3\x14\x00\xf0", "\xb8\x00", "\x00\x00\x0f\xff"),
			picture{true, true, true, true}},
		{"MPEG-2: I", codecMPEG2, none, annexB("\x00\x00\x0f\xff"), picture{true, true, true, false}},
		{"MPEG-2: P", codecMPEG2, none, annexB("\x00\x00\x57\xff"), picture{true, false, false, false}},
		{"MPEG-4: I", codecMPEG4, none, annexB("\x20\x00", "\xb6\x10\x60"), picture{true, true, true, true}},
		{"MPEG-4: P", codecMPEG4, none, annexB("\xb6\x56\x60"), picture{true, false, false, false}},
		{"VC-1: entry point", codecVC1, none, annexB("\x0f\xd2", "\x0e\x5a", "\x0d\x00"), picture{true, true, true, true}},
		{"VC-1: frame", codecVC1, none, annexB("\x0d\x40"), picture{true, false, false, false}},
		{"AVS: I", codecAVS, none, annexB("\xb0\x20", "\xb3\x00"), picture{true, true, true, true}},
		{"AVS: P", codecAVS, none, annexB("\xb6\x00"), picture{true, false, false, false}},
		{"Dirac: I", codecDirac, none, []byte("BBCD\x00....BBCD\x0c"), picture{true, true, true, true}},
		{"Dirac: one reference", codecDirac, none, []byte("BBCD\x0d"), picture{true, false, false, false}},
		{"VP8: key", codecVP8, 0, []byte("\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00"), picture{true, true, true, false}},
		{"VP8: key without its code", codecVP8, 0, []byte("\x10\x02\x00\x00\x00\x00\x40\x01\xf0\x00"),
			picture{true, false, false, false}},
		{"VP8: inter", codecVP8, 0, []byte("\x11\x02\x00"), picture{true, false, false, false}},
		{"VP9: key", codecVP9, 0, []byte("\x82\x49\x83\x42\x00\x13\xf0\x0e\xf0\x00"), picture{true, true, true, false}},
		{"VP9: inter", codecVP9, 0, []byte("\x86\x00\x40\x92"), picture{true, false, false, false}},
		{"VP9: shown again", codecVP9, 0, []byte("\x88"), picture{true, false, false, false}},
		{"AV1: key", codecAV1, 0, []byte("\x12\x00\x0a\x01\x00\x32\x02\x10\x00"), picture{true, true, true, false}},
		{"AV1: key, with an extension", codecAV1, 0, []byte("\x36\x00\x02\x10\x00"), picture{true, true, true, false}},
		{"AV1: inter", codecAV1, 0, []byte("\x12\x00\x32\x02\x30\x00"), picture{true, false, false, false}},
		{"AV1: shown again", codecAV1, 0, []byte("\x12\x00\x1a\x01\x88"), picture{true, false, false, false}},
		{"AV1: size beyond the end", codecAV1, 0, []byte("\x0a\xff\xff\xff\xff\x0f"), picture{}},
		{"Theora: key", codecTheora, 0, []byte{0x30}, picture{true, true, true, false}},
		{"Theora: inter", codecTheora, 0, []byte{0x70}, picture{true, false, false, false}},
		{"all intra", codecIntra, 0, []byte{1}, picture{true, true, true, false}},
		{"unknown", codecUnknown, 0, []byte{1}, picture{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.codec.look(test.b, test.length, true); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestLookAsItComes: what is said of a part of an access unit is what is said of the whole, or nothing.
func TestLookAsItComes(t *testing.T) {
	for _, unit := range []struct {
		codec codec
		b     []byte
	}{
		{codecH264, annexB(aud264, sps264, pps264, both264, idr264)},
		{codecH264, annexB(aud264, recovery264, p264)},
		{codecH265, annexB("\x40\x01\x0c", "\x42\x01\x01", "\x44\x01\xc1", "\x4e\x01\x06\x01\x80\x80", "\x02\x01\xd0\x00")},
		{codecMPEG2, annexB("\xb3\x14\x00\xf0", "\xb8\x00", "\x00\x00\x0f\xff")},
	} {
		whole := unit.codec.look(unit.b, startCodes, true)
		for n := range unit.b {
			if p := unit.codec.look(unit.b[:n], startCodes, false); p.known && p != whole {
				t.Errorf("%v: after %d of %d bytes %+v, in the end %+v", unit.codec, n, len(unit.b), p, whole)
			}
		}
	}
}

func TestSniff(t *testing.T) {
	for _, test := range []struct {
		b    []byte
		want codec
	}{
		{annexB(aud264, p264), codecH264},
		{annexB(sps264, pps264, idr264), codecH264},
		{annexB("\x46\x01\x10", "\x02\x01\xd0"), codecH265},
		{annexB("\x40\x01\x0c"), codecH265},
		{annexB("\xb3\x14\x00\xf0\xc4\x00\x00\x00"), codecMPEG2},
		{annexB("\xb0\x01\x00"), codecMPEG4},
		{annexB(p264), codecUnknown},
		{[]byte("some text"), codecUnknown},
	} {
		if got := sniff(test.b); got != test.want {
			t.Errorf("%x is taken for %v, want %v", test.b, got, test.want)
		}
	}
}

func TestLookAllocates(t *testing.T) {
	idr, inter := annexB(aud264, sps264, pps264, both264, idr264), []byte("\x86\x00\x40\x92")
	if n := testing.AllocsPerRun(100, func() {
		codecH264.look(idr, startCodes, true)
		codecVP9.look(inter, 0, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzLook(f *testing.F) {
	f.Add(annexB(aud264, sps264, pps264, both264, idr264), uint8(codecH264), 0)
	f.Add(avcc(aud264, idr264), uint8(codecH264), 4)
	f.Add([]byte("\x82\x49\x83\x42\x00\x13\xf0\x0e\xf0\x00"), uint8(codecVP9), 0)
	f.Add([]byte("\x12\x00\x0a\x01\x00\x32\x02\x10\x00"), uint8(codecAV1), 0)
	f.Fuzz(func(t *testing.T, b []byte, c uint8, length int) {
		kept := bytes.Clone(b)
		for whole, k := range map[bool]codec{true: codec(c) % (codecIntra + 1), false: codec(c) % (codecIntra + 1)} {
			k.look(b, length&3+length&1, whole)
		}
		sniff(b)
		hasRecoveryPoint(b)
		if !bytes.Equal(b, kept) {
			t.Fatal("the input has changed")
		}
	})
}
