package node

import (
	"sync"
	"time"
)

// repeats keeps what is said again and again out of a log: the first time is for the log, and then one in a minute, in
// two, in four ... and in an hour at most, with how often it was left out meanwhile. It may be used by any goroutine;
// the zero value is ready.
type repeats struct {
	mu   sync.Mutex
	said map[string]*saying
}

type saying struct {
	at    time.Time     // when it was for the log last
	pause time.Duration // until the next time
	left  int           // times left out since
}

const (
	repeatMin = time.Minute
	repeatMax = time.Hour
	// maxSayings bounds what is remembered. Beyond it, new ones count as one and the same.
	maxSayings = 256
)

// allow reports whether what is meant by key is for the log now, and how often it was left out since it was last.
func (r *repeats) allow(key string, now time.Time) (left int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said == nil {
		r.said = make(map[string]*saying)
	}
	s := r.said[key]
	if s == nil && len(r.said) >= maxSayings {
		for k, s := range r.said {
			if now.Sub(s.at) > 2*s.pause { // over
				delete(r.said, k)
			}
		}
		if len(r.said) >= maxSayings {
			key = ""
			s = r.said[key]
		}
	}
	switch {
	case s == nil, now.Sub(s.at) > 2*s.pause:
		r.said[key] = &saying{at: now, pause: repeatMin}
		return 0, true
	case now.Sub(s.at) < s.pause:
		s.left++
		return 0, false
	}
	left = s.left
	s.at, s.pause, s.left = now, min(2*s.pause, repeatMax), 0
	return left, true
}
