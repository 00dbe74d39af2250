package room

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/timedge/timedge/codec"
)

// frame returns a frame of room 7, publisher 3.
func frame(dtype uint8, seq uint64, flags codec.Flags, size int) []byte {
	s := codec.Stream{Room: 7, StreamKey: codec.StreamKey{Pub: 3, Dtype: dtype}, Flags: flags, Seq: seq,
		Payload: make([]byte, size)}
	return enc(s.Append(nil))
}

func TestScanRunEnds(t *testing.T) {
	const key, init, more, cont = codec.FlagKey, codec.FlagInit, codec.FlagMore, codec.FlagCont
	head := func(b []byte, at int, with ...byte) []byte {
		copy(b[at:], with)
		return b
	}
	var ping []byte
	ping = enc((&codec.Ping{Echo: 1}).Append(ping))
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   int // frames in the run
		err    error
	}{
		{"one frame", [][]byte{frame(1, 1, 0, 5)}, 1, nil},
		{"consecutive frames", [][]byte{frame(1, 1, 0, 5), frame(1, 2, key, 0), frame(1, 3, 0, 9)}, 3, nil},
		{"pieces", [][]byte{frame(1, 1, key|more, 5), frame(1, 2, key|more|cont, 5), frame(1, 3, key|cont, 5),
			frame(1, 4, 0, 5)}, 4, nil},
		{"begins within a message", [][]byte{frame(1, 5, cont, 5), frame(1, 6, 0, 5)}, 2, nil},
		{"the highest number", [][]byte{frame(1, codec.MaxSeq, 0, 5), head(frame(1, 1, 0, 5), 14, 0, 0, 0, 0, 0, 0)}, 1, nil},
		{"another sequence number", [][]byte{frame(1, 1, 0, 5), frame(1, 3, 0, 5)}, 1, nil},
		{"the same sequence number", [][]byte{frame(1, 1, 0, 5), frame(1, 1, 0, 5)}, 1, nil},
		{"another dtype", [][]byte{frame(1, 1, 0, 5), frame(2, 2, 0, 5)}, 1, nil},
		{"another publisher", [][]byte{frame(1, 1, 0, 5), head(frame(1, 2, 0, 5), 11, 1, 3)}, 1, nil},
		{"another room", [][]byte{frame(1, 1, 0, 5), head(frame(1, 2, 0, 5), 10, 8)}, 1, nil},
		{"a control frame", [][]byte{frame(1, 1, 0, 5), ping}, 1, nil},
		{"an unknown flag", [][]byte{frame(1, 1, 0, 5), head(frame(1, 2, 0, 5), 2, 0x90)}, 1, nil},
		{"a length below the header", [][]byte{frame(1, 1, 0, 5), head(frame(1, 2, 0, 5), 0, 0, 17)}, 1, nil},
		{"a length above the limit", [][]byte{frame(1, 1, 0, 5), head(frame(1, 2, 0, 5), 0, 0xff, 0xff)}, 1, nil},
		{"a frame not whole", [][]byte{frame(1, 1, 0, 5), frame(1, 2, 0, 5)[:24]}, 1, nil},
		{"a header not whole", [][]byte{frame(1, 1, 0, 5), frame(1, 2, 0, 5)[:19]}, 1, nil},
		{"init after others", [][]byte{frame(1, 1, 0, 5), frame(1, 2, init, 5)}, 1, nil},
		{"others after init",
			[][]byte{frame(1, 1, init, 5), frame(1, 2, init|more, 5), frame(1, 3, init|cont, 5), frame(1, 4, 0, 5)}, 3, nil},
		{"a start within a message", [][]byte{frame(1, 1, more, 5), frame(1, 2, 0, 5)}, 1, nil},
		{"a piece of no message", [][]byte{frame(1, 1, 0, 5), frame(1, 2, cont, 5)}, 1, nil},
		{"a piece that is key alone", [][]byte{frame(1, 1, more, 5), frame(1, 2, cont|key, 5)}, 1, nil},
		{"a piece that is init alone", [][]byte{frame(1, 1, more, 5), frame(1, 2, cont|init, 5)}, 1, nil},
		{"a run as long as a buffer",
			[][]byte{frame(1, 1, 0, codec.MaxPiece), frame(1, 2, 0, codec.MaxPiece), frame(1, 3, 0, 0)}, 2, nil},
		{"nothing", nil, 0, codec.ErrIncomplete},
		{"first frame not whole", [][]byte{frame(1, 1, 0, 5)[:24]}, 0, codec.ErrIncomplete},
		{"first frame too short", [][]byte{{0, 1, 0x80}}, 0, new(codec.ProtocolError)},
		{"first frame with an unknown flag", [][]byte{head(frame(1, 1, 0, 5), 2, 0x90)}, 0, new(codec.ProtocolError)},
		{"first frame without a number", [][]byte{head(frame(1, 1, 0, 5), 14, 0, 0, 0, 0, 0, 0)}, 0,
			new(codec.ProtocolError)},
	} {
		t.Run(c.name, func(t *testing.T) {
			run, err := ScanRun(bytes.Join(c.frames, nil))
			if pe := new(codec.ProtocolError); errors.As(c.err, &pe) {
				if !errors.As(err, &pe) {
					t.Fatalf("got %v, want a protocol error", err)
				}
				return
			}
			if err != c.err {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err == nil && (run.Frames != c.want || !bytes.Equal(run.Raw, bytes.Join(c.frames[:c.want], nil))) {
				t.Fatalf("%d frames in %d bytes, want %d", run.Frames, len(run.Raw), c.want)
			}
		})
	}
}

