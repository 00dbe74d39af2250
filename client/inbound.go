package client

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/codec"
)

// inbound turns the frames of one room, in the order in which they came, into events. It checks the rule of streams
// (docs/architecture.md): the next thing on a stream is the frame expected, or a gap that begins there. It has no lock,
// no clock but for delaying acknowledgements, and does no I/O.
type inbound struct {
	room       RoomID
	policy     Policy
	maxPayload int
	join       assembly
	streams    map[codec.StreamKey]*inStream
	last       *inStream // of the last stream frame: most come in runs
	pubs       map[uint16]*inPub
	departed   []departed     // lossless rooms only; oldest first
	dropped    *atomic.Uint64 // counts frames that the buffer dropped
	msg        Message        // the one handed out
	held       int            // size of the frame whose event the caller has; 0: none

	// What take looked at last, to be marked as consumed.
	cur    *inStream
	curSeq uint64

	// Acknowledgements, in lossless rooms only.
	lossless bool
	window   int
	owed     int // bytes consumed and not acknowledged
	dirty    []*inStream
	acked    time.Time // when the last acknowledgement was given
}

// inPub is one publisher of the room.
type inPub struct {
	account string
	joined  bool // it was announced
	streams []*inStream
}

// maxStreams is how many streams of a room a subscription follows. There are fewer, unless the server makes them up.
const maxStreams = 1 << 16

// inStream is one stream of the room.
type inStream struct {
	key      codec.StreamKey
	pub      *inPub
	expected uint64
	consumed uint64 // highest number that the caller has done with
	dirty    bool   // consumed is not acknowledged

	// The message of which pieces have come.
	first uint64 // number of its first piece; 0: there is none
	flags codec.Flags
	join  []byte // the pieces, if there is more than one
	skip  bool   // pieces up to the next message are of no use, which has been told

	// What the buffer dropped since the last event of the stream: from dropped on. 0: nothing.
	dropped     uint64
	interrupted uint64 // as in a Gap

	had uint64 // of a publisher that had left and is back: up to here it may come once more

	gapped bool // a gap came, and no message since but init messages: the server may have waited for a key message
}

// ackDelay is how long consumed frames may wait for an acknowledgement while the caller finds the next event ready each
// time. It must be well below the server's bound for a stalled subscriber.
const ackDelay = 250 * time.Millisecond

// resume notes the terms of a subscription, the first time and after each reconnection, when the server may have missed
// what was acknowledged.
func (in *inbound) resume(m *codec.Subscribed, maxPayload int) {
	in.policy, in.maxPayload = m.Policy, maxPayload
	in.lossless, in.window = m.Policy == codec.PolicyLossless, int(m.Window)
	for _, st := range in.streams {
		if in.lossless && st.consumed > 0 {
			in.mark(st)
		}
	}
}

// find returns the stream of a key, making it if need be; nil if there are too many.
func (in *inbound) find(key codec.StreamKey) *inStream {
	if in.last != nil && in.last.key == key {
		return in.last
	}
	st := in.streams[key]
	if st == nil {
		if len(in.streams) == maxStreams {
			return nil
		}
		p := in.publisher(key.Pub)
		st = &inStream{key: key, pub: p, expected: 1}
		p.streams = append(p.streams, st)
		if in.streams == nil {
			in.streams = make(map[codec.StreamKey]*inStream)
		}
		in.streams[key] = st
	}
	in.last = st
	return st
}

// publisher returns the publisher of a number, making it if need be.
func (in *inbound) publisher(num uint16) *inPub {
	p := in.pubs[num]
	if p == nil {
		p = new(inPub)
		if in.pubs == nil {
			in.pubs = make(map[uint16]*inPub)
		}
		in.pubs[num] = p
	}
	return p
}

