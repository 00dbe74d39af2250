package engine

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
)

// authenticate finds out who a client is. In open mode nothing is kept but the name: an idle subscriber stays small.
func (s *session) authenticate(m *codec.Hello) error {
	e := s.loop.eng
	if err := auth.CheckAccount(m.Account); err != nil {
		return authError(err)
	}
	s.account = m.Account
	if e.cfg.Auth == nil || auth.IsOpen(e.cfg.Auth) {
		return nil
	}
	id, err := e.cfg.Auth.Authenticate(m.Account, m.Token, s.remoteAddr(), time.Unix(0, s.loop.now))
	if err != nil {
		s.denied(err)
		return authError(err)
	}
	s.identity = id
	return nil
}

// denied counts and logs a client that is not who it says, or is not any more. The token is not part of it.
func (s *session) denied(err error) {
	s.loop.stats.denied.Add(1)
	reason := "unknown"
	if ae, ok := errors.AsType[*auth.Error](err); ok {
		reason = ae.Reason
	}
	s.loop.eng.log.Info().Uint64("conn_id", s.id).Str("account", s.account).Str("reason", reason).Msg("not authenticated")
}

// authError is what the peer is told.
func authError(err error) error {
	if ae, ok := errors.AsType[*auth.Error](err); ok {
		return &codec.ProtocolError{Code: ae.Code, Text: ae.Text}
	}
	return &codec.ProtocolError{Code: codec.CodeAuthFailed, Text: "account and token do not fit"}
}

func (s *session) remoteAddr() netip.Addr {
	if s.peer != nil {
		return *s.peer
	}
	if t, ok := s.conn.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr()
	}
	return netip.Addr{}
}

// identitiesEvery is how often sessions are looked at for tokens that have expired or were taken back.
const identitiesEvery = int64(time.Second)

// identities ends the sessions whose proof no longer holds, and takes up rights that have changed. Loop only.
func (l *loop) identities() {
	if l.now-l.identifiedAt < identitiesEvery {
		return
	}
	l.identifiedAt = l.now
	now := time.Unix(0, l.now)
	for _, s := range l.sessions {
		if s.identity == nil || s.closing || s.doomed {
			continue
		}
		id, err := s.identity.Current()
		if err == nil && id.Expired(now) {
			err = auth.ErrExpired
		}
		if err != nil {
			s.denied(err)
			s.failErr(authError(err))
			continue
		}
		s.identity = id
	}
}
