package verify

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// script plays frames and gaps to a tracker, each payload whole.
type script struct {
	t *Tracker
	s *Sink
}

var testKey = Key{Room: 7, Pub: 1, Dtype: 2}

func newScript(strict bool) *script {
	s := NewSink()
	s.Every, s.Check, s.To = true, true, 1<<62
	t := NewTracker(s)
	t.Strict = strict
	t.Begin(1000)
	return &script{t, s}
}

func (p *script) frame(flags codec.Flags, seq uint64, payload []byte) {
	p.t.Frame(testKey, flags, seq, payload[:min(len(payload), StampSize)], len(payload))
	p.t.Body(payload)
}

// plain plays one whole message of 64 bytes.
func (p *script) plain(seqs ...uint64) {
	for _, seq := range seqs {
		p.frame(0, seq, testPayload(seq, 64))
	}
}

func (p *script) gap(from, to uint64) { p.t.Gap(testKey, from, to, codec.GapSlow) }

func testPayload(seq uint64, size int) []byte {
	b := make([]byte, StampSize, size)
	PutStamp(b, 500, seq, 3)
	return AppendPattern(b, StampSize, size-StampSize)
}

func TestTrackerCatchesEveryViolation(t *testing.T) {
	cases := []struct {
		name string
		play func(p *script)
		want Counts // GapFrames left out
	}{
		{"in order", func(p *script) { p.plain(1, 2, 3) }, Counts{Messages: 3, Frames: 3}},
		{"first frame is not 1", func(p *script) { p.plain(2) }, Counts{Messages: 1, Frames: 1, Lost: 1}},
		{"late joiner told so", func(p *script) { p.gap(1, 9); p.plain(10) }, Counts{Messages: 1, Frames: 1, Gaps: 1}},
		{"init frame, gap, newest group", func(p *script) { p.plain(1); p.gap(2, 699); p.plain(700) },
			Counts{Messages: 2, Frames: 2, Gaps: 1}},
		{"lost unannounced", func(p *script) { p.plain(1, 2, 6) }, Counts{Messages: 3, Frames: 3, Lost: 3}},
		{"received twice", func(p *script) { p.plain(1, 2, 2, 3) }, Counts{Messages: 3, Frames: 3, Duplicate: 1}},
		{"two changed places", func(p *script) { p.plain(1, 3, 2, 4) }, Counts{Messages: 3, Frames: 3, Reordered: 1}},
		{"late twice", func(p *script) { p.plain(1, 4, 3, 3) }, Counts{Messages: 2, Frames: 2, Lost: 1, Reordered: 1, Duplicate: 1}},
		{"gap begins too late", func(p *script) { p.plain(1); p.gap(3, 4); p.plain(5) },
			Counts{Messages: 2, Frames: 2, Gaps: 1, BadGap: 1, Lost: 1}},
		{"gap begins too early", func(p *script) { p.plain(1, 2, 3); p.gap(3, 5); p.plain(6) },
			Counts{Messages: 4, Frames: 4, Gaps: 1, BadGap: 1}},
		{"gap is over, frame of it comes", func(p *script) { p.plain(1); p.gap(2, 4); p.plain(3) },
			Counts{Messages: 1, Frames: 1, Gaps: 1, Duplicate: 1}},
		{"pieces", func(p *script) {
			b := testPayload(1, 90)
			p.frame(codec.FlagMore, 1, b[:40])
			p.frame(codec.FlagMore|codec.FlagCont, 2, b[40:60])
			p.frame(codec.FlagCont, 3, b[60:])
			p.plain(4)
		}, Counts{Messages: 2, Frames: 4}},
		{"message begun and not finished", func(p *script) {
			p.frame(codec.FlagMore, 1, testPayload(1, 40))
			p.plain(2)
		}, Counts{Messages: 1, Frames: 2, BadPieces: 1}},
		{"message cut by a gap", func(p *script) {
			p.frame(codec.FlagMore, 1, testPayload(1, 40))
			p.gap(2, 3)
			p.plain(4)
		}, Counts{Messages: 1, Frames: 2, Gaps: 1, BadPieces: 1}},
		{"piece of nothing", func(p *script) { p.frame(codec.FlagCont, 1, testPayload(1, 40)) },
			Counts{Messages: 1, Frames: 1, BadPieces: 1}},
		{"another frame's payload", func(p *script) { p.plain(1); p.frame(0, 2, testPayload(1, 64)) },
			Counts{Messages: 2, Frames: 2, BadPayload: 1}},
		{"one byte wrong", func(p *script) {
			b := testPayload(1, 64)
			b[63]++
			p.frame(0, 1, b)
		}, Counts{Messages: 1, Frames: 1, BadPayload: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newScript(true)
			c.play(p)
			got := p.s.Counts
			got.GapFrames, got.Bytes = nil, 0
			if !sameCounts(&got, &c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			want := c.want.Lost + c.want.Duplicate + c.want.Reordered + c.want.BadGap + c.want.BadPieces + c.want.BadPayload
			if v := got.Violations(); v != want {
				t.Errorf("%d violations, want %d", v, want)
			}
		})
	}
}

func sameCounts(a, b *Counts) bool {
	return a.Messages == b.Messages && a.Frames == b.Frames && a.Gaps == b.Gaps && a.Lost == b.Lost && a.Duplicate == b.Duplicate &&
		a.Reordered == b.Reordered && a.BadGap == b.BadGap && a.BadPieces == b.BadPieces && a.BadPayload == b.BadPayload
}

func TestTrackerThatIsNotStrictBeginsAnywhere(t *testing.T) {
	p := newScript(false)
	p.plain(40, 41, 43)
	if p.s.Messages != 3 || p.s.Lost != 1 {
		t.Errorf("messages %d, lost %d; want 3, 1", p.s.Messages, p.s.Lost)
	}
}

func TestTrackerKeepsManyStreamsApart(t *testing.T) {
	s := NewSink()
	tr := NewTracker(s)
	tr.Strict = true
	for seq := uint64(1); seq <= 5; seq++ {
		for k := range 50 {
			b := make([]byte, StampSize)
			PutStamp(b, 0, seq, uint32(k))
			tr.Frame(Key{Room: 1, Pub: uint16(k/4 + 1), Dtype: uint8(k % 4)}, 0, seq, b, len(b))
			tr.Body(b)
		}
	}
	if s.Messages != 250 || s.Violations() != 0 {
		t.Errorf("%d messages, %d violations: %+v", s.Messages, s.Violations(), s.Counts)
	}
	seen := 0
	tr.Streams(func(_ Key, _ uint32, next uint64) {
		seen++
		if next != 6 {
			t.Errorf("next is %d, want 6", next)
		}
	})
	if seen != 50 {
		t.Errorf("%d streams, want 50", seen)
	}
}

func TestLatencyOnlyOfTheMeasuredTime(t *testing.T) {
	s := NewSink()
	s.Every, s.From, s.To = true, 100, 200
	tr := NewTracker(s)
	tr.Begin(1_000)
	for i, due := range []int64{99, 100, 150, 199, 200} {
		b := make([]byte, StampSize)
		PutStamp(b, due, uint64(i+1), 0)
		tr.Frame(testKey, 0, uint64(i+1), b, len(b))
		tr.Body(b)
	}
	if n := s.Latency.TotalCount(); n != 3 {
		t.Errorf("%d samples, want 3", n)
	}
	if got := s.Latency.Max(); got != 900 {
		t.Errorf("largest latency %d, want 900", got)
	}
	tr.Since = 1 << 40
	b := make([]byte, StampSize)
	PutStamp(b, 150, 6, 0)
	tr.Frame(testKey, 0, 6, b, len(b))
	tr.Body(b)
	if n := s.Latency.TotalCount(); n != 3 {
		t.Errorf("a message due before Since was measured")
	}
}

func TestWindowMovesWithTheSlowest(t *testing.T) {
	woken := 0
	w := NewWindow(80, 2, func() { woken++ })
	if got := w.Credit(0); got != 80 {
		t.Fatalf("credit at the start is %d, want 80", got)
	}
	next := w.pass(1, 81) // the first subscriber has frames 1 to 80
	if next != 90 {
		t.Errorf("reports again at frame %d, want 90", next)
	}
	if w.Floor() != 0 || woken != 0 {
		t.Errorf("floor %d after one of two subscribers, woken %d times", w.Floor(), woken)
	}
	w.pass(1, 36) // the second has frames 1 to 35
	if w.Floor() != 30 || woken != 3 {
		t.Errorf("floor %d, woken %d; want 30, 3", w.Floor(), woken)
	}
	if got := w.Credit(80); got != 30 {
		t.Errorf("credit %d, want 30", got)
	}
	w.pass(36, 81)
	if w.Floor() != 80 {
		t.Errorf("floor %d, want 80", w.Floor())
	}
}

func TestWindowOfOneFrame(t *testing.T) {
	w := NewWindow(1, 1, func() {})
	for seq := uint64(1); seq < 100; seq++ {
		if got := w.Credit(seq - 1); got != 1 {
			t.Fatalf("credit after frame %d is %d, want 1", seq-1, got)
		}
		w.pass(seq, seq+1)
	}
}

func TestStampRoundTrip(t *testing.T) {
	var b [StampSize]byte
	PutStamp(b[:], 1<<60, 1<<39+5, MaxStream)
	if due, seq, stream := ReadStamp(b[:]); due != 1<<60 || seq != 1<<39+5 || stream != MaxStream {
		t.Errorf("got %d %d %d", due, seq, stream)
	}
}

func TestPatternAtAnyOffset(t *testing.T) {
	whole := AppendPattern(nil, 0, 3_000_000)
	for _, off := range []int{0, 1, 16, 16380, 16381, 1_048_383, 2_000_000} {
		if !matches(whole[off:off+900_000], off) {
			t.Errorf("pattern does not match itself at offset %d", off)
		}
		if matches(whole[off:off+100], off+1) {
			t.Errorf("pattern matches at the wrong offset %d", off+1)
		}
	}
}