// take reads the next frame. keep says that it is to be given once more: only what comes before it was told. An event
// that is not kept may alias the frame, and is valid until the next call.
func (in *inbound) take(frame []byte) (ev Event, keep bool, err error) {
	in.cur = nil
	if isDead(frame) {
		return nil, false, in.drop(frame)
	}
	if isStream(frame) {
		return in.piece(frame)
	}
	switch frame[offType] {
	case codec.TypeGap, codec.TypeJoined, codec.TypeLeft: // the answer to a position that was an acknowledgement
		if i := in.leftAs(streamOf(frame).Pub); i >= 0 && frame[offType] == codec.TypeGap && in.departed[i].misses(frame) {
			return in.back(i), true, nil
		} else if i >= 0 {
			return nil, false, nil
		}
	}
	switch frame[offType] {
	case codec.TypeGap:
		return in.gap(frame)
	case codec.TypeJoined:
		var m codec.Joined
		m.Parse(frame)
		p := in.publisher(m.Pub)
		again := p.joined && p.account == m.Account
		p.account, p.joined = m.Account, true
		return &Joined{m.Room, m.Pub, m.Account, again}, false, nil
	case codec.TypeLeft:
		var m codec.Left
		m.Parse(frame)
		p := in.pubs[m.Pub]
		if p == nil {
			return &Left{m.Room, m.Pub, "", m.Code}, false, nil
		}
		for _, st := range p.streams {
			if g := in.ended(st); g != nil {
				return g, true, nil
			}
		}
		in.forget(m.Pub, p)
		return &Left{m.Room, m.Pub, p.account, m.Code}, false, nil
	case codec.TypeClosed:
		for _, st := range in.streams {
			if g := in.ended(st); g != nil {
				return g, true, nil
			}
		}
	case codec.TypeCount:
		var m codec.Count
		m.Parse(frame)
		return &Count{m.Room, m.Subscribers, m.Publishers}, false, nil
	case codec.TypeSubscribed:
		return &Resumed{in.room}, false, nil
	}
	return nil, false, nil
}

func (in *inbound) piece(frame []byte) (ev Event, keep bool, err error) {
	var f codec.Stream
	if err := codec.ParseStream(frame, &f); err != nil {
		panic("client: the reader let a malformed frame through")
	}
	if i := in.leftAs(f.Pub); i >= 0 {
		st := in.departed[i].had(f.StreamKey, f.Seq)
		if st == nil {
			return in.back(i), true, nil
		}
		in.again(st, f.Seq, len(frame))
		return nil, false, nil
	}
	st := in.find(f.StreamKey)
	switch {
	case st == nil:
		return nil, false, ErrTooManyStreams
	case st.dropped != 0:
		return in.settle(st), true, nil
	case f.Seq < st.expected && f.Seq <= st.had:
		in.again(st, f.Seq, len(frame))
		return nil, false, nil
	case f.Seq < st.expected:
		return nil, false, in.fault(st, st.expected, f.Seq, "a frame that was there already")
	case f.Seq > st.expected:
		err := in.fault(st, st.expected, f.Seq, "frames missing without a gap")
		st.expected = f.Seq
		in.cut(st)
		return nil, true, err
	case f.Flags.Start() && st.first != 0:
		err := in.fault(st, st.expected, f.Seq, "a message that does not end")
		in.cut(st)
		return nil, true, err
	}
	st.expected++
	in.cur, in.curSeq = st, f.Seq

	if f.Flags&codec.FlagInit == 0 {
		st.gapped = false
	}
	if f.Flags.Start() {
		st.first, st.flags, st.skip = f.Seq, f.Flags, false
	} else if st.first == 0 {
		if st.skip {
			return nil, false, nil
		}
		st.skip = true
		return nil, false, in.fault(st, f.Seq, f.Seq, "a message that does not begin")
	}
	if len(st.join)+len(f.Payload) > in.maxPayload {
		in.cut(st)
		return nil, false, in.fault(st, f.Seq, f.Seq, "a message above the largest size")
	}
	payload := f.Payload
	if !f.Flags.Start() || !f.Flags.End() {
		if victim := in.join.add(st, f.Payload, in.maxPayload); victim != nil {
			err := in.fault(victim, victim.first, victim.expected,
				"dropped, for more of unfinished messages would be held than may be")
			in.cut(victim)
			if victim == st {
				return nil, false, err
			}
			st.expected--
			in.cur = nil
			if f.Flags.Start() {
				st.first = 0
			}
			return nil, true, err
		}
		payload = st.join
	}
	if !f.Flags.End() {
		return nil, false, nil
	}
	in.msg = Message{
		Room: in.room, Publisher: st.pub.account, Pub: f.Pub, Dtype: f.Dtype, Kind: st.flags.Kind(),
		First: st.first, Last: f.Seq, Payload: payload,
	}
	in.join.finish(st)
	st.first = 0
	return &in.msg, false, nil
}

