package engine

import (
	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// role is what a session is for: a client's (client), or a link with another node (*link). It is given when the
// connection is adopted, for life. All methods are the loop's.
type role interface {
	// client reports whether a client is at the other end: it has turns, rates and bounds of its own, is pinged, and told
	// when to go.
	client() bool
	// payer returns for whom a session counts that has said nothing yet.
	payer() string
	// open starts the session on its loop.
	open(s *session)
	// dispatch handles a control frame of a session that is open; push routes a run of stream frames. An error closes the
	// session.
	dispatch(s *session, typ byte, frame []byte) error
	push(s *session, run room.Run) error
	// fault hears why a session is closed that has sent what it may not.
	fault(err error)
	// part returns what the session publishes; nil if it never has asked anything of a room.
	part(s *session) *carry.Part
	// admit answers the request of a new member, and gives it the replay.
	admit(m *member, rp *room.Replay)
	// left says that a membership has ended.
	left(m *member)
	// close ends what the session did beside its memberships. It may be called twice.
	close(s *session)
}

// client is the role of a client's session.
type client struct{}

func (client) client() bool { return true }

func (client) payer() string { return strangers }

func (client) open(s *session) {
	l := s.loop
	at := len(l.greeting) // oldest first; who shook hands comes late
	for at > 0 && l.greeting[at-1].openedAt > s.openedAt {
		at--
	}
	l.greeting = append(l.greeting, nil)
	copy(l.greeting[at+1:], l.greeting[at:])
	l.greeting[at] = s
	l.eng.hot(l)
}

func (client) fault(error) {}

func (client) part(s *session) *carry.Part {
	ps := s.pushing()
	if ps == nil {
		return nil
	}
	return ps.part
}

func (client) admit(m *member, rp *room.Replay) {
	answer := &codec.Subscribed{Req: m.req, Room: m.o.room.ID, Policy: m.sub.Policy()}
	if answer.Policy == codec.PolicyLossless {
		answer.Window = uint32(m.s.loop.eng.rooms.Config().Window)
	}
	m.s.countAnswer(askSubscribe, answer)
	m.s.queueControl(answer)
	m.replay(rp)
}

func (client) left(*member) {}

func (client) close(s *session) {
	if ps := s.pushing(); ps != nil {
		ps.part.Close(s.loop.now)
		s.rare.pushing = nil
	}
	if c := s.loop.eng.cluster; c != nil && s.asked {
		s.asked = false
		c.sessionLeft(s)
	}
}