// naiveRun is ScanRun frame by frame with codec's own parser.
func naiveRun(b []byte) (run Run, err error) {
	var prev codec.Stream
	for at := 0; ; {
		frame, typ, err := codec.Next(b[at:], codec.MaxFrame)
		var s codec.Stream
		if err == nil && run.Frames > 0 && typ&codec.TypeStream == 0 {
			err = codec.ErrIncomplete
		}
		if err == nil {
			err = codec.ParseStream(frame, &s)
		}
		if run.Frames == 0 {
			if err != nil {
				return run, err
			}
			run.Room, run.Key, run.First = s.Room, s.StreamKey, s.Seq
			run.Init, run.Cont, run.first = s.Flags&codec.FlagInit != 0, s.Flags&codec.FlagCont != 0, s.Flags
		} else if err != nil || s.Room != run.Room || s.StreamKey != run.Key || s.Seq != prev.Seq+1 ||
			at+len(frame) > maxRun ||
			s.Flags.Start() != prev.Flags.End() || s.Flags&codec.FlagInit != prev.Flags&codec.FlagInit ||
			!s.Flags.Start() && s.Flags&codec.FlagKey != prev.Flags&codec.FlagKey {
			return run, nil
		}
		run.Frames++
		at += len(frame)
		run.Raw, run.Last, run.last, run.More = b[:at], s.Seq, s.Flags, s.Flags&codec.FlagMore != 0
		if s.Flags.Start() {
			run.startSeq, run.tail = s.Seq, 0
			if s.Flags&codec.FlagKey != 0 {
				run.keySeq, run.Keyed = s.Seq, true
			}
		}
		if run.startSeq == 0 {
			run.head += len(s.Payload)
		} else if run.tail += len(s.Payload); !run.More {
			run.largest, run.tail = max(run.largest, run.tail), 0
		}
		prev = s
	}
}

func sameRun(a, b Run) bool {
	raw := bytes.Equal(a.Raw, b.Raw)
	a.Raw, b.Raw = nil, nil
	return raw && a.Room == b.Room && a.Key == b.Key && a.First == b.First && a.Last == b.Last && a.Frames == b.Frames &&
		a.Init == b.Init &&
		a.Cont == b.Cont && a.More == b.More && a.Keyed == b.Keyed && a.first == b.first && a.last == b.last &&
		a.keySeq == b.keySeq && a.startSeq == b.startSeq && a.head == b.head && a.tail == b.tail && a.largest == b.largest
}

// FuzzScanRun compares ScanRun with the naive scan, on frames whose headers are patched by the fuzzer: three bytes each
// for where, which byte and what.
func FuzzScanRun(f *testing.F) {
	f.Add([]byte{}, []byte{0, 4, 12, 8, 0, 1, 0})
	f.Add([]byte{1, 19, 1}, []byte{4, 12, 8})
	f.Add([]byte{2, 2, 0x82, 3, 2, 0x90}, []byte{0, 0, 0, 0})
	f.Add([]byte{1, 0, 0xff, 1, 1, 0xff}, []byte{2, 2})
	f.Fuzz(func(t *testing.T, patches, flags []byte) {
		var b []byte
		var starts []int
		for i, fl := range flags {
			starts = append(starts, len(b))
			b = append(b, frame(1, uint64(i+1), codec.Flags(fl)&15, int(fl>>4))...)
		}
		for len(patches) >= 3 && len(starts) > 0 {
			at := starts[int(patches[0])%len(starts)] + int(patches[1])%codec.StreamHeaderSize
			b[at] = patches[2]
			patches = patches[3:]
		}
		if len(b) > len(patches) {
			b = b[:len(b)-len(patches)] // cut the end
		}
		if len(b) <= codec.LengthSize || b[codec.LengthSize]&codec.TypeStream == 0 {
			return
		}
		got, err := ScanRun(b)
		want, wantErr := naiveRun(b)
		if !errors.Is(err, wantErr) && !(err != nil && wantErr != nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && !sameRun(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if err != nil {
			return
		}
		at := 0
		for seq := got.First; seq <= got.Last; seq++ {
			if off := offsetOf(got.Raw, got.First, seq); off != at {
				t.Fatalf("frame %d at %d, want %d", seq, off, at)
			}
			at += int(binary.BigEndian.Uint16(got.Raw[at:])) + codec.LengthSize
		}
	})
}