func (in *inbound) gap(frame []byte) (ev Event, keep bool, err error) {
	var m codec.Gap
	m.Parse(frame)
	st := in.find(m.StreamKey)
	if st != nil && m.From <= st.had {
		m.From = min(st.expected, m.To)
	}
	switch {
	case st == nil:
		return nil, false, ErrTooManyStreams
	case st.dropped != 0:
		return in.settle(st), true, nil
	case m.To <= st.had:
		in.again(st, m.To, len(frame))
		return nil, false, nil
	case m.From != st.expected:
		err := in.fault(st, st.expected, m.From, "a gap that does not begin at the frame expected")
		if m.From > st.expected {
			st.expected = m.From
			return nil, true, err
		}
		st.expected = max(st.expected, m.To+1)
		in.cut(st)
		return nil, false, err
	}
	ev = in.newGap(st, m.From, m.To, m.Reason, st.first)
	st.expected, st.gapped = m.To+1, true
	in.cut(st)
	st.skip = false
	in.cur, in.curSeq = st, m.To
	return ev, false, nil
}

func (in *inbound) newGap(st *inStream, from, to uint64, reason GapReason, interrupted uint64) *Gap {
	return &Gap{
		Room: in.room, Publisher: st.pub.account, Pub: st.key.Pub, Dtype: st.key.Dtype,
		From: from, To: to, Reason: reason, Interrupted: interrupted,
	}
}

// drop takes a frame or a gap that the buffer has dropped, or the mark in the place of several.
func (in *inbound) drop(frame []byte) error {
	st := in.find(streamOf(frame))
	if st == nil {
		return ErrTooManyStreams
	}
	last := lastSeq(frame)
	if last < st.expected {
		return nil
	}
	if st.dropped == 0 {
		st.dropped, st.interrupted = st.expected, st.first
	}
	st.expected, st.gapped = last+1, true
	in.cut(st)
	st.skip = false
	return nil
}

// settle returns the gap for what the buffer dropped of a stream.
func (in *inbound) settle(st *inStream) *Gap {
	reason := codec.GapSlow
	if in.policy == codec.PolicyLatest {
		reason = codec.GapNewer
	}
	in.dropped.Add(st.expected - st.dropped)
	g := in.newGap(st, st.dropped, st.expected-1, reason, st.interrupted)
	st.dropped, st.interrupted = 0, 0
	return g
}

// ended returns what is to be told of a stream before its end, one thing at each call: what the buffer dropped, and a
// message that was begun.
func (in *inbound) ended(st *inStream) *Gap {
	switch {
	case st.dropped != 0:
		return in.settle(st)
	case st.first != 0:
		g := in.newGap(st, st.expected, st.expected, codec.GapPublisher, st.first)
		in.cut(st)
		return g
	}
	return nil
}

// cut drops what there is of a message; the rest of it, if it comes, is of no use.
func (in *inbound) cut(st *inStream) {
	st.first, st.skip = 0, st.first != 0
	in.join.release(st)
}

func (in *inbound) fault(st *inStream, expected, got uint64, text string) error {
	return &StreamError{in.room, st.key.Pub, st.key.Dtype, expected, got, text}
}

// consume marks what take looked at last, a frame of n bytes, as done with.
func (in *inbound) consume(n int) {
	if in.cur == nil || !in.lossless {
		return
	}
	in.cur.consumed = in.curSeq
	in.owed += n
	in.mark(in.cur)
	in.cur = nil
}

