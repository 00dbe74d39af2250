package room

import "github.com/timedge/timedge/codec"

// Rooms differ in three ways, and here is all of it: in what becomes of frames for which somebody is not ready (the
// policy), in whose word counts (a mirror takes its relay's), and in who may come (an inbox). Everywhere else a room is
// a room, and asks its kind.
type kind struct {
	policy      // fixed: read without the mutex, too
	inbox  bool // the owner's inbox, see inbox.go; fixed
	mirror bool // another node relays the room, see mirror.go; room's mutex
}

func kindOf(p codec.Policy) kind { return kind{policy: policy(p)} }

// policy is a room's codec.Policy, with what goes by it.
//
// In a lossless room the slowest subscriber alone decides what has arrived, and what is kept. In any other a frame has
// arrived when the loops have taken it, and the nodes that mirror the room.
type policy codec.Policy

func (p policy) is(q codec.Policy) bool { return codec.Policy(p) == q }

// lossless reports whether the room drops nothing.
func (p policy) lossless() bool { return p.is(codec.PolicyLossless) }

// What has arrived.

// seats reports whether a member has a seat: acknowledgements wait for it.
func (p policy) seats(link bool) bool { return p.lossless() || link }

// seated reports whether there is a seating also while nobody has a seat.
func (p policy) seated() bool { return p.lossless() }

// flies reports whether a batch is on its way until the loops and, with somebody seated, the seats have it.
func (p policy) flies(seated bool) bool { return seated && !p.lossless() }

// taken records that every outlet has taken a batch of s. Any goroutine.
func (p policy) taken(s *stream, b *Batch) {
	switch {
	case p.lossless(): // the seats say so
	case b.aloft:
		s.flight.taken(s, b.Last)
	default:
		s.rise(b.Last)
		s.pub.arrived(len(b.B))
	}
}

// reached records that the n slowest seats have acknowledged s up to low. Room's mutex.
func (p policy) reached(s *stream, low uint64, n int) {
	if p.lossless() {
		s.consumed(low)
	} else {
		s.flight.seatsAt(s, low, n)
	}
}

// has returns up to where a mirror, and whoever gets the room by way of it, has a stream: what it names counts as
// acknowledged.
func (p policy) has(s *stream) uint64 {
	if p.lossless() {
		return min(s.next-1, s.low)
	}
	return min(s.next-1, s.acked.Load())
}

// Who is late.

// lookAfter does what time brings to a seat: in a lossless room those are cut off that do not move, in any other they
// do not count any more.
func (p policy) lookAfter(l *seating, r *Room, s *seat, now int64) {
	if p.lossless() {
		l.stall(r, s, now)
	} else {
		l.lag(r, s, now)
	}
}

// bequeaths reports whether the seat of a node that is gone goes over to the subscribers that it had.
func (p policy) bequeaths(s *seat) bool { return p.lossless() && s.missed() }

// What a slow subscriber's queue does (Queue).

// keepsAll reports whether the queue drops nothing; keepsNewest that it keeps the newest message of each stream only;
// cutsOff that it ends the subscription instead.
func (p policy) keepsAll() bool    { return p.lossless() }
func (p policy) keepsNewest() bool { return p.is(codec.PolicyLatest) }
func (p policy) cutsOff() bool     { return p.is(codec.PolicyDisconnect) }

// shed returns how the queue sheds first when it has to.
func (p policy) shed() shedMode {
	if p.keepsNewest() {
		return shedLatest
	}
	return shedOld
}

// What the log keeps, and where somebody who joins begins.

// grouped reports whether a stream with key messages is taken up at these only.
func (p policy) grouped() bool { return p.is(codec.PolicyLive) || p.is(codec.PolicyDisconnect) }

// keepFrom returns the oldest frame of s that a late joiner or a lossless subscriber may still need.
func (p policy) keepFrom(s *stream) uint64 {
	if p.lossless() {
		return s.low + 1
	}
	from := s.next
	if s.groupSeq != 0 {
		from = s.groupSeq
	}
	if s.open() {
		from = min(from, s.openSeq)
	}
	return from
}

// history returns how many bytes of s are kept beyond that for those who resume.
func (p policy) history(cfg *Config) int {
	if p.keepsNewest() || p.lossless() {
		return 0
	}
	return cfg.History
}

// begins returns the oldest frame that somebody may begin with, as far as init messages go by it; 0 if there is none
// yet. In a lossless room that is the oldest in the log: a node may come whose subscribers are behind all that are
// here.
func (p policy) begins(s *stream) uint64 {
	switch {
	case !p.lossless():
		return s.groupSeq
	case s.head < len(s.log):
		return min(s.low+1, s.log[s.head].first)
	}
	return s.low + 1
}

// keepsRuns reports whether s may keep several runs of init messages: those before the newest serve who is behind.
func (p policy) keepsRuns() bool { return p.lossless() }

// start returns the frame at which a late joiner takes s up, apart from init messages: the newest group, in a lossless
// room the oldest message that is not acknowledged, otherwise the message in progress or the next.
func (p policy) start(s *stream) uint64 {
	switch {
	case p.lossless():
		return s.unacked()
	case s.groupSeq != 0:
		return s.groupSeq
	case s.open() && !s.grouped() && s.has(s.openSeq):
		return s.openSeq
	}
	return s.next
}

