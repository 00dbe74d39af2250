package engine

import (
	"fmt"
	"strings"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
)

// A guest is a client that says hello without an account and without a token, to a server that lets such subscribe
// (Config.Guests). It does nothing else. Its name is of its instance, so that it keeps its places when it reconnects,
// and begins as no account's may.

// guestRights are what every guest may do.
var guestRights = auth.Rights{Subscribe: auth.AllRooms()}

// isGuest reports whether a hello is a guest's.
func (e *Engine) isGuest(m *codec.Hello) bool {
	return e.cfg.Guests && m.Account == "" && len(m.Token) == 0
}

// welcomeGuest gives the session its rights, and returns its name.
func (s *session) welcomeGuest(m *codec.Hello) (account string) {
	account = fmt.Sprintf("#guest-%016x", m.Instance)
	s.identity = &auth.Identity{Account: account, Rights: guestRights}
	return account
}

// guest reports whether the session is a guest's. Before hello it is nobody's.
func (s *session) guest() bool { return strings.HasPrefix(s.account(), "#") }

// refusedToGuests returns the number of a request that guests may not make.
func refusedToGuests(c codec.Control) (req uint32, refused bool) {
	switch m := c.(type) {
	case *codec.Register:
		return m.Req, true
	case *codec.Publish:
		return m.Req, true
	case *codec.Unpublish:
		return m.Req, true
	case *codec.Remove:
		return m.Req, true
	case *codec.Grant:
		return m.Req, true
	case *codec.Revoke:
		return m.Req, true
	case *codec.Stat:
		return m.Req, true
	case *codec.Inbox:
		return m.Req, true
	case *codec.Token:
		return m.Req, true
	}
	return 0, false
}
