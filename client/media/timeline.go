package media

import "time"

// timeline turns the timestamps of a stream's tracks into one time that starts at 0, never goes back, and goes on where
// the timestamps start over or leap.
type timeline struct {
	back  time.Duration // a track that goes back by more has started over
	ahead time.Duration // a track that goes ahead by more has leapt

	begun  bool
	offset time.Duration // time = timestamp + offset
	now    time.Duration
	step   time.Duration // between the newest two timestamps of a track
	tracks [8]trackTime
	n      int // of tracks
}

type trackTime struct {
	id    uint64
	last  time.Duration
	usual time.Duration // between two timestamps
	// A timestamp far from the one before is believed when the next one agrees: it may be damaged.
	doubt   time.Duration
	doubted bool
}

// apart is how far tracks may be from each other, and a usual step of one.
const (
	apart      = 5 * time.Second
	usualStep  = 40 * time.Millisecond
	longStep   = time.Second
	far        = 2 * time.Second        // a step that is doubted where they are short
	tsBack     = 500 * time.Millisecond // decode times only go ahead
	framesBack = 2 * time.Second        // times of display go back by as much as pictures are reordered
	tsAhead    = time.Minute            // more is a leap: what ffmpeg, too, thinks of transport streams, at 10 s
	otherAhead = 10 * time.Minute       // elsewhere a time that is far away is meant
)

// at takes a timestamp of a track and returns the time.
func (t *timeline) at(track uint64, stamp time.Duration) time.Duration {
	if !t.begun {
		t.begun, t.offset, t.step = true, t.now-stamp, usualStep
	}
	k := t.find(track)
	if k == nil {
		switch d := stamp + t.offset - t.now; {
		case t.n == 0 && (d < -t.back || d > t.ahead):
			t.restart()
			return t.at(track, stamp)
		case t.n > 0 && (d < -apart || d > apart), t.n == len(t.tracks):
			return t.now // nothing tells a leap from what is this track's own affair
		}
		k = &t.tracks[t.n]
		t.n++
		*k = trackTime{id: track, last: stamp}
	}
	d := stamp - k.last
	over := d < -t.back || d > t.ahead
	if over || d > far && k.usual < longStep && k.usual > 0 {
		agrees := k.doubted && stamp >= k.doubt && stamp-k.doubt <= max(far, 2*k.usual)
		if k.doubt, k.doubted = stamp, !agrees; !agrees {
			return t.now
		}
		if over {
			t.restart()
			return t.at(track, stamp)
		}
	} else if d > 0 {
		if k.usual = d; d < longStep {
			t.step = d
		}
	}
	k.doubted = false
	k.last = stamp
	t.now = max(t.now, stamp+t.offset)
	return t.now
}

func (t *timeline) find(track uint64) *trackTime {
	for i := range t.tracks[:t.n] {
		if t.tracks[i].id == track {
			return &t.tracks[i]
		}
	}
	return nil
}

// retrack says that other tracks follow.
func (t *timeline) retrack() { t.n = 0 }

// restart says that what follows starts anew: its first timestamp comes one step after the newest so far.
func (t *timeline) restart() {
	if t.begun {
		t.now += t.step
	}
	t.begun, t.n = false, 0
}
