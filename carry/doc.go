// Package carry is what a node of a cluster does for rooms that it does not relay, and for its links: pure machines,
// without clock, network or goroutine. Events go in as method calls, what follows comes out by interfaces ([Effects],
// [Host]), in an order that depends on nothing else. So all of it runs under seeds, with real rooms and whole frames
// (internal/world), and engine only executes it.
//
// Start at [Node], which decides; [Port] is what happens at once on a link, [Part] on any session:
//
//	ask.go        requests on their way; tickets
//	node.go       what a Node holds, and what goes into it
//	peer.go       links, by process
//	edge.go       a room that another node relays: where it is attached
//	mirror.go     its mirror
//	outbound.go   a publisher of such a room: its way, its owner
//	request.go    a client's request for such a room
//	relay.go      what node.Core decides, done
//	serve.go      what other nodes want of this one
//	inspect.go    what a node knows, for people
//	part.go       a session's publications, and requests done at a room that is here
//	parcel.go     frames about rooms that go together
//	port.go       a link's loop: up.go the end that dialed, down.go the other
//
// Four rules hold everywhere. Each attempt has a number that a process never gives twice, and who does not hold that
// number any more does not hear of it (tickets). An outbound always has a holder, a claim or a deadline; a request a
// session and a deadline (owners). What must be in order with frames is done by the link's loop at once, and the Node
// hears of it afterwards (order). An edge never attaches to an older reign than the newest it has heard of (reigns).
// Node.Audit checks what of this can be seen in a Node.
//
// Concurrency: a Node belongs to one goroutine, a Part and a Port to their session's loop. What one wants of the other
// goes through mailboxes that keep order: all that a Node tells one link through one, all that one loop tells the Node
// through one.
package carry
