package codec

// beginPub starts a frame about one publisher of a room.
func beginPub(dst []byte, typ byte, room RoomID, pub uint16) writer {
	w := begin(dst, typ)
	w.room(room)
	w.pub(pub)
	return w
}

// Joined announces a publisher's number, before the first frame that bears it.
type Joined struct {
	Room    RoomID
	Pub     uint16
	Account string
	Life    Life   // between nodes; Epoch 0: not told
	Mark    uint64 // between nodes: see ClientMark; 0: not told
}

func (*Joined) Type() byte { return TypeJoined }

func (m *Joined) Append(dst []byte) ([]byte, error) {
	w := beginPub(dst, TypeJoined, m.Room, m.Pub)
	w.string(MaxAccount, m.Account)
	if m.Life.Epoch != 0 {
		w.field(tagLife, func(v *writer) { m.Life.append(v) })
	}
	if m.Mark != 0 {
		w.field(tagMark, func(v *writer) { v.u64(m.Mark) })
	}
	return w.end()
}

func (m *Joined) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Account, m.Life, m.Mark = r.room(), r.pub(), r.string(MaxAccount), Life{}, 0
	r.fields(func(tag uint64, value []byte) bool {
		v, l := reader{b: value}, Life{}
		switch tag {
		case tagLife:
			if l.parse(&v); v.err == nil {
				m.Life = l
			}
		case tagMark:
			if mark := v.u64(); v.err == nil {
				m.Mark = mark
			}
		}
		return tag == tagLife || tag == tagMark
	})
	return r.err
}

// Left says that a publisher is gone, after its last frame.
type Left struct {
	Room RoomID
	Pub  uint16
	Code Code // CodeLeft, CodeGone, CodeRevoked
}

func (*Left) Type() byte { return TypeLeft }

func (m *Left) Append(dst []byte) ([]byte, error) {
	w := beginPub(dst, TypeLeft, m.Room, m.Pub)
	w.u16(uint16(m.Code))
	return w.end()
}

func (m *Left) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Code = r.room(), r.pub(), Code(r.u16())
	return r.done()
}

// Gap says that the frames From to To of a stream, both included, will not come. It stands in the stream's order:
// before it comes From-1, after it To+1. A publisher sends it for frames that it numbered and gave up.
type Gap struct {
	Room RoomID
	StreamKey
	From, To uint64
	Reason   GapReason
}

// GapSize is the size of a gap frame in bytes; it is always the same.
const GapSize = LengthSize + 1 + 8 + 2 + 1 + 6 + 6 + 1

func (*Gap) Type() byte { return TypeGap }

func (m *Gap) Append(dst []byte) ([]byte, error) {
	w := beginPub(dst, TypeGap, m.Room, m.Pub)
	w.u8(m.Dtype)
	w.seq(m.From)
	w.seq(m.To)
	if m.To < m.From {
		w.fail("a gap that ends before it begins")
	}
	w.u8(byte(m.Reason))
	return w.end()
}

func (m *Gap) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Dtype, m.From, m.To, m.Reason = r.room(), r.pub(), r.u8(), r.seq(), r.seq(), GapReason(r.u8())
	if m.To < m.From {
		r.fail(errMalformed)
	}
	return r.done()
}

// Ack says that every frame of a stream up to Seq has arrived: the publisher may forget it.
type Ack struct {
	Room RoomID
	StreamKey
	Seq uint64
}

func (*Ack) Type() byte { return TypeAck }

func (m *Ack) Append(dst []byte) ([]byte, error) {
	w := beginPub(dst, TypeAck, m.Room, m.Pub)
	w.u8(m.Dtype)
	w.u48(m.Seq)
	return w.end()
}

func (m *Ack) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Dtype, m.Seq = r.room(), r.pub(), r.u8(), r.u48()
	return r.done()
}

// Closed ends a subscription or a publisher's part in a room, after all that came before it.
type Closed struct {
	Room RoomID
	Code Code
}

func (*Closed) Type() byte { return TypeClosed }

func (m *Closed) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeClosed)
	w.room(m.Room)
	w.u16(uint16(m.Code))
	return w.end()
}

func (m *Closed) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Code = r.room(), Code(r.u16())
	return r.done()
}

// PushRefused says that frames were not taken. It is coalesced: one for all refused since the last one.
type PushRefused struct {
	Room   RoomID
	Pub    uint16
	Code   Code
	Frames uint64
}

func (*PushRefused) Type() byte { return TypePushRefused }

func (m *PushRefused) Append(dst []byte) ([]byte, error) {
	w := beginPub(dst, TypePushRefused, m.Room, m.Pub)
	w.u16(uint16(m.Code))
	w.varint(m.Frames)
	return w.end()
}

func (m *PushRefused) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Pub, m.Code, m.Frames = r.room(), r.pub(), Code(r.u16()), r.varint()
	return r.done()
}

// Count tells how many are in a room, coalesced.
type Count struct {
	Room        RoomID
	Subscribers uint64
	Publishers  uint64
}

func (*Count) Type() byte { return TypeCount }

func (m *Count) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeCount)
	w.room(m.Room)
	w.varint(m.Subscribers)
	w.varint(m.Publishers)
	return w.end()
}

func (m *Count) Parse(b []byte) error {
	r := body(b)
	m.Room, m.Subscribers, m.Publishers = r.room(), r.varint(), r.varint()
	return r.done()
}
