package engine

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// How a session ends: with a reason told, gently, or at once.

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
	l.eng.log.Debug().Uint64("conn_id", s.id).Str("account", s.account()).Stringer("reason", code).Str("detail",
		text).Msg("session failed")
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

// finish ends the session gently: it leaves its rooms, what is queued goes out, then our half of the connection is
// closed and the peer has until closeWithin to close its own. To close at once, with bytes of the peer's unread, would
// reset the connection and take from the peer what it had not read yet, the reason of the closing included.
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
	s.heed()
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
	for all := s.members(); len(all) > 0; all = s.members() {
		all[len(all)-1].detach(true)
	}
	s.role.close(s)
}

// failErr is fail for an error of feed.
func (s *session) failErr(err error) {
	var pe *codec.ProtocolError
	var re *room.Error
	switch {
	case errors.As(err, &pe):
		s.role.fault(err)
		s.fail(pe.Code, pe.Text)
	case errors.As(err, &re):
		s.role.fault(err)
		s.fail(re.Code, re.Text)
	case s.carrier != nil && s.carrier.fail(s, err):
		s.finish()
	default:
		s.doom()
	}
}

// fewMembers is how many memberships are found faster by looking at each than in a map, which an idle subscriber does
// not need.
const fewMembers = 8

// onClose releases all that the session holds. gnet closes the descriptor right after.
func (s *session) onClose() {
	l := s.loop
	if s.paused && !s.doomed { // what it sent before it left counts; if it was reset, as far as a turn goes
		defer l.settle()
		for s.paused && l.try(inClose, unit{}, s.nextTurn) && l.poller == noPoller {
		}
	}
	s.unpause()
	s.closed = true
	if s.phase != phaseOpen {
		l.greeted(s)
	}
	// each that cannot leave has left the list, at least
	for n := len(s.members()); n > 0 && !l.try(inClose, unit{}, s.leaveRooms); n-- {
		s.keep(min(len(s.members()), n-1))
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
		if s.role.client() {
			l.stats.clients.Add(-1)
		}
	}
	s.leave()
	l.eng.log.Debug().Uint64("conn_id", s.id).Str("account", s.account()).Stringer("peer_addr",
		s.peerAddr()).Msg("session closed")
}
