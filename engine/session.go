package engine

import (
	"errors"
	"net/netip"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

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
	openedAt int64           // ns: when it was accepted; once closing: when that began
	carrier  *carrier        // nil: plain TCP
	peer     *netip.AddrPort // of a client that the descriptor's other end is not

	share *room.Share // of memory: the account's; before hello that of strangers
	place *addrPlace  // nil: of an address that is not limited

	// Set by hello.
	account  string
	instance uint64
	identity *auth.Identity // nil: may do everything
	renewal  renewal        // see token.go
	spent    int64          // clock of control frames: see limits.go
	behind   int            // bytes read since closing

	// The loop's.
	phase   phase
	closed  bool   // OnClose has run: the descriptor is no longer ours
	doomed  bool   // on the loop's list of sessions to close
	dirty   bool   // on the loop's list of sessions to write
	blocked bool   // the socket takes no more; the blocker watches it
	closing bool   // finish was called: the last word is said or queued, and what is still read is not looked at
	heard   bool   // something was read since the last look
	silent  uint8  // looks in a row at which nothing had been heard
	at      int32  // place in the loop's list
	fd      int32  // fixed after open
	asked   bool   // something of the cluster, which is told when the session closes
	paused  bool   // its turn is over: it is on the loop's list of turns
	partial []byte // the beginning of a frame whose end was not read yet; while paused all that was read and not handled
	q       *room.Queue
	pace    pace
	members []*member
	byRoom  map[codec.RoomID]*member // nil while members are few
	debt    int32                    // steps of turns to come that requests have taken already
	pushing *pushing                 // nil: has not pushed or published yet
	role    role                     // fixed before open
}

// pushing is what only those sessions need that push.
type pushing struct {
	part     *carry.Part
	refusals []codec.PushRefused
	meter    meter
}

func (s *session) pushes() *pushing {
	if s.pushing == nil {
		s.pushing = &pushing{part: carry.NewPart(s, s.loop.eng.rooms)}
	}
	return s.pushing
}

// phase says what the next bytes must be.
type phase uint8

const (
	phasePreface phase = iota
	phaseHello
	phaseHeld // of a link whose node is no member yet: what comes is kept
	phaseOpen
)

// turnSteps is how many frames, runs of stream frames counting as one, a client has handled in a turn; a request counts as requestSteps, which is
// about what it costs. What the client has sent beyond that waits for another turn: a drain gives it drainRounds, then the sockets are read, so that
// who sends very many tiny frames holds up others for about a millisecond at a time.
const (
	turnSteps    = 1024
	requestSteps = 8

	// What a request takes beside that (owe). docs/limits.md has the table.
	tokenSteps   = 64  // to check a signature
	perStep      = 4   // parts of a replay, names of an inbox request, in a step; a position of a subscribe is one
	crowdPerStep = 128 // subscribers of a lossless room in a step of an acknowledgement, a subscribe or an unsubscribe
)

// maxWaiting bounds the bytes that wait on a loop; of one session it is as much as a read may bring. What does not fit makes turns longer, and so
// does a session that closes: what it has waiting is handled at once. No turn is longer than it takes to handle a read's worth. A variable for tests.
var maxWaiting = 16 << 20

// feed takes what was read: whole frames are handled, as many as a turn has, the rest is kept. An error closes the session; a
// *codec.ProtocolError is told first. Loop only.
func (s *session) feed(b []byte) error {
	s.heard = true
	if s.phase == phaseHeld {
		s.retain(b)
		if len(s.partial) > maxHeld {
			return room.ErrFlow.With("too much of a node that is no member")
		}
		return nil
	}
	for s.paused {
		if s.loop.waiting+len(b) <= maxWaiting && len(s.partial)+len(b) <= s.loop.eng.cfg.ReadBuffer {
			s.retain(b)
			s.loop.waiting += len(b)
			return nil
		}
		if err := s.resume(); err != nil {
			return err
		}
	}
	for len(s.partial) > 0 {
		n, need, err := s.complete(b)
		if err != nil {
			return err
		}
		b = b[n:]
		if need {
			return nil
		}
	}
	rest, err := s.steps(b)
	s.retain(rest)
	if s.paused {
		s.loop.turns = append(s.loop.turns, s)
		s.loop.wake()
	}
	return err
}

// resume gives the session another turn with what waits.
func (s *session) resume() error {
	b := s.unpause()
	rest, err := s.steps(b)
	if s.paused {
		s.setPartial(rest) // as it is, for it may be long
	} else {
		s.retain(rest)
	}
	return err
}

