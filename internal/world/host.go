package world

import (
	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What a session is to its Part (carry.Host), and a link's to its Port (carry.LinkHost).

// Acks sends the acknowledgements of a publication.
func (s *session) Acks(p *carry.Publication) {
	p.Acks(func(key codec.StreamKey, seq uint64) {
		if s.port == nil && s.l.p.w.planted("a publisher is told one frame too many", 50) {
			seq++
		}
		s.Send(&codec.Ack{Room: p.Room, StreamKey: key, Seq: seq})
	})
}

// Await has the ticks call Acks while something is outstanding.
func (s *session) Await(p *carry.Publication) {
	if !p.Awaited {
		p.Awaited = true
		s.l.acking = append(s.l.acking, awaited{s, p})
		s.l.hot()
	}
}

// awaited is a publication whose acknowledgements a loop's ticks look for.
type awaited struct {
	s *session
	p *carry.Publication
}

func (a awaited) tick() {
	a.p.Awaited = false
	if !a.s.closed {
		a.s.Acks(a.p)
		if a.p.Pending() {
			a.s.Await(a.p)
		}
	}
}

// Numbered mutes the publisher for a subscription of the session that wants no echoes.
func (s *session) Numbered(p *carry.Publication) {
	if sub := s.member(p.Room); sub != nil && sub.join.NoEcho && sub.mute != p.Num {
		s.l.box.post(func() {
			sub.o.flush()
			sub.mute = p.Num
			sub.o.room.Mute(sub, sub.mute)
		})
	}
}

// Refuse answers a request with an error.
func (s *session) Refuse(a carry.Ask, err error) { s.refuse(a.Req, err) }

// Ask hands a request to the Node.
func (s *session) Ask(a carry.Ask) {
	p := s.l.p
	p.desk.post(func() { p.node.Ask(a, p.clock()) })
}

// Performed hands an answer to the Node.
func (s *session) Performed(a carry.Ask, r *room.Room, answer codec.Control) {
	p := s.l.p
	p.desk.post(func() { p.node.Performed(a, r, answer, p.clock()) })
}

// PostCut, PostAcks and PostCount append to the loop's mailbox.
func (s *session) PostCut(p *carry.Publication, of room.Pusher, code codec.Code) {
	s.l.box.post(func() { p.Ended(of, code, s.now()) })
}

func (s *session) PostAcks(p *carry.Publication) { s.l.box.post(func() { s.Acks(p) }) }

func (s *session) PostCount(p *carry.Publication, c codec.Count) {
	s.l.box.post(func() { p.SendCount(c) })
}

// Forward implements room.Way: it sends frames of an outbound.
func (s *session) Forward(b *room.Batch, _, _ uint64) {
	if s.l.p.w.planted("a batch of an outbound is lost on the way", 10) {
		return
	}
	b.Retain()
	s.l.box.post(func() {
		if !s.closed {
			s.queue().Append(b, 0, len(b.B), s.now())
			s.mark()
		}
		b.Release()
	})
}

// Report hands the Node what a Port has to tell.
func (s *session) Report(r carry.Report) {
	p, id := s.l.p, carry.LinkID(s.id)
	p.desk.post(func() { p.node.Report(id, r, p.clock()) })
}

// Stray tells the node that dialed of frames that were not taken.
func (s *session) Stray(id codec.RoomID, num uint16, code codec.Code, frames int) {
	w := s.l.p.w
	if w.story != nil {
		w.tell("%s does not take %d frames of publisher %d of %s from %s: %v",
			s.l.p.name, frames, num, w.labelOf(id), s.peer, code)
	}
	if !s.dialed {
		s.Send(&codec.PushRefused{Room: id, Pub: num, Code: code, Frames: uint64(frames)})
	}
}

// Admit makes the link a member of a room.
func (s *session) Admit(req uint32, r *room.Room, j room.Join, head codec.RoomHead) (carry.Member, error) {
	if w := s.l.p.w; w.story != nil {
		w.tell("%s mirrors %s from %s, which it has up to %v (new: %v)", s.peer, w.labelOf(r.ID), s.l.p.name, j.Have, j.New)
	}
	sub := &subscription{s: s, join: j}
	sub.reply, sub.after = &codec.Mirrored{Req: req, RoomHead: head}, &codec.OK{Req: req}
	if err := sub.take(r); err != nil {
		return nil, err
	}
	return sub, nil
}

// Resume lets the frames come that had to wait.
func (s *session) Resume() { s.l.box.post(func() { s.readable(nil) }) }

// A subscription is a link's carry.Member, too.

// Ack implements carry.Member.
func (m *subscription) Ack(key codec.StreamKey, seq uint64, now int64) {
	if err := m.o.room.Ack(m, key, seq, now); err != nil {
		m.s.l.p.w.fail("I4", "%s acknowledges to %s what it was not sent: frame %d of %v", m.s.peer, m.s.l.p.name, seq, key)
	}
}

// Tally implements carry.Member.
func (m *subscription) Tally(subs int, clients []codec.ClientMove, now int64) {
	m.o.room.Tally(m, subs, clients, now)
}

// Leave implements carry.Member.
func (m *subscription) Leave(followed bool) { m.detach(followed) }
