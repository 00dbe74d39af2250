package carry

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Port is what a link does at once, in order with its frames: it knows where they go. At the end that dialed it feeds
// mirrors and takes what outbounds send; at the other end it has memberships and carries the other node's publishers.
// Loop only.
type Port struct {
	Part
	link  LinkID
	lh    LinkHost
	ready bool

	// Of a link that this node dialed: see up.go.
	feeds map[codec.RoomID]*feed
	fills map[uint32]*feed // of feeds, those whose mirrors are not whole yet, by the request
	outs  map[lane]*carried
	nums  map[codec.RoomID][]uint16 // of outs, by room
	asked map[uint32]*carried       // publishers that the relay was asked for and has not answered, by the request

	// Of a link that the other node dialed: see down.go.
	members map[codec.RoomID]Member
	wanted  map[codec.RoomID]uint32 // what the other node wants to be a member of, by its last request
	through map[codec.RoomID]bool   // rooms that it wants by way of this node
	early   *codec.State            // the beginning of a state whose rest has not come
	have    *had                    // what the other node has of the room that it asks for next
	digest  map[codec.RoomID]struct{}

	packed *many // what the frames of a pack have to tell; nil: there is none
}

// NewPort returns the port of a link with the node named peer.
func NewPort(l LinkID, peer string, dialed bool, rooms *room.Table, h LinkHost) *Port {
	p := &Port{link: l, lh: h, ready: dialed}
	if dialed {
		p.Part = newPart(h, rooms, ofRelay)
		p.feeds, p.fills = make(map[codec.RoomID]*feed), make(map[uint32]*feed)
		p.outs, p.nums, p.asked = make(map[lane]*carried), make(map[codec.RoomID][]uint16), make(map[uint32]*carried)
	} else {
		p.Part = newPart(h, rooms, ofEdge)
		p.members, p.wanted = make(map[codec.RoomID]Member), make(map[codec.RoomID]uint32)
		p.through = make(map[codec.RoomID]bool)
	}
	p.peer = peer
	return p
}

// Ready reports whether frames may come: not before the other node is in this one's view. What comes before that is to
// be kept, as bytes.
func (p *Port) Ready() bool { return p.ready }

// Push routes a run of frames. A fault concerns the publisher, never the link.
func (p *Port) Push(run room.Run, now int64) {
	if _, err := p.Part.Push(run, now); err != nil {
		p.stray(run.Room, run.Key.Pub, err, run.Frames)
	}
}

// Frame handles any other frame but ping and pong. It may keep it, but not what it aliases. An error is a breach of the
// protocol: the link is to be closed.
func (p *Port) Frame(m codec.Control, now int64) error {
	if epochOf(m) > maxEpoch {
		return errEpoch
	}
	if g, is := m.(*codec.Gap); is {
		if err := p.Gap(*g, now); err != nil {
			p.stray(g.Room, g.Pub, err, 1)
		}
		return nil
	}
	if pack, is := m.(*codec.Pack); is {
		p.packed = new(many)
		err := pack.Each(func(m codec.Control) error { return p.Frame(m, now) })
		all := p.packed
		p.packed = nil
		if len(all.reports) > 0 {
			p.lh.Report(all)
		}
		return err
	}
	if p.side == ofRelay {
		return p.fromRelay(m, now)
	}
	return p.fromEdge(m, now)
}

// report tells the Node something: with all that comes of the same pack, if there is one.
func (p *Port) report(r Report) {
	if p.packed != nil {
		p.packed.reports = append(p.packed.reports, r)
		return
	}
	p.lh.Report(r)
}

// Do does a command of the Node.
func (p *Port) Do(c Cmd, now int64) { c.do(p, now) }

// Carries reports whether anything goes by the link: a room, a publisher, a request for one.
func (p *Port) Carries() bool {
	up, down := len(p.feeds)+len(p.fills)+len(p.outs)+len(p.asked), len(p.members)+len(p.wanted)+len(p.through)
	return len(p.lanes)+len(p.by)+up+down > 0
}

// Close ends all that the link carried. The Node hears of it by Unlinked.
func (p *Port) Close(now int64) {
	p.Part.Close(now)
	for _, at := range slices.SortedFunc(maps.Keys(p.outs), lane.compare) {
		p.outs[at].out.Unlink(p.lh)
	}
	clear(p.outs)
	clear(p.nums)
	clear(p.asked)
	clear(p.feeds)
	clear(p.fills)
	clear(p.wanted)
}

// stray is what becomes of frames that could not be taken. An edge is told, and has its client begin anew. What comes
// for a mirror that is no more, or that another link feeds now, is nothing to care for; anything else means that mirror
// and relay do not agree.
func (p *Port) stray(id codec.RoomID, num uint16, err error, frames int) {
	code := codeOf(err)
	p.lh.Stray(id, num, code, frames)
	if p.side == ofEdge {
		return
	}
	switch code {
	case codec.CodeNotPublishing, codec.CodeSuperseded, codec.CodeRoomUnknown, codec.CodeMoved:
		return
	}
	if f := p.feeds[id]; f != nil {
		p.report(strayed{f.ticket, id, code})
	}
}

// codeOf returns the code of a refusal.
func codeOf(err error) codec.Code {
	if re, ok := errors.AsType[*room.Error](err); ok {
		return re.Code
	}
	return codec.CodeOverloaded
}

