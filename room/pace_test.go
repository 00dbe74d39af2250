package room

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// scale is by how much the bounds and rates of the tests of paths are below the real ones, so that they need not move
// gigabytes.
const scale = 64

// path is a subscriber's way: a kernel's buffer that is emptied at a rate.
type path struct {
	perSecond float64 // 0: it takes all that it is given
	buffer    int     // bytes; what is full takes more when half of it is empty

	held float64 // in the buffer
	full bool
	at   int64
	most int // bytes that waited before it at once, the replay apart
}

// take lets the path take what it can at a moment.
func (p *path) take(v *viewer, now int64) {
	p.most = max(p.most, v.live())
	if p.perSecond == 0 {
		v.take(1 << 30)
		return
	}
	p.held = max(0, p.held-p.perSecond*float64(now-p.at)/1e9)
	p.at = now
	if p.full && p.held > float64(p.buffer)/2 {
		return
	}
	n := min(p.buffer-int(p.held), v.q.Bytes())
	v.take(n)
	p.held += float64(n)
	p.full = !v.q.Empty()
}

// source is a publisher of groups of the same messages, of which the first is the key.
type source struct {
	every    time.Duration // from one group to the next
	sizes    []int         // bytes of a group's messages
	together bool          // all at the group's beginning; otherwise spread over its time
	trickle  int           // bytes a second of a second stream, without keys
}

func (s *source) bytes() (n int) {
	for _, size := range s.sizes {
		n += size
	}
	return n
}

func (s *source) perSecond() float64 {
	return float64(s.bytes())/s.every.Seconds() + float64(s.trickle)
}

// String says what the source sends, for the message of a test that fails.
func (s *source) String() string {
	return fmt.Sprintf("%d messages of %d to %d bytes, %d in all, every %v, together: %v, beside %d B/s",
		len(s.sizes), slices.Min(s.sizes), slices.Max(s.sizes), s.bytes(), s.every, s.together, s.trickle)
}

const pathStep = 20 * time.Millisecond

// play runs the room for some groups, with viewers that read as their paths let them. late joins in the middle of a
// group.
func (s *source) play(x *bench, groups int, early, late []*path, joinAt time.Duration) (viewers []*viewer) {
	var paths []*path
	enter := func(p *path) {
		v := x.viewer(Join{Account: "viewer", Instance: uint64(len(viewers))})
		p.at = x.loop.now
		viewers, paths = append(viewers, v), append(paths, p)
	}
	for _, p := range early {
		enter(p)
	}
	begin, end := x.loop.now, x.loop.now+int64(groups)*int64(s.every)
	seq, trickled, sent, group := uint64(1), uint64(1), 0, 0
	for now := begin; now < end || late != nil || waits(viewers) && now < end+int64(time.Minute); now += int64(pathStep) {
		x.now, x.loop.now = now, now
		if late != nil && now-begin >= int64(joinAt) {
			for _, p := range late {
				enter(p)
			}
			late = nil
		}
		for group < groups {
			due := begin + int64(group)*int64(s.every)
			if !s.together {
				due += int64(sent) * int64(s.every) / int64(len(s.sizes))
			}
			if due > now {
				break
			}
			flags := codec.Flags(0)
			if sent == 0 {
				flags = codec.FlagKey
			}
			// Pieces are smaller than they are, as everything is.
			pieces := max(1, (s.sizes[sent]+1023)/1024)
			x.push(x.message(nil, 1, seq, flags, pieces, max(8, s.sizes[sent]/pieces-codec.StreamHeaderSize)))
			seq += uint64(pieces)
			if sent++; sent == len(s.sizes) {
				sent, group = 0, group+1
			}
		}
		if size := s.trickle * int(pathStep/time.Millisecond) / 1000; size >= 8+codec.StreamHeaderSize && now < end {
			x.push(x.message(nil, 2, trickled, 0, 1, size-codec.StreamHeaderSize))
			trickled++
		}
		x.loop.drain()
		for i, v := range viewers {
			paths[i].take(v, now)
			v.q.Look(now)
		}
	}
	return viewers
}

func waits(viewers []*viewer) bool {
	return slices.ContainsFunc(viewers, func(v *viewer) bool { return !v.q.Empty() })
}

// gaps returns what a viewer was told that it will not get, but for what was before it joined.
func (v *viewer) gaps() (gs []string) {
	for k, s := range v.streams {
		for _, word := range s.script {
			if strings.Contains(word, " ") && !strings.HasSuffix(word, " joined") {
				gs = append(gs, fmt.Sprintf("%v: %s", k, word))
			}
		}
	}
	return gs
}

