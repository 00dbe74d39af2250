package engine

import (
	"slices"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What is particular to inboxes, the rooms by which accounts send to one another. Who may send is asked where the
// sender's session is, of its token; who is accepted at the relay, of the inbox. codec/PROTOCOL.md, section "Inboxes".

// checkInbox checks a client's wish for its inbox, and adds what its token accepts.
func (s *session) checkInbox(m *codec.Inbox) error {
	if m.Room != codec.InboxOf(s.account()) {
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

// checkRecipient reports whether the room of a publish is the inbox of the account that it names. A name that no
// account can have is none.
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

// strangerStep is a bit more than it takes to ask the nodes of a cluster for a room. Answers about rooms that are not
// there, or not for who asks, come at a multiple of it after the request: how many nodes were asked does not show.
const strangerStep = 25 * time.Millisecond

// absent answers that there is no such room. Who sends to an account is told the same, in words of its own, whether
// that accepts nothing of it, has no inbox open, or does not exist. Of a node that is alone on the loop only; otherwise
// any goroutine.
func (s *session) absent(a carry.Ask) {
	e := s.loop.eng
	if a.Link != 0 { // the client's node says it
		s.reply(e.refusal(a.Req, room.ErrNotAccepted))
		return
	}
	why := room.ErrUnknown
	if p, is := a.M.(*codec.Publish); is && p.To != "" {
		why = room.ErrNotAccepted
	}
	answer := e.refusal(a.Req, why)
	if e.cluster == nil {
		s.reply(answer)
		return
	}
	wait := strangerStep - time.Duration(e.now()-a.At)%strangerStep
	time.AfterFunc(wait, func() { s.loop.post(item{kind: itemDo, do: func() { s.answered(a, answer) }}) })
}