var errFrame = &codec.ProtocolError{
	Code: codec.CodeUnexpected, Text: "a node does not send this frame on this side of a link",
}

// maxEpoch bounds epochs, each of which is one above another: no room comes to it, and above what says so there could
// be none.
const maxEpoch = 1 << 31

var errEpoch = &codec.ProtocolError{Code: codec.CodeMalformed, Text: "a reign that no room comes to"}

// epochOf returns the epoch of the reign that a frame tells of.
func epochOf(m codec.Control) uint32 {
	switch m := m.(type) {
	case *codec.State:
		return m.Epoch
	case *codec.Change:
		return m.Epoch
	case *codec.Mirrored:
		return m.Epoch
	case *codec.Mirror:
		return m.Reign.Epoch
	}
	return 0
}

// Cmd is what a Node has a Port do.
type Cmd interface{ do(p *Port, now int64) }

// Report is what a Port tells its Node. Who it concerns no longer holds the ticket does not hear of it.
type Report interface{ tell(n *Node, k *link) }

// Commands.
type (
	// open lets the frames of a link come, now that the other node is in the view.
	open struct{}
	// feedRoom begins an attempt to mirror a room: it sends frames, the last of which asks for it. No reign below the one
	// given is taken.
	feedRoom struct {
		ticket Ticket
		room   codec.RoomID
		reign  codec.Reign
		fresh  bool // there is no mirror yet
		frames []codec.Control
	}
	// unfeed ends what this link does for a room: its mirror, its outbounds. With quiet the other node is not told of the
	// mirror (Node.unplug).
	unfeed struct {
		room  codec.RoomID
		quiet bool
	}
	// carry has a publisher taken by the relay: it sends the request.
	carry struct {
		ticket Ticket
		out    *room.Outbound
		frame  codec.Control
	}
	// drop ends that.
	drop struct{ out *room.Outbound }
	// admit makes the other node a member of a room, as it has asked.
	admit struct {
		m    *codec.Mirror
		has  *had
		room *room.Room
		head codec.RoomHead
	}
	// usher says when all is done that was told before: the other node has its seat, or will not have one.
	usher struct{ room codec.RoomID }
	// deny refuses that.
	deny struct {
		m   *codec.Mirror
		why error
	}
	// tally tells the other node how many subscribers this one has of a room, and what has become of its clients, behind
	// what they have acknowledged.
	tally struct {
		room  *room.Room
		subs  uint64
		moves []codec.ClientMove
	}
	// relayed tells the other node, if it is a member of the room, that this one relays it now, which has had it from
	// another until now.
	relayed struct {
		room codec.RoomID
		by   string
	}
	// dismissed sends the other node away, if it is a member of the room: another relays that now.
	dismissed struct {
		room codec.RoomID
		to   string
	}
)

func (open) do(p *Port, _ int64) {
	if !p.ready {
		p.ready = true
		p.lh.Resume()
	}
}

// Reports.
type (
	// mirrored says that the relay has told what the room is: the mirror is there.
	mirrored struct {
		ticket Ticket
		room   *room.Room
		reign  codec.Reign // of the relay
		relay  string
	}
	// admitted says that the other node has let this one into a room that it has left meanwhile, and in which reign.
	admitted struct {
		room  codec.RoomID
		reign codec.Reign
	}
	// found says that somebody is in a mirror already that an earlier attempt has made; this one was for none.
	found struct {
		ticket Ticket
		room   *room.Room
	}
	// outdated says that who was asked knows only of an older reign than this node.
	outdated struct {
		ticket Ticket
		room   codec.RoomID
	}
	// answered is the answer to a request.
	answered struct {
		req uint32
		m   codec.Control
	}
	// taken says that the relay has taken a publisher; if ok is not set, that its client must begin anew.
	taken struct {
		ticket Ticket
		out    *room.Outbound
		ok     bool
	}
	// dropped says that a publisher's part has ended at the relay.
	dropped struct {
		ticket Ticket
		out    *room.Outbound
		code   codec.Code
	}
	// moved is the other node's word that it does not relay the room, and who does.
	moved struct {
		room codec.RoomID
		to   string
	}
	// closed says that the room has ended at its relay.
	closed struct {
		ticket Ticket
		room   codec.RoomID
		code   codec.Code
	}
	// strayed says that a mirror does not fit its relay.
	strayed struct {
		ticket Ticket
		room   codec.RoomID
		code   codec.Code
	}
	// wants is another node's wish to mirror a room, and forgoes takes one back that was to be served by way of this node;
	// ushered answers usher;
	// tells a state that it sends, changes what of one has changed; lost are rooms that it thinks it mirrors from here;
	// inspects asks what this node knows of a room; operates brings what an operator wants of this node.
	wants struct {
		m   *codec.Mirror
		has *had
	}
	forgoes  struct{ room codec.RoomID }
	ushered  struct{ room codec.RoomID }
	tells    struct{ m *codec.State }
	changes  struct{ m *codec.Change }
	lost     struct{ rooms []codec.RoomID }
	inspects struct{ m *codec.Inspect }
	operates struct{ m *codec.Operate }
	// many is what the frames of a pack have to tell.
	many struct{ reports []Report }
)

// sorted returns the keys of a map in order: what follows from one call must not depend on anything else.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
