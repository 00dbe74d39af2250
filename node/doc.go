// Package node makes a server one of many: who the members are, who relays a room, and who may speak to whom.
//
// Start at [Join], which makes this process a member, and at [View], what it knows of the others at a moment. [Core]
// decides, room by room and without a clock or a network, what a change of the view means: which rooms this node takes
// over, hands on, copies, or attaches to elsewhere. [Server] and [Client] are the two sides of the handshake in which
// nodes prove to each other that they hold the cluster key. The engine is to carry the links on its loops and to do
// what Core says; docs/cluster.md has the whole, and the stories in testdata show it at work.
//
// Concurrency: a Cluster may be used from any goroutine; its views come in order on one goroutine of its own. A Core
// belongs to one goroutine.
package node
