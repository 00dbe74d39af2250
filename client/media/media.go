// Package media cuts an encoded stream into units to push, and marks the ones a decoder can start from.
//
// Start at [NewSplitter]. It looks at the first bytes of its input: MPEG-TS, fragmented MP4 and WebM (or Matroska) are
// understood, anything else is passed on as it comes, without marks. Whatever the input, the units joined are the input,
// byte for byte: a splitter only decides how many bytes the next unit takes, so a file that breaks off, or is not what
// its head says, loses its marks and nothing else.
//
//   - An [Init] unit holds what a decoder needs first: the tables of a transport stream (PAT and PMT), ftyp and moov, or
//     everything before the first cluster.
//   - A [Key] unit is a point from which a decoder that has the newest init unit shows a clean picture: a picture with the
//     random access mark, a fragment whose first video sample is a sync sample, a cluster whose first video block is a
//     key frame. Streams without video have key units at regular points.
//
// The cutting is this package's own, for it has to be exact to the byte: packets, boxes and elements are followed by their
// sizes. What they mean is read by libraries: go-astits reads packet headers and program tables, go-mp4 the boxes below
// moov and moof, go-mkvparse the head of a WebM file. Read here, because the libraries read them only together with a
// payload that has not arrived yet or whose size the sender chooses: the decode time of a PES packet, the head of a trun
// box, and the four to eleven bytes before a block's data.
//
// A splitter buffers one unit, at most [MaxUnit] bytes. It starts no goroutine, and is for one goroutine at a time.
package media

import (
	"errors"
	"io"
	"time"
)

// Kind says what a decoder can do with a unit.
type Kind uint8

// The kinds of a unit.
const (
	Delta Kind = iota // goes on from the units before it
	Key               // a decoder that has the init unit can start here
	Init              // the header a decoder needs before anything else
)

func (k Kind) String() string {
	switch k {
	case Key:
		return "key"
	case Init:
		return "init"
	}
	return "delta"
}

// Format is the container that a splitter found at the head of its input.
type Format string

// The formats that a splitter tells apart.
const (
	Raw    Format = "raw bytes"
	MPEGTS Format = "MPEG-TS"
	MP4    Format = "fragmented MP4"
	WebM   Format = "WebM"
)

// MaxUnit is the size of the largest unit, in bytes. What is larger in the input is cut; the parts after the first are
// delta units.
const MaxUnit = 4 << 20

// NoTime is the time of a unit that has none.
const NoTime time.Duration = -1

// Unit is a piece of the input.
type Unit struct {
	Data []byte // never empty; valid until the next call of Next
	Kind Kind
	Time time.Duration // when it is to be decoded, on the stream's own clock, which starts anywhere; NoTime: unknown
}

// Splitter cuts one input.
type Splitter struct {
	in     input
	format Format
	cut    cutter
}

// errBroken says that the input is not, or no longer, what its head promised.
var errBroken = errors.New("media: broken input")

// cut is what a cutter decides: the next unit is the first n bytes of the input.
type cut struct {
	n    int
	kind Kind
	time time.Duration
}

// cutter decides where the next unit ends. It looks at the input and takes nothing. It is only called while there is at
// least one byte, and returns a cut of 1 to MaxUnit bytes, or errBroken to have the rest passed on raw.
type cutter interface {
	next(in *input) (cut, error)
}

// NewSplitter looks at the head of r, which may block until there are some bytes, 377 at most. It fails only when r does.
func NewSplitter(r io.Reader) (*Splitter, error) {
	s := &Splitter{in: input{r: r}}
	switch s.format = detect(&s.in); s.format {
	case MPEGTS:
		s.cut = newTSCutter()
	case MP4:
		s.cut = &mp4Cutter{}
	case WebM:
		s.cut = &webmCutter{}
	default:
		s.cut = rawCutter{}
	}
	if s.in.err != nil && s.in.err != io.EOF && s.in.buffered() == 0 {
		return nil, s.in.err
	}
	return s, nil
}

// Format returns what the input's head looks like.
func (s *Splitter) Format() Format { return s.format }

// Next returns the next unit. It blocks until the unit is whole, or until the input pauses where a unit may as well end.
// After the last unit it returns io.EOF, or the error of the reader.
func (s *Splitter) Next() (Unit, error) {
	if len(s.in.peek(1)) == 0 {
		return Unit{}, s.in.err
	}
	c, err := s.cut.next(&s.in)
	if err != nil {
		s.cut = rawCutter{}
		c, _ = s.cut.next(&s.in)
	}
	return Unit{Data: s.in.take(c.n), Kind: c.kind, Time: c.time}, nil
}

// detect reads no more of the input than it needs to tell what it is, so that a person who types into a pipe is not kept
// waiting.
func detect(in *input) Format {
	b := in.peek(4)
	if len(b) < 4 {
		return Raw
	}
	switch {
	case string(b[:4]) == "\x1a\x45\xdf\xa3":
		return WebM
	case b[0] == 0 && len(in.peek(8)) >= 8 && string(in.peek(8)[4:8]) == "ftyp":
		return MP4
	case plausibleTSHead(b) && isTS(in.peek(2*tsPacket+1)):
		return MPEGTS
	}
	return Raw
}

// rawCutter passes on what has arrived, in chunks, without marks.
type rawCutter struct{}

// rawChunk is the largest unit without a structure, in bytes.
const rawChunk = 32 << 10

func (rawCutter) next(in *input) (cut, error) {
	return cut{min(len(in.peek(1)), rawChunk), Delta, NoTime}, nil
}
