package codec

// What a room is, as nodes tell one another: whole (State), or its head only (Mirrored).

// State copies a room's state to another node, or hands the room over. A state whose lists do not fit into a frame
// travels in several, each with the same head: see Split and Join.
type State struct {
	Req   uint32 // the same in all frames of one state; the last is answered
	Flags uint8  // StateHandover or StateReturn, StateMore
	RoomState
}

// Type returns TypeState.
func (*State) Type() byte { return TypeState }

// Append implements Control. A state that may be longer than a frame is to be Split first.
func (m *State) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeState, m.Req)
	w.bits(m.Flags, stateFlagMask)
	m.RoomHead.append(&w)
	w.grants(m.Grants)
	if w.list(len(m.Publishers), MaxEntries) {
		for _, p := range m.Publishers {
			w.pub(p.Num)
			w.string(MaxAccount, p.Account)
			w.u64(p.Instance)
		}
	}
	m.appendLives(&w)
	m.Keep.append(&w)
	return w.end()
}

// Parse implements Control.
func (m *State) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Flags = r.varint32(), r.u8()
	if m.Flags&^stateFlagMask != 0 {
		r.fail(errMalformed)
	}
	m.RoomHead.parse(&r)
	m.Grants, m.Publishers, m.Seen = r.grants(), nil, nil
	for n := r.count(11, MaxEntries); n > 0 && r.err == nil; n-- {
		m.Publishers = append(m.Publishers, PublisherState{Num: r.pub(), Account: r.string(MaxAccount), Instance: r.u64()})
	}
	m.Keep = Keep{}
	r.fields(func(tag uint64, value []byte) bool {
		if tag == tagLives {
			m.parseLives(value)
		}
		return tag == tagLives || m.Keep.parse(tag, value)
	})
	return r.err
}

// Split cuts a state into frames that fit, if its names are such as a frame may hold. The parts share its lists.
func (m *State) Split() []State {
	const (
		grant     = 2 + 10 + 1      // most bytes of a list entry beside the account
		publisher = 2 + 2 + 8 + 25  // likewise, with its life
		room      = MaxFrame - 1280 // less what stands before the lists, and what was seen
	)
	var parts []State
	grants, pubs := m.Grants, m.Publishers
	for {
		part, left := *m, room
		g, p := 0, 0
		for ; g < min(len(grants), MaxEntries) && (g == 0 || left >= grant+len(grants[g].Account)); g++ {
			left -= grant + len(grants[g].Account)
		}
		if g == len(grants) {
			for ; p < min(len(pubs), MaxEntries) && (g+p == 0 || left >= publisher+len(pubs[p].Account)); p++ {
				left -= publisher + len(pubs[p].Account)
			}
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

// Join adds the next frame of a state that was split. It reports false if next is no continuation of m, which then is
// unchanged. How much a peer may send so is for the caller to bound.
func (m *State) Join(next *State) bool {
	if m.Flags&StateMore == 0 || next.Req != m.Req || next.Flags&^StateMore != m.Flags&^StateMore || next.RoomHead != m.RoomHead {
		return false
	}
	m.Flags = next.Flags
	m.Grants = append(m.Grants, next.Grants...)
	m.Publishers = append(m.Publishers, next.Publishers...)
	m.Seen = next.Seen
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
	Keep         Keep
}

// RoomHead is a room's state without its lists. (Epoch, Relay, Birth) names a reign: the time of one process as the
// room's relay.
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
	Seen       []Life // of which reigns, and up to which version, it is known who came and left: the newest; of older ones all is
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
	Life     Life
}

func (s *RoomHead) append(w *writer) {
	w.room(s.Room)
	w.varint(uint64(s.Epoch))
	w.varint(s.Version)
	w.string(MaxAccount, s.Relay)
	w.u64(s.Birth)
	w.u16(uint16(s.Ended))
	w.string(MaxAccount, s.Owner)
	w.varint(s.Created)
	w.u8(byte(s.Policy))
	for _, v := range [...]uint64{s.IdleMillis, s.ExpireMillis, s.QueueBytes, s.QueueMillis, s.MaxSubs} {
		w.varint(v)
	}
	w.u16(s.NextPub)
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
