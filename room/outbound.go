package room

import (
	"fmt"
	"time"

	"github.com/timedge/timedge/codec"
)

// Outbound is a publisher of a room that another node relays: the way of its frames there. It keeps, by reference, what
// the relay has not acknowledged, and for a while what it has, and sends it again when the link or the relay is
// another. The client's session pushes into it as into a Publisher; what it acknowledges to the client is what the
// relay acknowledged.
//
// It may be used from any goroutine. Its mutex is a leaf, held to append to lists and mailboxes only.
type Outbound struct {
	ID       codec.RoomID
	Account  string
	Instance uint64
	Flags    uint8  // of the publish request
	To       string // likewise

	pool  *Pool
	share *Share
	left  func(*Outbound)

	mu      outboundGuard
	num     uint16
	policy  codec.Policy
	window  int64
	streams []*outStream
	unacked int64 // bytes held that the relay has not acknowledged
	kept    int   // what the acknowledged ones cost
	inits   int   // what retained init messages cost
	told    bool  // all acknowledgements have been passed on
	holder  Holder
	way     Way
	over    bool
}

// Way is where an Outbound's frames go: a link. Its methods are called under the Outbound's mutex and only append to a
// mailbox.
type Way interface {
	// Forward sends a batch of stream frames, or a gap. It takes a reference of its own.
	Forward(b *Batch, first, last uint64)
}

// outStream is one dtype of an outbound.
type outStream struct {
	dtype uint8
	next  uint64
	acked uint64 // by the relay
	told  uint64 // of that, passed on
	held  []held
	done  int    // of held, how many at the front are acknowledged
	inits []held // init messages that the first of held, or what follows, is decoded with, by references of its own
	late  bool   // began where the client had come to by way of another node: its init messages are the client's to send
}

// held is a batch that is not acknowledged, or was a moment ago.
type held struct {
	b           *Batch
	first, last uint64
	acked       int64 // when it was acknowledged
}

// What the relay has acknowledged every node has that needs it, as far as the relay knew. A relay that had lagged, or
// was cut off itself, may come to relay the room all the same: what was acknowledged is kept for it, so long and so
// much of a publisher; never more than a window, for with what is not acknowledged it is sent at once, and a relay
// takes two windows.
const (
	keepFor  = 5 * time.Second
	keepCost = 1 << 20
)

// NewOutbound returns the way of a publisher that is to be asked for with m on behalf of a client. left is called, from
// any goroutine, when its session has left it; it must only append to a mailbox.
func NewOutbound(pool *Pool, account string, instance uint64, m *codec.Publish, left func(*Outbound)) *Outbound {
	o := &Outbound{ID: m.Room, Account: account, Instance: instance, Flags: m.Flags, To: m.To, pool: pool,
		share: pool.Share(account), left: left}
	o.mu.out = o
	return o
}

// Hold makes h the holder and returns what its client is to be told, but for the request's number. Who held it before
// is cut off. It reports false if the outbound is over, or the relay has not taken the publisher yet.
func (o *Outbound) Hold(h Holder) (m *codec.Published, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over || o.num == 0 {
		return nil, false
	}
	if o.holder != nil && o.holder != h {
		o.holder.Cut(o, codec.CodeSuperseded)
	}
	o.holder = h
	m = &codec.Published{Room: o.ID, Pub: o.num, Policy: o.policy, Window: uint32(o.window)}
	for _, s := range o.streams {
		m.Streams = append(m.Streams, codec.StreamNext{Dtype: s.dtype, Next: s.next})
		s.told = 0
	}
	o.told = false
	return m, true
}

// Detach implements Pusher. The outbound stays, with what is not acknowledged, until it is ended.
func (o *Outbound) Detach(h Holder, _ int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holder == nil || o.holder != h || o.over {
		return
	}
	o.holder = nil
	o.left(o)
}

// mayPush checks the session's right. Mutex held.
func (o *Outbound) mayPush(h Holder) error {
	switch {
	case o.over:
		return ErrNotPublishing
	case o.holder == nil || o.holder != h:
		return ErrSuperseded
	case o.unacked > 2*o.window:
		return ErrFlow
	}
	return nil
}

