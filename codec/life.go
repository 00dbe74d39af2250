package codec

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// Reign is the time of one process as a room's relay. The zero value is below all.
type Reign struct {
	Epoch uint32
	Relay string
	Birth uint64
}

// Before reports whether a reign is older than another. Of two with the same epoch the name decides, since something
// must.
func (r Reign) Before(o Reign) bool { return r.Compare(o) < 0 }

// Compare returns the order of two reigns: -1, 0 or 1.
func (r Reign) Compare(o Reign) int {
	return cmp.Or(cmp.Compare(r.Epoch, o.Epoch), strings.Compare(r.Relay, o.Relay), cmp.Compare(r.Birth, o.Birth))
}

// Reign returns the reign in which a state was written.
func (h *RoomHead) Reign() Reign { return Reign{h.Epoch, h.Relay, h.Birth} }

// Life tells a publisher from others that had, or will have, its number: the reign in which it was admitted, (Epoch,
// Birth), and a version that no other publisher has that was admitted in the same. Epoch 0 says that nothing is known.
//
// In a list of what was seen it stands for all that were admitted in that reign, up to that version.
type Life struct {
	Epoch   uint32
	Birth   uint64
	Version uint64
}

// Is reports whether two lives are one, as far as is known.
func (l Life) Is(o Life) bool { return l == o || l.Epoch == 0 || o.Epoch == 0 }

// Covers reports whether who has seen so much knows of a life's beginning, and so of its end. A life that is not told
// is not covered.
func Covers(seen []Life, l Life) bool {
	if l.Epoch == 0 || len(seen) == 0 {
		return false
	}
	for _, s := range seen {
		if s.Epoch == l.Epoch && s.Birth == l.Birth {
			return l.Version <= s.Version
		}
	}
	return len(seen) == MaxSeen && l.Epoch < seen[len(seen)-1].Epoch
}

func (l Life) append(w *writer) {
	w.varint(uint64(l.Epoch))
	w.u64(l.Birth)
	w.varint(l.Version)
}

func (l *Life) parse(r *reader) { l.Epoch, l.Birth, l.Version = r.varint32(), r.u64(), r.varint() }

// ClientMark tells a room's client from others without its instance, so that every node knows whose echoes are whose;
// it is never 0.
func ClientMark(room RoomID, account string, instance uint64) uint64 {
	b := append(make([]byte, 0, 32+MaxAccount), "timedge client\x00"...)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(room)), instance)
	sum := sha256.Sum256(append(b, account...))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// MaxSeen is how many reigns a state tells of: the newest that it has seen.
const MaxSeen = 8

// Optional fields of frames on links.
const (
	tagLife  = 2 // of joined
	tagMark  = 4 // of joined
	tagLives = 2 // of state
	tagReign = 2 // of mirror

	tagMoves = 4 // of tally
)

// Have says what a node has of the streams of a room, before the Mirror with the same number, whose own list is empty
// then. Any number of them may come.
type Have struct {
	Req  uint32
	Room RoomID
	Pubs []HavePublisher // at most MaxEntries
}

// HavePublisher is what a node has of one publisher's streams.
type HavePublisher struct {
	Num uint16
	Life
	Streams []StreamLast // at most MaxStreams
}

// StreamLast is the last frame of a stream that a node has.
type StreamLast struct {
	Dtype uint8
	Last  uint64
}

// Type returns TypeHave.
func (*Have) Type() byte { return TypeHave }

// Append implements Control. What may be longer than a frame is to be made by HaveFrames.
func (m *Have) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeHave, m.Req)
	w.room(m.Room)
	if w.list(len(m.Pubs), MaxEntries) {
		for _, p := range m.Pubs {
			w.pub(p.Num)
			p.Life.append(&w)
			if w.list(len(p.Streams), MaxStreams) {
				for _, s := range p.Streams {
					w.u8(s.Dtype)
					w.u48(s.Last)
				}
			}
		}
	}
	return w.end()
}

// Parse implements Control.
func (m *Have) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Pubs = r.varint32(), r.room(), nil
	for n := r.count(13, MaxEntries); n > 0 && r.err == nil; n-- {
		p := HavePublisher{Num: r.pub()}
		p.Life.parse(&r)
		for range r.count(7, MaxStreams) {
			p.Streams = append(p.Streams, StreamLast{r.u8(), r.u48()})
		}
		m.Pubs = append(m.Pubs, p)
	}
	return r.done()
}

// HaveFrames returns the frames that tell of positions, those of a publisher one after the other, and of the lives of
// their publishers.
func HaveFrames(req uint32, room RoomID, have []Position, lives map[uint16]Life) (ms []*Have) {
	const (
		entry = 2 + 5 + 8 + 10 + 2 // most bytes of a publisher without its streams
		limit = MaxFrame - 64
	)
	m, size := &Have{Req: req, Room: room}, 0
	for i, h := range have {
		fresh := i == 0 || have[i-1].Pub != h.Pub || len(m.Pubs) == 0 || len(m.Pubs[len(m.Pubs)-1].Streams) == MaxStreams
		if size+entry+7 > limit || fresh && len(m.Pubs) == MaxEntries {
			ms, m, size, fresh = append(ms, m), &Have{Req: req, Room: room}, 0, true
		}
		if fresh {
			m.Pubs = append(m.Pubs, HavePublisher{Num: h.Pub, Life: lives[h.Pub]})
			size += entry
		}
		p := &m.Pubs[len(m.Pubs)-1]
		p.Streams = append(p.Streams, StreamLast{h.Dtype, h.Last})
		size += 7
	}
	if len(m.Pubs) > 0 {
		ms = append(ms, m)
	}
	return ms
}

