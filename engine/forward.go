package engine

import (
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What an edge asks of a relay for its clients: their requests, and that their publishers are taken.

// askPublish has a publisher of this node taken by the relay.
func (c *cluster) askPublish(e *edge, p *peer, o *outbound) {
	if o.since != 0 { // its client has left, and sends again what is not acknowledged wherever it is now
		o.End(codec.CodeGone)
		return
	}
	at := e.at
	o.asked = at
	c.callVia(p, func(req uint32) codec.Control {
		return as(o.Account, o.Instance, true, &codec.Publish{Req: req, Room: o.ID, Flags: o.Flags, To: o.To})
	}, func(s *session, req uint32) { s.link.publishing[req] = o },
		func(answer codec.Control) {
			if c.edges[e.id] != e || o.asked != at {
				return
			}
			switch m := answer.(type) {
			case *codec.Published:
				e.tries = 0
				c.prune(e)
			case *codec.Refused:
				o.asked = nil
				switch {
				case m.Code == codec.CodeAway:
					o.End(codec.CodeAway)
					c.prune(e)
					return
				case m.Code == codec.CodeSuperseded: // maybe by the same client by way of another node: it must decide
					o.End(codec.CodeMoved)
					c.prune(e)
					return
				case m.Code.Retry() || m.Code == codec.CodeRoomUnknown:
					c.refusedBy(e, p.name, m)
					return
				}
				if m.Code == codec.CodeNotGranted || m.Code == codec.CodeNotAccepted {
					m.Code = codec.CodeRevoked
				}
				o.End(m.Code)
				c.prune(e)
			}
		})
}

// as wraps a client's request for the relay; nil if it does not fit.
func as(account string, instance uint64, renew bool, m codec.Control) codec.Control {
	frame, err := m.Append(nil)
	if err != nil || len(frame) > codec.MaxAsFrame {
		return nil
	}
	return &codec.As{Account: account, Instance: instance, Frame: frame, Renew: renew}
}

// forward sends a client's request to the relay.
func (c *cluster) forward(e *edge, p *peer, a ask) {
	at := e.at
	if m, is := a.m.(*codec.Publish); is {
		c.publishBy(e, p, a, m)
		return
	}
	c.callVia(p, func(req uint32) codec.Control {
		_, n := requestOf(a.m)
		*n = req
		return as(a.by.account, a.by.instance, false, a.m)
	}, nil, func(answer codec.Control) {
		_, n := requestOf(a.m)
		*n = a.by.req
		switch m := answer.(type) {
		case nil: // the link broke: whatever it is, doing it twice does no harm
			c.take(a)
			return
		case *codec.Refused:
			if retry := m.Code == codec.CodeMoved || m.Code == codec.CodeRoomUnknown; retry && c.edges[e.id] == e && e.at == at {
				e.asks = append(e.asks, a)
				c.refusedBy(e, p.name, m)
				return
			} else if retry {
				c.take(a)
				return
			}
			if m.Code == codec.CodeNotAccepted && a.by.s.link == nil {
				c.e.absent(a.by, a.m)
				c.unused(e)
				return
			}
			m.Req = a.by.req
		case *codec.OK:
			m.Req = a.by.req
			if _, is := a.m.(*codec.Unpublish); is {
				c.unpublished(e, a.by)
			}
		case *codec.Info:
			m.Req = a.by.req
		}
		a.by.s.later(answer)
	})
}

// publishBy has a client's publisher taken by the relay, and gives the client its outbound.
func (c *cluster) publishBy(e *edge, p *peer, a ask, m *codec.Publish) {
	var o *outbound
	for _, x := range e.outs {
		if x.Account == a.by.account && x.Instance == a.by.instance && !x.Over() {
			o = x
		}
	}
	if o == nil {
		o = &outbound{}
		o.Outbound = room.NewOutbound(&c.e.pool, a.by.account, a.by.instance, m, func(*room.Outbound) { c.post(func() { c.detached(o) }) })
		e.outs = append(e.outs, o)
	}
	at := e.at
	o.asked, o.since, o.via = at, 0, a.by.s.link
	c.callVia(p, func(req uint32) codec.Control {
		return as(o.Account, o.Instance, false, &codec.Publish{Req: req, Room: o.ID, Flags: o.Flags, To: m.To})
	}, func(s *session, req uint32) { s.link.publishing[req] = o },
		func(answer codec.Control) {
			switch m := answer.(type) {
			case *codec.Published:
				e.tries = 0
				s := a.by.s
				s.loop.post(item{kind: itemDo, do: func() { s.publishedBy(a.by, o) }})
			case *codec.Refused:
				if o.asked == at {
					o.asked = nil
				}
				if (m.Code == codec.CodeMoved || m.Code == codec.CodeRoomUnknown) && c.edges[e.id] == e && e.at == at {
					e.asks = append(e.asks, a)
					c.refusedBy(e, p.name, m)
					return
				}
				o.End(m.Code)
				c.prune(e)
				if a.by.s.link == nil && (m.Code == codec.CodeNotAccepted || m.Code == codec.CodeRoomUnknown) {
					c.e.absent(a.by, a.m)
					c.unused(e)
					return
				}
				a.by.s.later(&codec.Refused{Req: a.by.req, Code: m.Code, Text: m.Text})
			default:
				c.take(a)
			}
		})
}

// unpublished ends an outbound whose publisher has left at its own wish.
func (c *cluster) unpublished(e *edge, by caller) {
	for _, o := range e.outs {
		if o.Account == by.account && o.Instance == by.instance {
			s := by.s
			s.loop.post(item{kind: itemDo, do: func() {
				if pub := s.published(by, e.id); pub != nil && pub.p == room.Pusher(o.Outbound) {
					pub.ackDue()
					pub.end()
				}
				o.End(codec.CodeLeft)
			}})
		}
	}
}

// detached notes that an outbound has no session any more.
func (c *cluster) detached(o *outbound) {
	o.since = c.e.now()
	if o.asked != nil {
		o.asked.later(&codec.Drop{Room: o.ID, Pub: o.Number(), Code: codec.CodeGone})
	}
}

// prune forgets outbounds that have ended.
func (c *cluster) prune(e *edge) {
	e.outs = slices.DeleteFunc(e.outs, func(o *outbound) bool { return o.Over() })
}
