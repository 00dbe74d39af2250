package main

import (
	"context"
	"fmt"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// Attacks that make the server work much for little, and what is no attack: the work of somebody who keeps to all
// rules.

// have subscribes with as many positions as there may be, and unsubscribes, again and again.
func (a *attack) have() {
	p := a.client()
	if p == nil {
		return
	}
	id, _, err := p.room(codec.PolicyLive)
	if err != nil {
		a.drop(p.c)
		return
	}
	m := &codec.Subscribe{Req: 1, Room: id}
	for i := range 4096 {
		m.Have = append(m.Have, codec.Position{StreamKey: codec.StreamKey{Pub: uint16(i + 2), Dtype: uint8(i)}, Last: 1})
	}
	u := &codec.Unsubscribe{}
	u.Req, u.Room = 2, id
	b := enc(u.Append(enc(m.Append(nil))))
	a.repeat(p, b)
}

// repeat sends the same bytes until the attack ends, and keeps the connection.
func (a *attack) repeat(p *bad, b []byte) {
	go func() {
		for !a.ended() && p.send(b) == nil {
		}
	}()
	p.hold()
}

// stalled is in as many rooms as a session may be, and reads nothing, while all of them are pushed into.
func (a *attack) stalled() {
	p, s := a.client(), a.client()
	if p == nil || s == nil {
		return
	}
	defer a.drop(s.c)
	defer a.drop(p.c)
	type target struct {
		id  codec.RoomID
		pub uint16
	}
	var rooms []target
	for range 4096 {
		id, pub, err := p.room(codec.PolicyLive)
		if err != nil || s.subscribe(id) != nil {
			break
		}
		rooms = append(rooms, target{id, pub})
	}
	go p.drain()
	for seq := uint64(1); !a.ended(); seq++ {
		for _, r := range rooms {
			if p.send(enc(frame(r.id, r.pub, 1, seq, codec.FlagKey, 1000).Append(nil))) != nil {
				return
			}
		}
	}
}

// acks is in as many rooms as a session may be, and acknowledges as fast as it can.
func (a *attack) acks() {
	p := a.client()
	if p == nil {
		return
	}
	var last codec.RoomID
	for range 4096 {
		id, _, err := p.room(codec.PolicyLossless)
		if err != nil || p.subscribe(id) != nil {
			break
		}
		last = id
	}
	if last == 0 { // those before have left no memory: it is as well refused
		a.drop(p.c)
		return
	}
	var b []byte
	for range 500 {
		b = enc((&codec.Ack{Room: last, StreamKey: codec.StreamKey{Pub: 1}, Seq: 1}).Append(b))
	}
	a.repeat(p, b)
}

// deaf asks for answers and reads none.
func (a *attack) deaf() {
	p := a.client()
	if p == nil {
		return
	}
	defer a.drop(p.c)
	var b []byte
	for range 500 {
		b = enc((&codec.Ping{Echo: 1}).Append(b))
	}
	for !a.ended() && p.send(b) == nil {
	}
}

// flutter subscribes and unsubscribes as fast as it can.
func (a *attack) flutter() {
	p := a.client()
	if p == nil {
		return
	}
	id, _, err := p.room(codec.PolicyLive)
	if err != nil {
		a.drop(p.c)
		return
	}
	u := &codec.Unsubscribe{}
	u.Req, u.Room = 2, id
	var b []byte
	for range 200 {
		b = enc(u.Append(enc((&codec.Subscribe{Req: 1, Room: id}).Append(b))))
	}
	a.repeat(p, b)
}

// come publishes and leaves again, as one client after the other, before a subscriber that is told of each.
func (a *attack) come() {
	p, s := a.client(), a.client()
	if p == nil || s == nil {
		return
	}
	defer a.drop(s.c)
	id, _, err := p.room(codec.PolicyLive)
	if err != nil || s.subscribe(id) != nil {
		a.drop(p.c)
		return
	}
	go s.drain()
	u := &codec.Unpublish{}
	u.Req, u.Room = 2, id
	var b []byte
	for range 200 {
		b = enc((&codec.Publish{Req: 1, Room: id}).Append(enc(u.Append(b))))
	}
	a.repeat(p, b)
}

// names accepts and blocks as many accounts as an inbox takes, again and again.
func (a *attack) names() {
	p := a.client()
	if p == nil {
		return
	}
	m := &codec.Inbox{Req: 1, Room: codec.InboxOf("mallory")}
	for i := range 1024 {
		m.Accept = append(m.Accept, fmt.Sprintf("accept-%018d", i))
		m.Block = append(m.Block, fmt.Sprintf("block-%019d", i))
	}
	b := enc(m.Append(nil))
	a.repeat(p, b)
}

// innocent pushes as fast as its window lets it, to one subscriber that reads and acknowledges all.
func (a *attack) innocent() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		select {
		case <-a.stop:
			stop()
		case <-ctx.Done():
		}
	}()
	c, err := client.Dial(ctx, client.Options{Servers: []string{a.addr}, Account: "mallory", Token: string(a.token)})
	if err != nil {
		return
	}
	defer c.Close(context.Background())
	room, err := c.Register(ctx, client.RoomOptions{Policy: client.PolicyLossless})
	if err != nil {
		return
	}
	sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		return
	}
	go func() {
		for ctx.Err() == nil {
			if e, err := sub.Next(ctx); err != nil {
				return
			} else if _, is := e.(*client.Message); is {
				a.count("message")
			}
		}
	}()
	p, err := c.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		return
	}
	for payload := make([]byte, 1000); p.Push(ctx, 1, client.Key, payload) == nil; {
	}
}
