package carry

import (
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// outbound is a publisher of a room that another node relays. It has a way to the relay or none, and always an owner:
// the session that holds it, requests for it, or else a deadline. The frames' part is room.Outbound's.
type outbound struct {
	out    *room.Outbound
	e      *edge
	by     LinkID // the link of the node that carries it here; 0: a client of this node
	way    way    // on the edge's link
	ticket Ticket // of the last request to take it there

	claims []*request // of clients, to be told the relay's answer
	given  int        // of those, how many sessions have not said yet whether they hold it
	until  int64      // when it ends if neither comes; 0: there is one
}

// way is how far a publisher has come on the link that its edge is attached to.
type way uint8

const (
	none  way = iota
	asks      // the relay was asked to take it
	taker     // the relay takes its frames
)

// wanted reports whether the relay is to take the publisher: somebody pushes, or asks for it.
func (o *outbound) wanted() bool { return len(o.claims)+o.given > 0 || o.out.Held() }

// publish has a client's publisher taken by the relay.
func (n *Node) publish(e *edge, q *request, m *codec.Publish) {
	var o *outbound
	for _, x := range e.outs {
		if x.out.Account == q.Account && x.out.Instance == q.Instance && !x.out.Over() {
			o = x
		}
	}
	if o == nil {
		o = &outbound{e: e, out: room.NewOutbound(n.pool, q.Account, q.Instance, m, n.do.Detached)}
		e.outs = append(e.outs, o)
		n.ways[o.out] = o
	}
	o.by, o.until = q.Link, 0
	o.claims = append(o.claims, q)
	q.out = o
	n.askPublish(e, o)
}

// askPublish asks the relay to take a publisher: for a client that asks, or by itself for one that has asked before.
func (n *Node) askPublish(e *edge, o *outbound) {
	t := n.next()
	m := as(o.out.Account, o.out.Instance, &codec.Publish{Req: t.wire(), Room: e.id, Flags: o.out.Flags, To: o.out.To})
	if m == nil {
		n.notTaken(e, o, e.target, refusal(0, errFit))
		return
	}
	m.Renew = !slices.ContainsFunc(o.claims, func(q *request) bool { return !q.Renew }) // no client asks
	o.way, o.ticket = asks, t
	from := e.target
	n.call(e.at, t, func(answer codec.Control) {
		if r, is := answer.(*codec.Refused); is && o.ticket == t {
			o.way, o.ticket = none, 0
			n.notTaken(e, o, from, r)
		}
	})
	n.do.Tell(e.at.id, carry{t, o.out, m})
}

// as wraps a client's request for the relay; nil if it does not fit.
func as(account string, instance uint64, m codec.Control) *codec.As {
	frame, err := m.Append(nil)
	if err != nil || len(frame) > codec.MaxAsFrame {
		return nil
	}
	return &codec.As{Account: account, Instance: instance, Frame: frame}
}

// errFit refuses a request that is too long to be carried.
var errFit = &room.Error{Code: codec.CodeInternal, Text: "the request does not fit into a frame"}

// tell gives the outbound that the relay has taken to those who have asked for it.
func (r taken) tell(n *Node, k *link) {
	delete(n.calls, r.ticket.wire())
	o := n.ways[r.out]
	if o == nil || o.ticket != r.ticket || o.e.at != k {
		return
	}
	if !r.ok {
		n.over(o, codec.CodeMoved)
		return
	}
	if o.way, o.e.tries = taker, 0; !o.e.wanted {
		n.regained(o.e)
	}
	qs := o.claims
	o.claims = nil
	for _, q := range qs {
		t := n.next()
		n.given[t] = o
		o.given++
		n.done(q)
		n.do.Give(q.Ask, o.out, t)
	}
	n.owned(o)
}

// Given is the answer to Effects.Give: whether the session holds the outbound now.
func (n *Node) Given(t Ticket, held bool, now int64) {
	n.enter(now)
	if o := n.given[t]; o != nil {
		delete(n.given, t)
		o.given--
		n.owned(o)
	}
	n.leave()
}

// Detached says that an outbound's session has left it.
func (n *Node) Detached(out *room.Outbound, now int64) {
	n.enter(now)
	if o := n.ways[out]; o != nil {
		n.owned(o)
	}
	n.leave()
}

// owned gives an outbound that nobody owns a deadline, and has the relay let go of it.
func (n *Node) owned(o *outbound) {
	switch {
	case o.wanted():
		o.until = 0
	case o.out.Number() == 0: // nobody knows of it
		n.over(o, codec.CodeGone)
	case o.until == 0:
		o.until = n.now + int64(n.rooms.Config().Linger)
		n.letGo(o)
	}
}

// letGo ends an outbound's way.
func (n *Node) letGo(o *outbound) {
	if o.way != none && o.e.at != nil {
		n.do.Tell(o.e.at.id, drop{o.out})
	}
	n.uncall(o.ticket)
	o.way, o.ticket = none, 0
}

// over ends an outbound. Who claims it is answered: it may try again if the room has only moved.
func (n *Node) over(o *outbound, code codec.Code) {
	if n.ways[o.out] != o {
		return
	}
	n.letGo(o)
	o.out.End(code)
	delete(n.ways, o.out)
	o.e.outs = slices.DeleteFunc(o.e.outs, func(x *outbound) bool { return x == o })
	qs := o.claims
	o.claims = nil
	for _, q := range qs {
		q.out = nil
		switch {
		case code == codec.CodeMoved || code == codec.CodeGone:
			n.later = append(n.later, func() { n.take(q) })
		case code == codec.CodeNodeLost:
			n.refuse(q, room.ErrUnknown)
		case code == codec.CodeSuperseded && q.Link == 0: // maybe by itself, by way of another node
			n.refuse(q, errMoved)
		default:
			n.refuse(q, &room.Error{Code: code, Text: "the publisher's part in the room has ended"})
		}
	}
}

// notTaken follows the relay's refusal to take a publisher.
func (n *Node) notTaken(e *edge, o *outbound, from string, m *codec.Refused) {
	if m.Code == codec.CodeMoved || m.Code == codec.CodeRoomUnknown {
		n.refusedBy(e, from, m)
		return
	}
	qs := o.claims
	o.claims = nil
	for _, q := range qs { // its own words; but a client whose other session was faster may try again
		q.out = nil
		r := codec.Refused{Req: q.Req, Code: m.Code, Text: m.Text}
		if r.Code == codec.CodeSuperseded && q.Link == 0 {
			r.Code = codec.CodeMoved
		}
		n.answer(q, &r)
	}
	code := m.Code
	switch {
	case len(qs) > 0:
	case code == codec.CodeAway:
	case code == codec.CodeSuperseded: // maybe by the same client by way of another node: it must decide
		code = codec.CodeMoved
	case code.Retry(): // the mirror is where it was
		n.pause(e)
		return
	case code == codec.CodeNotGranted, code == codec.CodeNotAccepted:
		code = codec.CodeRevoked
	}
	n.over(o, code)
	n.unused(e)
}

// tell follows the relay's word that a publisher's part has ended.
func (r dropped) tell(n *Node, k *link) {
	o := n.ways[r.out]
	switch {
	case o == nil:
	case r.code != codec.CodeMoved:
		n.over(o, r.code)
	case o.e.at == k && o.ticket == r.ticket:
		n.movedFrom(o.e, k.Name, "")
	}
}
