package codec

import "unicode/utf8"

// Register asks for a new room. Zero in any option asks for the server's default.
type Register struct {
	Req          uint32
	Policy       Policy
	IdleMillis   uint64 // the room ends after this long without a push
	ExpireMillis uint64 // the room ends after this long in any case; 0: never
	QueueBytes   uint64 // bound on what is queued for one subscriber
	QueueMillis  uint64 // bound on the age of what is queued for one subscriber
	MaxSubs      uint64 // subscribers at once
	Keep         Keep
}

func (*Register) Type() byte { return TypeRegister }

func (m *Register) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeRegister, m.Req)
	w.u8(byte(m.Policy))
	for _, v := range [...]uint64{m.IdleMillis, m.ExpireMillis, m.QueueBytes, m.QueueMillis, m.MaxSubs} {
		w.varint(v)
	}
	m.Keep.append(&w)
	return w.end()
}

func (m *Register) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Policy = r.varint32(), Policy(r.u8())
	m.IdleMillis, m.ExpireMillis, m.QueueBytes, m.QueueMillis, m.MaxSubs = r.varint(), r.varint(), r.varint(), r.varint(), r.varint()
	m.Keep = Keep{}
	r.fields(m.Keep.parse)
	return r.err
}

// Registered answers Register with the number of the new room.
type Registered struct{ reqRoom }

func (*Registered) Type() byte { return TypeRegistered }
func (m *Registered) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeRegistered, m.Req)
	w.room(m.Room)
	return w.end()
}

func (m *Registered) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room = r.varint32(), r.room() // requests may name room 0, to be refused; an answer may not
	return r.done()
}

// Remove ends a room; only its owner may.
type Remove struct{ reqRoom }

func (*Remove) Type() byte                          { return TypeRemove }
func (m *Remove) Append(dst []byte) ([]byte, error) { return m.append(dst, TypeRemove) }

// Grant lets an account push into a room; only the room's owner may.
type Grant struct{ reqRoomAccount }

func (*Grant) Type() byte                          { return TypeGrant }
func (m *Grant) Append(dst []byte) ([]byte, error) { return m.append(dst, TypeGrant) }

// Revoke takes a grant back and cuts the account's streams off at once.
type Revoke struct{ reqRoomAccount }

func (*Revoke) Type() byte                          { return TypeRevoke }
func (m *Revoke) Append(dst []byte) ([]byte, error) { return m.append(dst, TypeRevoke) }

// Publish makes the session a publisher of a room.
type Publish struct {
	Req   uint32
	Room  RoomID
	Flags uint8 // PubCount
	// To is the account whose inbox the room is; empty for any other room.
	To string
}

// tagTo is the optional field of publish that holds To. What can be no account's name is passed over.
const tagTo = 2

func (*Publish) Type() byte { return TypePublish }

func (m *Publish) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypePublish, m.Req)
	w.anyRoom(m.Room)
	w.bits(m.Flags, pubFlagMask)
	if m.To != "" {
		w.varint(tagTo)
		w.string(MaxAccount, m.To)
	}
	return w.end()
}

func (m *Publish) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Flags = r.varint32(), RoomID(r.u64()), r.u8()
	if m.Flags&^pubFlagMask != 0 {
		r.fail(errMalformed)
	}
	m.To = ""
	r.fields(func(tag uint64, value []byte) bool {
		if tag == tagTo && len(value) <= MaxAccount && utf8.Valid(value) {
			m.To = string(value)
		}
		return tag == tagTo
	})
	return r.err
}

// StreamNext says which sequence number a stream continues with.
type StreamNext struct {
	Dtype uint8
	Next  uint64
}

// Published answers Publish.
type Published struct {
	Req     uint32
	Room    RoomID
	Pub     uint16       // the publisher's number, to be put into its stream frames
	Policy  Policy       // the room's
	Window  uint32       // bytes of frames that may be unacknowledged at once
	Streams []StreamNext // the publisher's streams known to the room; any other begins at 1
}

func (*Published) Type() byte { return TypePublished }

func (m *Published) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypePublished, m.Req)
	w.room(m.Room)
	w.pub(m.Pub)
	w.u8(byte(m.Policy))
	w.varint(uint64(m.Window))
	if w.list(len(m.Streams), MaxStreams) {
		for _, s := range m.Streams {
			w.u8(s.Dtype)
			w.seq(s.Next)
		}
	}
	return w.end()
}

func (m *Published) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Pub, m.Policy, m.Window = r.varint32(), r.room(), r.pub(), Policy(r.u8()), r.varint32()
	m.Streams = nil
	for range r.count(7, MaxStreams) {
		m.Streams = append(m.Streams, StreamNext{r.u8(), r.seq()})
	}
	return r.done()
}

// Unpublish ends the session's publishing into a room.
type Unpublish struct{ reqRoom }

func (*Unpublish) Type() byte                          { return TypeUnpublish }
func (m *Unpublish) Append(dst []byte) ([]byte, error) { return m.append(dst, TypeUnpublish) }

// Position is the last frame of a stream that a resuming subscriber has.
type Position struct {
	StreamKey
	Last uint64
}

// Subscribe asks for all streams of a room, from the newest group on or after the given positions.
type Subscribe struct {
	Req   uint32
	Room  RoomID
	Flags uint8      // SubNoEcho, SubCount
	Have  []Position // when resuming; at most MaxPositions
	// Gapped lists, in rising order, the indexes of those in Have whose Last is the end of a gap, so that the stream goes
	// on where a decoder can start.
	Gapped []uint32
	// Resumes says that the client was in the room already, and is back: it has joined none of the streams late that Have
	// does not name.
	Resumes bool
}

