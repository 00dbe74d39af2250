package media

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimeline(t *testing.T) {
	type stamp struct {
		track uint64
		ms    int // -1: another file follows; -2: other tracks follow
	}
	const file, tracks = -1, -2
	for _, test := range []struct {
		name   string
		stamps []stamp
		want   []int
	}{
		{"from anywhere", []stamp{{1, 5000}, {1, 5040}, {1, 5080}}, []int{0, 40, 80}},
		{"pictures out of order", []stamp{{1, 0}, {1, 120}, {1, 40}, {1, 160}}, []int{0, 120, 120, 160}},
		{"key frames far apart", []stamp{{1, 0}, {1, 15_000}, {1, 30_000}}, []int{0, 15_000, 30_000}},
		{"starts over", []stamp{{1, 60_000}, {1, 60_040}, {1, 0}, {1, 40}, {1, 80}}, []int{0, 40, 40, 80, 120}},
		{"leaps", []stamp{{1, 0}, {1, 40}, {1, 3600_000}, {1, 3600_040}, {1, 3600_080}}, []int{0, 40, 40, 80, 120}},
		{"a damaged one", []stamp{{1, 0}, {1, 40}, {1, 30_000}, {1, 120}, {1, 160}}, []int{0, 40, 40, 120, 160}},
		{"a damaged one, back", []stamp{{1, 5000}, {1, 5040}, {1, 0}, {1, 5120}, {1, 5160}}, []int{0, 40, 40, 120, 160}},
		{"a pause", []stamp{{1, 0}, {1, 40}, {1, 20_000}, {1, 20_040}}, []int{0, 40, 40, 20_040}},
		{"slides over and over", []stamp{{1, 0}, {1, 15_000}, {1, 30_000}, {1, 0}, {1, 15_000}, {1, 30_000}},
			[]int{0, 15_000, 30_000, 30_000, 30_040, 45_040}},
		{"two tracks", []stamp{{1, 1000}, {2, 900}, {1, 1040}, {2, 1060}}, []int{0, 0, 40, 60}},
		{"two tracks start over", []stamp{{1, 8000}, {2, 8020}, {2, 0}, {1, 20}, {2, 40}, {1, 60}},
			[]int{0, 20, 20, 20, 60, 80}},
		{"a track with a clock of its own", []stamp{{1, 0}, {2, 900_000}, {1, 40}, {2, 900_040}}, []int{0, 0, 40, 40}},
		{"another file", []stamp{{1, 500}, {1, 540}, {0, file}, {1, 500}, {1, 540}}, []int{0, 40, 0, 80, 120}},
		{"other tracks, later", []stamp{{1, 500}, {1, 540}, {0, tracks}, {7, 10_540}, {7, 10_580}},
			[]int{0, 40, 0, 10_040, 10_080}},
		{"other tracks, anew", []stamp{{1, 5000}, {1, 5040}, {0, tracks}, {7, 0}, {7, 40}}, []int{0, 40, 0, 80, 120}},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := timeline{back: tsBack, ahead: tsAhead}
			for i, s := range test.stamps {
				switch s.ms {
				case file:
					line.restart()
				case tracks:
					line.retrack()
				default:
					want := time.Duration(test.want[i]) * time.Millisecond
					if got := line.at(s.track, time.Duration(s.ms)*time.Millisecond); got != want {
						t.Errorf("stamp %d is at %v, want %dms", i, got, test.want[i])
					}
				}
			}
		})
	}
}

// TestAnyTimeline: time begins at 0, never goes back, and leaps by no more than it may.
func TestAnyTimeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := timeline{back: tsBack, ahead: tsAhead}
		last := time.Duration(-1)
		for i := range rapid.IntRange(1, 50).Draw(t, "stamps") {
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				line.restart()
			}
			stamp := time.Duration(rapid.Int64Range(-1<<50, 1<<50).Draw(t, "stamp"))
			got := line.at(rapid.Uint64Range(0, 12).Draw(t, "track"), stamp)
			switch {
			case i == 0 && got != 0:
				t.Fatalf("begins at %v", got)
			case got < last:
				t.Fatalf("%v after %v", got, last)
			case i > 0 && got > last+tsAhead+longStep:
				t.Fatalf("from %v to %v", last, got)
			}
			last = got
		}
	})
}
