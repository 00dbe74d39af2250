package engine

import (
	"math"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// renewal is what a session remembers of its token's end.
type renewal struct {
	agreed bool  // the client knows of fresh tokens
	warnAt int64 // ns; when to warn the client; 0: not any more, or never
}

// caps returns those of the client's capabilities that are in force.
func (r *renewal) caps() uint64 {
	if r.agreed {
		return codec.CapToken
	}
	return 0
}

// hold puts an identity in force, and says when to warn of its end: TokenWarning before, or when a third of what it has left remains, if
// that is later.
func (s *session) hold(id *auth.Identity) {
	l := s.loop
	s.identity, s.renewal.warnAt = id, 0
	if !id.Expires.IsZero() && s.renewal.agreed {
		end := id.Expires.UnixNano()
		s.renewal.warnAt = end - min(int64(l.eng.cfg.TokenWarning), (end-l.now)/3)
	}
	l.identityDue = min(l.identityDue, s.due())
	l.dueSoon()
}

// due returns when something is to be done about the session's token: warn, or close. The session has an identity.
func (s *session) due() int64 {
	switch {
	case s.renewal.warnAt != 0:
		return s.renewal.warnAt
	case s.identity.Expires.IsZero():
		return math.MaxInt64
	}
	return s.identity.Expires.UnixNano()
}

// dueSoon asks for ticks when a token ends before one would come by itself.
func (l *loop) dueSoon() {
	if l.identityDue-l.now < identitiesEvery {
		l.eng.hot(l)
	}
}

// warn tells the client that its token is about to end, once.
func (s *session) warn() {
	l := s.loop
	if s.renewal.warnAt == 0 || l.now < s.renewal.warnAt {
		return
	}
	s.renewal.warnAt = 0
	left := max(0, time.Duration(s.identity.Expires.UnixNano()-l.now).Milliseconds())
	s.queueControl(&codec.Expiring{Code: codec.CodeTokenExpired, WithinMillis: uint32(min(left, 1<<32-1))})
}

// token takes a fresh token for the session. What the one before allowed and is going on stays.
func (s *session) token(m *codec.Token) error {
	if !s.renewal.agreed {
		return &codec.ProtocolError{Code: codec.CodeUnexpected, Text: "fresh tokens were not agreed on"}
	}
	if s.identity == nil { // nobody was asked for a token
		s.answer(m.Req, nil)
		return nil
	}
	id, err := s.loop.eng.cfg.Auth.Authenticate(s.account, m.Token, s.peerAddr().Addr(), time.Unix(0, s.loop.now))
	if err != nil {
		s.denied(err)
		s.answer(m.Req, &room.Error{Code: codec.CodeBadToken, Text: authError(err).Text})
		return nil
	}
	s.hold(id)
	s.answer(m.Req, nil)
	return nil
}