// tagGapped is the optional field of subscribe that holds Gapped, as varints. What is no index above those before it is
// passed over, so that the field names no more than Have does.
const tagGapped = 2

// tagResumes is the optional field of subscribe, and of mirror, that stands for Resumes; it has no value.
const tagResumes = 6

func (*Subscribe) Type() byte { return TypeSubscribe }

func (m *Subscribe) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeSubscribe, m.Req)
	w.anyRoom(m.Room)
	w.bits(m.Flags, subFlagMask)
	w.positions(m.Have, MaxPositions)
	if len(m.Gapped) > 0 {
		size, last := 0, -1
		for _, i := range m.Gapped {
			if int(i) <= last || int(i) >= len(m.Have) {
				w.fail("an index out of order, or of no position")
			}
			last = int(i)
			size += varintSize(uint64(i))
		}
		w.varint(tagGapped)
		w.varint(uint64(size))
		for _, i := range m.Gapped {
			w.varint(uint64(i))
		}
	}
	w.flag(tagResumes, m.Resumes)
	return w.end()
}

// flag writes an optional field without a value if is holds.
func (w *writer) flag(tag uint64, is bool) {
	if is {
		w.varint(tag)
		w.varint(0)
	}
}

func (w *writer) positions(have []Position, limit int) {
	if w.list(len(have), limit) {
		for _, p := range have {
			w.pub(p.Pub)
			w.u8(p.Dtype)
			w.u48(p.Last)
		}
	}
}

func (r *reader) positions(limit int) (have []Position) {
	for range r.count(9, limit) {
		have = append(have, Position{StreamKey{r.pub(), r.u8()}, r.u48()})
	}
	return have
}

func (m *Subscribe) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Flags = r.varint32(), RoomID(r.u64()), r.u8()
	if m.Flags&^subFlagMask != 0 {
		r.fail(errMalformed)
	}
	m.Have = r.positions(MaxPositions)
	m.Gapped, m.Resumes = nil, false
	r.fields(func(tag uint64, value []byte) bool {
		for v := (reader{b: value}); tag == tagGapped && len(v.b) > 0; {
			i, n := v.varint32(), len(m.Gapped)
			if v.err == nil && int(i) < len(m.Have) && (n == 0 || m.Gapped[n-1] < i) {
				m.Gapped = append(m.Gapped, i)
			}
		}
		m.Resumes = m.Resumes || tag == tagResumes
		return tag == tagGapped || tag == tagResumes
	})
	return r.err
}

// Subscribed answers Subscribe; the streams follow.
type Subscribed struct {
	Req    uint32
	Room   RoomID
	Policy Policy
	Window uint32 // lossless rooms: acknowledge at least once in a quarter of so many bytes
}

func (*Subscribed) Type() byte { return TypeSubscribed }

func (m *Subscribed) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeSubscribed, m.Req)
	w.room(m.Room)
	w.u8(byte(m.Policy))
	w.varint(uint64(m.Window))
	return w.end()
}

func (m *Subscribed) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Policy, m.Window = r.varint32(), r.room(), Policy(r.u8()), r.varint32()
	return r.done()
}

// Unsubscribe ends a subscription. What was already on its way still arrives before the answer.
type Unsubscribe struct{ reqRoom }

func (*Unsubscribe) Type() byte                          { return TypeUnsubscribe }
func (m *Unsubscribe) Append(dst []byte) ([]byte, error) { return m.append(dst, TypeUnsubscribe) }

// Stat asks what there is to know of a room.
type Stat struct{ reqRoom }

func (*Stat) Type() byte                          { return TypeStat }
func (m *Stat) Append(dst []byte) ([]byte, error) { return m.append(dst, TypeStat) }

// Info answers Stat.
type Info struct {
	Req         uint32
	Room        RoomID
	Policy      Policy
	Owner       string
	Subscribers uint64
	Publishers  uint64
	Frames      uint64 // accepted since the room was registered
	Bytes       uint64 // likewise, headers included
	AgeMillis   uint64 // since it was registered
	IdleMillis  uint64 // since the last push
}

func (*Info) Type() byte { return TypeInfo }

func (m *Info) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeInfo, m.Req)
	w.room(m.Room)
	w.u8(byte(m.Policy))
	w.string(MaxAccount, m.Owner)
	for _, v := range [...]uint64{m.Subscribers, m.Publishers, m.Frames, m.Bytes, m.AgeMillis, m.IdleMillis} {
		w.varint(v)
	}
	return w.end()
}

func (m *Info) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Policy, m.Owner = r.varint32(), r.room(), Policy(r.u8()), r.string(MaxAccount)
	m.Subscribers, m.Publishers, m.Frames, m.Bytes = r.varint(), r.varint(), r.varint(), r.varint()
	m.AgeMillis, m.IdleMillis = r.varint(), r.varint()
	return r.done()
}

// OK answers a request that has no answer of its own.
type OK struct{ Req uint32 }

func (*OK) Type() byte { return TypeOK }

func (m *OK) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeOK, m.Req)
	return w.end()
}

func (m *OK) Parse(b []byte) error {
	r := body(b)
	m.Req = r.varint32()
	return r.done()
}

// Refused answers a request that failed.
type Refused struct {
	Req  uint32
	Code Code
	Text string // Append cuts it to MaxText bytes
}

func (*Refused) Type() byte { return TypeRefused }

func (m *Refused) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeRefused, m.Req)
	w.u16(uint16(m.Code))
	w.text(m.Text)
	return w.end()
}

func (m *Refused) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Code, m.Text = r.varint32(), Code(r.u16()), r.string(MaxText)
	return r.done()
}

func varintSize(v uint64) (n int) {
	for n = 1; v >= 0x80; n++ {
		v >>= 7
	}
	return n
}
