package world

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// owner is a client that registers a room, grants and revokes, and may remove it.
type owner struct {
	client
	todo []command // not asked yet, in order
	busy bool
}

// command is something to ask for, until it is answered.
type command struct {
	m     codec.Control
	right *right // what it changes
	tries int
}

func (o *owner) ready()                             {}
func (o *owner) lost()                              { o.busy = false }
func (o *owner) opened()                            { o.next() }
func (o *owner) stream(f *codec.Stream, raw []byte) { o.w.fail("I1", "%s gets a frame", o.name) }
func (o *owner) control(m codec.Control)            {}
func (o *owner) do(m codec.Control, changes *right) {
	o.todo = append(o.todo, command{m, changes, 0})
	o.next()
}

// grant lets an account push, or takes that back.
func (o *owner) grant(account string, is bool) {
	r := o.room
	if r.rights == nil {
		r.rights = make(map[string][]right)
	}
	// The room's number is filled in when it is asked for: it may not be registered yet.
	g, v := &codec.Grant{}, &codec.Revoke{}
	g.Account, v.Account = account, account
	r.rights[account] = append(r.rights[account], right{granted: is, asked: o.w.now})
	changes := &right{granted: is}
	if is {
		o.do(g, changes)
	} else {
		o.do(v, changes)
	}
}

// next asks for the next thing.
func (o *owner) next() {
	if o.busy || !o.open || len(o.todo) == 0 || o.gone != 0 {
		return
	}
	cmd := &o.todo[0]
	account := ""
	switch m := cmd.m.(type) {
	case *codec.Register:
		if o.room.id != 0 {
			o.todo = o.todo[1:]
			o.next()
			return
		}
	case *codec.Grant:
		m.Room, account = o.room.id, m.Account
	case *codec.Revoke:
		m.Room, account = o.room.id, m.Account
	case *codec.Remove:
		m.Room = o.room.id
	}
	o.busy = true
	o.ask(cmd.m, func(answer codec.Control) { o.answered(account, answer) })
}

func (o *owner) answered(account string, answer codec.Control) {
	o.busy = false
	cmd := &o.todo[0]
	switch m := answer.(type) {
	case nil: // asked again on the next connection
		return
	case *codec.Registered:
		o.room.id = m.Room
		o.w.tell("%s is registered", o.room.label)
	case *codec.OK:
		o.w.tell("%s is told ok by %s: %T %s", o.name, o.node, cmd.m, account)
		if cmd.right != nil {
			o.says(account, cmd.right.granted)
		}
	case *codec.Refused:
		if _, is := cmd.m.(*codec.Remove); is && m.Code == codec.CodeRoomUnknown {
			break // it was done, and the answer was lost
		}
		if gone := m.Code == codec.CodeRoomUnknown || m.Code == codec.CodeNodeLost; gone && o.w.lost(o.room, o.name, m.Code) {
			break
		} else if !gone && !m.Code.Retry() {
			o.w.fail("I9", "%s is refused %T: %v", o.name, cmd.m, m.Code)
			break
		}
		cmd.tries++
		o.busy = true
		this := o.dials
		o.w.after(min(5*time.Millisecond<<min(cmd.tries, 6), 200*time.Millisecond), func() {
			if o.dials == this {
				o.busy = false
				o.next()
			}
		})
		return
	}
	o.todo = o.todo[1:]
	o.next()
}

// says notes that the oldest word about an account which has no answer has one.
func (o *owner) says(account string, granted bool) {
	rights := o.room.rights[account]
	for i := range rights {
		if rights[i].ok == 0 && rights[i].granted == granted {
			rights[i].ok = o.w.now
			return
		}
	}
}
