package carry

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Port is what a link does at once, in order with its frames: it knows where they go. Loop only.
type Port struct{ Part }

// NewPort returns the port of a link with the node named peer.
func NewPort(l LinkID, peer string, dialed bool, rooms *room.Table, h LinkHost) *Port {
	panic("carry: to come")
}

// Ready reports whether frames may come: not before the other node is in this one's view. What comes before that is to be kept, as bytes.
func (p *Port) Ready() bool { return true }

// Push routes a run of frames. A fault concerns the publisher, never the link.
func (p *Port) Push(run room.Run, now int64) {}

// Frame handles any other frame but ping and pong. It may keep it, but not what it aliases. An error is a breach of the protocol: the link is to be closed.
func (p *Port) Frame(m codec.Control, now int64) error { return nil }

// Do does a command of the Node.
func (p *Port) Do(c Cmd, now int64) {}

// Left says that the room, or its policy, has ended the link's membership.
func (p *Port) Left(id codec.RoomID, m Member) {}

// Close ends all that the link carried. It is told to the Node by Unlinked.
func (p *Port) Close(now int64) {}

// Cmd is what a Node has a Port do.
type Cmd interface{ do(p *Port, now int64) }

// Report is what a Port tells its Node.
type Report interface{ to(n *Node, l LinkID) }