// Push implements Pusher. What the relay alone can tell, such as whether pieces fit, it tells.
func (o *Outbound) Push(h Holder, run Run, _ int64) (fresh int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.mayPush(h); err != nil {
		return 0, err
	}
	if run.Last >= codec.MaxSeq {
		return 0, ErrSequence
	}
	s := o.find(run.Key.Dtype, run.First)
	raw, first := run.Raw, run.First
	if first < s.next {
		s.told, o.told = 0, false // the client has missed an acknowledgement
		if run.Last < s.next {
			return 0, nil
		}
		raw, first = raw[offsetOf(raw, first, s.next):], s.next
	}
	if first != s.next {
		return 0, ErrSequence
	}
	b := o.pool.Copy(KindStream, raw, o.share)
	if run.Init {
		o.keepInit(s, b, first, &run)
	}
	o.hold(s, b, first, run.Last)
	return int(run.Last - first + 1), nil
}

// PushGap implements Pusher.
func (o *Outbound) PushGap(h Holder, g codec.Gap, _ int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.mayPush(h); err != nil {
		return err
	}
	if g.To >= codec.MaxSeq {
		return ErrSequence
	}
	s := o.find(g.Dtype, g.From)
	switch {
	case g.To < s.next:
		s.told, o.told = 0, false
		return nil
	case g.From > s.next:
		return ErrSequence
	}
	o.hold(s, o.gap(s, s.next, g.To), s.next, g.To)
	return nil
}

// gap encodes a gap of the publisher's own. Mutex held.
func (o *Outbound) gap(s *outStream, from, to uint64) *Batch {
	key := codec.StreamKey{Pub: o.num, Dtype: s.dtype}
	return o.pool.encodeOwn(&codec.Gap{Room: o.ID, StreamKey: key, From: from, To: to, Reason: codec.GapPublisher},
		o.share)
}

// hold takes over a batch, and sends it if there is a way. Mutex held.
func (o *Outbound) hold(s *outStream, b *Batch, first, last uint64) {
	s.held = append(s.held, held{b: b, first: first, last: last})
	s.next = last + 1
	o.unacked += int64(len(b.B))
	if o.way != nil {
		o.way.Forward(b, first, last)
	}
}

// Acks implements Pusher.
func (o *Outbound) Acks(h Holder, yield func(key codec.StreamKey, seq uint64)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holder != nil && o.holder != h {
		return
	}
	o.told = true
	for _, s := range o.streams {
		if s.acked > s.told {
			s.told = s.acked
			yield(codec.StreamKey{Pub: o.num, Dtype: s.dtype}, s.acked)
		}
	}
}

// Pending implements Pusher: acknowledgements come by themselves, so only those that were missed wait for a tick.
func (o *Outbound) Pending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.told
}

// Attach takes the relay's answer, by a link: what it lacks is sent, and from now on all that is pushed. Of a stream
// that it does not know that is the init messages that a decoder needs first, and all that is here. It reports false if
// the relay gives the publisher another number, or lacks what is not here: then its client must begin anew.
func (o *Outbound) Attach(way Way, m *codec.Published) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over || o.num != 0 && o.num != m.Pub {
		return false
	}
	known := make(map[uint8]uint64, len(m.Streams))
	for _, s := range m.Streams {
		known[s.Dtype] = s.Next
		st := o.find(s.Dtype, 1)
		switch {
		case st.next == 1: // it is new
			st.next, st.late = s.Next, s.Next > 1
		case s.Next < st.first():
			return false
		case st.next < s.Next: // the client has pushed this by way of another node, and keeps what was not acknowledged
			o.clear(st)
			o.clearInits(st)
			st.next, st.late = s.Next, true
		}
	}
	for _, s := range o.streams {
		// The client alone has what the relay lacks: it came to this node when another relay had that.
		if known[s.dtype] == 0 && (s.acked+1 < s.first() || s.late && len(s.inits) == 0) {
			return false
		}
	}
	o.num, o.policy, o.window = m.Pub, m.Policy, int64(m.Window)
	o.way = way
	for _, s := range o.streams {
		if known[s.dtype] == 0 {
			o.head(s)
		}
		for _, h := range s.held {
			if h.last >= known[s.dtype] {
				way.Forward(h.b, h.first, h.last)
			}
		}
	}
	return true
}

// Unlink says that a way takes no more.
func (o *Outbound) Unlink(way Way) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.way == way {
		o.way = nil
	}
}

// Acked takes the relay's word, by a link, that all up to seq has arrived, and passes it on.
func (o *Outbound) Acked(way Way, dtype uint8, seq uint64, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.way != way {
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
		o.kept += h.b.cost()
	}
	o.forget(s, now)
	for o.kept > min(keepCost, int(o.window)) {
		o.drop(o.oldest())
	}
	if o.told && o.holder != nil {
		o.told = false
		o.holder.AckNow(o)
	}
}

