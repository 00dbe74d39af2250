package codec

// Types of the frames that only links between nodes carry. PROTOCOL.md, section "Links".
const (
	TypeAs        = 0x40 // edge -> relay: a request on behalf of an account, answered as the request is
	TypeMirror    = 0x41 // edge -> relay: subscribe a node to a room, answered by mirrored
	TypeMirrored  = 0x42
	TypeState     = 0x43 // relay -> standby, holder -> relay: what a room is, answered by ok
	TypeMoved     = 0x44 // asked node -> edge: it does not relay the room; who does
	TypeDrop      = 0x45 // either way: a publisher's part on this link has ended
	TypeTally     = 0x46 // edge -> relay: how many subscribers it serves
	TypeDigest    = 0x47 // edge -> relay: all rooms that it mirrors from there
	TypeInspect   = 0x48 // any -> any: what do you know, answered by report
	TypeReport    = 0x49
	TypeHave      = 0x4a // edge -> relay: positions, before mirror
	TypeChange    = 0x4b // relay -> standby: what has changed of a state
	TypePack      = 0x4c // either way: many frames about rooms
	TypeOperate   = 0x4d // any -> any: what an operator wants of a node, answered by report
	TypeElsewhere = 0x4e // relay -> edge: clients that subscribe at other nodes now
)

// Flags of Mirror.
const (
	MirrorThrough = 1 << 0 // asks a node that does not relay the room itself to serve it all the same: the sender cannot reach the relay
	MirrorInbox   = 1 << 1 // a session of the account asks whose inbox the room is: nobody else is shown one
	MirrorNew     = 1 << 2 // the node has nothing of the room: Have is what some of its subscribers have, and others may have less

	mirrorFlagMask = MirrorThrough | MirrorInbox | MirrorNew
)

// DigestMore says that the next digest frame on this link goes on with the list.
const DigestMore = 1 << 0

// MaxAsFrame is the longest request that as carries.
const MaxAsFrame = 60 << 10

// MaxOperate is how many bytes an operator's wish has at most.
const MaxOperate = 4096

// MaxReport is how many bytes a report has at most.
const MaxReport = 65000

// Flags of a state frame.
const (
	StateHandover = 1 << 0 // the receiver is to be the room's relay
	StateReturn   = 1 << 1 // the sender is no standby any more and drops its copy when this is answered
	StateMore     = 1 << 2 // the next state frame on this link goes on with this one's lists

	stateFlagMask = StateHandover | StateReturn | StateMore
)

// NewLink returns an empty frame of a type that only links carry, or nil if there is none.
func NewLink(typ byte) Control {
	switch typ {
	case TypeAs:
		return new(As)
	case TypeMirror:
		return new(Mirror)
	case TypeMirrored:
		return new(Mirrored)
	case TypeState:
		return new(State)
	case TypeMoved:
		return new(Moved)
	case TypeDrop:
		return new(Drop)
	case TypeTally:
		return new(Tally)
	case TypeDigest:
		return new(Digest)
	case TypeInspect:
		return new(Inspect)
	case TypeReport:
		return new(Report)
	case TypeHave:
		return new(Have)
	case TypeChange:
		return new(Change)
	case TypePack:
		return new(Pack)
	case TypeOperate:
		return new(Operate)
	case TypeElsewhere:
		return new(Elsewhere)
	}
	return nil
}

// ParseLink reads a frame that only links carry; any other type is unknown_type. A session of a client must not call
// it.
func ParseLink(b []byte) (Control, error) {
	if len(b) <= LengthSize {
		return nil, errMalformed
	}
	c := NewLink(b[LengthSize])
	if c == nil {
		return nil, errType
	}
	return c, c.Parse(b)
}

// As carries one request frame of a client of the sending node. The sender gives the request a number (req) that is its
// own on this link, so that the answer finds its way.
type As struct {
	Account  string
	Instance uint64
	Frame    []byte // a whole request frame, its length included; aliases the input when parsed
	// Renew marks a publish that the node makes again by itself, for a client that has published before: it must not take
	// the place of another session of that client, which may be the newer one.
	Renew bool
}

// tagRenew is the optional field of as that stands for Renew; it has no value.
const tagRenew = 2

// Type returns TypeAs.
func (*As) Type() byte { return TypeAs }

// Append implements Control.
func (m *As) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeAs)
	w.string(MaxAccount, m.Account)
	w.u64(m.Instance)
	w.bytes(MaxAsFrame, m.Frame)
	w.flag(tagRenew, m.Renew)
	return w.end()
}

