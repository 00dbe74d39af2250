// Package clock is where the server takes the time from. There are two, and they are not to be mixed up.
//
// Everything that lasts (time-outs, rates, ages, pauses, the life of a room) goes by Now, which runs on evenly whatever
// becomes of the computer's clock: an hour's step, either way, is nothing to it. Only what names a moment that others
// have fixed, the end of a token or of a certificate, goes by Wall.
//
// A time.Time of time.Now carries both: its differences (Sub, Since, Until, deadlines of connections) are even, what is
// read off it (Unix, UnixNano, Format) is not. The test in this package keeps the second out of all packages but the
// few that have to name a moment.
package clock

import "time"

// Clock tells the time. Both methods may be called from any goroutine, and neither blocks nor allocates.
type Clock interface {
	// Now returns the time in nanoseconds. It never steps and never runs backwards. It reads as the Unix time that it was
	// when the process began, and what has passed since: always positive, and close to that of other machines whose clocks
	// were right then.
	Now() int64
	// Wall returns the moment as the computer's clock tells it now.
	Wall() time.Time
}

// System is the computer's clock.
var System Clock = system{}

type system struct{}

var (
	begun     = time.Now()
	begunUnix = begun.UnixNano()
)

// Now implements Clock: time.Since looks at the even part of begun.
func (system) Now() int64 { return begunUnix + int64(time.Since(begun)) }

// Wall implements Clock.
func (system) Wall() time.Time { return time.Now() }
