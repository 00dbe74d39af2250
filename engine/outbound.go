package engine

import (
	"sync"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// outbound is a publisher of a room that another node relays: the way of its frames there. It keeps, by reference, what the relay has
// not acknowledged, and for a while what it has, and sends it again when the link or the relay is another. The client's session pushes into
// it as into a room; what it acknowledges to the client is what the relay acknowledged.
//
// It may be used from any goroutine. Its mutex is held to append to lists and mailboxes only.
type outbound struct {
	c        *cluster
	room     codec.RoomID
	account  string
	instance uint64
	flags    uint8  // of the publish request
	to       string // likewise
	pool     *room.Pool

	// The cluster goroutine's.
	asked *session // the link on which the relay was asked to take the publisher; nil: ask
	since int64    // when its session left, as far as the cluster has noticed; 0: it has one

	mu      sync.Mutex
	num     uint16
	policy  codec.Policy
	window  int64
	streams []*outStream
	unacked int64 // bytes held
	told    bool  // all acknowledgements have been passed on
	holder  *publication
	up      *session // the link that takes its frames; nil while there is none
	ended   bool
}

// outStream is one dtype of an outbound.
type outStream struct {
	dtype uint8
	next  uint64
	acked uint64 // by the relay
	told  uint64 // of that, passed on
	held  []held
	done  int // of held, how many at the front are acknowledged
	kept  int // bytes of these
}

// held is a batch that is not acknowledged, or was a moment ago.
type held struct {
	b           *room.Batch
	first, last uint64
	acked       int64 // when it was acknowledged
}

// What the relay has acknowledged every node has that needs it, as far as the relay knew. A relay that had lagged, or was cut off itself, may
// come to relay the room all the same: what was acknowledged is kept for it, so long and so much of a stream.
const (
	keepFor   = 5 * time.Second
	keepBytes = 1 << 20
)

// first returns the first frame that is still here, or would come next.
func (s *outStream) first() uint64 {
	if len(s.held) > 0 {
		return s.held[0].first
	}
	return s.next
}

// find returns the stream of a dtype; if there is none yet, a new one that begins with a frame: 1, or wherever the client goes on where the
// relay has lost its memory of it. Which of the two is right the relay can tell.
func (o *outbound) find(dtype uint8, next uint64) *outStream {
	for _, s := range o.streams {
		if s.dtype == dtype {
			return s
		}
	}
	s := &outStream{dtype: dtype, next: next}
	o.streams = append(o.streams, s)
	return s
}

// mayPush checks the session's right. Mutex held.
func (o *outbound) mayPush(h room.Holder) error {
	switch {
	case o.ended:
		return room.ErrNotPublishing
	case o.holder == nil || room.Holder(o.holder) != h:
		return room.ErrSuperseded
	case o.unacked > 2*o.window:
		return room.ErrFlow
	}
	return nil
}

// Push implements pusher. What the relay alone can tell, such as whether pieces fit, it tells.
func (o *outbound) Push(h room.Holder, run room.Run, _ int64) (fresh int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.mayPush(h); err != nil {
		return 0, err
	}
	s := o.find(run.Key.Dtype, run.First)
	raw, first := run.Raw, run.First
	if first < s.next {
		s.told, o.told = 0, false // the client has missed an acknowledgement
		if run.Last < s.next {
			return 0, nil
		}
		for ; first < s.next; first++ {
			raw = raw[codec.LengthSize+int(raw[0])<<8+int(raw[1]):]
		}
	}
	if first != s.next {
		return 0, room.ErrSequence
	}
	o.keep(s, o.pool.Copy(room.KindStream, raw), first, run.Last)
	return int(run.Last - first + 1), nil
}

// PushGap implements pusher.
func (o *outbound) PushGap(h room.Holder, g codec.Gap, _ int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.mayPush(h); err != nil {
		return err
	}
	s := o.find(g.Dtype, g.From)
	switch {
	case g.To < s.next:
		s.told, o.told = 0, false
		return nil
	case g.From > s.next:
		return room.ErrSequence
	}
	g.From, g.Pub = s.next, o.num
	o.keep(s, o.pool.Encode(&g), g.From, g.To)
	return nil
}

// keep takes over a batch, and sends it if there is a link. Mutex held.
func (o *outbound) keep(s *outStream, b *room.Batch, first, last uint64) {
	s.held = append(s.held, held{b: b, first: first, last: last})
	s.next = last + 1
	o.unacked += int64(len(b.B))
	if o.up != nil {
		o.up.forward(b, first, last)
	}
}

// Acks implements pusher.
func (o *outbound) Acks(yield func(key codec.StreamKey, seq uint64)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = true
	for _, s := range o.streams {
		if s.acked > s.told {
			s.told = s.acked
			yield(codec.StreamKey{Pub: o.num, Dtype: s.dtype}, s.acked)
		}
	}
}

// Pending implements pusher: acknowledgements come by themselves, so only those that were missed wait for a tick.
func (o *outbound) Pending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.told
}