// Change tells a standby what a room's state has that an earlier version of the same reign had not.
type Change struct {
	Req     uint32
	Room    RoomID
	Epoch   uint32 // the reign
	Relay   string
	Birth   uint64
	From    uint64 // the version that the receiver has
	Version uint64 // the version that it has then
	Ended   Code   // 0: it lives
	NextPub uint16
	Grants  []GrantState // at most MaxEntries, as all three
	Came    []Arrival
	Left    []uint16
}

// Arrival is a publisher that has come.
type Arrival struct {
	Num      uint16
	Account  string
	Instance uint64
	Life
}

// Type returns TypeChange.
func (*Change) Type() byte { return TypeChange }

// Fits reports whether a change fits into a frame. What does not is sent as a whole state.
func (m *Change) Fits() bool {
	size := 64 + 3*MaxAccount
	for _, g := range m.Grants {
		size += 2 + 10 + 1 + len(g.Account)
	}
	for _, a := range m.Came {
		size += 2 + 2 + 8 + 5 + 8 + 10 + len(a.Account)
	}
	return size+2*len(m.Left) <= MaxFrame && max(len(m.Grants), len(m.Came), len(m.Left)) <= MaxEntries
}

// Append implements Control.
func (m *Change) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeChange, m.Req)
	w.room(m.Room)
	w.varint(uint64(m.Epoch))
	w.string(MaxAccount, m.Relay)
	w.u64(m.Birth)
	w.varint(m.From)
	w.varint(m.Version)
	w.u16(uint16(m.Ended))
	w.u16(m.NextPub)
	w.grants(m.Grants)
	if w.list(len(m.Came), MaxEntries) {
		for _, a := range m.Came {
			w.pub(a.Num)
			w.string(MaxAccount, a.Account)
			w.u64(a.Instance)
			a.Life.append(&w)
		}
	}
	if w.list(len(m.Left), MaxEntries) {
		for _, num := range m.Left {
			w.pub(num)
		}
	}
	return w.end()
}

// Parse implements Control.
func (m *Change) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Epoch, m.Relay, m.Birth = r.varint32(), r.room(), r.varint32(), r.string(MaxAccount), r.u64()
	m.From, m.Version, m.Ended, m.NextPub = r.varint(), r.varint(), Code(r.u16()), r.u16()
	m.Grants, m.Came, m.Left = r.grants(), nil, nil
	for n := r.count(21, MaxEntries); n > 0 && r.err == nil; n-- {
		a := Arrival{Num: r.pub(), Account: r.string(MaxAccount), Instance: r.u64()}
		a.Life.parse(&r)
		m.Came = append(m.Came, a)
	}
	for n := r.count(2, MaxEntries); n > 0 && r.err == nil; n-- {
		m.Left = append(m.Left, r.pub())
	}
	return r.done()
}

func (w *writer) grants(gs []GrantState) {
	if w.list(len(gs), MaxEntries) {
		for _, g := range gs {
			w.string(MaxAccount, g.Account)
			w.varint(g.Version)
			w.u8(b2u(g.Granted))
		}
	}
}

func (r *reader) grants() (gs []GrantState) {
	for n := r.count(3, MaxEntries); n > 0 && r.err == nil; n-- {
		g := GrantState{Account: r.string(MaxAccount), Version: r.varint()}
		switch r.u8() {
		case 0:
		case 1:
			g.Granted = true
		default:
			r.fail(errMalformed)
		}
		gs = append(gs, g)
	}
	return gs
}

// field writes an optional field whose value f writes.
func (w *writer) field(tag uint64, f func(v *writer)) {
	var v writer
	f(&v)
	if v.why != "" {
		w.fail(v.why)
	}
	w.varint(tag)
	w.bytes(MaxFrame, v.b)
}

// appendLives writes what a state knows of the lives of its publishers, and of those that it has seen come and go.
func (m *State) appendLives(w *writer) {
	known := 0
	for _, p := range m.Publishers {
		if p.Life.Epoch != 0 {
			known++
		}
	}
	if known+len(m.Seen) == 0 {
		return
	}
	w.field(tagLives, func(v *writer) {
		if v.list(len(m.Seen), MaxSeen) {
			for _, l := range m.Seen {
				l.append(v)
			}
		}
		v.list(known, MaxEntries)
		for _, p := range m.Publishers {
			if p.Life.Epoch != 0 {
				v.pub(p.Num)
				p.Life.append(v)
			}
		}
	})
}

// parseLives reads that. A field that breaks its layout tells nothing.
func (m *State) parseLives(value []byte) {
	r := reader{b: value}
	var seen []Life
	for n := r.count(10, MaxSeen); n > 0 && r.err == nil; n-- {
		var l Life
		l.parse(&r)
		seen = append(seen, l)
	}
	lives := make(map[uint16]Life)
	for n := r.count(12, MaxEntries); n > 0 && r.err == nil; n-- {
		num := r.pub()
		var l Life
		l.parse(&r)
		lives[num] = l
	}
	if r.err != nil {
		return
	}
	m.Seen = seen
	for i := range m.Publishers {
		m.Publishers[i].Life = lives[m.Publishers[i].Num]
	}
}
