// Package target speaks the protocols of the servers that loadgen can drive, one file each.
//
// A [Target] makes the two sides of its protocol: a [Publisher] writes messages, a [Subscriber] walks received bytes
// and hands every frame to a verify.Tracker. Both are state machines without I/O: the loops of package load own the
// sockets. A wire belongs to its connection's loop. Start at [New].
package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// Stream is one stream that the generator publishes.
type Stream struct {
	Number uint32 // the generator's own, in every stamp
	Room   int    // index of the room
	Pub    int    // index of the publisher within the room
	Dtype  uint8
	Seq    uint64 // last sequence number used; owned by the publisher's loop
}

// Message is one payload to publish. A publisher that has no credit for all of it appends a part and is asked again.
type Message struct {
	Stream *Stream
	Due    int64 // ns on the monotonic clock
	Flags  codec.Flags
	Size   int // bytes of payload, at least verify.StampSize
	Sent   int // bytes of payload already appended
}

// Wire is the protocol on one connection.
type Wire interface {
	// Open appends what the client says first.
	Open(dst []byte) []byte
	// Scan walks b, received bytes in order, and returns how many it has taken; it wants the others again, with more
	// behind them. It appends to reply what must be answered. An error ends the connection.
	Scan(b, reply []byte) (n int, out []byte, err error)
	// Ready reports whether the handshake is over: a publisher may publish, a subscriber receives.
	Ready() bool
}

// Publisher is the publishing side of a connection.
type Publisher interface {
	Wire
	// Append appends the frames of m, or as much of it as the server's flow control allows; done is false if something is
	// left for later. It sets the stream's sequence number and m.Sent.
	Append(dst []byte, m *Message) (out []byte, done bool)
}

// Subscriber is the receiving side of a connection.
type Subscriber interface {
	Wire
	// Tick appends what the protocol wants said from time to time. The loop calls it about every 25 ms.
	Tick(reply []byte) []byte
}

// Resumer is a wire that goes on over another connection where a broken one stopped: a publisher sends again what is
// not acknowledged, a subscriber asks for what comes after what it has.
type Resumer interface {
	// Lost takes note that the connection broke. Open begins the next one.
	Lost()
	// Ping appends what makes a live server say something.
	Ping(dst []byte) []byte
}

// Replayer is a publisher that resumes.
type Replayer interface {
	Resumer
	// Replayed returns how many frames it has sent again, and how many times a room has moved under it.
	Replayed() (frames, moves uint64)
}

// AgainError says that another connection may do better.
type AgainError struct{ Text string }

func (e *AgainError) Error() string { return e.Text }

// Caps says what a server can do. What it cannot stands as "no" in the tables.
type Caps struct {
	Announces bool // streams begin at 1 and every gap is announced
	Rooms     bool // more than one room, more than one publisher
	Policies  []codec.Policy
	LateJoin  bool // a late joiner gets the newest group
	Piece     int  // largest payload of a frame, bytes; 0: a message is one frame whatever its size
}

// Plan is the part of a run that the target has to know.
type Plan struct {
	Addr    string
	Account string
	Rooms   int
	First   int // index of the first room, when several processes share a run
	Policy  codec.Policy
	// QueueBytes and QueueMillis bound what is queued for one subscriber of a room; 0 is the server's default.
	QueueBytes, QueueMillis uint64
	// IDs are rooms that were made before, by the process that drives this one; nil if this one makes them.
	IDs []uint64
}

// Target is one kind of server.
type Target interface {
	Name() string
	Caps() Caps
	// Prepare makes the rooms. It blocks. Publishers and subscribers may be made afterwards.
	Prepare(ctx context.Context, p Plan) error
	// IDs returns the rooms that Prepare made, for other processes' plans; nil where rooms need no making.
	IDs() []uint64
	// Publisher returns the wire that publishes the streams.
	Publisher(streams []*Stream) Publisher
	// Subscriber returns the wire that subscribes to a room.
	Subscriber(room int, t *verify.Tracker) Subscriber
}

var targets = map[string]func() Target{
	"timedge":    func() Target { return new(timedge) },
	"limit":      func() Target { return new(limit) },
	"nats":       func() Target { return new(nats) },
	"redis":      func() Target { return new(redis) },
	"mosquitto":  func() Target { return new(mqtt) },
	"tim":        func() Target { return new(tim) },
	"centrifugo": func() Target { return new(centrifugo) },
}

// New returns the target of the given name.
func New(name string) (Target, error) {
	f, ok := targets[name]
	if !ok {
		return nil, fmt.Errorf("unknown target %q: one of %v", name, Names())
	}
	return f(), nil
}

// Names lists the targets.
func Names() []string {
	var names []string
	for n := range targets {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Can reports whether the server can run a plan, and if not, why.
func (c Caps) Can(p Plan, publishers int) error {
	if !c.Rooms && (p.Rooms > 1 || publishers > 1) {
		return errors.New("one room and one publisher only")
	}
	if p.Policy != codec.PolicyLive && !slices.Contains(c.Policies, p.Policy) {
		return fmt.Errorf("no %s rooms", p.Policy)
	}
	return nil
}

// ClosedError says that the server ended a subscription or a publisher's part, in an orderly way.
type ClosedError struct{ Code codec.Code }

func (e *ClosedError) Error() string { return "closed by the server: " + e.Code.String() }

// stamp appends the first bytes of m's payload.
func stamp(dst []byte, m *Message, seq uint64) []byte {
	var b [verify.StampSize]byte
	verify.PutStamp(b[:], m.Due, seq, m.Stream.Number)
	return append(dst, b[:]...)
}

// plain appends m's whole payload, for protocols whose messages are not cut into frames, and takes a sequence number.
func plain(dst []byte, m *Message) []byte {
	m.Stream.Seq++
	dst = verify.AppendPattern(stamp(dst, m, m.Stream.Seq), verify.StampSize, m.Size-verify.StampSize)
	m.Sent = m.Size
	return dst
}

// plainFrame begins a message of such a protocol at a tracker. head holds at least the stamp.
func plainFrame(t *verify.Tracker, head []byte, size int) {
	_, seq, number := verify.ReadStamp(head)
	t.Frame(verify.Key{Room: uint64(number)}, 0, seq, head, size)
}

// subjects names rooms with the servers that have no rooms but names: r0, r1 ... Nothing needs to be made.
type subjects struct{ first int }

// Prepare needs nothing from the server.
func (s *subjects) Prepare(_ context.Context, p Plan) error {
	s.first = p.First
	return nil
}

// IDs returns nil: the names follow from the plan.
func (*subjects) IDs() []uint64 { return nil }

func (s *subjects) append(dst []byte, room int) []byte {
	return strconv.AppendInt(append(dst, 'r'), int64(s.first+room), 10)
}
