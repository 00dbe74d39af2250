package room

import "time"

// pace watches a session's path while it is busy, that is while something waits in the session's queue: what came to be
// sent, and what the path took. From these it tells whether the subscriber keeps up; a path that empties the queue
// does, and the account begins anew when it is busy the next time.
//
// Bounds on what waits act only on a subscriber that does not keep up. A burst, a large message, or the replay of a
// long group is more than a bound for a moment, whatever the path; dropping it would help nobody.
type pace struct {
	since  int64 // when the path became busy, ns
	tookAt int64 // when it last took something
	short  flow  // says how fast the path is now, and whether the queue shrinks
	long   flow  // says how fast the stream is, over bursts and groups
}

const (
	// patience is how long bytes may wait before they are looked at: what is measured in less time is noise, as the pauses
	// of a reader that shares its processor, or one retransmission.
	patience = time.Second
	// horizon is the time over which a stream's rate is taken. A path that could take in it what came in it keeps up.
	horizon = 10 * time.Second
	// noProgress is how long a path may take nothing before it counts as stalled, whatever it may have taken unseen.
	noProgress = 5 * time.Second
)

// flow counts bytes in two windows in a row, of which the second is in progress.
type flow struct {
	start      int64 // of the second window
	first      int64 // of what is counted: the first window's start, or when the path became busy
	came, took [2]int
}

// begin starts the accounts of a path that becomes busy.
func (p *pace) begin(now int64) {
	*p = pace{since: now, tookAt: now}
	p.short.start, p.short.first = now, now
	p.long.start, p.long.first = now, now
}

func (p *pace) came(n int, now int64) {
	p.roll(now)
	p.short.came[1] += n
	p.long.came[1] += n
}

func (p *pace) took(n int, now int64) {
	p.roll(now)
	p.short.took[1] += n
	p.tookAt = now
}

func (p *pace) roll(now int64) {
	p.short.roll(now, int64(patience)/2)
	p.long.roll(now, int64(horizon))
}

// roll begins another window if the one in progress is over.
func (f *flow) roll(now, length int64) {
	over := now - f.start
	switch {
	case over < length:
		return
	case over < 2*length:
		f.first, f.start = f.start, f.start+length
		f.came[0], f.took[0] = f.came[1], f.took[1]
	default:
		f.first, f.start = now-length, now
		f.came[0], f.took[0] = 0, 0
	}
	f.came[1], f.took[1] = 0, 0
}

// keepsUp reports whether the path takes what comes, with a queue whose oldest bytes have waited since oldest, for a
// subscription for which bytes older than age are late. chunk is how many bytes the path takes at once, and so how many
// it may have taken without our seeing it.
func (p *pace) keepsUp(oldest, age int64, chunk int, now int64) bool {
	wait, quiet := min(int64(patience), age), now-p.tookAt
	switch {
	case now-oldest < wait:
		return true
	case quiet > int64(noProgress):
		return false
	}
	p.roll(now)
	took := p.short.took[0] + p.short.took[1] + chunk
	if quiet <= wait && took >= p.short.came[0]+p.short.came[1] {
		return true // the queue shrinks: what waits is a burst on its way out
	}
	perNano := float64(took) / float64(max(1, quiet, now-p.short.first))
	over := max(int64(horizon), now-p.long.first)
	return perNano*float64(over) >= float64(p.long.came[0]+p.long.came[1])
}