// Forget lets go of what was acknowledged long ago.
func (o *Outbound) Forget(now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		o.forget(s, now)
	}
}

// forget lets go of whole messages, so that the oldest that is kept begins one: what a new relay does not know begins
// with it. Mutex held.
func (o *Outbound) forget(s *outStream, now int64) {
	for n := s.whole(); n > 0 && now-s.held[n-1].acked > int64(keepFor); n = s.whole() {
		for range n {
			o.drop(s)
		}
	}
}

// whole returns how many batches at the front, all acknowledged, are whole messages; 0 if none are.
func (s *outStream) whole() int {
	for n := 1; n <= s.done; n++ {
		if n == len(s.held) || s.held[n].b.Kind != KindStream || codec.Flags(s.held[n].b.B[2]).Start() {
			return n
		}
	}
	return 0
}

// oldest returns the stream with the frames that were acknowledged first. There are such. Mutex held.
func (o *Outbound) oldest() (old *outStream) {
	for _, s := range o.streams {
		if s.done > 0 && (old == nil || s.held[0].acked < old.held[0].acked) {
			old = s
		}
	}
	return old
}

// drop lets go of a stream's oldest batch, which is acknowledged. Mutex held.
func (o *Outbound) drop(s *outStream) {
	o.kept -= s.held[0].b.cost()
	s.held[0].b.Release()
	s.held[0] = held{}
	s.held, s.done = s.held[1:], s.done-1
	if len(s.inits) > 1 {
		o.pruneInits(s)
	}
}

// clear lets go of all that a stream holds. Mutex held.
func (o *Outbound) clear(s *outStream) {
	for s.done > 0 {
		o.drop(s)
	}
	for _, h := range s.held {
		o.unacked -= int64(len(h.b.B))
		h.b.Release()
	}
	s.held = nil
}

// End lets go of everything; the client, if it is there, is told why. Ending again does nothing.
func (o *Outbound) End(code codec.Code) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end(code)
}

// end does End under the mutex.
func (o *Outbound) end(code codec.Code) {
	if o.over {
		return
	}
	o.over, o.way = true, nil
	if o.holder != nil {
		o.holder.Cut(o, code)
		o.holder = nil
	}
	for _, s := range o.streams {
		o.clear(s)
		o.clearInits(s)
	}
}

// Count passes on how many are in the room, if the client asked for it.
func (o *Outbound) Count(c codec.Count) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Flags&codec.PubCount != 0 && o.holder != nil {
		o.holder.Count(o, c)
	}
}

// Over reports whether the outbound has ended.
func (o *Outbound) Over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over
}

// Held reports whether a session holds the outbound.
func (o *Outbound) Held() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.holder != nil
}

// Audit returns what is held beyond its bounds, for tests: three windows that the relay has not acknowledged, which
// is what a client may send before it is told so, and of what it has as much as keepCost says.
func (o *Outbound) Audit() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.num != 0 && o.unacked > 3*o.window:
		return fmt.Errorf("an outbound of %s holds %d bytes that are not acknowledged, its window is %d", o.Account,
			o.unacked, o.window)
	case o.kept > keepCost || o.unacked < 0 || o.kept < 0:
		return fmt.Errorf("an outbound of %s keeps %d bytes that are acknowledged, and %d that are not", o.Account, o.kept,
			o.unacked)
	case o.inits > maxInits(codec.DefaultMaxPayload):
		return fmt.Errorf("an outbound of %s keeps %d bytes of init messages", o.Account, o.inits)
	}
	return nil
}

// Number returns the publisher's number; 0 if the relay has not given it one yet.
func (o *Outbound) Number() uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.num
}

// first returns the first frame that is still here, or would come next.
func (s *outStream) first() uint64 {
	if len(s.held) > 0 {
		return s.held[0].first
	}
	return s.next
}

// find returns the stream of a dtype; if there is none yet, a new one that begins with a frame: 1, or wherever the
// client goes on where the relay has lost its memory of it. Which of the two is right the relay can tell. Mutex held.
func (o *Outbound) find(dtype uint8, next uint64) *outStream {
	for _, s := range o.streams {
		if s.dtype == dtype {
			return s
		}
	}
	s := &outStream{dtype: dtype, next: next}
	o.streams = append(o.streams, s)
	return s
}