// Detach implements pusher. The outbound stays for the linger time, with what is not acknowledged.
func (o *outbound) Detach(h room.Holder, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holder == nil || room.Holder(o.holder) != h || o.ended {
		return
	}
	o.holder = nil
	if o.up != nil {
		o.up.post(o.pool.Encode(&codec.Drop{Room: o.room, Pub: o.num, Code: codec.CodeGone}))
	}
	o.c.post(func() { o.c.detached(o, now) })
}

// acknowledged takes the relay's word that all up to seq has arrived, and passes it on.
func (o *outbound) acknowledged(from *session, dtype uint8, seq uint64, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up != from {
		return
	}
	s := o.find(dtype, 1)
	if seq <= s.acked || seq >= s.next {
		return
	}
	s.acked = seq
	for ; s.done < len(s.held) && s.held[s.done].last <= seq; s.done++ {
		h := &s.held[s.done]
		h.acked = now
		o.unacked -= int64(len(h.b.B))
		s.kept += len(h.b.B)
	}
	s.forget(now)
	if o.told && o.holder != nil {
		o.told = false
		o.holder.s.loop.post(item{kind: itemAck, pub: o.holder})
	}
}

// forget lets go of what was acknowledged long ago, or is too much.
func (s *outStream) forget(now int64) {
	n := 0
	for ; n < s.done && (s.kept > keepBytes || now-s.held[n].acked > int64(keepFor)); n++ {
		s.kept -= len(s.held[n].b.B)
		s.held[n].b.Release()
		s.held[n] = held{}
	}
	s.held, s.done = s.held[n:], s.done-n
}

// forget lets go of what was acknowledged long ago.
func (o *outbound) forget(now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		s.forget(now)
	}
}

// clear lets go of everything.
func (s *outStream) clear() {
	for _, h := range s.held {
		h.b.Release()
	}
	s.held, s.done, s.kept = nil, 0, 0
}

// hold makes pub the holder and returns what the client is to be told. The session that held it before is cut off.
func (o *outbound) hold(pub *publication, req uint32) (m *codec.Published, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.num == 0 {
		return nil, false
	}
	if o.holder != nil && o.holder != pub {
		o.holder.cutBy(o, codec.CodeSuperseded)
	}
	o.holder = pub
	pub.p, pub.num = o, o.num
	m = &codec.Published{Req: req, Room: o.room, Pub: o.num, Policy: o.policy, Window: uint32(o.window)}
	for _, s := range o.streams {
		m.Streams = append(m.Streams, codec.StreamNext{Dtype: s.dtype, Next: s.next})
		s.told = 0
	}
	o.told = false
	return m, true
}

// attach takes the relay's answer: what it lacks is sent, and from now on all that is pushed; of a stream that it does not know, all that there
// is. It reports false if the relay gives the publisher another number, or lacks what is not here, so that its client must begin anew.
// Uplink's loop or the cluster goroutine.
func (o *outbound) attach(up *session, m *codec.Published) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.num != 0 && o.num != m.Pub {
		return false
	}
	known := make(map[uint8]uint64, len(m.Streams))
	for _, s := range m.Streams {
		known[s.Dtype] = s.Next
		st := o.find(s.Dtype, 1)
		switch {
		case st.next == 1: // it is new
			st.next = s.Next
		case s.Next < st.first():
			return false
		case st.next < s.Next && st.done == len(st.held): // the client has pushed this by way of another node
			st.clear()
			st.next = s.Next
		}
	}
	for _, s := range o.streams {
		if known[s.dtype] == 0 && s.acked+1 < s.first() { // the client alone has what the relay lacks: it came to this node when another relay had that
			return false
		}
	}
	o.num, o.policy, o.window = m.Pub, m.Policy, int64(m.Window)
	o.up = up
	for _, s := range o.streams {
		for _, h := range s.held {
			if h.last >= known[s.dtype] {
				up.forward(h.b, h.first, h.last)
			}
		}
	}
	return true
}

// unlink says that a link takes no more.
func (o *outbound) unlink(up *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up == up || up == nil {
		o.up = nil
	}
}

// end lets go of everything; the client, if it is there, is told why.
func (o *outbound) end(code codec.Code) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.ended, o.up = true, nil
	for _, s := range o.streams {
		s.clear()
	}
	if o.holder != nil {
		o.holder.cutBy(o, code)
		o.holder = nil
	}
}

// forward hands a batch of stream frames, or a gap, to the session of a link. Any goroutine.
func (s *session) forward(b *room.Batch, first, last uint64) {
	if b.Kind == room.KindStream {
		s.loop.stats.linkFramesOut.Add(last - first + 1)
		s.loop.stats.linkBytesOut.Add(uint64(len(b.B)))
	}
	s.post(b.Retain())
}

// post hands a batch with one reference to the session's loop, to be sent. Any goroutine.
func (s *session) post(b *room.Batch) { s.loop.post(item{kind: itemSend, sess: s, batch: b}) }

// over reports whether the outbound has ended.
func (o *outbound) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// carries returns the link that pushes into the outbound: another node's, which does not reach the relay itself. nil: a client does.
func (o *outbound) carries() *link {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holder == nil {
		return nil
	}
	return o.holder.s.link
}

// number returns the publisher's number; 0 if the relay has not given it one yet.
func (o *outbound) number() uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.num
}
