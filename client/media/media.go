// Package media cuts an encoded stream into units to push, and marks the ones a decoder can start from.
//
// Start at [NewSplitter]. It looks at the first bytes of its input: MPEG-TS, fragmented MP4, WebM (or Matroska), FLV
// and Ogg are understood, anything else is passed on as it comes, without marks. Whatever the input, the units joined
// are the input, byte for byte: a splitter only decides how many bytes the next unit takes, so a file that breaks off,
// or is not what its head says, loses its marks and nothing else. Behind damage the marks begin again where the
// container can be entered.
//
//   - An [Init] unit holds what a decoder needs first: the tables of a transport stream (PAT and PMT), ftyp and moov,
//     or everything before the first cluster, tag or page with pictures or sound. Init units in a row belong
//     together. They count for the key units behind them.
//   - A [Key] unit is a point from which a decoder that has the newest init units before it shows a clean picture.
//     What can be such a point the bitstream says where this package can read it (bitstream.go), otherwise the
//     container's marks. Streams without video have key units at regular points.
//
// Each container has a file of its own, with one type that implements cutter: ts.go (and psi.go, the tables), mp4.go
// (and mp4box.go), webm.go (and ebml.go), flv.go, ogg.go. timeline.go makes one time of their timestamps. The cutting
// has to be exact to the byte, must not wait for more of a live stream than it needs, and must go on behind damage: so
// packets, boxes and elements are read here. What the library mediacommon knows of bitstreams is taken from there.
//
// A splitter buffers one unit, at most [MaxUnit] bytes, or the head of an MP4 file. It starts no goroutine, and is for
// one goroutine at a time.
package media

import (
	"errors"
	"io"
	"strings"
	"time"

	wire "github.com/timedge/timedge/codec"
)

// Kind says what a decoder can do with a unit. It is what client.Publisher.Push takes.
type Kind = wire.Kind

// The kinds of a unit.
const (
	Delta = wire.KindDelta // goes on from the units before it
	Key   = wire.KindKey   // a decoder that has the init units can start here
	Init  = wire.KindInit  // the header a decoder needs before anything else
)

// Format is the container that a splitter found at the head of its input.
type Format string

// The formats that a splitter tells apart.
const (
	Raw         Format = "raw bytes"
	MPEGTS      Format = "MPEG-TS"
	MP4         Format = "fragmented MP4"
	OrdinaryMP4 Format = "MP4 that is not fragmented" // passed on without marks
	WebM        Format = "WebM"
	FLV         Format = "FLV"
	Ogg         Format = "Ogg"
)

// MaxUnit is the size of the largest unit, in bytes. What is larger in the input is cut; the parts after the first are
// delta units, those of init units init units.
const MaxUnit = 4 << 20

// NoTime is the time of a unit that has none.
const NoTime time.Duration = -1

// Unit is a piece of the input.
type Unit struct {
	Data []byte // never empty; valid until the next call of Next
	Kind Kind
	// Time is when it is to be played, counted from the first unit with a time; never less than before; NoTime: unknown.
	Time time.Duration
}

// Info is what a splitter has recognised so far.
type Info struct {
	Format  Format
	Framing string // of the packets, where it is not the usual one
	Tracks  string // codecs, with the numbers that the container gives them; "": none known
	Keys    int    // pictures that stand alone, or points to start from where there is only sound
	Timed   bool   // units have times
	Late    string // why who joins late cannot decode it; "": it can
}

// Splitter cuts one input.
type Splitter struct {
	in     input
	format Format
	cut    cutter
	known  cutter // the one that recognised something; nil: none did
	raw    int    // bytes in which a transport stream has been looked for
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
	info(d *Info)
}

// keyCount counts what a decoder could start from.
type keyCount struct{ n int }

func (k *keyCount) key() { k.n++ }

// starts counts how long there has been no key unit though there were key frames, as their places are none that a
// container can be entered at.
type starts struct {
	missed int // key frames
	bytes  int
}

// overdue reports whether a place that is less good is better than none: those who join would get more than is kept for
// them.
func (s *starts) overdue() bool {
	const many, long = 3, 16 << 20
	return s.missed >= many && s.bytes >= long
}

func (s *starts) add(k Kind, n int) {
	if k == Key {
		*s = starts{}
	}
	s.bytes += n
}