// unpause returns what waits for the session's next turn.
func (s *session) unpause() (b []byte) {
	if s.paused {
		b, s.paused = s.partial, false
		s.setPartial(nil)
		s.loop.waiting -= len(b)
	}
	return b
}

// steps handles whole frames, and returns what is left: the beginning of one, or, when the turn is over and the session paused, any number.
// Between nodes there are no turns.
func (s *session) steps(b []byte) (rest []byte, err error) {
	left := turnSteps
	defer func() { s.loop.used += turnSteps - left }()
	for len(b) > 0 {
		if left -= s.repay(left); left <= 0 && s.pause(b) {
			return b, nil
		}
		left -= stepsOf(b)
		n, err := s.step(b)
		if err == codec.ErrIncomplete {
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

// pause ends the session's turn with b left to handle, if there is a place for it to wait.
func (s *session) pause(b []byte) bool {
	if len(b) == 0 || !s.role.client() || s.loop.waiting+len(b) > maxWaiting {
		return false
	}
	s.paused = true
	s.loop.waiting += len(b)
	return true
}

// owe counts steps that a request has taken beside those of stepsOf, which only show when it is handled: they are taken from the turns
// to come, and from the rate of requests.
func (s *session) owe(steps int) error {
	if !s.role.client() {
		return nil
	}
	s.debt += int32(min(steps, 1<<20))
	return s.spend(int64(steps) * costRequest / requestSteps)
}

// repay takes what the session owes from the steps that are left of its turn.
func (s *session) repay(left int) int {
	n := max(0, min(int(s.debt), left))
	s.debt -= int32(n)
	return n
}

// endTurn ends a session's turn with the answers to what it sent, or with the reason for which it is closed. Loop only.
func (s *session) endTurn(err error) {
	if err != nil {
		s.failErr(err)
	} else {
		s.sendOut()
	}
	s.loop.out = s.loop.out[:0]
}

// nextTurn handles what waits, as far as a turn goes. Loop only.
func (s *session) nextTurn() {
	s.loop.reading = s
	err := s.resume()
	s.loop.reading = nil
	s.endTurn(err)
}

func (s *session) retain(b []byte) {
	if len(b) > 0 {
		s.setPartial(append(s.partial, b...))
		s.loop.stats.copied.Add(uint64(len(b)))
	}
}

// setPartial makes b the partial frame, and counts what it takes.
func (s *session) setPartial(b []byte) {
	s.share.Hold(cap(b) - cap(s.partial))
	s.partial = b
}

// stepsOf returns what the frame that b starts with counts in a turn.
func stepsOf(b []byte) int {
	if len(b) <= codec.LengthSize || isStream(b) {
		return 1
	}
	switch b[codec.LengthSize] {
	case codec.TypePing, codec.TypePong, codec.TypeAck, codec.TypeGap:
		return 1
	}
	return requestSteps
}

// isStream reports whether b starts with a stream frame, as far as its type is there.
func isStream(b []byte) bool {
	return len(b) > codec.LengthSize && b[codec.LengthSize]&codec.TypeStream != 0
}

// complete moves bytes from b to the partial frame until that is whole, and handles it. It returns how many bytes it took
// and whether more are needed.
func (s *session) complete(b []byte) (n int, more bool, err error) {
	for {
		k := min(s.want()-len(s.partial), len(b)-n)
		s.setPartial(append(s.partial, b[n:n+k]...))
		s.loop.stats.copied.Add(uint64(k))
		n += k
		_, err := s.step(s.partial)
		if err == codec.ErrIncomplete {
			if n == len(b) {
				return n, true, nil
			}
			continue // the length is known now
		}
		if p := s.role.part(s); cap(s.partial) > 4096 && (p == nil || p.Len() == 0) {
			s.setPartial(nil)
		}
		s.partial = s.partial[:0]
		return n, false, err
	}
}

// want returns how many bytes the partial frame needs before it is worth another look.
func (s *session) want() int {
	if s.phase == phasePreface {
		return codec.PrefaceSize
	}
	if len(s.partial) < codec.LengthSize {
		return codec.LengthSize
	}
	return codec.LengthSize + max(1, int(s.partial[0])<<8|int(s.partial[1]))
}

// step handles what b starts with: the preface, one control frame, or a run of stream frames. It returns how long that was.
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

// send answers the session that is being read: the frames go out together when its read is done.
func (s *session) send(c codec.Control) {
	var err error
	if s.loop.out, err = c.Append(s.loop.out); err != nil {
		s.unsendable(c, err)
	}
}

// unsendable follows a frame that does not fit its layout, which is a fault of this server's: all that comes from outside is bounded where it is
// parsed. The answer of a request becomes a refusal; without any other frame the session would go wrong, and ends.
func (s *session) unsendable(c codec.Control, err error) {
	s.loop.eng.log.Error().Uint64("conn_id", s.id).Str("account", s.account).Err(err).Msg("a frame could not be sent")
	if req, is := answerOf(c); is {
		s.reply(&codec.Refused{Req: req, Code: codec.CodeInternal, Text: "the answer does not fit into a frame"})
		return
	}
	s.loop.post(item{kind: itemDo, do: func() {
		if !s.closed && !s.closing && !s.doomed {
			s.fail(codec.CodeInternal, "a frame for this session does not fit its layout")
		}
	}})
}

// sendOut writes the answers collected by send.
func (s *session) sendOut() {
	l := s.loop
	if len(l.out) == 0 {
		return
	}
	defer func() { l.out = l.out[:0] }()
	if s.closed {
		return
	}
	n := 0
	if s.q == nil {
		var err error
		if n, err = s.write(l.out); n == len(l.out) {
			return
		} else if err != nil && !again(err) {
			s.doom()
			return
		}
		s.block()
	}
	b := l.eng.pool.Copy(room.KindControl, l.out[n:], s.share)
	s.needQueue().Append(b, 0, len(b.B), l.now)
	b.Release()
	s.mark()
}

// waits reports whether something waits for the session's socket.
func (s *session) waits() bool { return s.q != nil && (s.blocked || !s.q.Empty()) }

// queueControl queues a frame outside of a read; it goes out at the end of the drain.
func (s *session) queueControl(c codec.Control) {
	if s.closed || s.doomed || s.closing {
		return
	}
	b, err := s.loop.eng.pool.Encode(c, s.share)
	if err != nil {
		s.unsendable(c, err)
		return
	}
	s.needQueue().Append(b, 0, len(b.B), s.loop.now)
	b.Release()
	s.mark()
}

// queueBatch queues a batch that no policy touches, and takes the caller's reference.
func (s *session) queueBatch(b *room.Batch) {
	if !s.closed && !s.doomed && !s.closing {
		s.needQueue().Append(b, 0, len(b.B), s.loop.now)
		s.mark()
	}
	b.Release()
}

func (s *session) needQueue() *room.Queue {
	if s.q == nil {
		s.q = s.loop.queue()
		s.q.Own(s.share)
	}
	return s.q
}

// mark puts the session on the list of those to be written at the end of the drain.
func (s *session) mark() {
	if !s.dirty && !s.blocked && !s.closed {
		s.dirty = true
		s.loop.dirty = append(s.loop.dirty, s)
	}
}

// doom has the session closed as soon as no list is being walked. What is queued is lost.
func (s *session) doom() {
	if !s.doomed && !s.closed {
		s.doomed = true
		s.loop.doomed = append(s.loop.doomed, s)
	}
}

// fail tells the peer why and closes the connection once that is written.
func (s *session) fail(code codec.Code, text string) {
	l := s.loop
	l.stats.failed.Add(1)
	l.eng.limits.closed.add(code)
	l.eng.log.Debug().Uint64("conn_id", s.id).Str("account", s.account).Stringer("reason", code).Str("detail", text).Msg("session failed")
	if s.phase == phasePreface { // the peer reads our preface before anything else
		l.out = codec.AppendServerPreface(l.out, codec.VersionMax)
	}
	s.send(&codec.Error{Code: code, Text: text})
	s.sendOut()
	if s.carrier != nil {
		s.carrier.close = closePolicy
	}
	s.finish()
}

// finish ends the session gently: it leaves its rooms, what is queued goes out, then our half of the connection is closed and
// the peer has until closeWithin to close its own. To close at once, with bytes of the peer's unread, would reset the
// connection and take from the peer what it had not read yet, the reason of the closing included.
func (s *session) finish() {
	if s.closing || s.closed {
		return
	}
	l := s.loop
	if s.phase != phaseOpen {
		l.greeted(s)
	}
	s.leaveRooms()
	s.unpause()
	s.closing, s.openedAt = true, l.now
	s.setPartial(nil)
	l.closing = append(l.closing, s)
	l.eng.hot(l)
	if s.carrier != nil && s.carrier.deaf && s.q != nil {
		s.q.Clear()
		s.mark()
	}
	if s.q == nil {
		s.halfClose()
	} else {
		s.mark() // it may be an empty one
	}
}

// halfClose ends what is sent: with the carrier's last words, and the socket's.
func (s *session) halfClose() {
	if c := s.carrier; c != nil {
		if err := c.end(s); err != nil {
			s.doom()
			return
		}
		if len(c.pending) > 0 {
			return // flush comes back when it is out
		}
	}
	if err := unix.Shutdown(int(s.fd), unix.SHUT_WR); err != nil {
		s.doom()
	}
}

// leaveRooms ends the session's memberships and publications, as a broken connection does.
func (s *session) leaveRooms() {
	for len(s.members) > 0 {
		s.members[len(s.members)-1].detach(true)
	}
	s.role.close(s)
}

// failErr is fail for an error of feed.
func (s *session) failErr(err error) {
	var pe *codec.ProtocolError
	var re *room.Error
	switch {
	case errors.As(err, &pe):
		s.fail(pe.Code, pe.Text)
	case errors.As(err, &re):
		s.fail(re.Code, re.Text)
	case s.carrier != nil && s.carrier.fail(s, err):
		s.finish()
	default:
		s.doom()
	}
}

// fewMembers is how many memberships are found faster by looking at each than in a map, which an idle subscriber does not need.
const fewMembers = 8

// enlist adds a member to the session's list.
func (s *session) enlist(m *member) {
	m.place = int32(len(s.members))
	s.members = append(s.members, m)
	switch n := len(s.members); {
	case n == fewMembers+1:
		s.byRoom = make(map[codec.RoomID]*member)
		for _, m := range s.members {
			s.byRoom[m.o.room.ID] = m
		}
	case n > fewMembers:
		s.byRoom[m.o.room.ID] = m
	}
	s.share.Hold(memberCost)
}

// forget takes a member off the session's list.
func (s *session) forget(m *member) {
	n := len(s.members) - 1
	last := s.members[n]
	s.members[m.place], last.place = last, m.place
	s.members[n] = nil
	s.members = s.members[:n]
	if s.byRoom != nil {
		if s.byRoom[m.o.room.ID] == m {
			delete(s.byRoom, m.o.room.ID)
		}
		if n <= fewMembers/2 {
			s.byRoom = nil
		}
	}
	s.share.Hold(-memberCost)
}

// member returns the session's membership of a room, nil if there is none.
func (s *session) member(id codec.RoomID) *member {
	if s.byRoom != nil {
		return s.byRoom[id]
	}
	for _, m := range s.members {
		if m.o.room.ID == id {
			return m
		}
	}
	return nil
}

// onClose releases all that the session holds. gnet closes the descriptor right after.
func (s *session) onClose() {
	l := s.loop
	if s.paused && !s.doomed { // what it sent before it left counts
		defer l.settle()
		for s.paused && l.try(inClose, unit{}, s.nextTurn) {
		}
	}
	s.unpause()
	s.closed = true
	if s.phase != phaseOpen {
		l.greeted(s)
	}
	for n := len(s.members); n > 0 && !l.try(inClose, unit{}, s.leaveRooms); n-- { // each that cannot leave has left the list, at least
		s.members = s.members[:min(len(s.members), n-1)]
	}
	l.try(inClose, unit{}, func() { s.role.close(s) })
	if s.q != nil {
		if l.try(inClose, unit{}, s.q.Clear) {
			l.putQueue(s.q)
		}
		s.q = nil
	}
	if s.carrier != nil {
		l.try(inClose, unit{}, func() { s.carrier.release(s) })
	}
	delete(l.blocked, s.id)
	delete(l.lagging, s)
	if int(s.at) < len(l.sessions) && l.sessions[s.at] == s { // it is not, if it could not even be opened
		last := l.sessions[len(l.sessions)-1]
		l.sessions[s.at], last.at = last, s.at
		l.sessions[len(l.sessions)-1] = nil
		l.sessions = l.sessions[:len(l.sessions)-1]
		l.stats.sessions.Add(-1)
	}
	s.leave()
	l.eng.log.Debug().Uint64("conn_id", s.id).Str("account", s.account).Stringer("peer_addr", s.peerAddr()).Msg("session closed")
}
