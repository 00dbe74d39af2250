package carry

import (
	"bytes"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// A link that this node has dialed: the other relays rooms that have clients here, or is asked for them.

// fillHold bounds how long a fresh mirror waits for the subscriber it was made for to take its seat, before what comes
// counts as arrived.
const fillHold = 2 * time.Second

// feed is a room whose mirror was asked for on this link.
type feed struct {
	ticket Ticket
	reign  codec.Reign // the newest that this node has heard of
	fresh  bool        // this node has nothing of the room, as far as the other was told
	room   *room.Room  // the mirror; nil before the answer
	nums   []uint16    // of the publishers that the relay has told of
}

// carried is a publisher that the relay was asked to take on this link.
type carried struct {
	ticket Ticket
	out    *room.Outbound
	dead   bool // nobody wants the answer any more
}

func (c *carried) client() client { return client{c.out.ID, c.out.Account, c.out.Instance} }

// wire returns a request's number on a link. Those without the bit are the core's.
func (t Ticket) wire() uint32 { return uint32(t)&(ownReq-1) | ownReq }

const ownReq = 1 << 31

// fromRelay handles a frame of the node that this one has dialed.
func (p *Port) fromRelay(m codec.Control, now int64) error {
	switch m := m.(type) {
	case *codec.Ack:
		if c := p.outs[lane{m.Room, m.Pub}]; c != nil {
			c.out.Acked(p.lh, m.Dtype, m.Seq, now)
		}
	case *codec.Joined:
		p.joined(m)
	case *codec.Left:
		if f := p.feeds[m.Room]; f != nil && f.room != nil {
			f.room.ToldLeft(uint64(f.ticket), m.Pub, m.Code, now)
			if pub := p.lanes[lane{m.Room, m.Pub}]; pub != nil {
				pub.end()
			}
			f.nums = slices.DeleteFunc(f.nums, func(num uint16) bool { return num == m.Pub })
		}
	case *codec.Closed:
		p.closed(m, now)
	case *codec.Count:
		if f := p.feeds[m.Room]; f != nil && f.room != nil {
			f.room.ToldCount(*m)
		}
		for _, num := range p.nums[m.Room] {
			p.outs[lane{m.Room, num}].out.Count(*m)
		}
	case *codec.Elsewhere:
		if f := p.feeds[m.Room]; f != nil && f.room != nil {
			f.room.Elsewhere(uint64(f.ticket), m.Marks)
		}
	case *codec.Mirrored:
		p.mirrored(m, now)
	case *codec.Published:
		p.published(m)
	case *codec.OK:
		p.whole(m.Req)
		p.report(answered{m.Req, m})
	case *codec.Refused:
		delete(p.asked, m.Req)
		delete(p.fills, m.Req)
		p.report(answered{m.Req, m})
	case *codec.Info:
		p.report(answered{m.Req, m})
	case *codec.Report:
		m.JSON = bytes.Clone(m.JSON)
		p.report(answered{m.Req, m})
	case *codec.Moved:
		p.report(moved{m.Room, m.To})
	case *codec.Drop:
		p.dropped(lane{m.Room, m.Pub}, m.Code)
	case *codec.PushRefused:
		// The relay did not take what this node had taken: only the client can mend that, by publishing anew.
		p.anew(lane{m.Room, m.Pub}, m.Code)
	default:
		return errFrame
	}
	return nil
}

// do begins to mirror a room.
func (c feedRoom) do(p *Port, now int64) {
	if p.feeds[c.room] != nil {
		p.endFeed(c.room, false, now)
	}
	f := &feed{ticket: c.ticket, reign: c.reign, fresh: c.fresh}
	p.feeds[c.room], p.fills[c.ticket.wire()] = f, f
	for _, m := range c.frames {
		p.lh.Send(m)
	}
}

// mirrored makes the mirror, before the frames that follow.
func (p *Port) mirrored(m *codec.Mirrored, now int64) {
	f := p.feeds[m.Room]
	if f == nil {
		p.report(admitted{m.Room, m.Reign()})
		return
	}
	if f.ticket.wire() != m.Req {
		return
	}
	reign := m.Reign()
	if m.Epoch != 0 && reign.Before(f.reign) {
		p.endFeed(m.Room, false, now)
		p.report(outdated{f.ticket, m.Room})
		return
	}
	if old, err := p.rooms.Get(m.Room); err == nil && old.IsMirror() {
		switch {
		case !old.Feed(uint64(f.ticket)): // a newer attempt has made it
			return
		case f.fresh && !p.rooms.Forget(old):
			p.endFeed(m.Room, true, now) // what follows is for one that has nothing
			p.report(found{f.ticket, old})
			return
		}
	}
	r, err := p.rooms.Mirror(&m.RoomHead, now)
	if err != nil || !r.Feed(uint64(f.ticket)) { // this node relays it meanwhile, or another link feeds the mirror
		return
	}
	if !r.IsWhole() || r.IsInbox() {
		r.Hold(now + int64(fillHold))
	}
	f.room = r
	p.report(mirrored{f.ticket, r, reign, m.Relay})
}

// whole notes that the mirror has all that the relay had.
func (p *Port) whole(req uint32) {
	if f := p.fills[req]; f != nil {
		delete(p.fills, req)
		if f.room != nil {
			f.room.Whole(uint64(f.ticket))
		}
	}
}

// joined makes this link the holder of a publisher of a mirror.
func (p *Port) joined(m *codec.Joined) {
	f := p.feeds[m.Room]
	if f == nil || f.room == nil {
		return
	}
	pub := p.lanes[lane{m.Room, m.Pub}]
	if pub == nil {
		pub = &Publication{part: &p.Part, Room: m.Room, Num: m.Pub}
	}
	if !slices.Contains(f.nums, m.Pub) {
		f.nums = append(f.nums, m.Pub)
	}
	to, err := f.room.Told(uint64(f.ticket), pub, m.Pub, m.Account, m.Life, m.Mark)
	if err != nil {
		return // the mirror has ended, or another link feeds it
	}
	pub.to = to
	p.lanes[lane{m.Room, m.Pub}] = pub
	p.lh.Await(pub)
}

// closed follows the end of a room, or of this node's part in it. What comes before mirrored is about the part before:
// that has ended, and another been asked for.
func (p *Port) closed(m *codec.Closed, now int64) {
	f := p.feeds[m.Room]
	if f == nil || f.room == nil {
		return
	}
	p.endFeed(m.Room, true, now)
	switch m.Code {
	case codec.CodeMoved, codec.CodeGoingAway, codec.CodeNodeLost:
		p.report(moved{m.Room, ""})
		return
	case codec.CodeTooSlow: // who is slow here has been cut off; the relay has what the others lack
		if f.room.Settings().Policy == codec.PolicyLossless {
			p.report(strayed{f.ticket, m.Room, m.Code})
			return
		}
	}
	if f.room.IsMirror() {
		p.rooms.End(f.room, m.Code)
	}
	p.report(closed{f.ticket, m.Room, m.Code})
}

// do ends what the link does for a room.
func (c unfeed) do(p *Port, now int64) {
	p.endFeed(c.room, c.quiet, now)
	for _, num := range slices.Clone(p.nums[c.room]) {
		p.endOut(lane{c.room, num}, false)
	}
	for _, a := range p.asked {
		a.dead = a.dead || a.out.ID == c.room
	}
}

// do tells the relay how many subscribers there are. When the last has left an inbox that comes between what it had and
// what comes to nobody.
func (c tally) do(p *Port, _ int64) {
	f := p.feeds[c.room.ID]
	if f == nil || f.room != c.room {
		return
	}
	if c.room.IsInbox() {
		for _, num := range f.nums {
			if pub := p.lanes[lane{c.room.ID, num}]; pub != nil {
				p.lh.Acks(pub)
			}
		}
	}
	deserted := c.subs == 0 && c.room.Deserted()
	if deserted { // who has come and left between two tallies was there
		p.lh.Send(&codec.Tally{Room: c.room.ID, Subscribers: 1})
	}
	for moves := range slices.Chunk(c.moves, codec.MaxMoves) {
		p.lh.Send(&codec.Tally{Room: c.room.ID, Subscribers: c.subs, Clients: moves})
	}
	if len(c.moves) == 0 {
		p.lh.Send(&codec.Tally{Room: c.room.ID, Subscribers: c.subs})
	}
	if deserted {
		c.room.Vacated()
	}
}

// endFeed ends what the link does for a mirror, and tells the other node, unless that is to be quiet.
func (p *Port) endFeed(id codec.RoomID, quiet bool, now int64) {
	f := p.feeds[id]
	if f == nil {
		return
	}
	delete(p.feeds, id)
	delete(p.fills, f.ticket.wire())
	for _, num := range f.nums {
		if pub := p.lanes[lane{id, num}]; pub != nil {
			pub.leave(now)
		}
	}
	if !quiet {
		p.lh.Send(unsubscribe(id))
	}
}

// unsubscribe returns the word that this node needs nothing of a room any more. Nobody waits for an answer.
func unsubscribe(id codec.RoomID) *codec.Unsubscribe {
	m := &codec.Unsubscribe{}
	m.Req, m.Room = ownReq, id
	return m
}

// do has a publisher taken by the relay.
func (c carry) do(p *Port, _ int64) {
	for _, a := range p.asked { // only the last answer counts
		a.dead = a.dead || a.out == c.out
	}
	p.asked[c.ticket.wire()] = &carried{ticket: c.ticket, out: c.out}
	p.lh.Send(c.frame)
}

// published takes the relay's word that it has taken a publisher. If nobody wants that any more, it is to let go of it.
func (p *Port) published(m *codec.Published) {
	c := p.asked[m.Req]
	if c == nil {
		return
	}
	delete(p.asked, m.Req)
	at := lane{m.Room, m.Pub}
	if c.dead {
		if !p.carries(c.client()) {
			p.lh.Send(&codec.Drop{Room: at.room, Pub: at.num, Code: codec.CodeGone})
		}
		return
	}
	ok := c.out.Attach(p.lh, m)
	if ok {
		if p.outs[at] == nil {
			p.nums[at.room] = append(p.nums[at.room], at.num)
		}
		p.outs[at] = c
	} else { // under another number, or it lacks what only the client has: that begins anew
		c.out.End(codec.CodeMoved)
		p.lh.Send(&codec.Drop{Room: at.room, Pub: at.num, Code: codec.CodeGone})
	}
	p.report(taken{c.ticket, c.out, ok})
}

// carries reports whether the relay has taken a client's publisher for somebody here, or is asked for it.
func (p *Port) carries(who client) bool {
	for _, c := range p.outs {
		if c.client() == who {
			return true
		}
	}
	for _, c := range p.asked {
		if !c.dead && c.client() == who {
			return true
		}
	}
	return false
}

// do ends the way of an outbound by this link: its client is gone.
func (c drop) do(p *Port, _ int64) {
	for _, a := range p.asked {
		a.dead = a.dead || a.out == c.out
	}
	if at := (lane{c.out.ID, c.out.Number()}); p.outs[at] != nil && p.outs[at].out == c.out {
		p.endOut(at, false)
	}
}

// endOut takes an outbound off the link, and tells the other node unless that is to be quiet.
func (p *Port) endOut(at lane, quiet bool) {
	p.outs[at].out.Unlink(p.lh)
	delete(p.outs, at)
	nums := slices.DeleteFunc(p.nums[at.room], func(num uint16) bool { return num == at.num })
	if p.nums[at.room] = nums; len(nums) == 0 {
		delete(p.nums, at.room)
	}
	if !quiet {
		p.lh.Send(&codec.Drop{Room: at.room, Pub: at.num, Code: codec.CodeGone})
	}
}

// dropped follows the relay's word that a publisher's part on this link has ended.
func (p *Port) dropped(at lane, code codec.Code) {
	c := p.outs[at]
	if c == nil {
		return
	}
	p.endOut(at, true)
	for _, a := range p.asked {
		if !a.dead && a.out == c.out {
			return // the relay has been asked anew since
		}
	}
	if code != codec.CodeMoved {
		c.out.End(code)
	}
	p.report(dropped{c.ticket, c.out, code})
}

// anew ends an outbound whose client has to begin anew, behind the message whose beginning the relay does not know if
// that is why.
func (p *Port) anew(at lane, why codec.Code) {
	if c := p.outs[at]; c != nil {
		p.endOut(at, false)
		if why != codec.CodeBadPieces {
			why = codec.CodeMoved
		}
		c.out.End(why)
		p.report(taken{c.ticket, c.out, false})
	}
}