func scaledBench(t rapid.TB) *bench {
	x := openBench(t, Config{
		QueueBytes: 4 << 20 / scale, QueueBytesMax: 64 << 20 / scale, History: 256 << 10 / scale,
		CacheRoom: 64 << 20 / scale, MaxPayload: 16 << 20 / scale, Window: 1 << 30, Idle: time.Hour,
	}, codec.Register{QueueBytes: 64 << 10})
	x.chunk = 256 << 10 / scale
	return x
}

// Who reads as fast as it is given, or at 1 Gbit/s, or at twice the stream's rate, loses nothing, whatever the sizes of
// messages, groups and bursts, and whenever it joins.
func TestWhoKeepsUpLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &source{
			every:    time.Duration(rapid.IntRange(40, 12_000).Draw(t, "every")) * time.Millisecond,
			together: rapid.Bool().Draw(t, "together"),
		}
		// Up to 100 Mbit/s, a payload, and what the room's log holds of a group.
		most := min(64<<20/scale*9/10, int(s.every.Seconds()*100e6/8/scale))
		least := int(s.every.Seconds() * 1000)
		for left := rapid.IntRange(least, max(least, most)).Draw(t, "group"); left > 0; {
			n := min(left, rapid.IntRange(100, 16<<20/scale).Draw(t, "message"))
			s.sizes = append(s.sizes, n)
			left -= n
		}
		if rapid.Bool().Draw(t, "trickles") {
			s.trickle = 10_000
		}
		paths := func() []*path {
			// A buffer is no smaller than what leaves it in two steps.
			twice, large := 2*s.perSecond(), 512<<10/scale
			small := int(twice * 2 * pathStep.Seconds())
			return []*path{{}, {perSecond: 125e6 / scale, buffer: 4 * large}, {perSecond: twice, buffer: small},
				{perSecond: twice, buffer: max(small, large)}}
		}
		x := scaledBench(t)
		defer x.end()
		groups := max(2, int(15*time.Second/s.every))
		joinAt := time.Duration(rapid.Float64Range(0, 1).Draw(t, "join") * float64(s.every) * float64(min(groups, 3)))
		for i, v := range s.play(x, groups, paths(), paths(), joinAt) {
			if gs := v.gaps(); len(gs) > 0 || v.cutOff {
				t.Fatalf("viewer %d, %v: lost %v, cut off: %v", i, s, gs, v.cutOff)
			}
			if i >= 4 && len(v.streams) == 0 && groups > 3 {
				t.Fatalf("viewer %d got nothing", i)
			}
		}
	})
}

// What waits for somebody who does not keep up is bounded by some seconds of the stream, and by twice the room's bound
// in the long run. It gets what its path carries, more or less.
func TestWhoIsSlowIsShed(t *testing.T) {
	for _, c := range []struct {
		name   string
		of     float64 // the path, of the stream's rate
		buffer int
		most   float64 // seconds of the stream that wait at once
		gets   float64 // of what the path carries
	}{
		{"nothing is read", 1e-9, 128 << 10, 2, 0},
		{"a tenth", 0.1, 128 << 10, 2, 0},
		{"half", 0.5, 128 << 10, 3, 0.6},
		{"nine in ten", 0.9, 256 << 10, 3, 0.8},
		{"half, by a large buffer", 0.5, 512 << 10, 3, 0.6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &source{every: time.Second}
			for range 25 {
				s.sizes = append(s.sizes, 5<<20/25) // 40 Mbit/s, not scaled
			}
			x := openBench(t, Config{Window: 1 << 30}, codec.Register{QueueBytes: 4 << 20, QueueMillis: 2000})
			defer x.end()
			const groups = 60
			p := &path{perSecond: c.of * s.perSecond(), buffer: c.buffer}
			v := s.play(x, groups, []*path{p}, nil, 0)[0]
			v.take(1 << 30)
			if len(v.gaps()) == 0 {
				t.Error("nothing was dropped")
			}
			if most := float64(p.most) / s.perSecond(); most > c.most {
				t.Errorf("%.1f seconds of the stream waited at once", most)
			}
			frames := 0
			for _, word := range v.stream(x.key(1)).script {
				if !strings.Contains(word, " ") {
					frames++
				}
			}
			pieces := (s.sizes[0] + 1023) / 1024
			if share := float64(frames) / float64(groups*len(s.sizes)*pieces); share < c.gets*c.of {
				t.Errorf("it got %.2f of the stream", share)
			}
		})
	}
}
