package carry

import (
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// Ticket names one attempt: to mirror a room, to have a publisher taken, to do a request. No process gives one twice.
type Ticket uint64

// LinkID names a connection with another node, SessionID a client's, for as long as this process lives. A link has a
// SessionID, too: requests come by it.
type (
	LinkID    uint64
	SessionID uint64
)

// Ask is a request that somebody makes of a room, and where the answer goes: a client of this node, or a client of the
// node at the other end of a link.
type Ask struct {
	Session  SessionID // whose loop the answer goes to
	Link     LinkID    // by which another node asks; 0: a client of this node does
	Through  bool      // with Link: that node cannot reach the relay, and wants this one to be its way there
	Account  string
	Instance uint64
	Req      uint32 // the number that the asker gave the request
	At       int64  // ns; when it came
	Renew    bool   // a publish by a node itself, see codec.As
	Tries    uint8  // how often the request went astray between roles that changed meanwhile

	M codec.Control // the request; the Node may change its number
}

// Effects is what a Node does. Every method appends to a mailbox and returns; what goes to one link arrives in order.
type Effects interface {
	// Dial opens a link to a member, once: Linked or Unreached follows.
	Dial(m node.Member)
	// Hang closes a link. Unlinked follows.
	Hang(l LinkID)
	// Send has a link send a frame, after what Tell and Send were given before. The frame is the callee's.
	Send(l LinkID, m codec.Control)
	// Tell has a link's Port do a command (Port.Do), in the same order.
	Tell(l LinkID, c Cmd)
	// Answer ends a request (Part.Answered). Once for each Ask, unless Here or Give is called for it, or Left comes first.
	Answer(a Ask, m codec.Control)
	// Here ends a request by sending it back: the room is here now, or might be. A client's Subscribe is for its session,
	// any other for Part.Request. For a Subscribe Node.Seated follows, when the session has its seat or will not have one.
	Here(a Ask)
	// Give ends a publish request: its session may hold the outbound (Part.Given). Node.Given follows, also if the session
	// is closed.
	Give(a Ask, o *room.Outbound, t Ticket)
	// Detached has Node.Detached called. Any goroutine calls it.
	Detached(o *room.Outbound)
	// Operate has this node do what an operator wants of it, in JSON that is the callee's. A report with the same req is
	// the answer, on the same link.
	Operate(l LinkID, req uint32, wish []byte)
	// Regained says that a room which this node has clients of has a relay again, and for how long it had none: since the
	// link to the one before broke.
	Regained(after time.Duration)
	// Note is for the log.
	Note(n Note)
}

// Note is something for the log. Fields that do not apply are zero.
type Note struct {
	Text  string
	Warn  bool
	Peer  string
	Room  codec.RoomID
	Epoch uint32
	Count int // of members
	Rooms int // more than one
	Err   error
}

// Host is a session as its Part sees it. Unless it says otherwise a method is called on the session's loop.
type Host interface {
	// Send has the session send a frame, in order with all that it is sent.
	Send(m codec.Control)
	// Acks sends the acknowledgements of a publication that are due (Publication.Acks), unless the session holds them back
	// for a while.
	Acks(p *Publication)
	// Await has the host's ticks call Acks until nothing is outstanding (Publication.Pending).
	Await(p *Publication)
	// Numbered says that the session publishes under a number now: a subscription of it that wants no echoes is not sent
	// that.
	Numbered(p *Publication)
	// Refuse answers a request with an error.
	Refuse(a Ask, err error)
	// Ask hands a request for a room that is not relayed here to the Node (Node.Ask).
	Ask(a Ask)
	// Performed hands an answer to the Node, which gives it when the standbys know what was done (Node.Performed).
	Performed(a Ask, r *room.Room, answer codec.Control)

	// PostCut has Publication.Ended called on the loop, PostAcks Acks, PostCount Publication.SendCount. They append to the
	// loop's mailbox. Any goroutine.
	PostCut(p *Publication, of room.Pusher, code codec.Code)
	PostAcks(p *Publication)
	PostCount(p *Publication, c codec.Count)
}

// LinkHost is the session of a link as its Port sees it.
type LinkHost interface {
	Host
	room.Way
	// Report has Node.Report called with what the Port has to tell.
	Report(r Report)
	// Stray counts frames that were not taken. On a link that the other node dialed that one is told, by push_refused.
	Stray(id codec.RoomID, num uint16, code codec.Code, frames int)
	// Admit makes the link a member of a room: mirrored with req and the head, the replay, then ok are sent when it is
	// admitted. Join.Member is the callee's to fill in.
	Admit(req uint32, r *room.Room, j room.Join, head codec.RoomHead) (Member, error)
	// Resume says that Port.Ready has become true: frames that waited may come.
	Resume()
}

// Member is a link's membership in a room.
type Member interface {
	// Ack takes the other node's word that its subscribers have a stream up to seq.
	Ack(key codec.StreamKey, seq uint64, now int64)
	// Tally says how many subscribers it serves, and what has become of clients of a lossless room there.
	Tally(subs int, clients []codec.ClientMove, now int64)
	// Leave ends the membership. If another follows at once the seat stays for that, with what it has acknowledged.
	Leave(followed bool)
}
