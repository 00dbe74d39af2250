// Package world is a cluster in memory, with its clients: what goes wrong in the field happens here in milliseconds,
// and happens again whenever the same seed is given.
//
// Start at [Day], a list of [Action]s with a seed, and [Day.Play], which lets it happen and returns the first [Fault].
// Real are all that decide and all that hold frames: the rooms, their logs, queues and seats, and the machines of
// package carry. Played are what lies around them: event loops and their mailboxes, sockets, the network, membership,
// clocks, and clients that know the protocol and nothing else.
//
// Everything happens in events. An event's delay is drawn from a hash of the seed and of the chain of causes that led
// to it, so an action that is left out changes only what it would have caused. That is what makes [Day.Shrink] work.
//
// What holds is said by the invariants, I1 to I14 (invariants.go). They are checked against a ledger that only clients
// and the network write; never against what a node believes.
package world
