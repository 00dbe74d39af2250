package client

// Event is what Subscription.Next returns: one of *Message, *Gap, *Joined, *Left, *Count, *Resumed.
type Event interface {
	// In returns the room that the event belongs to.
	In() RoomID
}

// Message is one payload as it was pushed, joined from its pieces. The message and its payload are the caller's until
// the next call of Next; whoever needs them longer copies them.
type Message struct {
	Room      RoomID
	Publisher string // account of the publisher
	Pub       uint16 // number of the publisher in this room
	Dtype     uint8  // which of the publisher's streams: its own choice
	Kind      Kind
	First     uint64 // number of its first frame in the stream (room, publisher, dtype)
	Last      uint64 // number of its last frame
	Payload   []byte
}

// Gap says that the frames From to To of a stream, both included, do not come. A subscription to a stream that has been
// going on for a while begins with one (reason joined).
type Gap struct {
	Room      RoomID
	Publisher string
	Pub       uint16
	Dtype     uint8
	From, To  uint64
	Reason    GapReason

	// Interrupted is the number of the first frame of a message that had arrived in part when the gap cut it off, and that
	// is therefore dropped: the frames Interrupted to From-1 are lost to the caller, too. 0: none.
	Interrupted uint64
}

// Joined announces a publisher before its first message. After Resumed those present are announced again. An account
// that publishes from several clients at once has a number for each.
type Joined struct {
	Room    RoomID
	Pub     uint16
	Account string
	Again   bool // it was there before: the subscription was resumed
}

// Left says that a publisher is gone, after its last message.
type Left struct {
	Room    RoomID
	Pub     uint16
	Account string
	Code    Code // ErrLeft, ErrGone or ErrRevoked
}

// Count tells how many are in the room, to those who asked for it. The server coalesces it.
type Count struct {
	Room        RoomID
	Subscribers uint64
	Publishers  uint64
}

// Resumed says that the connection broke, or moved to another server, and that the subscription goes on. Every stream
// goes on with the frame after the last one, or with a gap.
type Resumed struct {
	Room RoomID
}

// In returns the message's room.
func (e *Message) In() RoomID { return e.Room }

// In returns the gap's room.
func (e *Gap) In() RoomID { return e.Room }

// In returns the room joined.
func (e *Joined) In() RoomID { return e.Room }

// In returns the room left.
func (e *Left) In() RoomID { return e.Room }

// In returns the room counted.
func (e *Count) In() RoomID { return e.Room }

// In returns the room resumed.
func (e *Resumed) In() RoomID { return e.Room }
