package room

import (
	"sync/atomic"

	"github.com/timedge/timedge/codec"
)

// Holder is the session that pushes as a publisher. What tells it something only appends to a mailbox: Cut and Count
// are called under the room's mutex, AckNow from any loop.
type Holder interface {
	// Cut ends the session's part: the room ended, the right was revoked, or another session took over.
	Cut(of Pusher, code codec.Code)
	// AckNow says that enough has arrived to acknowledge without waiting for the next tick.
	AckNow(of Pusher)
	// Count tells how many are in the room.
	Count(of Pusher, c codec.Count)
	// Peer returns the node by whose link the publisher comes; "" if its client is connected here. Any goroutine.
	Peer() string
}

// Pusher is what a Holder pushes into: a Publisher where the room is, an Outbound at a node that does not relay it.
type Pusher interface {
	// Push takes a run of frames from h; PushGap its word that it gives frames up.
	Push(h Holder, run Run, now int64) (fresh int, err error)
	PushGap(h Holder, g codec.Gap, now int64) error
	// Acks calls yield for every stream with news since the last call, unless another than h holds the publisher: the news
	// is for that one. Pending reports whether some may follow without AckNow.
	Acks(h Holder, yield func(key codec.StreamKey, seq uint64))
	Pending() bool
	// Detach says that h is gone. Who does not hold the publisher is not heard.
	Detach(h Holder, now int64)
}

// who identifies a client over its reconnections.
type who struct {
	account  string
	instance uint64
}

// Publisher is (account, instance) pushing into a room under a small number.
type Publisher struct {
	Room *Room
	Num  uint16
	room *Room
	who  who
	life codec.Life // Epoch 0: not known
	mark uint64     // codec.ClientMark of who, which a mirror knows without the instance; 0: not known

	share *Share

	// Guarded by the room's mutex.
	streams  []*stream
	cache    int // bytes that its logs hold
	counted  int // of these, what the share knows of
	counts   bool
	restored bool // this node took the room over from another: what it does not know of the streams it learns
	watched  bool // and there were subscribers then, who know no more
	// bytes that had not arrived when this node took the room over: another relay took them, and may have acknowledged
	// them
	elsewhere int64
	since     int64 // when its session left or it was ended; 0 while a session holds it
	ended     codec.Code

	holder  atomic.Pointer[Holder]
	pushed  atomic.Int64 // bytes taken from the publisher
	done    atomic.Int64 // of these, bytes arrived
	told    atomic.Int64 // of these, bytes acknowledged
	nudging atomic.Bool  // AckNow was called and Acks was not yet
	nudgeAt atomic.Int64 // bytes arrived and not acknowledged for which AckNow is called
}

// joined returns the frame that announces the publisher.
func (p *Publisher) joined() *codec.Joined {
	return &codec.Joined{Room: p.room.ID, Pub: p.Num, Account: p.who.account, Life: p.life, Mark: p.mark}
}

// state returns the publisher as a room's state has it.
func (p *Publisher) state() codec.PublisherState {
	return codec.PublisherState{Num: p.Num, Account: p.who.account, Instance: p.who.instance, Life: p.life}
}

// Window returns how many bytes may be unacknowledged.
func (p *Publisher) Window() int { return p.room.table.conf().Window }

// Pending reports whether frames wait for an acknowledgement to be sent, now or later.
func (p *Publisher) Pending() bool { return p.pushed.Load() != p.told.Load() }

// arrived counts bytes that need not be sent again, and asks for an early acknowledgement when many wait. Any
// goroutine.
func (p *Publisher) arrived(n int) {
	if p.done.Add(int64(n))-p.told.Load() < p.nudgeAt.Load() {
		return
	}
	if h := p.holder.Load(); h != nil && p.nudging.CompareAndSwap(false, true) {
		(*h).AckNow(p)
	}
}

// Acks implements Pusher.
func (p *Publisher) Acks(h Holder, yield func(key codec.StreamKey, seq uint64)) {
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	if cur := p.holder.Load(); cur != nil && *cur != h {
		return
	}
	p.nudging.Store(false)
	told := p.done.Load()
	for _, s := range p.streams {
		seq := s.acked.Load()
		if p.restored && p.room.seats != nil {
			if all := p.room.seats.reached(s); all < seq {
				seq, told = all, told-1 // and is pending still
			}
		}
		if seq > s.told {
			s.told = seq
			yield(s.key, seq)
		}
	}
	p.told.Store(told)
}

