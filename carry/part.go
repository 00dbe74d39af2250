package carry

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Part is what a session publishes. Loop only.
type Part struct{}

// NewPart returns the part of a client's session.
func NewPart(h Host, rooms *room.Table) *Part { panic("carry: to come") }

// Request does what somebody asks of a room, if it is here, or hands it to the Node. The answer goes to the Host.
func (p *Part) Request(a Ask, now int64) {}

// Answered is Effects.Answer on the session's loop. The session is open.
func (p *Part) Answered(a Ask, m codec.Control, now int64) {}

// Given is Effects.Give on the session's loop. It reports whether the session holds the outbound now. If it does not the request is on its way
// again. The session is open; for a closed one nothing is held.
func (p *Part) Given(a Ask, o *room.Outbound, now int64) (held bool) { return false }

// Push routes a run of frames to its room. A *room.Error is the publisher's to know.
func (p *Part) Push(run room.Run, now int64) error { return nil }

// Gap routes a publisher's gap likewise.
func (p *Part) Gap(g codec.Gap, now int64) error { return nil }

// Close ends all publications, as a broken connection does.
func (p *Part) Close(now int64) {}

// Publication is a session's right to push into a room under a number. It implements room.Holder. The sessions of links have one for each
// publisher that they carry. Loop only, but for the methods of room.Holder.
type Publication struct {
	Room     codec.RoomID
	Num      uint16
	Withheld int // the host's: bytes pushed since it holds acknowledgements back
}

// Cut implements room.Holder.
func (p *Publication) Cut(of room.Pusher, code codec.Code) {}

// AckNow implements room.Holder.
func (p *Publication) AckNow(of room.Pusher) {}

// Count implements room.Holder.
func (p *Publication) Count(of room.Pusher, c codec.Count) {}

// Ended is Host.PostCut on the loop: what is still pushed is refused from now on.
func (p *Publication) Ended(of room.Pusher, code codec.Code, now int64) {}

// Acks calls yield for every stream whose acknowledgement is to be sent now.
func (p *Publication) Acks(yield func(key codec.StreamKey, seq uint64)) {}

// Pending reports whether acknowledgements may become due without AckNow.
func (p *Publication) Pending() bool { return false }

// SendCount is Host.PostCount on the loop.
func (p *Publication) SendCount(c codec.Count) {}
