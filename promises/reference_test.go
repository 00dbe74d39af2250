package promises

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// This file is the reference model of rooms: what was pushed into them, and what a subscriber may see of it.

// refRoom is a room as it should be.
type refRoom struct {
	id      codec.RoomID
	owner   *account
	policy  codec.Policy
	maxSubs int // 0: any number
	subs    int // subscribers now; kept for rooms with maxSubs

	granted map[*account]bool
	live    map[*account]*publisher // publishers now

	mu    sync.Mutex // what is below, and the publishers: trackers read them
	ended codec.Code // why it ended, or is about to; 0 while it lives
	whole bool       // when it ended, all that was pushed into it had arrived
	pubs  map[uint16]*refPub
}

// refPub is one publisher number of a room.
type refPub struct {
	by      *account
	num     uint16
	streams map[uint8]*refStream
	left    codec.Code // why it left, or is about to; 0 while it is there
	whole   bool       // when it left, all that it pushed had arrived
}

// refStream is all that was ever pushed into a stream, in order.
type refStream struct {
	messages []refMessage
	next     uint64 // number of the next frame
	firstKey uint64 // first frame of the first key message; 0: none
}

type refMessage struct {
	first, last uint64
	kind        client.Kind
	size        int
}

// push adds a message to a publisher's stream and returns its payload.
func (r *refRoom) push(p *refPub, dtype uint8, kind client.Kind, size int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := p.streams[dtype]
	if s == nil {
		s = &refStream{next: 1}
		p.streams[dtype] = s
	}
	m := refMessage{s.next, s.next + uint64(max(size-1, 0)/codec.MaxPiece), kind, size}
	s.messages = append(s.messages, m)
	s.next = m.last + 1
	if kind == client.Key && s.firstKey == 0 {
		s.firstKey = m.first
	}
	return payload(p.num, dtype, m)
}

// payload makes the content of a message: each word of it says where it belongs.
func payload(num uint16, dtype uint8, m refMessage) []byte {
	b := make([]byte, m.size+3)
	word := uint32(num)<<20 ^ uint32(dtype)<<16 ^ uint32(m.first)*2654435761
	for i := 0; i < m.size; i += 4 {
		binary.BigEndian.PutUint32(b[i:], word+uint32(i))
	}
	return b[:m.size]
}

// tracker holds what one subscription sees against the model. Its methods are for the goroutine that reads the
// subscription.
type tracker struct {
	room    *refRoom
	mute    *account // whose messages it must not see; nil: nobody's
	streams map[codec.StreamKey]*tracked
	joined  map[uint16]string
	left    map[uint16]bool
	resumed bool
	unsure  map[uint16]bool // publishers that were there when the connection broke and were not announced anew since
	seen    []codec.Gap     // the last frames seen: of messages, with reason 0, and of gaps
}

// tracked is what a tracker knows of a stream.
type tracked struct {
	next  uint64 // frame expected
	got   uint64 // last frame of the last message it had; 0: none
	begun bool   // it has had a message that is not an init message
	cut   bool   // a gap came, and no message since at which a decoder can start
	over  bool   // its last message was cut off by an end: nothing more may come
}

func newTracker(r *refRoom, mute *account) *tracker {
	return &tracker{
		room: r, mute: mute, streams: make(map[codec.StreamKey]*tracked),
		joined: make(map[uint16]string), left: make(map[uint16]bool), unsure: make(map[uint16]bool),
	}
}

func (t *tracker) stream(pub uint16, dtype uint8) *tracked {
	key := codec.StreamKey{Pub: pub, Dtype: dtype}
	s := t.streams[key]
	if s == nil {
		s = &tracked{next: 1}
		t.streams[key] = s
	}
	return s
}