// find returns the publisher's stream of a dtype, making it if need be and if its account may have another. Room's
// mutex.
func (p *Publisher) find(dtype uint8) (*stream, error) {
	for _, s := range p.streams {
		if s.key.Dtype == dtype {
			return s, nil
		}
	}
	switch {
	case !p.room.kind.decides(): // the relay has
	case p.share.streams.Load() >= int64(p.room.table.conf().MaxStreamsPerAccount):
		return nil, ErrManyStreams
	case p.share.Over():
		return nil, ErrOverloaded
	}
	p.share.streams.Add(1)
	p.share.Hold(streamCost)
	s := &stream{key: codec.StreamKey{Pub: p.Num, Dtype: dtype}, pub: p, next: 1}
	s.fresh = p.room.kind.begun(p)
	p.streams = append(p.streams, s)
	if p.room.seats != nil {
		p.room.seats.begin(s)
	}
	return s, nil
}

// replayed makes the next acknowledgement repeat where the stream stands: the publisher has missed one.
func (p *Publisher) replayed(s *stream) {
	s.told = 0
	p.pushed.Add(1)
	p.arrived(1) // as if something new had arrived, or the acknowledgement would wait for that
}

// overWindow reports whether the publisher has sent more than any window allows. What is on its way to it,
// acknowledgements not yet told, is on its side of the account, so it is given twice the window.
func (p *Publisher) overWindow() bool {
	return p.pushed.Load()-p.done.Load() > 2*int64(p.Window())+p.elsewhere
}

// Push takes a run of frames from the session h: checks rights and order, keeps the frames in the log and posts them to
// every outlet. The run is copied; its bytes are the caller's again on return. now is in nanoseconds.
//
// It returns how many of the frames were new; frames that the room has already are not errors but replays. A refusal is
// an *Error; ErrFlow means that the connection is to be closed.
func (p *Publisher) Push(h Holder, run Run, now int64) (fresh int, err error) {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := p.mayPush(h); err != nil {
		return 0, err
	}
	if p.overWindow() && r.kind.decides() {
		return 0, ErrFlow
	}
	if run.Last >= codec.MaxSeq {
		return 0, ErrSequence
	}
	s, err := p.find(run.Key.Dtype)
	if err != nil {
		return 0, err
	}
	if s.fresh {
		p.start(s, run.First, run.first, now)
	}
	if run.First < s.next {
		r.table.stats.Replays.Add(min(uint64(run.Frames), s.next-run.First))
		p.replayed(s)
		if run.Last < s.next {
			return 0, nil
		}
		if run, err = ScanRun(run.Raw[offsetOf(run.Raw, run.First, s.next):]); err != nil {
			return 0, err
		}
	}
	if s.midway && run.Cont && run.First == s.next {
		s.goesOn(run.first)
	}
	if r.kind.jumps(s) && (run.First > s.next || run.Cont && s.last == 0) {
		ok, err := p.jump(s, &run, now)
		if !ok {
			return run.Frames, err
		}
	}
	if run.First != s.next {
		return 0, ErrSequence
	}
	if !follows(run.first, s.last) {
		return 0, ErrPieces
	}
	size := run.largest
	if run.Cont {
		size = max(size, s.openSize+run.head)
	}
	if max(size, run.tail) > r.table.conf().MaxPayload {
		return 0, ErrPayload
	}

	b := r.table.pool.Copy(KindStream, run.Raw, p.share)
	b.Key, b.First, b.Last, b.At, b.stream = s.key, run.First, run.Last, now, s
	s.keyed = s.keyed || run.Keyed
	b.Keyed = s.grouped()
	s.lenient, s.midway = false, false
	s.advance(&run)
	s.append(b, run.First, run.Last, now)
	if run.Init {
		s.keepInit(b, &run)
	}
	s.trim()
	r.frames += uint64(run.Frames)
	r.bytes += uint64(len(b.B))
	p.spread(b, now)
	return run.Frames, nil
}

