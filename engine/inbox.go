package engine

import (
	"slices"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What is particular to inboxes, the rooms by which accounts send to one another. Who may send is asked where the sender's session is, of its
// token; who is accepted at the relay, of the inbox. codec/PROTOCOL.md, section "Inboxes".

// checkInbox checks a client's wish for its inbox, and adds what its token accepts.
func (s *session) checkInbox(m *codec.Inbox) error {
	if m.Room != codec.InboxOf(s.account) {
		return room.ErrOption.With("not the number of the account's inbox")
	}
	for _, account := range slices.Concat(m.Accept, m.Block) {
		if account != codec.Everyone && auth.CheckAccount(account) != nil {
			return room.ErrAccount
		}
	}
	if s.identity != nil {
		m.Accept = append(m.Accept, s.identity.Rights.Accept.Names()...)
	}
	if !m.Fits() {
		return room.ErrOption.With("too many accounts at once: accept or block the others one by one")
	}
	return nil
}

// checkRecipient reports whether the room of a publish is the inbox of the account that it names. A name that no account can have is none.
func (s *session) checkRecipient(m *codec.Publish) bool {
	if auth.CheckAccount(m.To) != nil || m.Room != codec.InboxOf(m.To) {
		m.To = ""
	}
	return m.To != ""
}

// mayPushInto reports whether the session's token gives the right to a publish.
func (s *session) mayPushInto(m *codec.Publish) bool {
	if m.To != "" {
		return s.identity.MaySendTo(m.To)
	}
	return s.identity.MayPush(m.Room)
}

// makeInbox makes an inbox on a node that is alone; old is the one that has just ended, or nil.
func (s *session) makeInbox(by caller, m *codec.Inbox, old *room.Room) (codec.Control, error) {
	var grants []codec.GrantState
	if old != nil {
		grants = old.State().Grants
	}
	_, err := s.loop.eng.rooms.NewInbox(by.account, m, grants, s.loop.now)
	return &codec.OK{Req: by.req}, err
}

// strange reports whether a request is one about an inbox that is no room for who asks.
func (s *session) strange(by caller, r *room.Room, m codec.Control) bool {
	if !r.IsInbox() {
		return false
	}
	switch m := m.(type) {
	case *codec.Publish:
		return m.To != r.Owner
	case *codec.Unpublish:
		return by.account != r.Owner && s.published(by, r.ID) == nil
	}
	return by.account != r.Owner
}

// strangerStep is a bit more than it takes to ask the nodes of a cluster for a room. Answers about rooms that are not there, or not for who
// asks, come at a multiple of it after the request: how many nodes were asked does not show.
const strangerStep = 25 * time.Millisecond

// absent answers that there is no such room. Who sends to an account is told the same, in words of its own, whether that accepts nothing
// of it, has no inbox open, or does not exist. On a node that is alone: loop only.
func (e *Engine) absent(by caller, m codec.Control) {
	if by.s.link != nil { // the client's node says it
		by.s.later(e.refusal(by.req, room.ErrNotAccepted))
		return
	}
	why := room.ErrUnknown
	if p, is := m.(*codec.Publish); is && p.To != "" {
		why = room.ErrNotAccepted
	}
	answer := e.refusal(by.req, why)
	if e.cluster == nil {
		by.s.reply(answer)
		return
	}
	wait := strangerStep - time.Duration(e.now()-by.at)%strangerStep
	time.AfterFunc(wait, func() { e.cluster.post(func() { by.s.later(answer) }) })
}

// opensHere reports whether this node is the one to make an inbox that is not there: the first of its chain.
func (c *cluster) opensHere(id codec.RoomID) bool {
	if chain := c.core.Chain(id); len(chain) == 0 || chain[0] != c.self {
		return false
	}
	if _, err := c.e.rooms.Get(id); err == nil {
		return false
	}
	return c.core.State(id) == nil || c.core.Buried(id)
}

// openInbox makes an inbox, and answers when the standbys know.
func (c *cluster) openInbox(a ask, m *codec.Inbox) {
	st := c.core.State(m.Room)
	var grants []codec.GrantState
	if st != nil {
		grants = st.Grants
	}
	r, err := c.e.rooms.NewInbox(a.by.account, m, grants, c.e.now())
	if err != nil {
		a.by.s.later(c.e.refusal(a.by.req, err))
		return
	}
	done := func(ok bool) {
		if ok {
			a.by.s.later(&codec.OK{Req: a.by.req})
		} else {
			c.later = append(c.later, func() { c.take(a) })
		}
	}
	if st == nil {
		c.core.Create(r.State(), done)
	} else {
		c.core.Revive(r.State(), done)
		delete(c.ended, m.Room)
	}
	c.arrived(m.Room)
}

// hidden follows the relay's word that the room is an inbox, of none of those who wait for it here as far as they had said then.
func (c *cluster) hidden(e *edge) {
	c.turnStrangersAway(e)
	e.through = slices.DeleteFunc(e.through, func(d detour) bool {
		strange := d.m.Flags&codec.MirrorInbox == 0
		if strange {
			d.s.later(c.e.refusal(d.m.Req, room.ErrNotAccepted))
		}
		return strange
	})
	e.mirror = e.room != nil || len(e.waiting)+len(e.through) > 0
	if e.mirror {
		c.retryLater(e)
		return
	}
	c.unused(e)
}

// turnStrangersAway answers those who wait for an inbox that is not theirs.
func (c *cluster) turnStrangersAway(e *edge) {
	e.waiting = slices.DeleteFunc(e.waiting, func(a ask) bool {
		strange := e.id != codec.InboxOf(a.by.account)
		if strange {
			c.e.absent(a.by, a.m)
		}
		return strange
	})
}

// unused drops an edge that nobody is left on: what strangers ask leaves nothing behind.
func (c *cluster) unused(e *edge) {
	if c.edges[e.id] == e && len(e.waiting)+len(e.through)+len(e.asks)+len(e.outs) == 0 && e.room == nil {
		c.unplug(e)
		c.drop(e)
	}
}

// attended tells the relay of an inbox that somebody has come into it here.
func (c *cluster) attended(id codec.RoomID) {
	c.post(func() {
		if e := c.edges[id]; e != nil {
			c.tally(e)
		}
	})
}
