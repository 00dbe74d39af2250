package world

import (
	"time"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// The desk is the goroutine of a process that decides: the Node behind its mailbox. What it decides goes to the loops'
// mailboxes.

// effects is a process as its Node sees it.
type effects Process

func (f *effects) p() *Process { return (*Process)(f) }

// on does something with a session on its loop, unless that is gone.
func (p *Process) on(id carry.SessionID, do func(s *session)) {
	s := p.sessions[id]
	if s == nil {
		return
	}
	s.l.box.post(func() {
		if !s.closed {
			do(s)
		}
	})
}

// Dial implements carry.Effects.
func (f *effects) Dial(m node.Member) { f.p().dial(m) }

// Hang implements carry.Effects.
func (f *effects) Hang(l carry.LinkID) {
	f.p().on(carry.SessionID(l), func(s *session) { s.hang() })
}

// Send implements carry.Effects.
func (f *effects) Send(l carry.LinkID, m codec.Control) {
	f.p().w.books.sent(m)
	f.p().on(carry.SessionID(l), func(s *session) { s.Send(m) })
}

// Tell implements carry.Effects.
func (f *effects) Tell(l carry.LinkID, c carry.Cmd) {
	f.p().on(carry.SessionID(l), func(s *session) { s.port.Do(c, s.now()) })
}

// Answer implements carry.Effects.
func (f *effects) Answer(a carry.Ask, m codec.Control) {
	f.p().on(a.Session, func(s *session) {
		s.part.Answered(a, m, s.now())
		if s.port == nil && s.l.p.w.planted("an answer is given twice", 20) {
			s.Send(m)
		}
	})
}

// Here implements carry.Effects.
func (f *effects) Here(a carry.Ask) {
	p := f.p()
	sub, subscribes := a.M.(*codec.Subscribe)
	seated := func() {
		if subscribes {
			p.desk.post(func() { p.node.Seated(sub.Room, p.clock()) })
		}
	}
	s := p.sessions[a.Session]
	if s == nil {
		seated()
		return
	}
	s.l.box.post(func() {
		if !s.closed {
			if subscribes {
				s.subscribe(sub)
			} else {
				s.part.Request(a, s.now())
			}
		}
		seated()
	})
}

// Give implements carry.Effects.
func (f *effects) Give(a carry.Ask, o *room.Outbound, t carry.Ticket) {
	p := f.p()
	given := func(held bool) {
		if p.w.planted("the answer to Give is lost", 2) {
			return
		}
		p.desk.post(func() { p.node.Given(t, held, p.clock()) })
	}
	s := p.sessions[a.Session]
	if s == nil {
		given(false)
		return
	}
	s.l.box.post(func() { given(!s.closed && s.part.Given(a, o, s.now())) })
}

// Detached implements carry.Effects.
func (f *effects) Detached(o *room.Outbound) {
	p := f.p()
	if p.w.planted("the Node does not hear that an outbound was left", 2) {
		return
	}
	p.desk.post(func() { p.node.Detached(o, p.clock()) })
}

// Operate implements carry.Effects: there are no operators here.
func (f *effects) Operate(carry.LinkID, uint32, []byte) {}

// Regained implements carry.Effects.
func (f *effects) Regained(time.Duration) {}

// Note implements carry.Effects.
func (f *effects) Note(n carry.Note) {
	p := f.p()
	switch {
	case n.Err != nil:
		p.w.fail("I14", "%s: %s: %v", p.name, n.Text, n.Err)
	case n.Room != 0:
		p.w.tell("%s: %s: %s %s", p.name, n.Text, p.w.labelOf(n.Room), n.Peer)
	case n.Warn:
		p.w.tell("%s: %s: %s", p.name, n.Text, n.Peer)
	}
}

func (w *World) labelOf(id codec.RoomID) string {
	for _, label := range sortedKeys(w.rooms) {
		if w.rooms[label].id == id {
			return label
		}
	}
	return id.String()
}

// decided is the end of a drain of the desk: the machine is audited, and its clock set.
func (p *Process) decided() {
	if err := p.node.Audit(); err != nil {
		p.w.fail("I12", "%s: %v", p.name, err)
	}
	due := p.node.Due()
	if due == 0 {
		return
	}
	at := p.w.now + max(0, time.Duration(due-p.clock()))
	if p.tickAt != 0 && p.tickAt <= at && p.tickAt > p.w.now {
		return
	}
	p.tickAt = at
	p.w.after(at-p.w.now+p.w.between(0, time.Millisecond), func() { p.run(p.tick) })
}

func (p *Process) tick() {
	p.tickAt = 0
	p.desk.post(func() { p.node.Tick(p.clock()) })
}

// dial opens a link to a member.
func (p *Process) dial(m node.Member) {
	w := p.w
	unreached := func(refused bool, after time.Duration) {
		w.after(after, func() {
			p.run(func() { p.desk.post(func() { p.node.Unreached(m, refused, p.clock()) }) })
		})
	}
	handshake := w.between(100*time.Microsecond, 4*time.Millisecond)
	if w.chance(6) { // the machine has other things to do: links of one node come at different times
		handshake = w.between(4*time.Millisecond, 250*time.Millisecond)
	}
	w.after(handshake, func() {
		p.run(func() {
			q := w.nodes[m.Name]
			switch {
			case w.net.blocked(p.name, m.Name) || w.net.blocked(m.Name, p.name):
				unreached(false, w.between(700*time.Millisecond, time.Second))
			case q == nil || q.dead:
				unreached(true, w.between(50*time.Microsecond, 500*time.Microsecond))
			case q.frozen:
				unreached(false, w.between(700*time.Millisecond, time.Second))
			case q.birth != m.Birth: // the handshake tells another process of that name
				unreached(false, w.between(time.Millisecond, 5*time.Millisecond))
			default:
				mine, theirs := w.connect(p.name, q.name, p, q)
				p.link(mine, q, true)
				q.run(func() { q.link(theirs, p, false) })
			}
		})
	})
}

// link takes a connection with another node.
func (p *Process) link(end *socketEnd, q *Process, dialed bool) {
	s := p.session(end)
	s.peer, s.account, s.dialed, s.greeted = q.name, q.name, dialed, true
	id := carry.LinkID(s.id)
	s.port = carry.NewPort(id, q.name, dialed, p.rooms, s)
	s.part = &s.port.Part
	at := node.Peer{Name: q.name, Birth: q.birth}
	s.l.box.post(func() {
		p.desk.post(func() { p.node.Linked(id, at, dialed, p.clock()) })
	})
}
