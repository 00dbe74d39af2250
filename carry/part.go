package carry

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Part is what a session publishes, and what it asks of rooms that are here. Loop only.
type Part struct {
	h     Host
	rooms *room.Table
	side  side
	peer  string                  // of a link: the node at its other end
	lanes map[lane]*Publication   // where frames go
	last  *Publication            // of lanes, the one used last
	by    map[client]*Publication // those that somebody has asked for; a mirror's publishers nobody has
}

// side is which end of a connection a Part is at.
type side uint8

const (
	ofClient side = iota // a client publishes
	ofEdge               // a node that carries its clients' publishers here
	ofRelay              // a node that relays rooms whose mirrors are here
)

// lane is a publisher on a connection.
type lane struct {
	room codec.RoomID
	num  uint16
}

func (l lane) compare(o lane) int {
	return cmp.Or(cmp.Compare(l.room, o.room), cmp.Compare(l.num, o.num))
}

// client is who publishes in a room, over its reconnections.
type client struct {
	room     codec.RoomID
	account  string
	instance uint64
}

func (a *Ask) client() client { return client{a.room(), a.Account, a.Instance} }

// NewPart returns the part of a client's session.
func NewPart(h Host, rooms *room.Table) *Part {
	p := newPart(h, rooms, ofClient)
	return &p
}

func newPart(h Host, rooms *room.Table, at side) Part {
	return Part{h: h, rooms: rooms, side: at, lanes: make(map[lane]*Publication), by: make(map[client]*Publication)}
}

// Request does what somebody asks of a room, if it is here, or hands it to the Node. The answer goes to the Host.
func (p *Part) Request(a Ask, now int64) {
	r, err := p.rooms.Get(a.room())
	var answer codec.Control
	if err == nil {
		answer, err = p.perform(&a, r, now)
	}
	switch {
	case errors.Is(err, room.ErrUnknown), errors.Is(err, room.ErrNotRelay):
		p.h.Ask(a)
	case err != nil:
		p.h.Refuse(a, err)
	default:
		p.h.Performed(a, r, answer)
	}
}

// perform does a request at the room's relay and returns its answer.
func (p *Part) perform(a *Ask, r *room.Room, now int64) (codec.Control, error) {
	ok := &codec.OK{Req: a.Req}
	if p.strange(a, r) {
		return nil, room.ErrNotAccepted
	}
	switch m := a.M.(type) {
	case *codec.Publish:
		return p.publish(a, r, m, now)
	case *codec.Unpublish:
		return ok, p.unpublish(a, now)
	case *codec.Grant:
		return ok, r.Grant(a.Account, m.Account)
	case *codec.Revoke:
		return ok, r.Revoke(a.Account, m.Account, now)
	case *codec.Remove:
		if r.IsMirror() {
			return nil, room.ErrNotRelay
		}
		return ok, p.rooms.Remove(m.Room, a.Account)
	case *codec.Stat:
		if r.IsMirror() {
			return nil, room.ErrNotRelay
		}
		info := r.Info(now)
		info.Req = a.Req
		return &info, nil
	case *codec.Inbox:
		return ok, p.rooms.Open(r, a.Account, m, now)
	}
	return nil, room.ErrOption
}

// strange reports whether a request is one about an inbox that is no room for who asks.
func (p *Part) strange(a *Ask, r *room.Room) bool {
	if !r.IsInbox() {
		return false
	}
	switch m := a.M.(type) {
	case *codec.Publish:
		return m.To != r.Owner
	case *codec.Unpublish:
		return a.Account != r.Owner && p.by[a.client()] == nil
	}
	return a.Account != r.Owner
}

// publish makes the session the holder of a publisher of a room that this node relays.
func (p *Part) publish(a *Ask, r *room.Room, m *codec.Publish, now int64) (codec.Control, error) {
	pub := p.by[a.client()]
	if pub != nil && pub.out != nil { // the room has come here since
		pub.leave(now)
		pub = nil
	}
	if pub == nil {
		pub = &Publication{part: p, Room: r.ID, who: a.client()}
	}
	publish := r.Publish
	if a.Renew {
		publish = r.Renew
	}
	to, next, err := publish(pub, a.Account, a.Instance, m.Flags&codec.PubCount != 0)
	if err != nil {
		return nil, err
	}
	pub.here, pub.quiet = to, true
	p.keep(pub, to, to.Num)
	return &codec.Published{
		Req: a.Req, Room: r.ID, Pub: to.Num, Policy: r.Settings().Policy, Window: uint32(to.Window()), Streams: next,
	}, nil
}