// Parse implements Control. It does not look into Frame.
func (m *As) Parse(b []byte) error {
	r := body(b)
	m.Account, m.Instance, m.Frame = r.string(MaxAccount), r.u64(), r.bytes(MaxAsFrame)
	m.Renew = false
	r.fields(func(tag uint64, _ []byte) bool {
		m.Renew = m.Renew || tag == tagRenew
		return tag == tagRenew
	})
	return r.err
}

// Mirror subscribes a node to a room: it gets what a subscriber gets, and acknowledges every stream.
type Mirror struct {
	Req   uint32
	Flags uint8 // MirrorThrough, MirrorInbox, MirrorNew
	Room  RoomID
	Have  []Position // the last frame of each stream that the node has; at most MaxMirrorPositions, or told before: see Have
	Reign Reign      // the newest that the node has heard of; zero: it says nothing
	// Resumes says, of a node that has nothing of the room, that one of its subscribers was there before the streams that
	// Have does not name: see Subscribe.
	Resumes bool
}

// Type returns TypeMirror.
func (*Mirror) Type() byte { return TypeMirror }

// Append implements Control.
func (m *Mirror) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeMirror, m.Req)
	w.bits(m.Flags, mirrorFlagMask)
	w.room(m.Room)
	w.positions(m.Have, MaxMirrorPositions)
	if m.Reign != (Reign{}) {
		w.field(tagReign, func(v *writer) {
			v.varint(uint64(m.Reign.Epoch))
			v.string(MaxAccount, m.Reign.Relay)
			v.u64(m.Reign.Birth)
		})
	}
	w.flag(tagResumes, m.Resumes)
	return w.end()
}

// Parse implements Control.
func (m *Mirror) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Flags = r.varint32(), r.u8()
	if m.Flags&^mirrorFlagMask != 0 {
		r.fail(errMalformed)
	}
	m.Room, m.Have, m.Reign, m.Resumes = r.room(), r.positions(MaxMirrorPositions), Reign{}, false
	r.fields(func(tag uint64, value []byte) bool {
		v := reader{b: value}
		if reign := (Reign{v.varint32(), v.string(MaxAccount), v.u64()}); tag == tagReign && v.err == nil {
			m.Reign = reign
		}
		m.Resumes = m.Resumes || tag == tagResumes
		return tag == tagReign || tag == tagResumes
	})
	return r.err
}

// Mirrored answers Mirror with what the room is, but for its lists: who publishes is told by joined, who may is the
// relay's to know.
type Mirrored struct {
	Req uint32
	RoomHead
}

// Type returns TypeMirrored.
func (*Mirrored) Type() byte { return TypeMirrored }

// Append implements Control.
func (m *Mirrored) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeMirrored, m.Req)
	m.RoomHead.append(&w)
	m.Keep.append(&w)
	return w.end()
}

// Parse implements Control.
func (m *Mirrored) Parse(b []byte) error {
	r := body(b)
	m.Req = r.varint32()
	m.RoomHead.parse(&r)
	m.Keep = Keep{}
	r.fields(m.Keep.parse)
	return r.err
}

// Moved tells an edge that the sender does not relay the room, or not any more.
type Moved struct {
	Room RoomID
	To   string // who relays it, as far as the sender knows; may be empty
}

// Type returns TypeMoved.
func (*Moved) Type() byte { return TypeMoved }

// Append implements Control.
func (m *Moved) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeMoved)
	w.room(m.Room)
	w.string(MaxAccount, m.To)
	return w.end()
}

// Parse implements Control.
func (m *Moved) Parse(b []byte) error {
	r := body(b)
	m.Room, m.To = r.room(), r.string(MaxAccount)
	return r.done()
}

// Drop says that a publisher's part on this link has ended. From the edge: its session is gone and may come back
// elsewhere (gone). From the relay: revoked, superseded, moved.
type Drop struct {
	Room RoomID
	Pub  uint16
	Code Code
}

// Type returns TypeDrop.
func (*Drop) Type() byte { return TypeDrop }

// Append implements Control.
func (m *Drop) Append(dst []byte) ([]byte, error) {
	w := beginPub(dst, TypeDrop, m.Room, m.Pub)
	w.u16(uint16(m.Code))
	return w.end()
}

// Parse implements Control.
func (m *Drop) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Code = r.room(), r.pub(), Code(r.u16())
	return r.done()
}

// Tally tells the relay how many subscribers of a room the edge serves, and of a lossless room who they are, and who has
// lost the connection there and is awaited back: their places are kept for them.
type Tally struct {
	Room        RoomID
	Subscribers uint64
	Clients     []ClientMove // what has become of whom since the last tally for the same Mirror; optional, at most MaxMoves
}

// ClientMove is what has become of a client of a lossless room at a node.
type ClientMove struct {
	Mark uint64 // see ClientMark
	Now  Presence
}

// Presence is what a client of a lossless room is to a node.
type Presence uint8

