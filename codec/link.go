package codec

import "encoding/binary"

// Types of the frames that only links between nodes carry. PROTOCOL.md, section "Links".
const (
	TypeAs       = 0x40 // edge -> relay: a request on behalf of an account, answered as the request is
	TypeMirror   = 0x41 // edge -> relay: subscribe a node to a room, answered by mirrored
	TypeMirrored = 0x42
	TypeState    = 0x43 // relay -> standby, holder -> relay: what a room is, answered by ok
	TypeMoved    = 0x44 // asked node -> edge: it does not relay the room; who does
	TypeDrop     = 0x45 // either way: a publisher's part on this link has ended
	TypeTally    = 0x46 // edge -> relay: how many subscribers it serves
	TypeDigest   = 0x47 // edge -> relay: all rooms that it mirrors from there
	TypeInspect  = 0x48 // any -> any: what do you know, answered by report
	TypeReport   = 0x49
)

// Flags of Mirror.
const (
	MirrorThrough = 1 << 0 // asks a node that does not relay the room itself to serve it all the same: the sender cannot reach the relay
	MirrorInbox   = 1 << 1 // a session of the account asks whose inbox the room is: nobody else is shown one
	MirrorNew     = 1 << 2 // the node has nothing of the room: Have is what the first of its subscribers has, and others may have less
)

// DigestMore says that the next digest frame on this link goes on with the list.
const DigestMore = 1 << 0

// MaxAsFrame is the longest request that as carries.
const MaxAsFrame = 60 << 10

// MaxDigest is how many rooms one digest frame names at most; MaxReport how many bytes a report has.
const (
	MaxDigest = 8000
	MaxReport = 65000
)

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
	}
	return nil
}

// ParseLink reads a frame that only links carry; any other type is unknown_type. A session of a client must not call it.
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

// As carries one request frame of a client of the sending node. The sender gives the request a number (req) that is its own on
// this link, so that the answer finds its way.
type As struct {
	Account  string
	Instance uint64
	Frame    []byte // a whole request frame, its length included; aliases the input when parsed
	// Renew marks a publish that the node makes again by itself, for a client that has published before: it must not take the place of
	// another session of that client, which may be the newer one.
	Renew bool
}

// tagRenew is the optional field of as that stands for Renew; it has no value.
const tagRenew = 2

// Type returns TypeAs.
func (*As) Type() byte { return TypeAs }

// Append implements Control.
func (m *As) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeAs)
	dst = binary.BigEndian.AppendUint64(appendString(dst, m.Account), m.Instance)
	dst = binary.AppendUvarint(dst, uint64(len(m.Frame)))
	dst = append(dst, m.Frame...)
	if m.Renew {
		dst = append(dst, tagRenew, 0)
	}
	return end(dst, at)
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
	Have  []Position // the last frame of each stream that the node has
}

// Type returns TypeMirror.
func (*Mirror) Type() byte { return TypeMirror }

// Append implements Control.
func (m *Mirror) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeMirror, m.Req)
	return end(appendPositions(appendRoom(append(dst, m.Flags), m.Room), m.Have), at)
}

// Parse implements Control.
func (m *Mirror) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Flags = r.varint32(), r.u8()
	if m.Flags&^(MirrorThrough|MirrorInbox|MirrorNew) != 0 {
		r.fail(errMalformed)
	}
	m.Room, m.Have = r.room(), r.positions()
	return r.done()
}

// Mirrored answers Mirror with what the room is, but for its lists: who publishes is told by joined, who may is the relay's to know.
type Mirrored struct {
	Req uint32
	RoomHead
}

// Type returns TypeMirrored.
func (*Mirrored) Type() byte { return TypeMirrored }

// Append implements Control.
func (m *Mirrored) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeMirrored, m.Req)
	return end(m.RoomHead.append(dst), at)
}

// Parse implements Control.
func (m *Mirrored) Parse(b []byte) error {
	r := body(b)
	m.Req = r.varint32()
	m.RoomHead.parse(&r)
	return r.done()
}

// Moved tells an edge that the sender does not relay the room, or not any more.
type Moved struct {
	Room RoomID
	To   string // who relays it, as far as the sender knows; may be empty
}

// Type returns TypeMoved.
func (*Moved) Type() byte { return TypeMoved }

// Append implements Control.
func (m *Moved) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeMoved)
	return end(appendString(appendRoom(dst, m.Room), m.To), at)
}

