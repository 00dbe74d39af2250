package engine

import (
	"math"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// warning returns how long before the token's end the client is to be warned.
func (s *session) warning() time.Duration { return time.Duration(s.warnBefore) * time.Millisecond }

// caps returns those of the client's capabilities that are in force.
func (s *session) caps() uint64 {
	if s.agreed {
		return codec.CapToken
	}
	return 0
}

// hold puts an identity in force, and says when to warn of its end: TokenWarning before, or when a third of what it has
// left remains, if that is later.
func (s *session) hold(id *auth.Identity) {
	l, wall := s.loop, s.loop.eng.cfg.Clock.Wall()
	s.identity, s.warnBefore = id, 0
	if !id.Expires.IsZero() && s.agreed {
		before := min(l.eng.live().TokenWarning, id.Expires.Sub(wall)/3)
		s.warnBefore = int32(min(max(0, before.Milliseconds()), math.MaxInt32))
	}
	l.identityDue = min(l.identityDue, s.due(wall))
	l.dueSoon()
}

// due returns when, by the loop's time, something is to be done about the session's token: warn, or close. The session
// has an identity. What the computer's clock does until then is seen at the latest after identitiesEvery.
func (s *session) due(wall time.Time) int64 {
	if s.identity.Expires.IsZero() {
		return math.MaxInt64
	}
	left := s.identity.Expires.Sub(wall) // at most some centuries
	return s.loop.now + int64(min(left-s.warning(), math.MaxInt64/4))
}

// dueSoon asks for ticks when a token ends before one would come by itself.
func (l *loop) dueSoon() {
	if l.identityDue-l.now < identitiesEvery {
		l.eng.hot(l)
	}
}

// warn tells the client that its token is about to end, once.
func (s *session) warn(wall time.Time) {
	left := s.identity.Expires.Sub(wall)
	if s.warnBefore == 0 || left > s.warning() {
		return
	}
	s.warnBefore = 0
	s.queueControl(&codec.Expiring{Code: codec.CodeTokenExpired, WithinMillis: uint32(min(max(0, left.Milliseconds()), 1<<32-1))})
}

// token takes a fresh token for the session. What the one before allowed and is going on stays.
func (s *session) token(m *codec.Token) error {
	if !s.agreed {
		return &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "fresh tokens were not agreed on"}
	}
	if s.identity == nil { // nobody was asked for a token
		s.answer(m.Req, nil)
		return nil
	}
	id, err := s.loop.eng.cfg.Auth.Authenticate(s.account(), m.Token, s.peerAddr().Addr(), s.loop.eng.cfg.Clock.Wall())
	if err != nil {
		s.denied(s.account(), err)
		s.answer(m.Req, &room.Error{Code: codec.CodeBadToken, Text: authError(err).Text})
		return nil
	}
	s.hold(id)
	s.answer(m.Req, nil)
	return nil
}