// PushGap takes a publisher's word that it gave up frames which it had numbered.
func (p *Publisher) PushGap(h Holder, g codec.Gap, now int64) error {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := p.mayPush(h); err != nil {
		return err
	}
	if p.overWindow() && r.kind.decides() {
		return ErrFlow
	}
	// There always is a next number. A relay that does not know where a stream ended tells so by a gap up to the highest.
	if g.To >= codec.MaxSeq {
		if r.kind.decides() {
			return ErrSequence
		}
		if !p.knows(g.Dtype) {
			return nil
		}
	}
	s, err := p.find(g.Dtype)
	if err != nil {
		return err
	}
	if s.fresh {
		p.start(s, g.From, 0, now)
	}
	if g.To < s.next {
		p.replayed(s)
		return nil
	}
	if g.From > s.next {
		if !r.kind.jumps(s) {
			return ErrSequence
		}
		p.gap(s, g.From-1, codec.GapLost, now)
	}
	s.lenient = false
	p.gap(s, g.To, r.kind.reason(g.Reason), now)
	s.midway = r.part
	return nil
}

// gap tells everybody that the stream goes on behind to.
func (p *Publisher) gap(s *stream, to uint64, reason codec.GapReason, now int64) {
	r := p.room
	g := codec.Gap{Room: r.ID, StreamKey: s.key, From: s.next, To: to, Reason: reason}
	b := r.table.pool.encodeOwn(&g, p.share)
	b.Key, b.First, b.Last, b.Keyed, b.stream = s.key, g.From, g.To, s.grouped(), s
	if s.open() && s.last&codec.FlagInit != 0 {
		s.breakInit()
	}
	s.next, s.last, s.midway = g.To+1, 0, false
	s.append(b, g.From, g.To, now)
	s.trim()
	p.spread(b, now)
}

// knows reports whether the publisher has a stream of the dtype.
func (p *Publisher) knows(dtype uint8) bool {
	for _, s := range p.streams {
		if s.key.Dtype == dtype {
			return true
		}
	}
	return false
}

// start begins a stream of a restored publisher, or of a mirror without subscribers, with frame first, whose flags are
// given; 0 for a gap. A mirror's begins wherever that is, also within a message: the subscriber it is made for has what
// came before. So does a restored one's while the room settles: its node sends again what was not acknowledged, and the
// subscribers have what came before. Later, and if subscribers were here before the publisher, who do not wait for
// that, it is a loss.
func (p *Publisher) start(s *stream, first uint64, flags codec.Flags, now int64) {
	s.fresh = false
	if p.room.kind.loses(p, now) {
		s.lenient = true
		return
	}
	s.next, s.low = first, first-1
	s.rise(s.low)
	if !flags.Start() { // follows the piece that only the subscribers have
		s.goesOn(flags)
	}
	if p.room.seats != nil {
		p.room.seats.restart(s)
	}
}

// jump tells everybody of frames that are lost before a run, and of the rest of a message whose beginning is. It leaves
// in run what can be gone on with, and reports whether there is any.
func (p *Publisher) jump(s *stream, run *Run, now int64) (ok bool, err error) {
	to, at := run.First-1, 0
	if run.Cont {
		for at < len(run.Raw) {
			n, f, seq := frameAt(run.Raw[at:])
			if f.Start() {
				break
			}
			to, at = seq, at+n
		}
	}
	if to >= s.next {
		p.gap(s, to, codec.GapLost, now)
	}
	if at == len(run.Raw) {
		return false, nil
	}
	*run, err = ScanRun(run.Raw[at:])
	return err == nil, err
}

// spread hands a batch of a stream of p to every outlet, and the caller's reference with it.
func (p *Publisher) spread(b *Batch, now int64) {
	p.room.lastPush.Store(now)
	p.pushed.Add(int64(len(b.B)))
	p.room.toOutlets(b)
	b.Release()
}

func (p *Publisher) mayPush(h Holder) error {
	switch {
	case p.room.ended == codec.CodeMoved: // it has gone to another node, and nobody here needs it
		return ErrNotRelay
	case p.room.ended != 0:
		return ErrUnknown
	case p.ended == codec.CodeRevoked:
		return ErrRevoked
	case p.ended != 0:
		return ErrNotPublishing
	}
	if cur := p.holder.Load(); cur == nil || *cur != h {
		if p.room.kind.moved(p) { // the room has moved; nobody took over
			return ErrNotRelay
		}
		return ErrSuperseded
	}
	return nil
}