func (in *inbound) mark(st *inStream) {
	if !st.dirty {
		st.dirty = true
		in.dirty = append(in.dirty, st)
	}
}

// takeAcks adds the acknowledgements that are due to dst: all that are owed if the caller is about to wait, or if they
// make a quarter of the window or are older than ackDelay; otherwise none.
func (in *inbound) takeAcks(dst []codec.Ack, waits bool) []codec.Ack {
	if len(in.dirty) == 0 {
		return dst
	}
	now := time.Now()
	if !waits && in.owed < in.window/4 && now.Sub(in.acked) < ackDelay {
		return dst
	}
	in.acked = now
	for i, st := range in.dirty {
		dst = append(dst, codec.Ack{Room: in.room, StreamKey: st.key, Seq: st.consumed})
		st.dirty, in.dirty[i] = false, nil
	}
	in.dirty, in.owed = in.dirty[:0], 0
	return dst
}

// restore takes acknowledgements back that were not sent.
func (in *inbound) restore(acks []codec.Ack) {
	for i := range acks {
		if st := in.streams[acks[i].StreamKey]; st != nil {
			in.mark(st)
		}
	}
}

// positions returns, per stream, the last frame or gap end received: what take has seen, and then what still waits in
// q. In a lossless room a position is an acknowledgement, too, so what waits is dropped: the server still has it and
// sends it again. Of a publisher of whom nothing has come it is position 0 of stream 0: only so the server tells when
// that has left. gapped are the indexes of those where a gap ended and no message has come since.
func (in *inbound) positions(q *buffer) (have []codec.Position, gapped []uint32, err error) {
	if in.lossless {
		q.keep(in.held)
	}
	last, adrift := make(map[codec.StreamKey]uint64, len(in.streams)), make(map[codec.StreamKey]bool)
	for key, st := range in.streams {
		last[key], adrift[key] = st.expected-1, st.gapped
	}
	silent := make(map[uint16]bool)
	for num, p := range in.pubs {
		silent[num] = p.joined
	}
	skip := in.held > 0
	q.all(func(frame []byte) {
		switch {
		case skip: // take has seen it
			skip = false
		case ofStream(frame):
			key, seq := streamOf(frame), lastSeq(frame)
			if seq <= last[key] { // dropped, and what has taken its place is ahead
				break
			}
			last[key] = seq
			if !isStream(frame) || isDead(frame) {
				adrift[key] = true
			} else if codec.Flags(frame[offType])&codec.FlagInit == 0 {
				adrift[key] = false
			}
		case frame[offType] == codec.TypeJoined:
			silent[streamOf(frame).Pub] = true
		case frame[offType] == codec.TypeLeft:
			delete(silent, streamOf(frame).Pub)
			for key := range last {
				if key.Pub == streamOf(frame).Pub {
					delete(last, key)
					delete(adrift, key)
				}
			}
		}
	})
	for key, w := range q.streams {
		if w.skipTo != 0 {
			last[key], adrift[key] = w.skipTo, true
		}
	}
	for _, d := range in.departed {
		for _, st := range d.streams {
			last[st.key] = st.expected - 1
		}
	}
	have = make([]codec.Position, 0, len(last))
	for key, seq := range last {
		if seq > 0 {
			have = append(have, codec.Position{StreamKey: key, Last: seq})
			delete(silent, key.Pub)
		}
	}
	if len(have) > codec.MaxPositions {
		return nil, nil, ErrTooManyStreams
	}
	for num, is := range silent {
		if is && len(have) < codec.MaxPositions {
			have = append(have, codec.Position{StreamKey: codec.StreamKey{Pub: num}})
		}
	}
	slices.SortFunc(have, func(a, b codec.Position) int {
		return cmp.Or(cmp.Compare(a.Pub, b.Pub), cmp.Compare(a.Dtype, b.Dtype))
	})
	for i, p := range have {
		if adrift[p.StreamKey] && !in.lossless {
			gapped = append(gapped, uint32(i))
		}
	}
	return have, gapped, nil
}
