package codec

import "encoding/binary"

// Types of the frames that only links between nodes carry. PROTOCOL.md, section "Links".
const (
	TypeAs       = 0x40 // edge -> relay: a request on behalf of an account
	TypeMirror   = 0x41 // edge -> relay: subscribe a node to a room, answered by mirrored
	TypeMirrored = 0x42
	TypeState    = 0x43 // relay -> standby: what a room is, answered by ok
	TypeMoved    = 0x44 // former relay -> edge: look for the room's relay anew
)

// ParseLink reads a frame that only links carry; any other type is an error.
func ParseLink(b []byte) (c Control, err error) {
	if len(b) <= LengthSize {
		return nil, errMalformed
	}
	switch b[LengthSize] {
	case TypeAs:
		c = new(As)
	case TypeMirror:
		c = new(Mirror)
	case TypeMirrored:
		c = new(Mirrored)
	case TypeState:
		c = new(State)
	case TypeMoved:
		c = new(Moved)
	default:
		return nil, errType
	}
	return c, c.Parse(b)
}

// As carries one request frame of a client of the sending node.
type As struct {
	Account  string
	Instance uint64
	Frame    []byte // a whole request frame, its length included
}

func (*As) Type() byte { return TypeAs }

func (m *As) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeAs)
	dst = binary.BigEndian.AppendUint64(appendString(dst, m.Account), m.Instance)
	dst = binary.AppendUvarint(dst, uint64(len(m.Frame)))
	return end(append(dst, m.Frame...), at)
}

func (m *As) Parse(b []byte) error {
	r := body(b)
	m.Account, m.Instance, m.Frame = r.string(MaxAccount), r.u64(), r.bytes(MaxHandshakeFrame)
	return r.done()
}

// Mirror subscribes a node to a room: it gets what a subscriber gets, and acknowledges every stream.
type Mirror struct {
	Req  uint32
	Room RoomID
	Have []Position
}

func (*Mirror) Type() byte { return TypeMirror }

func (m *Mirror) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeMirror, m.Req)
	return end(appendPositions(appendRoom(dst, m.Room), m.Have), at)
}

func (m *Mirror) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Have = r.varint32(), r.room(), r.positions()
	return r.done()
}

// Mirrored answers Mirror with what the room is.
type Mirrored struct {
	Req   uint32
	State RoomState
}

func (*Mirrored) Type() byte { return TypeMirrored }

func (m *Mirrored) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeMirrored, m.Req)
	return end(m.State.append(dst), at)
}

func (m *Mirrored) Parse(b []byte) error {
	r := body(b)
	m.Req = r.varint32()
	m.State.parse(&r)
	return r.done()
}

// State copies a room's state to a standby, or hands the room over.
type State struct {
	Req      uint32
	Handover bool // the receiver is to be the room's relay
	State    RoomState
}

func (*State) Type() byte { return TypeState }

func (m *State) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeState, m.Req)
	flags := byte(0)
	if m.Handover {
		flags = 1
	}
	return end(m.State.append(append(dst, flags)), at)
}

func (m *State) Parse(b []byte) error {
	r := body(b)
	m.Req = r.varint32()
	m.Handover = r.u8()&1 != 0
	m.State.parse(&r)
	return r.done()
}

// Moved tells an edge that the sender does not relay the room any more.
type Moved struct{ Room RoomID }

func (*Moved) Type() byte { return TypeMoved }

func (m *Moved) Append(dst []byte) []byte {
	dst, at := begin(dst, TypeMoved)
	return end(appendRoom(dst, m.Room), at)
}

func (m *Moved) Parse(b []byte) error {
	r := body(b)
	m.Room = r.room()
	return r.done()
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

// RoomState is all that makes a room, but for its frames. It is copied to the room's standbys.
type RoomState struct {
	Room       RoomID
	Epoch      uint32 // rises with every change of relay
	Version    uint32 // rises with every change within an epoch
	Relay      string // the node that wrote this
	Ended      Code   // why the room ended; 0 while it lives
	Owner      string
	Created    uint64 // Unix time, ms
	Settings   Register
	NextPub    uint16
	Grants     []GrantState
	Publishers []PublisherState
}

func (s *RoomState) append(dst []byte) []byte {
	dst = appendRoom(dst, s.Room)
	dst = binary.AppendUvarint(dst, uint64(s.Epoch))
	dst = binary.AppendUvarint(dst, uint64(s.Version))
	dst = appendString(dst, s.Relay)
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.Ended))
	dst = appendString(dst, s.Owner)
	dst = binary.AppendUvarint(dst, s.Created)
	dst = append(dst, byte(s.Settings.Policy))
	for _, v := range [...]uint64{s.Settings.IdleMillis, s.Settings.ExpireMillis, s.Settings.QueueBytes, s.Settings.QueueMillis, s.Settings.MaxSubs} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = binary.BigEndian.AppendUint16(dst, s.NextPub)
	dst = binary.AppendUvarint(dst, uint64(len(s.Grants)))
	for _, g := range s.Grants {
		dst = binary.AppendUvarint(appendString(dst, g.Account), g.Version<<1|b2u(g.Granted))
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Publishers)))
	for _, p := range s.Publishers {
		dst = appendString(binary.BigEndian.AppendUint16(dst, p.Num), p.Account)
		dst = binary.BigEndian.AppendUint64(dst, p.Instance)
	}
	return dst
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (s *RoomState) parse(r *reader) {
	*s = RoomState{Room: r.room(), Epoch: r.varint32(), Version: r.varint32(), Relay: r.string(MaxAccount), Ended: Code(r.u16()),
		Owner: r.string(MaxAccount), Created: r.varint()}
	m := &s.Settings
	m.Policy = Policy(r.u8())
	m.IdleMillis, m.ExpireMillis, m.QueueBytes, m.QueueMillis, m.MaxSubs = r.varint(), r.varint(), r.varint(), r.varint(), r.varint()
	s.NextPub = r.u16()
	for range r.count(2) {
		g := GrantState{Account: r.string(MaxAccount)}
		v := r.varint()
		g.Version, g.Granted = v>>1, v&1 == 1
		s.Grants = append(s.Grants, g)
	}
	for range r.count(11) {
		s.Publishers = append(s.Publishers, PublisherState{r.u16(), r.string(MaxAccount), r.u64()})
	}
}

// Newer reports whether s supersedes o: a later reign, or a later version of the same. The name of the relay settles which
// of two reigns of the same number wins.
func (s *RoomState) Newer(o *RoomState) bool {
	switch {
	case s.Epoch != o.Epoch:
		return s.Epoch > o.Epoch
	case s.Relay != o.Relay:
		return s.Relay > o.Relay
	}
	return s.Version > o.Version
}