// The presences. A later version may have more.
const (
	PresenceGone    Presence = iota // it has no place there
	PresenceAwaited                 // it has lost its connection: its place is kept
	PresenceHere                    // it subscribes there
)

// MaxMoves is how many clients a tally names at most.
const MaxMoves = 6000

// Type returns TypeTally.
func (*Tally) Type() byte { return TypeTally }

// Append implements Control.
func (m *Tally) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeTally)
	w.room(m.Room)
	w.varint(m.Subscribers)
	if len(m.Clients) > 0 {
		w.field(tagMoves, func(v *writer) {
			if v.list(len(m.Clients), MaxMoves) {
				for _, c := range m.Clients {
					v.u64(c.Mark)
					v.u8(uint8(c.Now))
				}
			}
		})
	}
	return w.end()
}

// Parse implements Control.
func (m *Tally) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Subscribers, m.Clients = r.room(), r.varint(), nil
	r.fields(func(tag uint64, value []byte) bool {
		if tag == tagMoves {
			v := reader{b: value}
			for n := v.count(9, MaxMoves); n > 0; n-- {
				m.Clients = append(m.Clients, ClientMove{v.u64(), Presence(v.u8())})
			}
		}
		return tag == tagMoves
	})
	return r.err
}

// Elsewhere tells an edge that clients of a lossless room subscribe at other nodes: it keeps no places for those of them
// that it awaits back.
type Elsewhere struct {
	Room  RoomID
	Marks []uint64 // at most MaxMoves; see ClientMark
}

// Type returns TypeElsewhere.
func (*Elsewhere) Type() byte { return TypeElsewhere }

// Append implements Control.
func (m *Elsewhere) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeElsewhere)
	w.room(m.Room)
	if w.list(len(m.Marks), MaxMoves) {
		for _, mark := range m.Marks {
			w.u64(mark)
		}
	}
	return w.end()
}

// Parse implements Control.
func (m *Elsewhere) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Marks = r.room(), nil
	for n := r.count(8, MaxMoves); n > 0 && r.err == nil; n-- {
		m.Marks = append(m.Marks, r.u64())
	}
	return r.done()
}

// Digest names all rooms that the edge mirrors by this link, so that interest that either side has lost is repaired.
type Digest struct {
	Flags uint8    // DigestMore or none
	Rooms []RoomID // at most MaxDigest
}

// Type returns TypeDigest.
func (*Digest) Type() byte { return TypeDigest }

// Append implements Control.
func (m *Digest) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeDigest)
	w.bits(m.Flags, DigestMore)
	if w.list(len(m.Rooms), MaxDigest) {
		for _, id := range m.Rooms {
			w.room(id)
		}
	}
	return w.end()
}

// Parse implements Control.
func (m *Digest) Parse(b []byte) error {
	r := body(b)
	if m.Flags = r.u8(); m.Flags&^DigestMore != 0 {
		r.fail(errMalformed)
	}
	m.Rooms = nil
	for n := r.count(8, MaxDigest); n > 0 && r.err == nil; n-- {
		m.Rooms = append(m.Rooms, r.room())
	}
	return r.done()
}

// Inspect asks what a node knows of a room, for people to read.
type Inspect struct {
	Req  uint32
	Room RoomID
}

// Type returns TypeInspect.
func (*Inspect) Type() byte { return TypeInspect }

// Append implements Control.
func (m *Inspect) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeInspect, m.Req)
	w.room(m.Room)
	return w.end()
}

// Parse implements Control.
func (m *Inspect) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room = r.varint32(), r.room()
	return r.done()
}

// Operate brings what an operator wants of a node, in JSON.
type Operate struct {
	Req  uint32
	JSON []byte // at most MaxOperate; aliases the input when parsed
}

// Type returns TypeOperate.
func (*Operate) Type() byte { return TypeOperate }

// Append implements Control.
func (m *Operate) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeOperate, m.Req)
	w.bytes(MaxOperate, m.JSON)
	return w.end()
}

// Parse implements Control.
func (m *Operate) Parse(b []byte) error {
	r := body(b)
	m.Req, m.JSON = r.varint32(), r.bytes(MaxOperate)
	return r.done()
}

// Report answers Inspect and Operate.
type Report struct {
	Req  uint32
	JSON []byte // at most MaxReport; aliases the input when parsed
}

// Type returns TypeReport.
func (*Report) Type() byte { return TypeReport }

// Append implements Control.
func (m *Report) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeReport, m.Req)
	w.bytes(MaxReport, m.JSON)
	return w.end()
}

// Parse implements Control.
func (m *Report) Parse(b []byte) error {
	r := body(b)
	m.Req, m.JSON = r.varint32(), r.bytes(MaxReport)
	return r.done()
}
