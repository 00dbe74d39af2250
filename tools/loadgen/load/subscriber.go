package load

import (
	"github.com/timedge/timedge/tools/loadgen/over"
	"github.com/timedge/timedge/tools/loadgen/target"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// class sorts subscribers by how they behave. Each has counts and latencies of its own.
type class uint8

const (
	healthy  class = iota
	stalled        // reads nothing once it has subscribed
	half           // reads at half the rate of its room
	late           // joins at a random moment of the run
	changing       // leaves during the run; a new one takes its place
	classes
)

var classNames = [classes]string{"healthy", "stalled", "half", "late", "changing"}

func (c class) String() string { return classNames[c] }

// judged reports whether a subscriber of the class must have received everything by the end of the run, and must not be
// cut off.
func (c class) judged() bool { return c == healthy || c == late || c == changing }

type state uint8

const (
	waiting    state = iota // not begun
	connecting              // TCP handshake
	greeting                // protocol handshake
	receiving
	gone
)

// subscriber is one receiving connection. It belongs to its loop.
type subscriber struct {
	route
	room  int
	class class
	wire  target.Subscriber
	track *verify.Tracker

	slot, generation int32
	fd               int
	state            state
	begun            int64      // when its connection was begun
	served           bool       // a message has come
	ready            bool       // it was subscribed once
	joinAt           int64      // late joiners: when to begin
	tail             []byte     // received, not yet taken by the wire
	out              []byte     // to be sent
	over             *over.Conn // nil: plain
	sealed           []byte     // of out, what is to be sent and goes over a carrier

	budget   float64 // half: bytes it may read now
	budgetAt int64
}

// slowReceive is the receive buffer of those that read slowly or not at all, so that the server feels it soon.
const slowReceive = 64 << 10