// Parse implements Control.
func (m *Moved) Parse(b []byte) error {
	r := body(b)
	m.Room, m.To = r.room(), r.string(MaxAccount)
	return r.done()
}

// Drop says that a publisher's part on this link has ended. From the edge: its session is gone and may come back elsewhere (gone). From
// the relay: revoked, superseded, moved.
type Drop struct {
	Room RoomID
	Pub  uint16
	Code Code
}

// Type returns TypeDrop.
func (*Drop) Type() byte { return TypeDrop }

// Append implements Control.
func (m *Drop) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeDrop)
	dst = binary.BigEndian.AppendUint16(appendRoom(dst, m.Room), m.Pub)
	return end(binary.BigEndian.AppendUint16(dst, uint16(m.Code)), at)
}

// Parse implements Control.
func (m *Drop) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Code = r.room(), r.pub(), Code(r.u16())
	return r.done()
}

// Tally tells the relay how many subscribers of a room the edge serves.
type Tally struct {
	Room        RoomID
	Subscribers uint64
}

// Type returns TypeTally.
func (*Tally) Type() byte { return TypeTally }

// Append implements Control.
func (m *Tally) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeTally)
	return end(binary.AppendUvarint(appendRoom(dst, m.Room), m.Subscribers), at)
}

// Parse implements Control.
func (m *Tally) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Subscribers = r.room(), r.varint()
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
func (m *Digest) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeDigest)
	dst = binary.AppendUvarint(append(dst, m.Flags), uint64(len(m.Rooms)))
	for _, id := range m.Rooms {
		dst = appendRoom(dst, id)
	}
	return end(dst, at)
}

// Parse implements Control.
func (m *Digest) Parse(b []byte) error {
	r := body(b)
	if m.Flags = r.u8(); m.Flags&^DigestMore != 0 {
		r.fail(errMalformed)
	}
	m.Rooms = nil
	for n := r.count(8); n > 0 && r.err == nil; n-- {
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
func (m *Inspect) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeInspect, m.Req)
	return end(appendRoom(dst, m.Room), at)
}

// Parse implements Control.
func (m *Inspect) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room = r.varint32(), r.room()
	return r.done()
}

// Report answers Inspect.
type Report struct {
	Req  uint32
	JSON []byte // at most MaxReport; aliases the input when parsed
}

// Type returns TypeReport.
func (*Report) Type() byte { return TypeReport }

// Append implements Control.
func (m *Report) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeReport, m.Req)
	return end(append(binary.AppendUvarint(dst, uint64(len(m.JSON))), m.JSON...), at)
}

// Parse implements Control.
func (m *Report) Parse(b []byte) error {
	r := body(b)
	m.Req, m.JSON = r.varint32(), r.bytes(MaxReport)
	return r.done()
}

// State copies a room's state to another node, or hands the room over. A state whose lists do not fit into a frame travels in several,
// each with the same head: see Split and Join.
type State struct {
	Req   uint32 // the same in all frames of one state; the last is answered
	Flags uint8  // StateHandover or StateReturn, StateMore
	RoomState
}

// Type returns TypeState.
func (*State) Type() byte { return TypeState }

// Append implements Control. A state that is longer than a frame panics: Split it first.
func (m *State) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeState, m.Req)
	dst = m.RoomHead.append(append(dst, m.Flags))
	dst = binary.AppendUvarint(dst, uint64(len(m.Grants)))
	for _, g := range m.Grants {
		dst = binary.AppendUvarint(appendString(dst, g.Account), g.Version)
		dst = append(dst, b2u(g.Granted))
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Publishers)))
	for _, p := range m.Publishers {
		dst = appendString(binary.BigEndian.AppendUint16(dst, p.Num), p.Account)
		dst = binary.BigEndian.AppendUint64(dst, p.Instance)
	}
	return end(dst, at)
}

// Parse implements Control.
func (m *State) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Flags = r.varint32(), r.u8()
	if m.Flags&^stateFlagMask != 0 {
		r.fail(errMalformed)
	}
	m.RoomHead.parse(&r)
	m.Grants, m.Publishers = nil, nil
	for n := r.count(3); n > 0 && r.err == nil; n-- {
		g := GrantState{Account: r.string(MaxAccount), Version: r.varint()}
		switch r.u8() {
		case 0:
		case 1:
			g.Granted = true
		default:
			r.fail(errMalformed)
		}
		m.Grants = append(m.Grants, g)
	}
	for n := r.count(11); n > 0 && r.err == nil; n-- {
		m.Publishers = append(m.Publishers, PublisherState{r.pub(), r.string(MaxAccount), r.u64()})
	}
	return r.done()
}

