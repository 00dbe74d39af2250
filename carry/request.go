package carry

import (
	"slices"
	"unsafe"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// request is a client's request for a room that another node relays: it waits for the mirror or for a link, was sent,
// or claims an outbound. It is answered once, at the latest when its time is over, unless its session has left.
type request struct {
	Ask
	id   codec.RoomID
	over bool
	out  *outbound // what it claims

	share *room.Share // the asker's
	holds int         // what that counts for it
}

// askCost is what a request takes beside the lists in it, in bytes, with its entries in lists and its time-out.
const askCost = 1 << 10

// hold counts the request for its asker.
func (q *request) hold(s *room.Share) {
	q.share, q.holds = s, askCost
	switch m := q.M.(type) {
	case *codec.Subscribe:
		q.holds += cap(m.Have)*int(unsafe.Sizeof(codec.Position{})) + 4*cap(m.Gapped)
	case *codec.Inbox:
		for _, names := range [][]string{m.Accept, m.Block} {
			for _, name := range names {
				q.holds += len(name) + 2*int(unsafe.Sizeof(name))
			}
		}
	}
	q.share.Hold(q.holds)
}

// release takes that back. Its time-out has the request for longer, and the lists no more.
func (q *request) release() {
	q.share.Hold(-q.holds)
	q.holds = 0
	switch m := q.M.(type) {
	case *codec.Subscribe:
		q.M = &codec.Subscribe{Req: m.Req, Room: m.Room}
	case *codec.Inbox:
		q.M = &codec.Inbox{Req: m.Req, Room: m.Room, Policy: m.Policy}
	}
}

// Ask takes a request for a room that is not relayed here.
func (n *Node) Ask(a Ask, now int64) {
	n.enter(now)
	n.try(a.room(), func() { n.ask(a) })
	n.leave()
}

func (n *Node) ask(a Ask) {
	a.Tries++
	q := &request{Ask: a, id: a.room()}
	n.core.Touch(q.id)
	switch {
	case q.id == 0:
		n.do.Answer(a, refusal(a.Req, room.ErrMalformed))
		return
	case a.Tries > 20:
		n.do.Answer(a, refusal(a.Req, errMoved))
		return
	case a.Link == 0 && len(n.asks[a.Session]) >= maxAsks:
		n.do.Answer(a, refusal(a.Req, errAsks))
		return
	case a.Link != 0 && !a.Through:
		n.disown(q)
		return
	}
	n.asks[a.Session] = append(n.asks[a.Session], q)
	q.hold(n.pool.Share(a.Account))
	n.after(askFor, func() {
		if !q.over {
			n.withdraw(q)
			n.do.Answer(q.Ask, refusal(q.Req, errMoved))
		}
	})
	n.take(q)
}

// Left says that a session has closed which has asked before.
func (n *Node) Left(s SessionID, now int64) {
	n.enter(now)
	n.forsake(s)
	n.leave()
}

// forsake takes back all that a session waits for.
func (n *Node) forsake(s SessionID) {
	for _, q := range slices.Clone(n.asks[s]) {
		n.withdraw(q)
	}
}

// withdraw takes a request back from wherever it is.
func (n *Node) withdraw(q *request) {
	n.done(q)
	same := func(x *request) bool { return x == q }
	if e := n.edges[q.id]; e != nil {
		e.waiting = slices.DeleteFunc(e.waiting, same)
		e.asks = slices.DeleteFunc(e.asks, same)
	}
	if o := q.out; o != nil {
		q.out = nil
		o.claims = slices.DeleteFunc(o.claims, same)
		n.owned(o)
	}
}

// done takes a request off its session: it is being answered, or not to be.
func (n *Node) done(q *request) {
	q.over = true
	q.release()
	qs := slices.DeleteFunc(n.asks[q.Session], func(x *request) bool { return x == q })
	if n.asks[q.Session] = qs; len(qs) == 0 {
		delete(n.asks, q.Session)
	}
}

// answer ends a request with the relay's answer, or this node's.
func (n *Node) answer(q *request, m codec.Control) {
	if !q.over {
		n.done(q)
		n.do.Answer(q.Ask, m)
	}
}

func (n *Node) refuse(q *request, why *room.Error) { n.answer(q, refusal(q.Req, why)) }

// here ends a request by sending it to where the room is: on its session's loop.
func (n *Node) here(q *request) {
	if !q.over {
		a := q.Ask
		n.done(q)
		n.do.Here(a)
	}
}

// disown answers a node that asks for a room which this one does not relay.
func (n *Node) disown(q *request) {
	if m, is := q.M.(*codec.Inbox); is && n.opensHere(q.id) {
		n.openInbox(q, m)
	} else if st := n.core.State(q.id); is || st != nil && st.Ended == 0 {
		n.refuse(q, errMoved)
	} else {
		n.refuse(q, room.ErrUnknown)
	}
}

// take finds the way of a request.
func (n *Node) take(q *request) {
	if q.over {
		return
	}
	m, opens := q.M.(*codec.Inbox)
	if opens && n.opensHere(q.id) {
		n.openInbox(q, m)
		return
	}
	if st := n.core.State(q.id); st != nil && st.Ended != 0 && !opens {
		n.refuse(q, room.ErrUnknown)
		return
	}
	if n.core.Relays(q.id) {
		if _, err := n.rooms.Get(q.id); err != nil { // it has just ended
			n.refuse(q, room.ErrUnknown)
			return
		}
		n.here(q)
		return
	}
	e := n.edge(q.id)
	if _, is := q.M.(*codec.Subscribe); !is {
		e.asks = append(e.asks, q)
		n.drive(e)
		return
	}
	e.owner = e.owner || q.id == codec.InboxOf(q.Account)
	n.freshen(e)
	if e.mirror != nil && e.mirror.IsInbox() && e.id != codec.InboxOf(q.Account) {
		n.refuse(q, room.ErrUnknown)
		return
	}
	if e.whole && (!e.mirror.IsInbox() || e.attends()) {
		e.seats++
		n.here(q)
		return
	}
	if e.phase == fed { // the relay thinks that nobody is in the inbox here
		e.phase = away
	}
	e.await(q)
	n.drive(e)
}

// forward sends a client's request to the relay.
func (n *Node) forward(e *edge, q *request) {
	if m, is := q.M.(*codec.Publish); is {
		n.publish(e, q, m)
		return
	}
	t, at, from := n.next(), e.at, e.target
	_, req := requestOf(q.M)
	*req = t.wire()
	asked := as(q.Account, q.Instance, q.M)
	if *req = q.Req; asked == nil {
		n.refuse(q, errFit)
		return
	}
	n.call(at, t, func(answer codec.Control) {
		switch m := answer.(type) {
		case nil: // the link broke: whatever it is, doing it twice does no harm
			n.take(q)
			return
		case *codec.Refused:
			if q.over {
				return
			}
			switch m.Code {
			case codec.CodeMoved, codec.CodeRoomUnknown:
				if n.edges[e.id] == e && e.at == at {
					e.asks = append(e.asks, q)
					n.refusedBy(e, from, m)
				} else {
					n.take(q)
				}
				return
			}
			m.Req = q.Req
		case *codec.OK:
			m.Req = q.Req
		case *codec.Info:
			m.Req = q.Req
		}
		n.answer(q, answer)
		if _, is := q.M.(*codec.Unpublish); is {
			n.unpublished(e, q)
		}
		n.unused(e)
	})
	n.do.Send(at.id, asked)
}

// unpublished ends an outbound whose publisher has left at its own wish. Its session, which knows by now, is not told
// (Part.Answered).
func (n *Node) unpublished(e *edge, q *request) {
	for _, o := range slices.Clone(e.outs) {
		if o.out.Account == q.Account && o.out.Instance == q.Instance && len(o.claims)+o.given == 0 {
			n.over(o, codec.CodeLeft)
		}
	}
}

// opensHere reports whether this node is the one to make an inbox that is not there: the first of its chain.
func (n *Node) opensHere(id codec.RoomID) bool {
	if chain := n.core.Chain(id); len(chain) == 0 || chain[0] != n.self {
		return false
	}
	if _, err := n.rooms.Get(id); err == nil {
		return false
	}
	return n.core.State(id) == nil || n.core.Buried(id)
}

// openInbox makes an inbox, and answers when the standbys know.
func (n *Node) openInbox(q *request, m *codec.Inbox) {
	st := n.core.State(m.Room)
	var grants []codec.GrantState
	if st != nil {
		grants = st.Grants
	}
	r, err := n.rooms.NewInbox(q.Account, m, grants, n.now)
	if err != nil {
		n.answer(q, &codec.Refused{Req: q.Req, Code: codeOf(err), Text: err.Error()})
		return
	}
	done := func(ok bool) {
		if ok {
			n.answer(q, &codec.OK{Req: q.Req})
		} else {
			n.later = append(n.later, func() { n.take(q) })
		}
	}
	reign := codec.Reign{Epoch: 1, Relay: n.self, Birth: n.birth}
	if st == nil {
		r.Reigned(reign.Epoch, n.birth)
		n.core.Create(r.State(), done)
	} else {
		reign.Epoch = st.Epoch + 1
		r.Reigned(reign.Epoch, n.birth)
		n.core.Revive(r.State(), done)
		delete(n.ended, m.Room)
	}
	n.arrived(m.Room, reign)
}