// owes returns the first frame that who begins with frame start has to acknowledge: not again what all have consumed.
func (p policy) owes(s *stream, start uint64) uint64 {
	if p.lossless() {
		return max(start, s.low+1)
	}
	return start
}

// lowest returns from where a node that has nothing of s is given it, for those who may come to it and have less than
// its first subscriber.
func (p policy) lowest(s *stream) uint64 {
	switch {
	case p.lossless():
		return s.low + 1
	case s.head < len(s.log):
		return s.log[s.head].first
	}
	return s.next
}

// opens moves the start of the newest group of s past a run.
func (p policy) opens(s *stream, run *Run) {
	seq := uint64(0)
	switch {
	case p.keepsNewest() && !run.Init:
		seq = run.startSeq
	case p.grouped():
		seq = run.keySeq
	}
	if seq != 0 {
		s.groupSeq = seq
		s.turn()
	}
}

// confine keeps the log of s within the account's and the room's bounds on caches. A lossless room's is bounded by its
// publishers' windows and must not be emptied.
func (p policy) confine(s *stream, overCaches bool) {
	if p.lossless() {
		return
	}
	r := s.pub.room
	if overCaches {
		s.clearLog()
		r.table.stats.CacheOverflows.Add(1)
	}
	r.confine()
}

// uncache gives up what the log of s keeps for others than the room's members.
func (p policy) uncache(s *stream) {
	if p.lossless() {
		s.trim()
	} else {
		s.clearLog()
	}
}

// Whose word counts.

// decides reports whether this node decides about the room. A mirror takes its relay's word, also for the bounds on
// what publishers do, which the relay has applied already.
func (k *kind) decides() bool { return !k.mirror }

// keepsWindows reports whether logs keep two windows for a while (windowsFor), as far as memory allows. Who mirrors a
// room may come to relay it, and then other nodes need what its relay had not acknowledged. And an edge that has left a
// lossless room's relay for another, whose part it took, may come back: what it has not had counts as arrived
// meanwhile.
func (k *kind) keepsWindows(clustered bool) bool {
	return (k.mirror || clustered && k.lossless()) && !k.keepsNewest()
}

// goesStale reports whether a mirror that nobody is in lets go of what somebody who comes back may need.
func (k *kind) goesStale() bool { return k.mirror && k.lossless() }

// begun reports whether a new stream of p begins wherever its first frame says.
func (k *kind) begun(p *Publisher) bool { return p.restored || k.mirror && len(p.room.outlets) == 0 }

// loses reports whether such a stream's beginning elsewhere than at 1 is a loss.
func (k *kind) loses(p *Publisher, now int64) bool {
	return k.decides() && (p.watched || now >= p.room.settles)
}

// jumps reports whether s goes on behind frames that are lost; otherwise its publisher is refused.
func (k *kind) jumps(s *stream) bool { return k.mirror || s.lenient }

// reason returns why the frames of a publisher's gap are missing: the relay knows, anybody else gave them up.
func (k *kind) reason(said codec.GapReason) codec.GapReason {
	if k.decides() {
		return codec.GapPublisher
	}
	return said
}

// nudge returns the part of the window that may wait for an acknowledgement to be told before that is done at once: at
// a mirror, where the relay tells the publisher in its turn, a smaller one.
func (k *kind) nudge(window int) int64 {
	if k.mirror {
		return int64(window / 16)
	}
	return int64(window / 4)
}

// moved reports whether the room of p has come from or gone to another node since p had a holder.
func (k *kind) moved(p *Publisher) bool { return k.mirror || p.restored }

// lingers reports whether p stays although its linger time is over: at a mirror the link is away, and the relay will
// say.
func (k *kind) lingers(p *Publisher) bool { return p.ended == 0 && k.mirror }

// elsewhere returns how many subscribers the room has at other nodes, of those that the relay told when this node had
// toldOf of them.
func (k *kind) elsewhere(total, toldOf int32) int {
	if k.mirror {
		return int(total - toldOf)
	}
	return 0
}

// Who may come. Of an inbox strangers are not to learn that it is there: what they ask is answered as it would be
// anywhere.

// attends reports whether it matters that one of the owner's sessions is there.
func (k *kind) attends() bool { return k.inbox && k.decides() }

// admits reports whether an account's session may subscribe.
func (k *kind) admits(account, owner string) bool { return !k.inbox || account == owner }

// refusal is what an account is told that may not push; stranger is what one is told that asks for what is the owner's.
func (k *kind) refusal() *Error {
	if k.inbox {
		return ErrNotAccepted
	}
	return ErrNotGranted
}

func (k *kind) stranger() *Error {
	if k.inbox {
		return ErrNotAccepted
	}
	return ErrNotOwner
}

// expired returns the code with which time ends the room; 0 if it does not. A mirror ends at its relay's word, an inbox
// when nobody has been in it for the idle time.
func (k *kind) expired(r *Room, now int64) codec.Code {
	switch {
	case k.mirror:
	case k.inbox && (r.gone == 0 || now-r.gone <= int64(r.set.Idle)): // somebody is there, or was of late
	case k.inbox || now-max(r.lastPush.Load(), r.gone) > int64(r.set.Idle):
		return codec.CodeIdle
	case r.set.Expire > 0 && now-r.created > int64(r.set.Expire):
		return codec.CodeExpired
	}
	return 0
}
