package load

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/target"
)

// Where a service has several nodes, or one is to be killed, a connection that breaks, or over which nothing is heard,
// is made again with the next node, and its wire goes on where it was.

// giveUp is how long a connection may be away: as long as two attempts may take. It is then lost, which fails the run.
const giveUp = 2 * codec.AnswerWithin

var errSilent = errors.New("nothing was heard from the server")

// route says where a connection goes, and when. The first node is tried again after all others.
type route struct {
	addrs  []netip.AddrPort
	at     int   // of addrs, the one in use
	tries  int   // since the connection stood
	lostAt int64 // when it broke; 0: it stands
	next   int64 // when to try
	heard  int64 // when bytes last came
	pinged bool  // since then
}

func newRoute(addrs []netip.AddrPort, first int) route {
	return route{addrs: addrs, at: first % len(addrs)}
}

func (r *route) addr() netip.AddrPort { return r.addrs[r.at] }

// lost picks the next node: at once while there are others, then after a pause for each time round. It reports whether
// it is worth it.
func (r *route) lost(now int64) bool {
	if r.lostAt == 0 {
		r.lostAt = now
	}
	r.at = (r.at + 1) % len(r.addrs)
	rounds := r.tries / len(r.addrs)
	r.tries++
	r.next = now + int64(min(rounds, 5))*int64(20*time.Millisecond)
	return now-r.lostAt < int64(giveUp)
}

// stands takes note that the connection is made again.
func (r *route) stands(now int64) { r.tries, r.lostAt, r.heard, r.pinged = 0, 0, now, false }

// quiet reports whether nothing has been heard for the time allowed, and before that, once, whether to ping.
func (r *route) quiet(now int64, silence time.Duration) (ping, over bool) {
	quiet := now - r.heard
	if quiet > int64(silence) {
		return false, true
	}
	if quiet < int64(silence)/2 || r.pinged {
		return false, false
	}
	r.pinged = true
	return true, false
}

// breaks reports whether an error is of a connection, so that another may do better.
func breaks(err error) bool {
	var again *target.AgainError
	var errno unix.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errSilent) || errors.As(err, &again) || errors.As(err, &errno)
}