// unpublish ends the caller's publication in a room that this node relays.
func (p *Part) unpublish(a *Ask, now int64) error {
	pub := p.by[a.client()]
	switch {
	case pub == nil:
		return room.ErrNotPublishing
	case pub.out != nil:
		return room.ErrNotRelay
	}
	p.h.Acks(pub)
	err := pub.here.Unpublish(pub, now)
	if !errors.Is(err, room.ErrNotRelay) {
		pub.end()
	}
	return err
}

// keep notes a publication under the number that it has now.
func (p *Part) keep(pub *Publication, to room.Pusher, num uint16) {
	if old := (lane{pub.Room, pub.Num}); p.lanes[old] == pub {
		delete(p.lanes, old)
	}
	pub.to, pub.Num, pub.over = to, num, false
	p.lanes[lane{pub.Room, num}] = pub
	p.by[pub.who] = pub
	p.h.Numbered(pub)
}

// Answered is Effects.Answer on the session's loop. The session is open.
func (p *Part) Answered(a Ask, m codec.Control, now int64) {
	_, ok := m.(*codec.OK)
	if _, is := a.M.(*codec.Unpublish); is && ok {
		if pub := p.by[a.client()]; pub != nil && pub.out != nil { // the relay has done it
			p.h.Acks(pub)
			pub.end()
		}
	}
	if pm, is := m.(*codec.Published); is {
		// If not, it was told the end of this before the standbys knew its beginning.
		if pub := p.lanes[lane{pm.Room, pm.Pub}]; pub == nil || pub.who != a.client() {
			m = refusal(a.Req, room.ErrHeld)
			if p.side == ofClient {
				m = refusal(a.Req, errMoved)
			}
		}
	}
	p.h.Send(m)
	if _, is := a.M.(*codec.Publish); is {
		if pub := p.by[a.client()]; pub != nil && pub.quiet { // now that the client knows its number
			pub.quiet = false
			p.h.Await(pub)
		}
	}
}

// Given is Effects.Give on the session's loop. It reports whether the session holds the outbound now. If it does not
// the request is on its way again. The session is open; for a closed one nothing is held.
func (p *Part) Given(a Ask, o *room.Outbound, now int64) (held bool) {
	pub := p.by[a.client()]
	if pub != nil && pub.out != o {
		pub.leave(now)
		pub = nil
	}
	if pub == nil {
		pub = &Publication{part: p, Room: o.ID, who: a.client()}
	}
	m, ok := o.Hold(pub)
	if !ok { // it has ended since
		p.h.Ask(a)
		return false
	}
	m.Req = a.Req
	pub.out = o
	p.keep(pub, o, m.Pub)
	p.h.Send(m)
	p.h.Await(pub)
	return true
}

// Push routes a run of frames to its room, and returns whose they are: nil if nobody publishes here under that number.
// A *room.Error is the publisher's to know.
func (p *Part) Push(run room.Run, now int64) (*Publication, error) {
	pub := p.last
	if pub == nil || pub.Num != run.Key.Pub || pub.Room != run.Room {
		if pub = p.lanes[lane{run.Room, run.Key.Pub}]; pub == nil {
			return nil, room.ErrNotPublishing
		}
		p.last = pub
	}
	_, err := pub.to.Push(pub, run, now)
	if err == nil {
		p.h.Await(pub)
	}
	return pub, err
}

// Gap routes a publisher's gap likewise.
func (p *Part) Gap(g codec.Gap, now int64) error {
	pub := p.lanes[lane{g.Room, g.Pub}]
	if pub == nil {
		return room.ErrNotPublishing
	}
	if err := pub.to.PushGap(pub, g, now); err != nil {
		return err
	}
	p.h.Await(pub)
	return nil
}

// Len returns how many publications there are.
func (p *Part) Len() int { return len(p.lanes) }

// Of returns a client's publication in a room, nil if there is none.
func (p *Part) Of(id codec.RoomID, account string, instance uint64) *Publication {
	return p.by[client{id, account, instance}]
}

// Close ends all publications, as a broken connection does.
func (p *Part) Close(now int64) {
	for _, at := range slices.SortedFunc(maps.Keys(p.lanes), lane.compare) {
		p.lanes[at].leave(now)
	}
}