// take checks one event.
func (t *tracker) take(e client.Event) error {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) {
	case *client.Resumed:
		t.resumed = true
		for num := range t.joined {
			t.unsure[num] = !t.left[num]
		}
	case *client.Joined:
		if t.left[e.Pub] {
			return fmt.Errorf("publisher %d joins, and has left", e.Pub)
		}
		if was, again := t.joined[e.Pub]; again && (was != e.Account || !t.unsure[e.Pub]) {
			return fmt.Errorf("publisher %d joins twice, as %s and %s", e.Pub, was, e.Account)
		}
		t.joined[e.Pub] = e.Account
		delete(t.unsure, e.Pub)
	case *client.Left:
		p := r.pubs[e.Pub]
		if t.joined[e.Pub] == "" || t.left[e.Pub] || p == nil || p.left != e.Code {
			return fmt.Errorf("publisher %d, %q, left for %v: not so", e.Pub, t.joined[e.Pub], e.Code)
		}
		t.left[e.Pub] = true
		delete(t.unsure, e.Pub)
		if p.whole {
			return t.complete(p)
		}
	case *client.Message:
		return t.message(e)
	case *client.Gap:
		return t.gap(e)
	}
	return nil
}

// known returns the publisher of a message or gap, if it may have one now.
func (t *tracker) known(num uint16, account string) (*refPub, error) {
	p := t.room.pubs[num]
	switch {
	case p == nil || p.by.name != account || t.joined[num] != account:
		return nil, fmt.Errorf("publisher %d, %s, has not joined", num, account)
	case t.left[num]:
		return nil, fmt.Errorf("publisher %d, %s, has left", num, account)
	case t.mute != nil && p.by == t.mute:
		return nil, fmt.Errorf("publisher %d is the subscriber itself, which did not want to hear it", num)
	}
	return p, nil
}

func (t *tracker) message(e *client.Message) error {
	p, err := t.known(e.Pub, e.Publisher)
	if err != nil {
		return err
	}
	s, ref := t.stream(e.Pub, e.Dtype), p.streams[e.Dtype]
	if s.over {
		return fmt.Errorf("publisher %d dtype %d: goes on behind its end", e.Pub, e.Dtype)
	}
	if e.First != s.next {
		return fmt.Errorf("publisher %d dtype %d: frame %d, expected %d", e.Pub, e.Dtype, e.First, s.next)
	}
	if ref == nil {
		return fmt.Errorf("publisher %d dtype %d: nothing was pushed there", e.Pub, e.Dtype)
	}
	i, ok := slices.BinarySearchFunc(ref.messages, e.First, func(m refMessage, first uint64) int { return int(m.first) - int(first) })
	if !ok {
		return fmt.Errorf("publisher %d dtype %d: no message begins with frame %d", e.Pub, e.Dtype, e.First)
	}
	m := ref.messages[i]
	if e.Last != m.last || e.Kind != m.kind || string(e.Payload) != string(payload(e.Pub, e.Dtype, m)) {
		return fmt.Errorf("publisher %d dtype %d: message %d-%d, %v, %d bytes, is not as it was pushed: %+v",
			e.Pub, e.Dtype, e.First, e.Last, e.Kind, len(e.Payload), m)
	}
	if s.cut && e.Kind == client.Delta && t.grouped() && ref.firstKey != 0 && ref.firstKey < e.First {
		return fmt.Errorf("publisher %d dtype %d: goes on behind a gap with frame %d, at which no decoder can start", e.Pub, e.Dtype, e.First)
	}
	t.note(e.Pub, e.Dtype, e.First, e.Last, 0)
	s.next, s.got = e.Last+1, e.Last
	if e.Kind != client.Init {
		s.begun, s.cut = true, false
	}
	return nil
}

// history tells what came last of a stream, for whoever looks for a fault.
func (t *tracker) history() string {
	var b strings.Builder
	for _, g := range t.seen {
		fmt.Fprintf(&b, " %d/%d:%d-%d", g.Pub, g.Dtype, g.From, g.To)
		if g.Reason != 0 {
			fmt.Fprintf(&b, " missing (%v)", g.Reason)
		}
	}
	return b.String()
}

