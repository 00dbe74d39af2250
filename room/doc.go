// Package room keeps the virtual rooms of a node: who owns them, who may push, the streams that flow through them, and
// what happens when a subscriber cannot keep up.
//
// Start at [Table], which finds rooms by number, and [Room]. A publisher pushes a [Run] of frames through its
// [Publisher]; the room copies it once into a reference-counted [Batch], keeps it in the stream's log for late joiners
// and resuming subscribers, and posts it to every [Outlet], one per event loop that has subscribers. [Queue] holds, by
// reference, what one session's socket has not taken yet, and applies the room's drop policy to it.
//
// Concurrency: a Table and its Rooms may be used from any goroutine. Each room has a mutex; outlets are called while it
// is held, and must only append to a mailbox. A Queue belongs to one event loop. The package starts no goroutine, does
// no I/O and reads no clock: time is handed in, in nanoseconds.
package room
