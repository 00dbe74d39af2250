package engine

import (
	"net/netip"

	"github.com/panjf2000/gnet/v2"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// session is one connection. It lives on one loop, which alone touches it.
//
// An idle subscriber is a session and one member and should stay small: what only publishers or slow readers need is
// allocated when it is needed (benchmarks: BenchmarkIdleSubscriber).
type session struct {
	// Fixed after open.
	conn     gnet.Conn
	loop     *loop
	id       uint64
	openedAt int64    // ns: when it was accepted; once closing: when that began
	carrier  *carrier // nil: plain TCP

	share *room.Share // of memory: the account's; before hello that of strangers
	place *addrPlace  // nil: of an address that is not limited

	// Set by hello.
	instance uint64
	identity *auth.Identity // nil: may do everything
	spent    int64          // clock of control frames: see limits.go

	// The loop's.
	phase      phase
	closed     bool  // OnClose has run: the descriptor is no longer ours
	doomed     bool  // on the loop's list of sessions to close
	dirty      bool  // on the loop's list of sessions to write
	blocked    bool  // the socket takes no more; the blocker watches it
	closing    bool  // finish was called: the last word is said or queued, and what is still read is not looked at
	heard      bool  // something was read since the last look
	silent     uint8 // looks in a row at which nothing had been heard
	asked      bool  // something of the cluster, which is told when the session closes
	trusted    bool  // an operator's: it is whoever it says; fixed before open
	inner      bool  // its client is within this process; fixed before open
	sent       bool  // it is told to go elsewhere, by a rebalance
	paused     bool  // its turn is over: it is on the loop's list of turns
	unread     bool  // the reactor does not read it: see heed
	held       bool  // paused until the next tick, having asked for far more than it may, or until rare.leaves has left
	agreed     bool  // the client knows of fresh tokens: see token.go
	warnBefore int32 // ms before its token ends that the client is to be warned; 0: not any more, or never
	at         int32 // place in the loop's list
	fd         int32 // fixed after open
	debt       int32 // steps of turns to come that requests have taken already
	q          *room.Queue
	only       [1]*member // its membership, if it has one and no more: see members
	rare       *rare      // nil: has needed none of it yet
	role       role       // fixed before open
}

// rare is what few sessions need.
type rare struct {
	// the beginning of a frame whose end was not read yet; while paused all that was read and not handled
	partial []byte
	pushing *pushing                 // nil: has not pushed or published yet
	members []*member                // if there are several
	byRoom  map[codec.RoomID]*member // nil while members are few
	peer    *netip.AddrPort          // of a client that the descriptor's other end is not; fixed before open
	pace    pace                     // of a path that has been full
	hurry   hurry                    // of a client that asks for more than it may
	behind  int                      // bytes read since closing
	leaves  *member                  // a membership that is ending, which what is held waits for: see waitsForLeave
}

// account returns the name that the client authenticated as, a link's node; "" before hello.
func (s *session) account() string {
	if s.share == nil {
		return strangers
	}
	return s.share.Account
}

func (s *session) rarely() *rare {
	if s.rare == nil {
		s.rare = new(rare)
	}
	return s.rare
}

// paced reports whether the kernel may hold less than SendBuffer unsent.
func (s *session) paced() bool { return s.rare != nil && s.rare.pace.bound != 0 }

// pushing is what only those sessions need that push.
type pushing struct {
	part     *carry.Part
	refusals []codec.PushRefused
	changes  map[uint32]change // asked for and not answered, by the request's number; nil without an audit
	meter    meter
}

// pushing returns what the session has pushed; nil if it has not pushed or published yet.
func (s *session) pushing() *pushing {
	if s.rare == nil {
		return nil
	}
	return s.rare.pushing
}

// pushes is pushing, which it makes if need be.
func (s *session) pushes() *pushing {
	r := s.rarely()
	if r.pushing == nil {
		r.pushing = &pushing{part: carry.NewPart(s, s.loop.eng.rooms)}
	}
	return r.pushing
}

// partial returns the beginning of a frame whose end was not read yet; while the session is paused all that was read
// and not handled.
func (s *session) partial() []byte {
	if s.rare == nil {
		return nil
	}
	return s.rare.partial
}

// phase says what the next bytes must be.
type phase uint8

const (
	phasePreface phase = iota
	phaseHello
	phaseHeld // of a link whose node is no member yet: what comes is kept
	phaseOpen
)

// feed takes what was read: whole frames are handled, as many as a turn has, the rest is kept. An error closes the
// session; a *codec.ProtocolError is told first. Loop only.
func (s *session) feed(b []byte) error {
	s.heard = true
	if s.phase == phaseHeld {
		s.retain(b)
		if len(s.partial()) > maxHeld {
			return room.ErrFlow.With("too much of a node that is no member")
		}
		return nil
	}
	for s.paused { // only where there is no poller
		if s.held || len(s.partial())+len(b) <= s.loop.eng.cfg.ReadBuffer {
			s.retain(b)
			return nil
		}
		if err := s.resume(); err != nil {
			return err
		}
	}
	rest, err := b, error(nil)
	if len(s.partial()) > 0 && !s.hasTurn() {
		s.pause(b)
	} else {
		rest, err = s.begun(b)
	}
	if len(rest) > smallPartial && s.greedy() {
		return room.ErrOverloaded
	}
	s.retain(rest)
	if s.paused {
		s.loop.await(s)
	}
	return err
}

// begun handles the partial frame, once b completes it, and what comes behind. It returns what is left of b.
func (s *session) begun(b []byte) (rest []byte, err error) {
	for len(s.partial()) > 0 {
		n, more, err := s.complete(b)
		if err != nil {
			return nil, err
		}
		if b = b[n:]; more || s.paused {
			return b, nil
		}
	}
	return s.steps(b, s.least())
}

// steps handles whole frames, as many as the turn has steps, and returns what is left: the beginning of one, or, when
// the turn is over and the session paused, any number. The turn has at least so many steps.
func (s *session) steps(b []byte, least int) (rest []byte, err error) {
	had := s.stepsLeft(least)
	left := had
	defer func() { s.loop.used += had - left }()
	for len(b) > 0 {
		if left -= s.repay(left); left <= 0 && s.pause(b) {
			return b, nil
		}
		left -= stepsOf(b)
		n, err := s.step(b)
		if err == codec.ErrIncomplete || err == errHeld {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if b = b[n:]; left <= 0 && s.pause(b) {
			return b, nil
		}
	}
	return nil, nil
}

func (s *session) retain(b []byte) {
	if len(b) > 0 {
		s.setPartial(append(s.partial(), b...))
		s.loop.stats.copied.Add(uint64(len(b)))
	}
}

// smallPartial is how much of a frame whose end was not read yet anybody may have waiting.
const smallPartial = 4096

// setPartial makes b the partial frame, and counts what it takes.
func (s *session) setPartial(b []byte) {
	if s.rare == nil && b == nil {
		return
	}
	r := s.rarely()
	s.share.Hold(cap(b) - cap(r.partial))
	r.partial = b
}

// isStream reports whether b starts with a stream frame, as far as its type is there.
func isStream(b []byte) bool {
	return len(b) > codec.LengthSize && b[codec.LengthSize]&codec.TypeStream != 0
}

// complete moves bytes from b to the partial frame until that is whole, and handles it. It returns how many bytes it
// took and whether more are needed.
func (s *session) complete(b []byte) (n int, more bool, err error) {
	for {
		p := s.partial()
		k := min(s.want(p)-len(p), len(b)-n)
		p = append(p, b[n:n+k]...)
		s.setPartial(p)
		s.loop.stats.copied.Add(uint64(k))
		n += k
		_, err := s.step(p)
		if err == codec.ErrIncomplete && len(p) > smallPartial && s.greedy() {
			return n, false, room.ErrOverloaded
		}
		if err == codec.ErrIncomplete {
			if n == len(b) {
				return n, true, nil
			}
			continue // the length is known now
		}
		if err == errHeld {
			return n, false, nil
		}
		s.loop.used += stepsOf(p)
		if part := s.role.part(s); cap(p) > smallPartial && (part == nil || part.Len() == 0) {
			s.setPartial(nil)
		} else if s.partial() != nil { // the session may have let go of it meanwhile
			s.setPartial(p[:0])
		}
		return n, false, err
	}
}

// want returns how many bytes the partial frame p needs before it is worth another look.
func (s *session) want(p []byte) int {
	if s.phase == phasePreface {
		return codec.PrefaceSize
	}
	if len(p) < codec.LengthSize {
		return codec.LengthSize
	}
	return codec.LengthSize + max(1, int(p[0])<<8|int(p[1]))
}

// step handles what b starts with: the preface, one control frame, or a run of stream frames. It returns how long that
// was.
func (s *session) step(b []byte) (n int, err error) {
	if s.phase == phasePreface {
		p, err := codec.ParsePreface(b)
		if err != nil {
			return 0, err
		}
		return codec.PrefaceSize, s.negotiate(p)
	}
	if s.phase == phaseOpen && isStream(b) {
		run, err := room.ScanRun(b)
		if err != nil {
			return 0, err
		}
		return len(run.Raw), s.role.push(s, run)
	}
	limit := codec.MaxFrame
	if s.phase != phaseOpen {
		limit = codec.MaxHandshakeFrame
	}
	frame, typ, err := codec.Next(b, limit)
	if err != nil {
		return 0, err
	}
	return len(frame), s.dispatch(typ, frame)
}

// members returns the session's memberships, valid until the next enlist or forget.
func (s *session) members() []*member {
	switch {
	case s.only[0] != nil:
		return s.only[:]
	case s.rare == nil:
		return nil
	}
	return s.rare.members
}

// enlist adds a member to the session's list.
func (s *session) enlist(m *member) {
	s.share.Hold(memberCost)
	all := s.members()
	m.place = int32(len(all))
	if len(all) == 0 {
		s.only[0] = m
		return
	}
	r := s.rarely()
	if r.members == nil {
		r.members, s.only[0] = append(make([]*member, 0, 4), s.only[0]), nil
	}
	r.members = append(r.members, m)
	switch {
	case r.byRoom != nil:
		r.byRoom[m.o.room.ID] = m
	case len(r.members) > fewMembers:
		r.byRoom = make(map[codec.RoomID]*member)
		for _, m := range r.members {
			r.byRoom[m.o.room.ID] = m
		}
	}
}

// byRoom returns the session's members by their rooms, nil while they are few.
func (s *session) byRoom() map[codec.RoomID]*member {
	if s.rare == nil {
		return nil
	}
	return s.rare.byRoom
}

// forget takes a member off the session's list.
func (s *session) forget(m *member) {
	all := s.members()
	n := len(all) - 1
	last := all[n]
	all[m.place], last.place = last, m.place
	s.keep(n)
	if byRoom := s.byRoom(); byRoom != nil {
		if byRoom[m.o.room.ID] == m {
			delete(byRoom, m.o.room.ID)
		}
		if n <= fewMembers/2 {
			s.rare.byRoom = nil
		}
	}
	s.share.Hold(-memberCost)
}

// keep shortens the session's list to n memberships.
func (s *session) keep(n int) {
	all := s.members()
	clear(all[n:])
	switch {
	case s.rare == nil || s.rare.members == nil:
	case n > 1:
		s.rare.members = all[:n]
	default:
		s.only[0], s.rare.members = all[0], nil // all[0] is nil if none is left
	}
}

// member returns the session's membership of a room, nil if there is none.
func (s *session) member(id codec.RoomID) *member {
	if byRoom := s.byRoom(); byRoom != nil {
		return byRoom[id]
	}
	for _, m := range s.members() {
		if m.o.room.ID == id {
			return m
		}
	}
	return nil
}
