package carry

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// Node decides what this node does for rooms that others relay, and executes what [node.Core] decides.
type Node struct{}

// New returns the machine of a process that is alone as yet.
func New(self node.Member, rooms *room.Table, pool *room.Pool, do Effects) *Node { panic("carry: to come") }

// View takes a new view of the cluster.
func (n *Node) View(v *node.View, now int64) {}

// Linked says that there is a link with a process: one that Dial opened, or one that the other opened.
func (n *Node) Linked(l LinkID, p node.Peer, dialed bool, now int64) {}

// Unlinked says that a link has ended. Nothing comes of it afterwards.
func (n *Node) Unlinked(l LinkID, now int64) {}

// Unreached says that Dial was in vain; refused, that the member's port refuses connections: the process is gone.
func (n *Node) Unreached(m node.Member, refused bool, now int64) {}

// Ask takes a request for a room that is not relayed here.
func (n *Node) Ask(a Ask, now int64) {}

// Left says that a session has closed which has asked before.
func (n *Node) Left(s SessionID, now int64) {}

// Given is the answer to Effects.Give: whether the session holds the outbound now.
func (n *Node) Given(t Ticket, held bool, now int64) {}

// Detached says that an outbound's session has left it.
func (n *Node) Detached(o *room.Outbound, now int64) {}

// Report takes what a link's Port has to tell.
func (n *Node) Report(l LinkID, r Report, now int64) {}

// Performed takes the answer to a request that was done at a room here. Effects.Answer follows when the standbys know what has changed; if this node
// is not the relay any more, the request is as one of Ask.
func (n *Node) Performed(a Ask, r *room.Room, answer codec.Control, now int64) {}

// Registered makes the cluster know a room that a client has registered here, and answers.
func (n *Node) Registered(a Ask, r *room.Room, answer *codec.Registered, now int64) {}

// Ended makes the cluster know that a room which this node relays has ended by itself or by its owner's wish: for Table.OnEnd.
func (n *Node) Ended(r *room.Room, code codec.Code, now int64) {}

// Came says that a client of this node has come into a mirror of its inbox: the relay is told at once.
func (n *Node) Came(id codec.RoomID, now int64) {}

// Due returns when Tick is to be called next, at the latest. It may be earlier after any other call.
func (n *Node) Due() int64 { return 0 }

// Tick does what time brings.
func (n *Node) Tick(now int64) {}

// Core returns the core, to be asked only.
func (n *Node) Core() *node.Core { return nil }

// Audit returns the first broken invariant that can be seen in the Node, for tests to call after every event.
func (n *Node) Audit() error { return nil }
