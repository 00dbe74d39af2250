package engine

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
)

// authenticate finds out who a client is, and returns its account. In open mode nothing is kept: an idle subscriber
// stays small.
func (s *session) authenticate(m *codec.Hello) (account string, err error) {
	e := s.loop.eng
	if e.isGuest(m) {
		return s.welcomeGuest(m), nil
	}
	if err := auth.CheckAccount(m.Account); err != nil {
		return "", authError(err)
	}
	s.agreed = m.Caps&codec.CapToken != 0
	if s.trusted || e.cfg.Auth == nil || auth.IsOpen(e.cfg.Auth) {
		return m.Account, nil
	}
	s.loop.used += tokenSteps
	id, err := e.cfg.Auth.Authenticate(m.Account, m.Token, s.peerAddr().Addr(), e.cfg.Clock.Wall())
	if err != nil {
		s.denied(m.Account, err)
		return "", authError(err)
	}
	s.hold(id)
	return m.Account, nil
}

// denied counts and logs a client that is not the account that it says, or is not any more. The token is not part of
// it.
func (s *session) denied(account string, err error) {
	s.loop.stats.denied.Add(1)
	s.auditDenied(account, err)
	reason := "unknown"
	if ae, ok := errors.AsType[*auth.Error](err); ok {
		reason = ae.Reason
	}
	s.loop.eng.log.Info().Uint64("conn_id", s.id).Str("account", account).Stringer("peer_addr", s.peerAddr()).Str("reason", reason).
		Msg("not authenticated")
}

// authError is what the peer is told.
func authError(err error) *codec.ProtocolError {
	if ae, ok := errors.AsType[*auth.Error](err); ok {
		return &codec.ProtocolError{Code: ae.Code, Text: ae.Text}
	}
	return &codec.ProtocolError{Code: codec.CodeAuthFailed, Text: "account and token do not fit"}
}

// peerAddr is where the client is, as far as this node can know: what a balancer says, or where the connection comes
// from.
func (s *session) peerAddr() netip.AddrPort { return s.addrOver(s.conn) }

// addrOver is peerAddr of a session that has no connection yet but c.
func (s *session) addrOver(c interface{ RemoteAddr() net.Addr }) netip.AddrPort {
	if s.rare != nil && s.rare.peer != nil {
		return *s.rare.peer
	}
	return addrOf(c.RemoteAddr())
}

// addrOf returns an address of TCP as people write it: one of IPv4 that came in by a socket for IPv6 is of IPv4. It is
// the zero value if a is no address of TCP.
func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := t.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// identitiesEvery is how often sessions are looked at for tokens that were taken back, identitiesLeast how often at
// most when tokens end.
const (
	identitiesEvery = int64(time.Second)
	identitiesLeast = int64(100 * time.Millisecond)
)

// identities ends the sessions whose proof no longer holds, and takes up rights that have changed. Loop only.
func (l *loop) identities() {
	l.dueSoon()
	if since := l.now - l.identifiedAt; since < identitiesLeast || since < identitiesEvery && l.now < l.identityDue {
		return
	}
	l.identifiedAt, l.identityDue = l.now, math.MaxInt64
	defer l.dueSoon()
	wall := l.eng.cfg.Clock.Wall()
	for _, s := range l.sessions {
		l.unit.s = s
		if s.identity == nil || s.closing || s.doomed {
			continue
		}
		id, err := s.identity.Current()
		if err == nil && id.Expired(wall) {
			err = auth.ErrExpired
		}
		if err != nil {
			s.denied(s.account(), err)
			s.failErr(authError(err))
			continue
		}
		if !id.Expires.Equal(s.identity.Expires) {
			s.hold(id)
		}
		s.identity = id
		s.warn(wall)
		l.identityDue = min(l.identityDue, s.due(wall))
	}
}