func (t *tracker) note(pub uint16, dtype uint8, from, to uint64, reason codec.GapReason) {
	if len(t.seen) == 64 {
		t.seen = slices.Delete(t.seen, 0, 32)
	}
	t.seen = append(t.seen, codec.Gap{StreamKey: codec.StreamKey{Pub: pub, Dtype: dtype}, From: from, To: to, Reason: reason})
}

// grouped reports whether the room's policy has streams taken up at key messages.
func (t *tracker) grouped() bool {
	return t.room.policy == codec.PolicyLive || t.room.policy == codec.PolicyDisconnect
}

func (t *tracker) gap(e *client.Gap) error {
	p, err := t.known(e.Pub, e.Publisher)
	if err != nil {
		return err
	}
	s, ref := t.stream(e.Pub, e.Dtype), p.streams[e.Dtype]
	if s.over {
		return fmt.Errorf("publisher %d dtype %d: goes on behind its end", e.Pub, e.Dtype)
	}
	from := e.From
	if e.Interrupted != 0 {
		from = e.Interrupted
	}
	if from != s.next || ref == nil || e.To >= ref.next {
		return fmt.Errorf("publisher %d dtype %d: gap from %d (%d) to %d, expected %d", e.Pub, e.Dtype, e.From, e.Interrupted, e.To, s.next)
	}
	policy, ok := t.room.policy, false
	switch e.Reason {
	case codec.GapJoined:
		ok = !s.begun
	case codec.GapExpired:
		ok = t.resumed && policy != codec.PolicyLossless
	case codec.GapSlow:
		ok = policy == codec.PolicyLive
	case codec.GapNewer:
		ok = policy == codec.PolicyLatest
	case codec.GapPublisher: // a message of which the end of its room, or of its publisher, has left the rest out
		ok = e.Interrupted != 0 && (t.room.ended != 0 && !t.room.whole || p.left != 0 && !p.whole)
		s.over = ok
	}
	if !ok {
		return fmt.Errorf("publisher %d dtype %d: gap %d to %d for %v, policy %v", e.Pub, e.Dtype, e.From, e.To, e.Reason, policy)
	}
	t.note(e.Pub, e.Dtype, e.From, e.To, e.Reason)
	s.next, s.cut = e.To+1, true
	return nil
}

// complete checks that nothing more can come of a publisher's streams. Whatever came came by messages and gaps without
// a hole, so what is left is their ends.
func (t *tracker) complete(p *refPub) error {
	if t.mute == p.by {
		return nil
	}
	for dtype, ref := range p.streams {
		s := t.stream(p.num, dtype)
		if s.next != ref.next {
			return fmt.Errorf("publisher %d dtype %d: ends before frame %d, pushed were %d", p.num, dtype, s.next, ref.next-1)
		}
		if t.room.policy == codec.PolicyLatest && s.got != ref.next-1 {
			return fmt.Errorf("publisher %d dtype %d: ends with frame %d, which is not the newest, %d", p.num, dtype, s.got, ref.next-1)
		}
	}
	return nil
}

// end checks why a subscription ended. broke says that its connection was broken at some time: then it may have been
// away.
func (t *tracker) end(code codec.Code, broke bool) error {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case code == codec.CodeTooSlow && r.policy == codec.PolicyDisconnect:
		return nil
	case code == codec.CodeRoomUnknown && broke && r.ended != 0:
		return nil
	case code != r.ended || code == 0:
		return fmt.Errorf("ended with %v; the room with %v", code, r.ended)
	case !r.whole:
		return nil
	}
	for num, p := range r.pubs {
		if p.left != 0 {
			continue
		}
		if t.joined[num] == "" {
			return fmt.Errorf("publisher %d was there and is not announced", num)
		}
		if err := t.complete(p); err != nil {
			return err
		}
	}
	return nil
}
