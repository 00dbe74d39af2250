// Package engine is the server: it accepts connections, runs the event loops, and moves frames from publishers to
// subscribers. It is the only package that knows gnet.
//
// Start at [Start] and [Config]. docs/architecture.md tells how a frame travels; the files follow it:
//
//	inner.go     connections from within the process
//	accept.go    connections in, limits before anything is read
//	loop.go      an event loop and its drain; mailbox.go what others post to it
//	session.go   one connection: bytes in, frames out of them; answers.go what it is told; ending.go how it ends
//	identity.go  who a client is, and whether it still may
//	dispatch.go  control frames: requests and answers
//	inbox.go     what is particular to streams from account to account
//	publish.go   stream frames: from the socket to the room (carry.Part)
//	outlet.go    a room's members on one loop: from the room to their sockets
//	write.go     the vectored write, and what happens when a socket takes no more
//	blocked.go   sockets that take no more, watched until they do
//	shake.go     what comes before the protocol: PROXY header, TLS, WebSocket; gate.go its share of the processor
//	carrier.go   TLS and WebSocket of a session on its loop; its layers websocket.go and internal/record
//	gather.go    what carriers send, cut for them
//	tick.go      what time brings
//	admin.go     health and metrics; histogram.go times, requests.go requests in them; alive.go loops that do not turn
//	operate.go   what operators see and do; rebalance.go clients that are sent elsewhere, and wishes of other nodes' operators
//	limits.go    rates, and what becomes of who goes over one; token.go fresh tokens
//	host.go      the session as its part in rooms sees it; role.go what differs between clients and links
//	holdings.go  what accounts make the process hold, and who gives up something when that is too much
//	reload.go    bounds exchanged while it runs; audit.go who changed what, and who was refused
//	rescue.go    a panic, and who pays for it
//
// What makes it a node of a cluster (docs/cluster.md):
//
//	cluster.go   the goroutine that owns the machine which decides (package carry); effects.go what it has done
//	link.go      a session on a connection with another node; rekey.go when the cluster key changes
//	inspect.go   who is there, and who carries a room, for people
//	operations.go what operators ask of one node for another, and what they look at of this one
//
// Concurrency: a session, its queue, its memberships and its publications belong to one loop and are touched on that
// loop only; rooms are shared and lock themselves. What one loop wants of another goes through the other's mailbox.
package engine
