//go:build linux

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Thread returns the processor time that the calling thread has taken so far. Differences mean something only to a
// goroutine that is locked to its thread (runtime.LockOSThread). It costs a system call, about 0.2 µs.
func Thread() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0 // the kernel was built without: what threads take is not known, and counts as nothing
	}
	return time.Duration(t.Nano())
}
