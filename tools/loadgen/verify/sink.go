package verify

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/timedge/timedge/codec"
)

// Counts is what the subscribers of one class received.
type Counts struct {
	Messages uint64 `json:"messages"` // whole payloads
	Frames   uint64 `json:"frames"`   // frames that carried them, where the protocol has frames
	Bytes    uint64 `json:"bytes"`    // of payload

	GapFrames map[string]uint64 `json:"gap_frames,omitempty"` // frames announced as missing, by reason
	Gaps      uint64            `json:"gaps"`                 // announcements

	Lost       uint64 `json:"lost"`       // frames missing without an announcement
	Duplicate  uint64 `json:"duplicate"`  // frames received again
	Reordered  uint64 `json:"reordered"`  // frames received after a later one
	BadGap     uint64 `json:"bad_gap"`    // gaps that do not begin at the frame expected
	BadPieces  uint64 `json:"bad_pieces"` // pieces that do not make a message
	BadPayload uint64 `json:"bad_payload"`
	Unfinished uint64 `json:"unfinished"` // frames sent that had neither arrived nor been announced as missing at the end
}

// Violations is the number of broken promises.
func (c *Counts) Violations() uint64 {
	return c.Lost + c.Duplicate + c.Reordered + c.BadGap + c.BadPieces + c.BadPayload + c.Unfinished
}

// Add adds o's counts to c.
func (c *Counts) Add(o *Counts) {
	c.Messages += o.Messages
	c.Frames += o.Frames
	c.Bytes += o.Bytes
	c.Gaps += o.Gaps
	c.Lost += o.Lost
	c.Duplicate += o.Duplicate
	c.Reordered += o.Reordered
	c.BadGap += o.BadGap
	c.BadPieces += o.BadPieces
	c.BadPayload += o.BadPayload
	c.Unfinished += o.Unfinished
	for r, n := range o.GapFrames {
		c.gap(r, n)
	}
}

func (c *Counts) gap(reason string, n uint64) {
	if c.GapFrames == nil {
		c.GapFrames = make(map[string]uint64)
	}
	c.GapFrames[reason] += n
}

// Sink collects what the trackers of one loop and one class of subscribers see.
type Sink struct {
	Counts
	Latency *hdrhistogram.Histogram // ns from the moment a message was due until all of it had been read

	From, To int64 // only messages due at From or later and before To are put into Latency
	After    int64 // from when on the time between two messages counts; 0: not at all
	Every    bool  // put every message into Latency; otherwise the first of each read
	Check    bool  // compare the filler of every payload with Pattern
}

// The range and precision of every latency histogram: 1 ns to 10 minutes, three digits.
const (
	histMax    = 10 * 60 * 1_000_000_000
	histDigits = 3
)

// NewHistogram returns an empty histogram for nanoseconds. All histograms of a run have this shape and can be merged.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, histMax, histDigits) }

// NewSink returns an empty sink.
func NewSink() *Sink { return &Sink{Latency: NewHistogram()} }

func (s *Sink) record(due, now int64) {
	if due >= s.From && due < s.To {
		_ = s.Latency.RecordValue(min(max(now-due, 0), histMax))
	}
}

// reasonName is the name under which announced gaps are counted.
func reasonName(r codec.GapReason) string { return r.String() }