// NewSplitter looks at the head of r, which may block until there are some bytes, 577 at most. It fails only when r
// does.
func NewSplitter(r io.Reader) (*Splitter, error) {
	s := &Splitter{in: input{r: r}}
	s.format, s.cut = detect(&s.in)
	if s.cut == nil {
		s.cut = rawCutter{}
	} else {
		s.known = s.cut
	}
	if s.in.err != nil && s.in.err != io.EOF && s.in.buffered() == 0 {
		return nil, s.in.err
	}
	return s, nil
}

// Format returns what the input looks like so far.
func (s *Splitter) Format() Format { return s.format }

// Info returns what has been recognised so far.
func (s *Splitter) Info() (d Info) {
	d.Format = s.format
	if s.known != nil {
		s.known.info(&d)
	}
	return d
}

// Next returns the next unit. It blocks until the unit is whole, or until the input pauses where a unit may as well
// end. After the last unit it returns io.EOF, or the error of the reader.
func (s *Splitter) Next() (Unit, error) {
	if len(s.in.peek(1)) == 0 {
		return Unit{}, s.in.err
	}
	c, err := s.cut.next(&s.in)
	if err != nil {
		s.cut = rawCutter{}
		c, _ = s.cut.next(&s.in)
		d := s.Info()
		if s.format = d.Format; d.Tracks == "" && d.Format != OrdinaryMP4 {
			s.format, s.known = Raw, nil
		}
	}
	if s.known == nil {
		c = s.watch(c)
	}
	n := min(c.n, s.in.buffered()) // what follows a packet may be cut off with the input
	return Unit{Data: s.in.take(n), Kind: c.kind, Time: c.time}, nil
}

// watch looks for a transport stream behind what was not recognised: broadcasts and captures begin anywhere.
func (s *Splitter) watch(c cut) cut {
	const window = 1 << 20
	if s.raw > window {
		return c
	}
	f, at, ok := findTS(s.in.peek(1), surely)
	switch {
	case ok && at == 0:
		s.format, s.cut = MPEGTS, newTSCutter(f)
		s.known = s.cut
		c, _ = s.cut.next(&s.in)
	case ok:
		c.n = min(c.n, at)
	default:
		s.raw += c.n
	}
	return c
}

// detect reads no more of the input than it needs to tell what it is, so that a person who types into a pipe is not
// kept waiting.
func detect(in *input) (Format, cutter) {
	b := in.peek(4)
	if len(b) < 4 {
		return Raw, nil
	}
	switch {
	case string(b[:4]) == "\x1a\x45\xdf\xa3":
		return WebM, newWebMCutter()
	case string(b[:4]) == "OggS":
		return Ogg, newOggCutter()
	case string(b[:4]) == "FLV\x01" && isFLV(in.peek(flvHeader)):
		return FLV, newFLVCutter()
	case b[0] == 0 && isMP4(in.peek(8)):
		return MP4, newMP4Cutter()
	case plausibleTSHead(b), in.buffered() >= 8 && plausibleTSHead(in.peek(8)[4:]):
		const enough = 3
		b = in.peek(enough*204 + 4)
		for _, f := range tsFramings {
			if n := f.synced(b, 0, enough); n == enough || n == 2 && len(b) < enough*f.stride && in.err != nil {
				return MPEGTS, newTSCutter(f)
			}
		}
	}
	if f, _, ok := findTS(in.peek(1), surely); ok { // behind garbage
		return MPEGTS, newTSCutter(f)
	}
	return Raw, nil
}

// surely is how many packets in a row, wherever they begin, make a transport stream.
const surely = 5

// isMP4 looks at the header of the first box.
func isMP4(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	switch string(b[4:8]) {
	case "ftyp", "styp", "moov", "moof", "sidx", "mdat", "wide", "free", "skip", "pdin":
		return true
	}
	return false
}

// rawCutter passes on what has arrived, in chunks, without marks.
type rawCutter struct{}

// rawChunk is the largest unit without a structure, in bytes.
const rawChunk = 32 << 10

func (rawCutter) next(in *input) (cut, error) {
	return cut{min(len(in.peek(1)), rawChunk), Delta, NoTime}, nil
}

func (rawCutter) info(*Info) {}

// printable replaces what has no place in a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}
