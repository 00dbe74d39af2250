package codec

// Type bytes of the control frames. PROTOCOL.md, section "Frames", draws the layout of each.
const (
	TypeHello   = 0x01 // client -> server
	TypeWelcome = 0x02 // server -> client
	TypeError   = 0x03 // both; then the sender closes
	TypeGoAway  = 0x04 // server -> client
	TypePing    = 0x05 // both
	TypePong    = 0x06 // both

	TypeRegister    = 0x10 // client -> server, answered by registered
	TypeRegistered  = 0x11
	TypeRemove      = 0x12 // client -> server, answered by ok, as are the others without an answer of their own
	TypeGrant       = 0x13
	TypeRevoke      = 0x14
	TypePublish     = 0x15 // client -> server, answered by published
	TypePublished   = 0x16
	TypeUnpublish   = 0x17
	TypeSubscribe   = 0x18 // client -> server, answered by subscribed
	TypeSubscribed  = 0x19
	TypeUnsubscribe = 0x1a
	TypeStat        = 0x1b // client -> server, answered by info
	TypeInfo        = 0x1c
	TypeOK          = 0x1d // server -> client
	TypeRefused     = 0x1e // server -> client, the answer to any request that failed

	TypeJoined      = 0x20 // server -> subscriber
	TypeLeft        = 0x21 // server -> subscriber
	TypeGap         = 0x22 // server -> subscriber, publisher -> server
	TypeAck         = 0x23 // server -> publisher, subscriber of a lossless room -> server
	TypeClosed      = 0x24 // server -> subscriber and publisher
	TypePushRefused = 0x25 // server -> publisher
	TypeCount       = 0x26 // server -> whoever asked for it
)

// Capabilities of a client, offered in hello and confirmed in welcome.
const (
	CapNone  uint64 = 0
	CapToken uint64 = 1 << 0 // the session may be given a fresh token: token and expiring
)

// Subscribe and publish flags.
const (
	SubNoEcho   = 1 << 0 // leave out what the same (account, instance) publishes
	SubCount    = 1 << 1 // send count frames
	subFlagMask = SubNoEcho | SubCount

	PubCount    = 1 << 0 // send count frames
	pubFlagMask = PubCount
)

// Control is any frame but a stream frame.
type Control interface {
	// Type returns the frame's type byte.
	Type() byte
	// Append writes the frame to the end of dst. What it writes, Parse reads: a field that its layout does not allow, a
	// list beyond its limit and a frame longer than the limit are an *EncodeError, and dst comes back as it was. Only
	// explanations are cut (Error, Refused), and what may be longer than a frame has a way to be split (State.Split; the
	// lists of Digest and Mirror go on in further frames).
	Append(dst []byte) ([]byte, error)
	// Parse reads the whole frame that b holds, as cut by Next. Byte slices in the result alias b; strings are copies.
	// Every error is a *ProtocolError.
	Parse(b []byte) error
}

// NewControl returns an empty frame of the given type, or nil if there is none.
func NewControl(typ byte) Control {
	switch typ {
	case TypeHello:
		return new(Hello)
	case TypeWelcome:
		return new(Welcome)
	case TypeError:
		return new(Error)
	case TypeGoAway:
		return new(GoAway)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeRegister:
		return new(Register)
	case TypeRegistered:
		return new(Registered)
	case TypeRemove:
		return new(Remove)
	case TypeGrant:
		return new(Grant)
	case TypeRevoke:
		return new(Revoke)
	case TypePublish:
		return new(Publish)
	case TypePublished:
		return new(Published)
	case TypeUnpublish:
		return new(Unpublish)
	case TypeSubscribe:
		return new(Subscribe)
	case TypeSubscribed:
		return new(Subscribed)
	case TypeUnsubscribe:
		return new(Unsubscribe)
	case TypeStat:
		return new(Stat)
	case TypeInfo:
		return new(Info)
	case TypeOK:
		return new(OK)
	case TypeRefused:
		return new(Refused)
	case TypeJoined:
		return new(Joined)
	case TypeLeft:
		return new(Left)
	case TypeGap:
		return new(Gap)
	case TypeAck:
		return new(Ack)
	case TypeClosed:
		return new(Closed)
	case TypePushRefused:
		return new(PushRefused)
	case TypeCount:
		return new(Count)
	case TypeToken:
		return new(Token)
	case TypeExpiring:
		return new(Expiring)
	case TypeInbox:
		return new(Inbox)
	}
	return nil
}

// ParseControl reads any control frame. It allocates the result; hot callers Parse into a frame of their own.
func ParseControl(b []byte) (Control, error) {
	if len(b) <= LengthSize {
		return nil, errMalformed
	}
	c := NewControl(b[LengthSize])
	if c == nil {
		return nil, errType
	}
	return c, c.Parse(b)
}

// body returns a reader on what follows the type byte.
func body(b []byte) reader {
	if len(b) <= LengthSize {
		return reader{err: errMalformed}
	}
	return reader{b: b[LengthSize+1:]}
}

// RoomOfRequest returns the room that a subscribe or an unsubscribe, a whole frame, is about, without parsing the rest.
func RoomOfRequest(frame []byte) (id RoomID, ok bool) {
	r := body(frame)
	r.varint32()
	id = RoomID(r.u64())
	return id, r.err == nil
}

// done skips the optional fields that end the frame and returns the first fault.
func (r *reader) done() error {
	r.fields(nil)
	return r.err
}

// room reads a room number; zero is none.
func (r *reader) room() RoomID {
	v := r.u64()
	if v == 0 {
		r.fail(errMalformed)
	}
	return RoomID(v)
}

// pub reads a publisher number; zero is none.
func (r *reader) pub() uint16 {
	v := r.u16()
	if v == 0 {
		r.fail(errMalformed)
	}
	return v
}

// seq reads a sequence number; zero is none.
func (r *reader) seq() uint64 {
	v := r.u48()
	if v == 0 {
		r.fail(errMalformed)
	}
	return v
}

// reqRoom is the body of the requests that name a room and nothing else.
type reqRoom struct {
	Req  uint32 // chosen by the client, echoed in the answer
	Room RoomID
}

func (m *reqRoom) append(dst []byte, typ byte) ([]byte, error) {
	w := beginReq(dst, typ, m.Req)
	w.anyRoom(m.Room)
	return w.end()
}

func (m *reqRoom) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room = r.varint32(), RoomID(r.u64())
	return r.done()
}

// reqRoomAccount is the body of grant and revoke.
type reqRoomAccount struct {
	Req     uint32
	Room    RoomID
	Account string
}

func (m *reqRoomAccount) append(dst []byte, typ byte) ([]byte, error) {
	w := beginReq(dst, typ, m.Req)
	w.anyRoom(m.Room)
	w.string(MaxAccount, m.Account)
	return w.end()
}

func (m *reqRoomAccount) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Account = r.varint32(), RoomID(r.u64()), r.string(MaxAccount)
	return r.done()
}
