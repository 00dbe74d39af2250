package tim

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/gobwas/ws"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// Streams from account to account are pushes into the recipient's inbox, as everybody's are. There the dtype is the
// type of frame: 90 a TimMessage in compact encoding, 95 a text, 96 bytes. Any other dtype is bytes of somebody who is
// no client of ours, and becomes the data of a TimMessage.

// message takes a stream to an account.
func (c *conn) message(isJSON bool, body []byte) {
	var m message
	if decode(body, isJSON, &m) != nil {
		c.refuse(typeMessage, failFormat, nil, "", c.json)
		return
	}
	if m.MsType == 0 && m.OdType == 0 && m.To != nil { // atim forgets to say
		m.MsType, m.OdType = toAccount, odStream
	}
	var f *failure
	switch {
	case m.OdType == 1: // it would have to be stored
		f = failInterface
	case m.OdType != odStream || m.MsType != toAccount && m.MsType != toRoom:
		f = failParameter
	case m.MsType == toRoom, m.To == nil: // there are no groups
		f = failAccount
	}
	if f != nil {
		c.refuse(typeMessage, f, nil, "", c.json)
		return
	}
	now := time.Now().UnixNano() // what their own server writes: the time of day
	m.ID, m.Timestamp = now, now
	from, to := c.who, tid{Node: m.To.Node, Domain: c.who.Domain}
	m.From, m.To, m.Room = &from, &to, nil
	c.sendTo(typeMessage, to.Node, m.append(nil))
}

// big takes bytes or a text for an account.
func (c *conn) big(typ byte, frame []byte) {
	to, data, ok := splitBig(frame)
	if !ok {
		c.refuse(typ, failBig, nil, "", c.json)
		return
	}
	c.sendTo(typ, to, data)
}

// maxRecipients is how many accounts a connection streams to at once; who comes beyond has another's place.
const maxRecipients = 256

// sendTo pushes into an account's inbox. That it arrives is not answered, nor that nobody is there: these clients
// expect that what is live is dropped then.
func (c *conn) sendTo(typ byte, to string, data []byte) {
	switch {
	case !isAccount(to):
		c.refuse(typ, failAccount, nil, "", c.json)
		return
	case to == c.who.Node:
		c.refuse(typ, failDenied, nil, "", c.json)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.g.cfg.Request)
	defer cancel()
	err := pushInto(ctx, c.to, to, typ, data, func() (*publication, error) {
		c.makePlace(ctx)
		p, err := c.client.PublishTo(ctx, to, client.PublishOptions{})
		if err != nil {
			return nil, err
		}
		return c.publish(p, func(err error) { c.notSent(typ, err) }), nil
	})
	if err != nil {
		c.notSent(typ, err)
	}
}

// notSent tells that a stream to an account came to nothing, unless the account is away.
func (c *conn) notSent(typ byte, err error) {
	if codeOf(err) == codec.CodeAway {
		c.g.stats.away.Add(1)
		return
	}
	f := failureOf(err)
	if f == failUnknown {
		f = failAccount
	}
	c.refuse(typ, f, nil, "", c.json)
}

// makePlace ends the stream to some account if there are as many as there may be.
func (c *conn) makePlace(ctx context.Context) {
	if len(c.to) < maxRecipients {
		return
	}
	for to, p := range c.to {
		delete(c.to, to)
		p.leave(ctx)
		return
	}
}

// reopenAfter is how long an inbox that was cut off stays closed.
const reopenAfter = time.Second

// openInbox opens the account's inbox. In an open engine everybody may send to it, elsewhere whom the account's token
// accepts.
func (c *conn) openInbox(ctx context.Context) (*client.Inbox, error) {
	o := client.InboxOptions{}
	if c.g.cfg.Open {
		o.Accept = []string{client.Everyone}
	}
	return c.client.OpenInbox(ctx, o)
}

// pumpInbox passes on what others send to the account, until the connection ends. in is the open inbox; nil: it is to
// be opened.
func (c *conn) pumpInbox(in *client.Inbox) {
	for {
		var err error
		if in == nil {
			in, err = c.openInbox(c.ctx)
		}
		for err == nil {
			var event client.Event
			if event, err = in.Next(c.ctx); err == nil {
				if m, is := event.(*client.Message); is {
					c.deliver(m)
				}
			} else if _, is := errors.AsType[*client.StreamError](err); is {
				err = nil
			}
		}
		if ended, is := errors.AsType[*client.ConnectionError](err); is {
			c.sendAway(ended)
			return
		}
		in = nil // cut off: its client had not read for too long, say
		select {
		case <-time.After(reopenAfter):
		case <-c.ctx.Done():
			return
		}
	}
}

// sendAway ends a connection whose login the engine does not accept any more: its token ended, or was taken back. Its
// client is told to log out, for it would come back with the same token for ever.
func (c *conn) sendAway(ended *client.ConnectionError) {
	if !ended.Retry() {
		c.answer(&ack{OK: true, TimType: typeLogout})
	}
	c.hangUp(ws.StatusNormalClosure)
}

// deliver passes on one push into the inbox.
func (c *conn) deliver(m *client.Message) {
	c.g.stats.deliveries.Add(1)
	switch m.Dtype {
	case typeBigString:
		c.out.stream([]byte{typeBigString}, []byte(m.Publisher), []byte{textSeparator}, m.Payload)
		return
	case typeBigBinary:
		c.out.stream([]byte{typeBigBinary}, []byte(m.Publisher), []byte{binarySeparator}, m.Payload)
		return
	}
	var t message
	if m.Dtype != typeMessage || t.parse(m.Payload) != nil || t.From == nil {
		t = message{Binary: m.Payload, From: new(tid), To: &tid{Domain: c.who.Domain}, ID: idOf(m), Timestamp: time.Now().UnixNano()}
	}
	t.MsType, t.OdType = toAccount, odStream
	t.From.Node = m.Publisher // the server vouches for it; whatever else is there the sender says of itself
	if t.To == nil {
		t.To = new(tid)
	}
	t.To.Node = c.who.Node
	if c.json {
		b, _ := json.Marshal(&t) // of numbers, strings and bytes
		c.out.stream([]byte{typeMessage}, b)
		return
	}
	c.out.stream(t.append([]byte{typeMessage}))
}
