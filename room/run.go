package room

import (
	"encoding/binary"

	"github.com/timedge/timedge/codec"
)

// Run is a number of consecutive frames of one stream, as they lie in a read buffer. It is the unit in which frames are
// routed: one check of rights and order, one copy, one post per loop.
type Run struct {
	Raw         []byte // whole frames; aliases what was scanned
	Room        codec.RoomID
	Key         codec.StreamKey
	First, Last uint64
	Frames      int
	Init        bool // the run's frames are init frames; a run never mixes them with others
	Cont        bool // the first frame continues a message
	More        bool // the last frame's message goes on
	Keyed       bool // at least one frame is a key frame

	first    codec.Flags // of the first frame
	last     codec.Flags // of the last frame
	keySeq   uint64      // the last key message's first frame; 0 if none
	startSeq uint64      // the last message's first frame; 0 if none starts here
	head     int         // payload bytes of the message that the first frame continues
	tail     int         // payload bytes of the unfinished message at the end
	largest  int         // payload bytes of the largest message that begins and ends in the run
}

// maxRun bounds the bytes of a run, so that its buffer falls into a size class.
const maxRun = 128 << 10

const seqMask = 1<<48 - 1

// ScanRun reads the run at the front of b, which must start with a stream frame. It stops before the first frame that
// is not whole, not of the same stream, not the next in sequence, not the piece that must come, or would mix init with
// other frames, and before the run gets longer than a buffer of the largest size class; a run of one frame is a run. It
// returns codec.ErrIncomplete if not even one frame is whole, and a *codec.ProtocolError if the first frame is no legal
// frame; a later illegal frame only ends the run and is found by the next scan.
func ScanRun(b []byte) (run Run, err error) {
	frame, _, err := codec.Next(b, codec.MaxFrame)
	if err != nil {
		return run, err
	}
	var s codec.Stream
	if err = codec.ParseStream(frame, &s); err != nil {
		return run, err
	}
	run.Room, run.Key, run.First = s.Room, s.StreamKey, s.Seq
	run.Init = s.Flags&codec.FlagInit != 0
	run.Cont = s.Flags&codec.FlagCont != 0
	run.first = s.Flags
	run.add(s.Flags, s.Seq, len(s.Payload))

	// The frames that follow differ in length, flags and sequence only, so compare the rest as two words.
	room := uint64(s.Room)
	pubHigh, pubDtype := byte(s.Pub>>8), uint64(byte(s.Pub))<<56|uint64(s.Dtype)<<48
	flags, seq, at := s.Flags, s.Seq, len(frame)
	for at+codec.StreamHeaderSize <= len(b) {
		h := b[at : at+codec.StreamHeaderSize : at+codec.StreamHeaderSize]
		n := int(binary.BigEndian.Uint16(h)) + codec.LengthSize
		w := binary.BigEndian.Uint64(h[12:])
		f := codec.Flags(h[2] &^ codec.TypeStream)
		if h[2]&codec.TypeStream == 0 || f > codec.FlagKey|codec.FlagInit|codec.FlagMore|codec.FlagCont ||
			binary.BigEndian.Uint64(h[3:]) != room || h[11] != pubHigh || w&^seqMask != pubDtype ||
			w&seqMask != seq+1 || n < codec.StreamHeaderSize || n > codec.MaxFrame ||
			at+n > len(b) || at+n > maxRun ||
			(f&codec.FlagInit != 0) != run.Init || !follows(f, flags) {
			break
		}
		seq++
		flags = f
		run.add(f, seq, n-codec.StreamHeaderSize)
		at += n
	}
	run.Raw, run.Last = b[:at:at], seq
	run.last, run.More = flags, !flags.End()
	return run, nil
}

// follows reports whether a frame with flags f may come after one with flags prev: it goes on with prev's message if
// and only if that has more pieces, and the pieces of a message are alike.
func follows(f, prev codec.Flags) bool {
	if f.Start() || prev.End() {
		return f.Start() && prev.End()
	}
	return (f^prev)&(codec.FlagKey|codec.FlagInit) == 0
}

func (r *Run) add(f codec.Flags, seq uint64, payload int) {
	r.Frames++
	if f.Start() {
		r.startSeq, r.tail = seq, 0
		if f&codec.FlagKey != 0 {
			r.keySeq, r.Keyed = seq, true
		}
	}
	if r.startSeq == 0 {
		r.head += payload
		return
	}
	r.tail += payload
	if f.End() {
		r.largest = max(r.largest, r.tail)
		r.tail = 0
	}
}

// frameAt returns the length of the frame at the front of b, its flags and sequence number. b holds whole frames that
// were checked before.
func frameAt(b []byte) (n int, f codec.Flags, seq uint64) {
	_ = b[codec.StreamHeaderSize-1]
	n = int(binary.BigEndian.Uint16(b)) + codec.LengthSize
	return n, codec.Flags(b[2] &^ codec.TypeStream), binary.BigEndian.Uint64(b[12:]) & seqMask
}

// offsetOf returns where the frame seq starts in frames that begin with sequence number first.
func offsetOf(b []byte, first, seq uint64) int {
	at := 0
	for ; first < seq; first++ {
		n, _, _ := frameAt(b[at:])
		at += n
	}
	return at
}