// Split cuts a state into frames that fit. The parts share its lists.
func (m *State) Split() []State {
	const (
		perGrant     = 2 + MaxAccount + 10 + 1 // most bytes of a list entry
		perPublisher = 2 + 2 + MaxAccount + 8
		room         = MaxFrame - 1024 // less what stands before the lists
	)
	var parts []State
	grants, pubs := m.Grants, m.Publishers
	for {
		part, left := *m, room
		g := min(len(grants), left/perGrant)
		left -= g * perGrant
		p := 0
		if g == len(grants) {
			p = min(len(pubs), left/perPublisher)
		}
		part.Grants, part.Publishers = grants[:g:g], pubs[:p:p]
		grants, pubs = grants[g:], pubs[p:]
		if len(grants)+len(pubs) == 0 {
			return append(parts, part)
		}
		part.Flags |= StateMore
		parts = append(parts, part)
	}
}

// Join adds the next frame of a state that was split. It reports false if next is no continuation of m, which then is unchanged.
// How much a peer may send so is for the caller to bound.
func (m *State) Join(next *State) bool {
	if m.Flags&StateMore == 0 || next.Req != m.Req || next.Flags&^StateMore != m.Flags&^StateMore || next.RoomHead != m.RoomHead {
		return false
	}
	m.Flags = next.Flags
	m.Grants = append(m.Grants, next.Grants...)
	m.Publishers = append(m.Publishers, next.Publishers...)
	return true
}

// RoomSettings are what a room was registered with, defaults filled in. The fields are those of Register.
type RoomSettings struct {
	Policy       Policy
	IdleMillis   uint64
	ExpireMillis uint64
	QueueBytes   uint64
	QueueMillis  uint64
	MaxSubs      uint64
}

// RoomHead is a room's state without its lists. (Epoch, Relay, Birth) names a reign: the time of one process as the room's relay.
type RoomHead struct {
	Room    RoomID
	Epoch   uint32 // rises with every change of relay
	Version uint64 // rises with every change; one process never gives a number twice
	Relay   string // the node that wrote this
	Birth   uint64 // tells its process from others that had the node's name
	Ended   Code   // why the room ended; 0 while it lives
	Owner   string
	Created uint64 // Unix time, ms
	RoomSettings
	NextPub uint16 // the lowest publisher number that was never given
}

// RoomState is all that makes a room, but for its frames.
type RoomState struct {
	RoomHead
	Grants     []GrantState
	Publishers []PublisherState
}

// GrantState is an account's right to push, or that it was revoked. The higher version wins when two lists merge.
type GrantState struct {
	Account string
	Version uint64
	Granted bool
}

// PublisherState is a publisher number in use.
type PublisherState struct {
	Num      uint16
	Account  string
	Instance uint64
}

func (s *RoomHead) append(dst []byte) []byte {
	dst = appendRoom(dst, s.Room)
	dst = binary.AppendUvarint(dst, uint64(s.Epoch))
	dst = binary.AppendUvarint(dst, s.Version)
	dst = binary.BigEndian.AppendUint64(appendString(dst, s.Relay), s.Birth)
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.Ended))
	dst = binary.AppendUvarint(appendString(dst, s.Owner), s.Created)
	dst = append(dst, byte(s.Policy))
	for _, v := range [...]uint64{s.IdleMillis, s.ExpireMillis, s.QueueBytes, s.QueueMillis, s.MaxSubs} {
		dst = binary.AppendUvarint(dst, v)
	}
	return binary.BigEndian.AppendUint16(dst, s.NextPub)
}

func (s *RoomHead) parse(r *reader) {
	s.Room, s.Epoch, s.Version = r.room(), r.varint32(), r.varint()
	s.Relay, s.Birth, s.Ended = r.string(MaxAccount), r.u64(), Code(r.u16())
	s.Owner, s.Created, s.Policy = r.string(MaxAccount), r.varint(), Policy(r.u8())
	s.IdleMillis, s.ExpireMillis, s.QueueBytes, s.QueueMillis, s.MaxSubs = r.varint(), r.varint(), r.varint(), r.varint(), r.varint()
	s.NextPub = r.u16()
}

func b2u(b bool) byte {
	if b {
		return 1
	}
	return 0
}
