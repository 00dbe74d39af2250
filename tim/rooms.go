package tim

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// subscription is one room that a connection receives.
type subscription struct {
	sub    *client.Subscription
	name   string      // of the room, as deliveries name it
	binary atomic.Bool // only the bytes are wanted
	ended  atomic.Bool // the room is gone, or has cut it off
}

// vroom carries a request about a room out, and answers it. An answer names the op and the room, refusals, too: a
// caller knows its answer by nothing else.
func (c *conn) vroom(isJSON bool, body []byte) {
	var m request
	if decode(body, isJSON, &m) != nil {
		c.refuse(typeVroom, failFormat, nil, "", c.json)
		return
	}
	op := int64(m.Rtype)
	a := &ack{OK: true, TimType: typeVroom, T: &op, N: m.Node}
	ctx, cancel := context.WithTimeout(c.ctx, c.g.cfg.Request)
	defer cancel()
	then, err := c.roomRequest(ctx, &m, a)
	if err != nil {
		c.refuse(typeVroom, failureOf(err), &op, a.N, c.json)
		return
	}
	c.answer(a)
	if then != nil {
		then()
	}
}

// roomRequest does it, fills in what the answer has beside op and room, and returns what is to be done once it is
// answered.
func (c *conn) roomRequest(ctx context.Context, m *request, a *ack) (then func(), err error) {
	if m.Rtype == opRegister {
		room, err := c.client.Register(ctx, client.RoomOptions{})
		a.N = room.String()
		return nil, err
	}
	room, err := codec.ParseRoomID(m.Node)
	if err != nil {
		return nil, failParameter
	}
	switch m.Rtype {
	case opRemove:
		c.leave(ctx, room)
		return nil, c.client.Remove(ctx, room)
	case opAddAuth, opDelAuth:
		if !isAccount(m.Node2) {
			return nil, failParameter
		}
		a.N = m.Node2
		if m.Rtype == opAddAuth {
			return nil, c.client.Grant(ctx, room, m.Node2)
		}
		return nil, c.client.Revoke(ctx, room, m.Node2)
	case opSubscribe:
		return c.subscribe(ctx, room, m.ReqInt == 1)
	case opUnsubscribe:
		return nil, c.unsubscribe(ctx, room)
	}
	return nil, failParameter
}

// subscribe takes a room's streams. A second time on the same connection only says how they are wanted.
func (c *conn) subscribe(ctx context.Context, room codec.RoomID, binary bool) (then func(), err error) {
	if s := c.subs[room]; s != nil && !s.ended.Load() {
		s.binary.Store(binary)
		return nil, nil
	}
	sub, err := c.client.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		return nil, err
	}
	s := &subscription{sub: sub, name: room.String()}
	s.binary.Store(binary)
	c.subs[room] = s
	return func() { c.pumps.Go(func() { c.pump(s) }) }, nil
}

func (c *conn) unsubscribe(ctx context.Context, room codec.RoomID) error {
	s := c.subs[room]
	delete(c.subs, room)
	if s == nil || s.ended.Load() { // there is nothing to end, which is what was wanted
		return nil
	}
	return c.client.Unsubscribe(ctx, room)
}

// pump passes on what a subscription brings, until it ends. It waits while the client does not read: then the engine
// holds what comes, and the room's policy decides about it.
func (c *conn) pump(s *subscription) {
	defer s.ended.Store(true)
	raw := append(append([]byte{typeBigBinaryStream}, s.name...), binarySeparator)
	var d delivery
	for {
		event, err := s.sub.Next(c.ctx)
		if err != nil {
			if _, is := errors.AsType[*client.StreamError](err); is {
				continue
			}
			return
		}
		m, is := event.(*client.Message)
		if !is {
			continue // these clients have no words for gaps and who comes and goes
		}
		if s.binary.Load() {
			c.out.stream(raw, m.Payload)
		} else {
			d.send(c, &stream{ID: idOf(m), VNode: s.name, Dtype: m.Dtype, Body: m.Payload, From: m.Publisher})
		}
		c.g.stats.deliveries.Add(1)
	}
}

// idOf is a number that a push has for all subscribers, and no other push of the room.
func idOf(m *client.Message) int64 {
	return int64(uint64(m.Pub)<<48 | uint64(m.Dtype)<<40 | m.First&(1<<40-1))
}

// delivery is the scratch of whoever delivers.
type delivery struct{ head, tail []byte }

func (d *delivery) send(c *conn, m *stream) {
	d.head = append(d.head[:0], typeStream)
	if c.json {
		b, _ := json.Marshal(m) // of numbers, strings and bytes
		c.out.stream(append(d.head, b...))
		return
	}
	d.head = m.head(d.head)
	d.tail = m.tail(d.tail[:0])
	c.out.stream(d.head, m.Body, d.tail)
}

// push takes a structured push. Success is not answered.
func (c *conn) push(isJSON bool, body []byte) {
	var m stream
	if decode(body, isJSON, &m) != nil {
		c.refuse(typeStream, failFormat, nil, "", c.json)
		return
	}
	c.pushInto(m.VNode, m.Dtype, m.Body)
}

// pushRaw takes a push whose frame has no struct around the data.
func (c *conn) pushRaw(frame []byte) {
	name, data, ok := splitBig(frame)
	if !ok {
		c.refuse(typeBigBinary, failBig, nil, "", c.json) // with the type that their own server names
		return
	}
	c.pushInto(name, 0, data)
}

func (c *conn) pushInto(name string, dtype uint8, data []byte) {
	room, err := codec.ParseRoomID(name)
	if err != nil {
		c.refuse(typeStream, failParameter, nil, "", c.json)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.g.cfg.Request)
	defer cancel()
	err = pushInto(ctx, c.pubs, room, dtype, data, func() (*publication, error) {
		p, err := c.client.Publish(ctx, room, client.PublishOptions{})
		if err != nil {
			return nil, err
		}
		return c.publish(p, func(err error) { c.notPushed(name, err) }), nil
	})
	if err != nil {
		c.notPushed(name, err)
	}
}

// notPushed tells that a push into a room came to nothing.
func (c *conn) notPushed(room string, err error) {
	f := failureOf(err)
	if f == failUnknown { // their own server does not tell the two apart, and callers look for this one
		f = failDenied
	}
	c.refuse(typeStream, f, nil, room, c.json)
}

// leave gives a room's publication up.
func (c *conn) leave(ctx context.Context, room codec.RoomID) {
	if p := c.pubs[room]; p != nil {
		delete(c.pubs, room)
		p.leave(ctx)
	}
}