// Publication is a session's right to push into a room under a number. It implements room.Holder. The sessions of links
// have one for each publisher that they carry. Loop only, but for the methods of room.Holder.
type Publication struct {
	Room     codec.RoomID
	Num      uint16
	Withheld int  // the host's: bytes pushed since it holds acknowledgements back
	Awaited  bool // the host's: on the list of those whose acknowledgements its ticks look for

	part  *Part
	who   client // zero for a publisher of a mirror
	to    room.Pusher
	here  *room.Publisher // to, of who has asked at the room's relay
	out   *room.Outbound  // to, where another node relays the room
	over  bool
	quiet bool // the client does not know its number yet: acknowledgements wait
}

// Cut implements room.Holder.
func (p *Publication) Cut(of room.Pusher, code codec.Code) { p.part.h.PostCut(p, of, code) }

// AckNow implements room.Holder.
func (p *Publication) AckNow(room.Pusher) { p.part.h.PostAcks(p) }

// Count implements room.Holder.
func (p *Publication) Count(_ room.Pusher, c codec.Count) { p.part.h.PostCount(p, c) }

// Ended is Host.PostCut on the loop: what is still pushed is refused from now on, and whoever pushes is told.
func (p *Publication) Ended(of room.Pusher, code codec.Code, now int64) {
	if p.over || p.to != of {
		return // the session has published anew since
	}
	if code != codec.CodeMoved { // then what has arrived is for the next relay to say
		p.part.h.Acks(p)
	}
	p.end()
	if code == codec.CodeBadPieces { // it begins anew where the next message does
		if p.part.side != ofRelay { // also by way of another node
			p.part.h.Send(&codec.PushRefused{Room: p.Room, Pub: p.Num, Code: code, Frames: 1})
		}
		code = codec.CodeMoved
	}
	switch p.part.side {
	case ofClient:
		p.part.h.Send(&codec.Closed{Room: p.Room, Code: code})
	case ofEdge:
		p.part.h.Send(&codec.Drop{Room: p.Room, Pub: p.Num, Code: code})
	}
}

// Closed ends the publication before the room's last word, which the session gets as a subscriber.
func (p *Publication) Closed() {
	p.part.h.Acks(p)
	p.end()
}

// Acks calls yield for every stream whose acknowledgement is to be sent now.
func (p *Publication) Acks(yield func(key codec.StreamKey, seq uint64)) {
	if p.over || p.quiet {
		return
	}
	p.to.Acks(p, yield)
	if p.to.Pending() { // also of a client that came back and has nothing to push
		p.part.h.Await(p)
	}
}

// Pending reports whether acknowledgements may become due without AckNow.
func (p *Publication) Pending() bool { return !p.over && p.to.Pending() }

// SendCount is Host.PostCount on the loop.
func (p *Publication) SendCount(c codec.Count) {
	if !p.over {
		p.part.h.Send(&c)
	}
}

// leave ends the publication as a broken connection does: its publisher may come back.
func (p *Publication) leave(now int64) {
	p.to.Detach(p, now)
	p.end()
}

// end takes the publication off its session.
func (p *Publication) end() {
	p.over = true
	if p.part.last == p {
		p.part.last = nil
	}
	if at := (lane{p.Room, p.Num}); p.part.lanes[at] == p {
		delete(p.part.lanes, at)
	}
	if p.part.by[p.who] == p {
		delete(p.part.by, p.who)
	}
}

// Peer implements room.Holder.
func (p *Publication) Peer() string { return p.part.peer }

func (a *Ask) room() codec.RoomID {
	id, _ := requestOf(a.M)
	return id
}

// requestOf returns the room that a request is about and where it keeps its number.
func requestOf(m codec.Control) (id codec.RoomID, req *uint32) {
	switch m := m.(type) {
	case *codec.Publish:
		return m.Room, &m.Req
	case *codec.Subscribe:
		return m.Room, &m.Req
	case *codec.Unpublish:
		return m.Room, &m.Req
	case *codec.Grant:
		return m.Room, &m.Req
	case *codec.Revoke:
		return m.Room, &m.Req
	case *codec.Remove:
		return m.Room, &m.Req
	case *codec.Stat:
		return m.Room, &m.Req
	case *codec.Inbox:
		return m.Room, &m.Req
	}
	return 0, new(uint32)
}
